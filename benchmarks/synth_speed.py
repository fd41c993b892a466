"""How fast the synthetic data set is made: rows with their rendered videos.

    python benchmarks/synth_speed.py --rows 2000 --workers 2

Prints seconds, rows a second and seconds of video, and what drawing and staging alone take.
"""

from __future__ import annotations

import argparse
import tempfile
import time

from o3v.toyworld.dataset import make_dataset
from o3v.toyworld.scene import draw_frame, make_scene


def main() -> None:
    """Makes the data set in a temporary folder and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="rows in all: half sft, nine twentieths rl, rest eval")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()
    scenes = [make_scene("sft", index, args.seed) for index in range(200)]
    staging_ms = (time.perf_counter() - started) / len(scenes) * 1e3
    short = [scene for scene in scenes if scene.duration_s < 60][:40]
    started = time.perf_counter()
    drawn = sum(1 for scene in short for index in range(scene.n_frames) if draw_frame(scene, index) is not None)
    drawing_ms = (time.perf_counter() - started) / drawn * 1e3
    counts = {"sft": args.rows // 2, "eval": args.rows // 20}
    counts["rl"] = args.rows - sum(counts.values())
    with tempfile.TemporaryDirectory() as root:
        summary = make_dataset(root, counts, args.seed, args.workers, progress=False)
    print(f"staging {staging_ms:.2f} ms a scene, drawing {drawing_ms:.2f} ms a frame")
    print(
        f"{args.rows} rows {counts}, {sum(summary.scenes.values())} videos ({summary.video_s / 60:.0f} min of film): "
        f"{summary.elapsed_s:.1f} s with {args.workers} workers, {args.rows / summary.elapsed_s:.0f} rows a second"
    )


if __name__ == "__main__":
    main()
