"""Profiles: unknown names and small GPUs are refused, and what `official` sets acts."""

from dataclasses import asdict

import pytest

from o3v import video
from o3v.config import PROFILES, FrameConfig, GspoConfig, InferenceConfig, SftConfig, load_profile, presets, single
from o3v.geometry import fit_size
from o3v.toyworld.writing import write_video


def changed(config, default) -> dict:
    return {k: v for k, v in asdict(config).items() if v != asdict(default)[k]}


def test_an_unknown_profile_is_named():
    with pytest.raises(ValueError, match="profile 'huge' does not exist; choose one of single, smoke, tiny, rehearsal"):
        load_profile("huge")


@pytest.mark.parametrize("memory_gb", [8, 16, 21])
def test_a_gpu_that_is_too_small_is_refused(memory_gb):
    with pytest.raises(ValueError, match=f"needs a GPU with 24 GB, found {memory_gb} GB; use `tiny`"):
        single(memory_gb)


@pytest.mark.parametrize(
    ("memory_gb", "name"),
    [(24, "single-24"), (25.8, "single-24"), (44, "single-40"), (79.6, "single-80"), (141, "single-80")],
)
def test_a_single_gpu_gets_the_largest_sizes_that_fit(memory_gb, name):
    profile = single(memory_gb)
    assert profile == PROFILES[name]
    assert profile.sft.lora_rank == profile.gspo.lora_rank > 0  # all weights do not fit
    completions = profile.gspo.prompts_per_step * profile.gspo.num_generations
    assert completions % profile.gspo.per_device_batch_size == 0
    assert profile.sft.effective_batch_size % profile.sft.per_device_batch_size == 0
    assert profile.data.rl_rows >= profile.gspo.max_steps * profile.gspo.prompts_per_step + profile.gspo.num_heldout


def test_single_takes_the_memory_that_nvidia_smi_reports(monkeypatch):
    monkeypatch.setattr(presets, "gpu_memory_gb", lambda: 85.0)
    assert load_profile("single") == PROFILES["single-80"]
    monkeypatch.setattr(presets, "gpu_memory_gb", lambda: None)
    assert load_profile("single") == PROFILES["single-24"]


def test_what_official_changes():
    """The public scripts against the paper: each value is read in the code that the comments name."""
    official = load_profile("full-official")
    ours = {"compared_prompts", "compared_rank", "num_processes", "engine"}
    sft = {k: v for k, v in changed(official.sft, SftConfig()).items() if k not in ours}
    assert sft == {"lr_scheduler": "linear", "loss_tokens": "all"}
    assert {k: v for k, v in changed(official.gspo, GspoConfig()).items() if k not in ours} == {"top_k": 50}
    assert changed(official.frames, FrameConfig()) == {
        "min_pixels": 100_352,
        "max_pixels": 105_369,
        "image_max_pixels": 200_704,
    }
    assert (official.inference.max_new_tokens, official.inference.repetition_penalty) == (2_048, 1.05)
    assert official.base == load_profile("full").base == "Qwen/Qwen2.5-VL-7B-Instruct"


@pytest.mark.parametrize(
    ("size_wh", "fitted"),
    [
        ((640, 360), (420, 224)),  # shrunk, and below the lower bound, as the public code leaves it
        ((112, 84), (364, 252)),  # scaled up; the public code rounds up to 392 × 280, beyond its own limit
        ((320, 240), (364, 252)),
    ],
)
def test_small_videos_are_scaled_up_in_the_official_preset(size_wh, fitted):
    frames = FrameConfig.official()
    assert fit_size(size_wh, frames.max_pixels, frames.grid_px, frames.min_pixels) == fitted


@pytest.mark.parametrize(("seconds", "times_s"), [(4, [0, 1, 2, 3]), (17.5, None)])
def test_the_official_evaluation_takes_one_frame_a_second(tmp_path, seconds, times_s):
    import numpy as np

    path, config = tmp_path / "v.mp4", InferenceConfig.official().frames
    write_video(path, np.full((int(seconds * 8), 84, 112, 3), 90, np.uint8), fps=8)
    options = {"max_fps": config.max_fps, "fixed_rate": config.fixed_rate}
    frames = video.sample_frames(path, config.n_frames, config.max_pixels, **options)
    expected = times_s or (np.linspace(0, 139, 16).round() / 8).tolist()  # 17 would be too many: 16, evenly spaced
    assert frames.times_s.tolist() == pytest.approx(expected)
    assert frames.images.shape[1:] == (84, 112, 3)  # as large as the video


def test_a_fixed_rate_needs_a_rate(tmp_path):
    import numpy as np

    path = tmp_path / "v.mp4"
    write_video(path, np.full((8, 84, 112, 3), 90, np.uint8), fps=8)
    with pytest.raises(ValueError, match="fixed_rate needs max_fps"):
        video.sample_frames(path, 4, 10_000, fixed_rate=True)


def test_the_rehearsal_differs_from_full_in_sizes_only():
    """The switches of the method are those of `full`, so that it takes the same path."""
    full, rehearsal = load_profile("full"), load_profile("rehearsal")
    sizes = {"epochs", "save_steps", "max_steps", "prompts_per_step", "num_generations", "per_device_batch_size"}
    sizes |= {"max_new_tokens", "num_preflight", "num_heldout", "compared_updates", "effective_batch_size"}
    assert changed(rehearsal.sft, full.sft).keys() | changed(rehearsal.gspo, full.gspo).keys() <= sizes
    assert rehearsal.pretrain is None
