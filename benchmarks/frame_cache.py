"""The frame cache: samples a second against decoding, readers beside killed writers, and what JPEG does to answers.

python benchmarks/frame_cache.py                                   # speed, and 1,000 clips with eight readers
python benchmarks/frame_cache.py --model runs/tiny-0/03_gspo/checkpoint --data runs/tiny-0/01_data_pipeline/world
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import numpy as np

SAMPLING = (16, 128 * 28 * 28)


def write_clip(path: Path, seconds: float, seed: int, size_wh: tuple[int, int] = (640, 360)) -> Path:
    """A clip at 30 fps whose frames move over a random picture."""
    import av
    from PIL import Image

    rng, (width, height) = np.random.default_rng(seed), size_wh
    coarse = Image.fromarray(rng.integers(0, 256, (12, 40, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((2 * width, height), Image.Resampling.BICUBIC))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = 60
        for number in range(round(30 * seconds)):
            shift = number % width
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:, shift : shift + width]), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def speed(folder: Path, count: int, seconds: float) -> None:
    """Samples a second: decoding, the first epoch (decodes and stores), the second epoch."""
    from o3v.video import FrameCache, sample_frames

    paths = [write_clip(folder / f"{n}.mp4", seconds, n) for n in range(count)]
    cache = FrameCache(folder / "speed")
    for name, read in (("decoding", sample_frames), ("first epoch", cache.sample), ("second epoch", cache.sample)):
        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        for path in paths:
            read(path, *SAMPLING)
        wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
        print(
            f"{name:>12}: {count / wall_s:7.1f} samples/s, {1000 * cpu_s / count:7.1f} ms of CPU a sample", flush=True
        )
    stored = sum(path.stat().st_size for path in cache.folder.rglob("*.frames")) / count
    print(f"{stored / 1000:.0f} kB a sample; {dict(cache.counts)}")


def read_epoch(
    folder: Path, paths: list[Path], kill_after: int | None, seed: int, found: multiprocessing.Queue
) -> None:
    """One reader: reads all clips in its own order. With `kill_after`, it dies while it writes that entry."""
    from o3v.video import FrameCache, frame_cache

    if kill_after is not None:
        pack, packed = frame_cache.pack, []

        def pack_or_die(frames):
            packed.append(1)
            if len(packed) > kill_after:
                Path.write_bytes = lambda self, data: (self.open("wb").write(data[:999]), os.kill(os.getpid(), 9))
            return pack(frames)

        frame_cache.pack = pack_or_die
    cache, wrong = FrameCache(folder), 0
    order = list(range(len(paths)))
    random.Random(seed).shuffle(order)
    for number in order:
        mean = cache.sample(paths[number], 4, 84 * 84).images.mean((0, 1, 2))
        wrong += np.abs(mean - colour_of(number)).max() > 6
    found.put((cache.counts["decoded"], wrong))


def colour_of(number: int) -> np.ndarray:
    return np.random.default_rng([3, number]).integers(40, 216, 3)


def readers(folder: Path, count: int) -> None:
    """Eight readers and two writers that are killed: bad frames served, and decodes."""
    import av

    paths = [folder / f"c{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        plain = np.tile(colour_of(number).astype(np.uint8), (96, 96, 1))
        with av.open(str(path), "w") as out:
            stream = out.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
            for _ in range(4):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(plain, format="rgb24")))
            out.mux(stream.encode(None))
    context = multiprocessing.get_context("fork")
    found, cache = context.Queue(), folder / "readers"
    dying = [context.Process(target=read_epoch, args=(cache, paths, 20 * n + 5, n, found)) for n in range(2)]
    living = [context.Process(target=read_epoch, args=(cache, paths, None, 100 + n, found)) for n in range(8)]
    for process in (*dying, *living):
        process.start()
    results = [found.get() for _ in living]
    for process in (*dying, *living):
        process.join()
    assert all(process.exitcode == -signal.SIGKILL for process in dying)
    entries, rest = len(list(cache.rglob("*.frames"))), len(list(cache.rglob(".o3v-*")))
    killed = sum(20 * n + 5 for n in range(2))
    print(f"{count} clips, 8 readers, 2 killed writers: {sum(w for _, w in results)} bad samples, {entries} entries,")
    print(f"{sum(d for d, _ in results)} decodes by readers and up to {killed} stored by the killed, {rest} unfinished")


def answers(model: Path, data: Path, count: int) -> None:
    """Greedy answers of a model to RL questions with exact frames and with frames from the cache."""
    from o3v import models, schema
    from o3v.config import load_profile
    from o3v.evaluation.bootstrap import paired_change
    from o3v.models.vlm import batches
    from o3v.prompts import PromptBuilder
    from o3v.rewards.config import RewardConfig
    from o3v.rewards.grounded import score_completion
    from o3v.video import FrameCache

    profile, vlm = load_profile("tiny"), models.load(model)
    rows = [row for row in schema.read_examples(data.parent / "rl.jsonl") if row.task is not schema.Task.SPATIAL]
    rows, scores, texts, pixels = rows[-count:], {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, cache in (("exact", None), ("cached", FrameCache(Path(folder)))):
            builder = PromptBuilder(data, profile.frames, vlm.box_space, cache)
            prompts = [builder.for_example(row, training=False) for row in rows]
            pixels[name] = [np.stack(prompt.images).astype(float) for prompt in prompts]
            parts = batches(prompts, 32)
            texts[name] = [text for part in parts for text in models.generate(vlm, part, profile.gspo.max_new_tokens)]
            pairs = zip(texts[name], prompts, strict=True)
            scores[name] = [score_completion(text, prompt.row, 1.0, RewardConfig.paper()) for text, prompt in pairs]
    squared = [((a - b) ** 2).mean() for a, b in zip(pixels["exact"], pixels["cached"], strict=True)]
    print(f"{len(rows)} questions, PSNR {10 * np.log10(255**2 / np.mean(squared)):.1f} dB")
    same = np.mean([a == b for a, b in zip(texts["exact"], texts["cached"], strict=True)])
    print(f"answers that are the same word for word: {same:.2f}")
    for term in scores["exact"][0]:
        before, after = ([score[term] for score in scores[name]] for name in ("exact", "cached"))
        change = paired_change(before, after)
        values = [value for value in before if value is not None]
        print(f"{term:>24}: {np.mean(values or [0]):.3f}, change {change.change:+.3f} ({change.low:+.3f} to ", end="")
        print(f"{change.high:+.3f}), {change.items} answers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=1_000, help="of the readers")
    parser.add_argument("--videos", type=int, default=10, help="of the speed")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--questions", type=int, default=160)
    options = parser.parse_args()
    if options.model:
        answers(options.model, options.data, options.questions)
        return
    with tempfile.TemporaryDirectory() as folder:
        speed(Path(folder), options.videos, options.seconds)
        readers(Path(folder), options.clips)


if __name__ == "__main__":
    main()
