"""Rows of real files: speed and memory of reading and sifting, from ten thousand rows to half a million.

python benchmarks/stgr_rows.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BOX = [0.46, 0.43, 0.77, 0.94]
CHAIN = "He stands. " * 60 + "I see <obj>man</obj><box>[0.46,0.43,0.77,0.94]</box>at<t>4.7</t>s."
ONE = """
import resource, sys, time
from o3v import audit, schema, stgr
examples = (e for e in stgr.read(sys.argv[1]) if isinstance(e, schema.Example))
begun, kept, part = time.process_time(), 0, []
for example in examples:
    part.append(example)
    if len(part) == 1000:
        kept, part = kept + len(audit.sift(part)[0]), []
kept += len(audit.sift(part)[0])
print(kept, time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write(path: Path, rows: int) -> None:
    """A list of rows of some 1.5 kB."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            row = {
                "id": f"r{number}",
                "task": "temporal-spatial free-form QA",
                "source": "STR_coin",
                "question": "Where is the man?",
                "answer": "On the left",
                "video_path": f"videos/{number}.mp4",
                "image_path": None,
                "image_size": None,
                "key_frames": [{"idx": 142, "time": 4.7, "path": f"kfs/{number}.jpg"}],
                "key_items": {"142": {"man": [BOX]}},
                "reasoning_process": CHAIN,
            }
            file.write(("[" if number == 0 else ",\n") + json.dumps(row))
        file.write("]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for rows in options.rows:
            path = Path(folder) / "rows.json"
            write(path, rows)
            said = subprocess.run([sys.executable, "-c", ONE, str(path)], capture_output=True, text=True, check=True)
            kept, seconds, peak = (float(v) for v in said.stdout.split())
            print(
                f"{rows:>7} rows, {kept:.0f} kept: {rows / seconds:,.0f} rows a second, peak {peak:.0f} MB", flush=True
            )
        engines(Path(folder), min(options.rows))


def engines(folder: Path, rows: int) -> None:
    """The same shards in two local processes and in Ray, where it is installed."""
    from o3v.data import filters, sharding

    write(folder / "rows.json", rows)
    paths = sharding.split_into_shards(folder / "rows.json", folder / "in", rows=1_000)
    found = {}
    for engine in sharding.ENGINES:
        begun = time.perf_counter()
        try:
            sharding.filter_shards(paths, folder / engine, filters.MODEL_FREE_STAGES, engine, workers=2)
        except ImportError as error:
            print(error)
            continue
        found[engine] = [e for path in sorted((folder / engine).glob("*.parquet")) for e in sharding.read_shard(path)]
        print(f"{engine}, two workers: {rows / (time.perf_counter() - begun):,.0f} rows a second, start included")
    print("the same rows in the same order:", len({repr(rows) for rows in found.values()}) == 1)


if __name__ == "__main__":
    main()
