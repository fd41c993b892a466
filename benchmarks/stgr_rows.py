"""Measures speed and memory of reading and filtering STGR files of ten thousand to half a million rows.

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
FILTER_FILE = """
import resource, sys, time
from o3v.data import filter_report, stgr
from o3v.schema import Example
examples = (e for e in stgr.read_stgr(sys.argv[1]) if isinstance(e, Example))
start_s, kept, batch = time.process_time(), 0, []
for example in examples:
    batch.append(example)
    if len(batch) == 1000:
        kept, batch = kept + len(filter_report.filter_rows(batch)[0]), []
kept += len(filter_report.filter_rows(batch)[0])
print(kept, time.process_time() - start_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write_rows(path: Path, rows: int) -> None:
    """Writes a list of rows of about 1.5 kB each."""
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
    """Prints one line per file size, then compares the engines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for rows in options.rows:
            path = Path(folder) / "rows.json"
            write_rows(path, rows)
            command = [sys.executable, "-c", FILTER_FILE, str(path)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            kept, seconds, peak_mb = map(float, output.split())
            print(
                f"{rows:>7} rows, {kept:.0f} kept: {rows / seconds:,.0f} rows per second, peak {peak_mb:.0f} MB",
                flush=True,
            )
        compare_engines(Path(folder), min(options.rows))


def compare_engines(folder: Path, rows: int) -> None:
    """Filters the same shards with two local processes and, if installed, with Ray."""
    from o3v.data import filters, sharding

    write_rows(folder / "rows.json", rows)
    paths = sharding.split_into_shards(folder / "rows.json", folder / "in", rows_per_shard=1_000)
    kept = {}
    for engine in sharding.ENGINES:
        out, start_s = folder / engine, time.perf_counter()
        try:
            sharding.filter_shards(paths, out, filters.MODEL_FREE_STAGES, engine, workers=2)
        except ImportError as error:
            print(error)
            continue
        rate = rows / (time.perf_counter() - start_s)
        kept[engine] = [e for path in sorted(out.glob("*.parquet")) for e in sharding.read_shard(path)]
        print(f"{engine}, two workers: {rate:,.0f} rows per second, including the start")
    print("the same rows in the same order:", len({repr(examples) for examples in kept.values()}) == 1)


if __name__ == "__main__":
    main()
