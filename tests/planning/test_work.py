"""Tests of planned work: steps and reads of the paper's run, tokens, operations by hand, disk and money."""

from dataclasses import replace

import pytest

from o3v.config import load_profile
from o3v.planning import work
from o3v.planning.shapes import ModelShape, model_shape
from o3v.planning.work import Assumptions

USUAL = Assumptions()
SMALL = ModelShape(1000, 100, 10, 7, 2, 4, 8, 4, 2, 1, 4, 8, True, 14, 4)  # 1,000 parameters, 2 layers


@pytest.fixture(scope="module")
def seven():
    return model_shape("Qwen/Qwen2.5-VL-7B-Instruct")


def public(**changes):
    full = load_profile("full")  # the public scripts hold nothing out
    return replace(full, gspo=replace(full.gspo, num_heldout=0, **changes))


def test_steps_are_those_of_the_public_scripts(seven):
    assert work.sft_work(public(), seven, 8, USUAL).steps == 3_896
    assert work.gspo_work(public(), seven, 8, USUAL).steps == 4_653
    assert work.gspo_work(public(max_steps=7), seven, 8, USUAL).steps == 7


def test_a_real_prompt_has_about_2500_tokens():
    frames = load_profile("full").frames
    assert work.frame_tokens(frames, 28) == 15 * 8  # 420×224
    assert work.prompt_tokens(frames, 28) == 18 * (120 + 12) + 130 == 2_506


@pytest.mark.parametrize(("gpus", "low_h", "high_h"), [(8, 28, 94), (1, 226, 750)])
def test_reading_takes_the_core_hours_of_four_and_of_32_reads_a_prompt(gpus, low_h, high_h, seven):
    low, high = work.gspo_work(public(), seven, gpus, USUAL).reading_core_h
    assert (round(low), round(high)) == (low_h, high_h)


def test_a_cache_of_the_sampled_prompts_leaves_one_read_of_each(seven):
    assert [work.gspo_work(public(cached_rows=rows), seven, 1, USUAL).read_rows for rows in (7, 8)] == [32 * 8, 8]


def test_operations_of_a_row():
    # 2 · (1000 − 100 − 7 · 4) · 10 tokens + 2 · 10² · 4 · 2 layers, three times; 2 · 100 · 3 image tokens · 4 patches
    assert work.row_flops(SMALL, 10, 3, 3, 1) == 3 * (17_440 + 1_600) + 2_400


def test_lora_computes_less_and_a_longer_cycle_samples_less(seven):
    full = load_profile("full")
    adapted = replace(full, sft=replace(full.sft, lora_rank=16))
    assert work.sft_work(adapted, seven, 8, USUAL).compute_h < work.sft_work(full, seven, 8, USUAL).compute_h
    longer = replace(full, gspo=replace(full.gspo, steps_per_generation=4))
    assert work.gspo_work(longer, seven, 8, USUAL).sampling_h == work.gspo_work(full, seven, 8, USUAL).sampling_h / 4


def test_hours_follow_gpus_efficiency_and_the_time_of_a_token(seven):
    full = load_profile("full")
    one, eight = (work.sft_work(full, seven, gpus, USUAL) for gpus in (1, 8))
    assert one.compute_h == pytest.approx(8 * eight.compute_h)
    slow = Assumptions(efficiency=USUAL.efficiency / 2, token_s=2 * USUAL.token_s)
    assert work.sft_work(full, seven, 8, slow).compute_h == pytest.approx(2 * eight.compute_h)
    # 4,628 steps of 768 tokens of 30 ms: 29.6 hours
    assert work.gspo_work(full, seven, 8, USUAL).sampling_h == pytest.approx(29.6, abs=0.05)


def test_disk_has_two_checkpoints_of_sft_and_three_of_gspo():
    full = load_profile("full")
    assert work.model_disk_bytes(full, 10) == {"base model": 20, "trained models": 40, "checkpoints": 5 * 140}
    adapted = replace(full, sft=replace(full.sft, lora_rank=2), gspo=replace(full.gspo, lora_rank=2))
    assert work.model_disk_bytes(adapted, 10, lora_width=3)["checkpoints"] == 5 * 14 * 6


def test_all_gpus_are_paid_for_all_hours(seven):
    works = [work.sft_work(load_profile("full"), seven, 8, USUAL), work.answering_work(public(), seven, USUAL)]
    assert work.money(works, price=2.0, gpus=8) == pytest.approx(16 * (works[0].hours + works[1].hours))
