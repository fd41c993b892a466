"""Measures how fast `make_dataset` writes rows with their rendered videos.

    python benchmarks/synth_speed.py --rows 2000 --workers 2

Prints rows per second and minutes of video, and the time of making a scene and of drawing a frame.
"""

from __future__ import annotations

import argparse
import tempfile
import time

from o3v.toyworld.dataset import make_dataset
from o3v.toyworld.scene import draw_frame, make_scene


def main() -> None:
    """Writes the data set to a temporary folder and prints the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="total number of rows: 50%% sft, 45%% rl, 5%% eval")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    started = time.perf_counter()
    scenes = [make_scene("sft", index, args.seed) for index in range(200)]
    scene_ms = (time.perf_counter() - started) / len(scenes) * 1e3
    short_scenes = [scene for scene in scenes if scene.duration_s < 60][:40]
    started = time.perf_counter()
    n_drawn = sum(
        1 for scene in short_scenes for index in range(scene.n_frames) if draw_frame(scene, index) is not None
    )
    drawing_ms = (time.perf_counter() - started) / n_drawn * 1e3
    counts = {"sft": args.rows // 2, "eval": args.rows // 20}
    counts["rl"] = args.rows - sum(counts.values())
    with tempfile.TemporaryDirectory() as root:
        summary = make_dataset(root, counts, args.seed, args.workers, progress=False)
    print(f"making {scene_ms:.2f} ms per scene, drawing {drawing_ms:.2f} ms per frame")
    print(
        f"{args.rows} rows {counts}, {sum(summary.scenes.values())} videos ({summary.video_s / 60:.0f} min): "
        f"{summary.elapsed_s:.1f} s with {args.workers} workers, {args.rows / summary.elapsed_s:.0f} rows per second"
    )


if __name__ == "__main__":
    main()
