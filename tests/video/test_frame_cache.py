"""The frame cache: no bad frame is served, and a video is decoded once, whatever happens to readers and writers."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from helpers.clips import MAX_PIXELS, encode, read_numbers

from o3v import video
from o3v.config import FrameConfig
from o3v.prompts import PromptBuilder
from o3v.schema import Task
from o3v.video import FrameCache, Request, VideoError, frame_cache, sample_frames

SIZE = (6, MAX_PIXELS)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return [encode(folder / f"{n}.mp4", n, gop=10) for n in (20, 25, 30, 35)]


@pytest.fixture
def cache(tmp_path):
    return FrameCache(tmp_path / "cache", shards=16)


def files_of(cache):
    return [path for path in cache.folder.rglob("*") if path.is_file() and path.name != ".lock"]


def check(frames, path):
    """The frames are those of the video: the number burnt into each is its index in the table."""
    exact = sample_frames(path, *SIZE)
    assert read_numbers(frames.images) == frames.indices.tolist() == exact.indices.tolist()
    assert np.array_equal(frames.times_s, exact.times_s)
    assert frames.source_size_wh == exact.source_size_wh and frames.duration_s == exact.duration_s
    assert np.abs(frames.images.astype(int) - exact.images).mean() < 2  # of 255: JPEG


def test_a_file_that_is_no_video_gives_the_reader_s_error(cache, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.mp4: no such file"):
        cache.sample(tmp_path / "none.mp4", *SIZE)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match="empty"):
        cache.sample(tmp_path / "empty.mp4", *SIZE)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        cache.sample(tmp_path / "pipe.mp4", *SIZE)
    assert files_of(cache) == []


@pytest.mark.parametrize("change", ["cut", "flip", "longer", "empty", "other"])
def test_a_damaged_entry_is_made_again(cache, clips, change, caplog):
    data = frame_cache.pack(sample_frames(clips[0], *SIZE))
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(data), 30).tolist():
        flipped = data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
        damaged = {"cut": data[:at], "flip": flipped, "longer": data + b"x", "empty": b"", "other": b"{}" * 50}[change]
        with pytest.raises(ValueError, match="not a whole entry"):
            frame_cache.unpack(damaged)
    cache.sample(clips[0], *SIZE)
    (entry,) = files_of(cache)
    entry.write_bytes(damaged)
    check(cache.sample(clips[0], *SIZE), clips[0])
    assert cache.counts["decoded"] == 2 and cache.counts["damaged"] == 1 and "is damaged" in caplog.text
    assert entry.read_bytes() == data


def test_the_second_read_decodes_nothing_and_gives_the_same_pixels(cache, clips, monkeypatch):
    first = cache.sample(clips[0], *SIZE)
    check(first, clips[0])
    monkeypatch.setattr(frame_cache, "sample_frames", None)  # any decoding fails
    again = FrameCache(cache.folder, shards=16).sample(clips[0], *SIZE)
    assert np.array_equal(again.images, first.images) and again.images.dtype == np.uint8
    assert np.array_equal(again.times_s, first.times_s) and again.times_s.dtype == np.float64
    assert again.indices.dtype == np.int64 and again.backend == first.backend


def test_the_key_is_the_content_and_the_sampling(cache, clips, tmp_path):
    def entry(path, n=6, **options):
        return cache.entry_path(Request(str(path), n, MAX_PIXELS, tuple(options.items())))

    copied = tmp_path / "copied.mp4"
    copied.write_bytes(clips[0].read_bytes())
    assert entry(copied) == entry(clips[0]) != entry(clips[1])
    assert entry(copied, key_times_s=[1.0]) == entry(copied, key_times_s=(1.0,))
    assert len({entry(copied, **o) for o in ({}, {"n": 5}, {"max_fps": 2.0}, {"key_times_s": [1.0]})}) == 4
    check(cache.sample(copied, *SIZE), clips[0])
    copied.write_bytes(clips[1].read_bytes())
    check(cache.sample(copied, *SIZE), clips[1])


def read_all(folder, paths, seed):
    """What one reader finds, in an order of its own: its decodes, and whether all its frames are right."""
    cache = FrameCache(folder, shards=16)
    order = np.random.default_rng(seed).permutation(len(paths))
    right = [read_numbers(cache.sample(paths[i], *SIZE).images) == sample_indices(paths[i]) for i in order]
    return cache.counts["decoded"], all(right)


def sample_indices(path):
    return video.uniform_indices(int(Path(path).stem), SIZE[0]).tolist()


def killed_while_writing(folder, path):
    """Dies with half an entry on disk and the lock of its shard in its hands."""

    def half(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    Path.write_bytes = half
    FrameCache(folder, shards=16).sample(path, *SIZE)


def test_eight_readers_and_a_killed_writer_decode_each_video_once(cache, clips):
    context = multiprocessing.get_context("fork")
    writer = context.Process(target=killed_while_writing, args=(cache.folder, clips[0]))
    writer.start()
    writer.join(30)
    assert writer.exitcode == -signal.SIGKILL and len(files_of(cache)) == 1  # half an entry, under another name
    with context.Pool(8) as pool:
        found = pool.starmap(read_all, [(cache.folder, clips, seed) for seed in range(8)])
    assert all(right for _, right in found)
    assert sum(decoded for decoded, _ in found) == len(clips)
    assert len(files_of(cache)) == len(clips) and {path.suffix for path in files_of(cache)} == {".frames"}


def test_a_full_disk_costs_time_only(cache, clips, monkeypatch, caplog):
    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        unstored = [cache.sample(path, *SIZE) for path in (clips[0], clips[0], clips[1])]
    assert files_of(cache) == [] and cache.counts == {"decoded": 3, "failed": 3}
    assert caplog.text.count("No space left on device") == 1
    stored = cache.sample(clips[0], *SIZE)
    assert all(np.array_equal(frames.images, stored.images) for frames in unstored[:2])
    assert cache.counts["stored"] == 1


def test_a_folder_that_cannot_be_made_costs_time_only(clips, tmp_path, caplog):
    (tmp_path / "file").touch()
    check(FrameCache(tmp_path / "file" / "cache").sample(clips[0], *SIZE), clips[0])
    assert "cannot be written" in caplog.text


def test_a_full_cache_keeps_what_it_has(clips, tmp_path):
    size = len(frame_cache.pack(sample_frames(clips[0], *SIZE)))
    cache = FrameCache(tmp_path, max_bytes=int(2.5 * size), shards=1)
    for _ in range(2):
        for path in clips:
            check(cache.sample(path, *SIZE), path)
    assert sum(path.stat().st_size for path in files_of(cache)) <= cache.max_bytes
    assert cache.counts == {"decoded": 6, "stored": 2, "full": 4, "hits": 2}


def test_workers_fill_the_cache_and_name_what_cannot_be_read(cache, clips, tmp_path, monkeypatch):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    (reason,) = cache.fill([Request(str(path), *SIZE) for path in (*clips[:2], bad)], workers=1)
    assert "bad.mp4: not a readable video" in reason
    monkeypatch.setattr(frame_cache, "sample_frames", None)
    for path in clips[:2]:
        assert read_numbers(cache.sample(path, *SIZE).images) == sample_indices(path)


def test_prompts_take_their_frames_from_the_cache(cache, sft_examples, world):
    config = FrameConfig(n_frames=3, max_pixels=56 * 56)
    plain, cached = PromptBuilder(world, config, "pixels"), PromptBuilder(world, config, "pixels", cache)
    assert plain.cache is None  # off by default: JPEG changes pixels
    with cached.fill_ahead(sft_examples[:4], workers=0):
        pass
    for example in (sft_examples[:4]) * 2:
        ours, theirs = (builder.for_example(example, training=True) for builder in (cached, plain))
        assert (ours.messages, ours.times_s, ours.row) == (theirs.messages, theirs.times_s, theirs.row)
        assert np.abs(np.stack(ours.images).astype(int) - np.stack(theirs.images)).mean() < 4
    videos = [example for example in sft_examples[:4] if example.task is not Task.SPATIAL]
    assert cache.counts["decoded"] == cache.counts["stored"] == len(files_of(cache)) > 0
    assert cache.counts["decoded"] + cache.counts["hits"] == 2 * len(videos)
