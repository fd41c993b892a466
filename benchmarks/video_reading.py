"""Random video files and damaged copies of them: wrong frames, false refusals, hangs, and undetected damage by codec.

Codec, container, GOP length, B-frames, open or closed GOP, frame rate, start time, trims and the frames to read are
random; each frame shows its number. An intact file must give the right frames; a trimmed or damaged one the right
frames or a VideoError.

    python benchmarks/video_reading.py --files 3000
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.random_clips import check_clip, damage_clip, draw_clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    intact, damaged = collections.Counter(), collections.defaultdict(collections.Counter)
    slowest_s = 0.0
    for number in range(options.files):
        rng = np.random.default_rng([options.seed, number])
        with tempfile.TemporaryDirectory() as folder:
            clip = draw_clip(rng, Path(folder))
            start_s = time.perf_counter()
            result = check_clip(clip, rng)
            kind = "trimmed" if clip.trimmed else "whole"
            intact[kind, result.split(":")[0]] += 1
            if result != "right" and not (clip.trimmed and result.startswith("refused")):
                print(f"file {number}: {clip.settings}: {result}", flush=True)
            damaged[clip.codec][check_clip(damage_clip(clip, rng), rng).split(":")[0]] += 1
            slowest_s = max(slowest_s, time.perf_counter() - start_s)
        if (number + 1) % 500 == 0:
            print(f"{number + 1} of {options.files} files", file=sys.stderr, flush=True)
    print("intact files:", {" ".join(key): count for key, count in sorted(intact.items())})
    for codec, results in sorted(damaged.items()):
        total = sum(results.values())
        shares = ", ".join(f"{name} {results[name] / total:.1%}" for name in ("right", "refused", "wrong"))
        print(f"damaged, {codec}: {shares} of {total}")
    print(f"slowest file and its damaged copy: {1_000 * slowest_s:.0f} ms")


if __name__ == "__main__":
    main()
