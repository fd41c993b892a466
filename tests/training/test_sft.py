"""Cold start: which tokens are trained, and that an interrupted run resumes exactly."""

import dataclasses
import re

import pytest
import torch
from helpers.training import StopAfter
from helpers.world import builder_of

from o3v import files, training
from o3v.config import SftConfig
from o3v.data.quarantine import Quarantine
from o3v.evidence import parse_response
from o3v.schema import Task
from o3v.training import sft
from o3v.training.trainer import TrainingRun

CONFIG = SftConfig(epochs=1.0, effective_batch_size=4, per_device_batch_size=4, learning_rate=1e-3, save_steps=1)


def trainer(vlm, examples, world, out, quarantine=None, **changes):
    run = TrainingRun(out, seed=1, quarantine=quarantine)
    return sft.make_trainer(vlm, examples, builder_of(world), dataclasses.replace(CONFIG, **changes), run)


def test_only_the_answer_is_trained_on(twin, sft_examples, world, tmp_path):
    tokens, mask = sft.label_mask(trainer(twin, sft_examples, world, tmp_path), 0)
    trained = "".join(t for t, on in zip(tokens, mask, strict=True) if on)
    response = parse_response(trained.split("<|im_end|>")[0])
    assert response.problems == () and response.answer
    assert trained.startswith("<think>") and not any(on for t, on in zip(tokens, mask, strict=True) if "im_start" in t)


def test_boxes_are_in_pixels_of_the_frame(sft_examples, world):
    rows = [sft.sft_row(e, builder_of(world)) for e in sft_examples]
    boxes = [b for r in rows for c in parse_response(r["completion"][0]["content"]).claims for b in c.boxes]
    assert boxes and all(0 <= v <= 56 and v == int(v) for box in boxes for v in box)
    assert max(max(box) for box in boxes) > 1


def test_spans_can_be_given_at_frame_times(sft_examples, world):
    example = next(e for e in sft_examples if e.task is Task.TEMPORAL)
    exact, shown = (sft.sft_row(example, builder_of(world), frame_times) for frame_times in (False, True))
    responses = [row["completion"][0]["content"] for row in (exact, shown)]
    prompt = "".join(part.get("text", "") for part in shown["prompt"][1]["content"])
    numbered = [re.findall(r"<t>([^<]*)</t>", text) for text in responses]
    times = {*re.findall(r"at ([0-9.]+)s: ", prompt), *re.findall(r"total ([0-9.]+) seconds", prompt)}
    assert set(numbered[1]) <= times and not set(numbered[0]) <= times
    assert [re.sub(r"<t>[^<]*</t>", "", text) for text in responses] == [re.sub(r"<t>[^<]*</t>", "", responses[0])] * 2


def test_lengths_and_losses_by_task(twin, sft_examples, world, tmp_path):
    made = trainer(twin, sft_examples, world, tmp_path)
    counted = sft.token_counts(made, 2)
    for index, (prompt, response) in enumerate(zip(counted["prompt"], counted["response"], strict=True)):
        _, mask = sft.label_mask(made, index)  # shows the tokens of one image as one token
        assert response == sum(mask) and prompt > len(mask) - sum(mask)
    losses = sft.task_losses(made, sft_examples, 2)
    assert set(losses) == {str(e.task) for e in sft_examples}
    untrained = torch.log(torch.tensor(float(len(twin.processor.tokenizer)))).item()
    assert all(0.5 * untrained < loss < 1.5 * untrained for loss in losses.values())


@pytest.mark.parametrize(("stop_at", "unreadable"), [(1, 0), (2, 1)])
def test_a_stopped_run_ends_bit_identical(twin, _twin, sft_examples, world, tmp_path, stop_at, unreadable):
    """Also if the video of a row is missing: the next row takes its place, after a resume too."""
    import copy

    lost = [dataclasses.replace(e, video_path="videos/lost.mp4") for e in sft_examples if e.video_path][:unreadable]
    examples = [*lost, *sft_examples[unreadable:]]

    def quarantine():
        return Quarantine(tmp_path / "unreadable.jsonl", len(examples), retry_s=0)

    whole = trainer(twin, examples, world, tmp_path / "whole", quarantine())
    expected = training.train(whole)
    (folder, *_) = (tmp_path / "whole").glob("checkpoint-*")
    assert files.read_json(folder / "preprocessor_config.json")["image_processor_type"] == "Qwen2VLImageProcessor"
    assert (folder / "video_preprocessor_config.json").exists()
    assert len(expected) == -(-len(sft_examples) // CONFIG.effective_batch_size)
    broken = trainer(copy.deepcopy(_twin), examples, world, tmp_path / "broken", quarantine())
    broken.add_callback(StopAfter(stop_at))
    with pytest.raises(KeyboardInterrupt):
        training.train(broken)
    again = trainer(copy.deepcopy(_twin), examples, world, tmp_path / "broken", quarantine())
    assert training.train(again) == expected
    assert len((tmp_path / "unreadable.jsonl").read_text().splitlines()) == unreadable
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_a_half_written_checkpoint_is_not_trusted(tmp_path, caplog):
    from o3v.training.callbacks import COMPLETE
    from o3v.training.trainer import last_checkpoint

    for step in (5, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-5" / COMPLETE).touch()
    assert last_checkpoint(tmp_path).name == "checkpoint-5"
    assert not (tmp_path / "checkpoint-10").exists() and "checkpoint-10 is incomplete" in caplog.text


def test_lora_adapts_the_language_models_attention_only(twin, sft_examples, world, tmp_path):
    from o3v import models

    models.save(twin, tmp_path / "base")
    vlm = models.load(tmp_path / "base")
    before = {n: p.clone() for n, p in vlm.model.state_dict().items()}
    adapted = sft.make_trainer(
        vlm, sft_examples, builder_of(world), CONFIG.with_rank(2), TrainingRun(tmp_path / "run", 1)
    )
    trained = [name for name, p in adapted.model.named_parameters() if p.requires_grad]
    assert trained and all("language_model" in n and "lora" in n and "self_attn" in n for n in trained)
    training.train(adapted)
    adapted.model.save_pretrained(tmp_path / "adapter")
    loaded = models.load(tmp_path / "base", adapter=tmp_path / "adapter")
    state = loaded.model.state_dict()
    kept = {n.replace(".base_layer", "").removeprefix("base_model.model."): p for n, p in state.items()}
    assert all(torch.equal(kept[n], before[n]) for n in before)
    assert any("lora_B" in n and p.any() for n, p in kept.items())
    whole = training.merge_adapters(adapted, vlm).model
    moved = [n for n, p in whole.state_dict().items() if not torch.equal(p, before[n])]
    assert moved and all("language_model" in n and "self_attn" in n for n in moved)
    assert training.merge_adapters(adapted, vlm).box_space == vlm.box_space


def test_a_run_that_ends_early_makes_the_same_steps(twin, _twin, sft_examples, world, tmp_path):
    import copy

    whole = training.train(trainer(twin, sft_examples, world, tmp_path / "whole"))
    short = training.train(trainer(copy.deepcopy(_twin), sft_examples, world, tmp_path / "short"), stop_at=2)
    assert short == whole[:2] and len(whole) > 2


def test_adapters_have_their_own_learning_rate():
    assert CONFIG.with_rank(0).learning_rate == CONFIG.learning_rate
    assert CONFIG.with_rank(4).learning_rate == 10 * CONFIG.learning_rate
    assert CONFIG.with_rank(4, 0.5) == dataclasses.replace(CONFIG, lora_rank=4, learning_rate=0.5)


@pytest.mark.parametrize("stop_at", [1, 2])
def test_a_stopped_run_with_adapters_ends_bit_identical(twin, _twin, sft_examples, world, tmp_path, stop_at):
    import copy

    whole = trainer(twin, sft_examples, world, tmp_path / "whole", lora_rank=2)
    expected = training.train(whole)
    broken = trainer(copy.deepcopy(_twin), sft_examples, world, tmp_path / "broken", lora_rank=2)
    broken.add_callback(StopAfter(stop_at))
    with pytest.raises(KeyboardInterrupt):
        training.train(broken)
    again = trainer(copy.deepcopy(_twin), sft_examples, world, tmp_path / "broken", lora_rank=2)
    assert training.train(again) == expected
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_twenty_steps_raise_the_accuracy_of_the_tokens(twin, sft_examples, world, tmp_path):
    made = trainer(twin, sft_examples[:4], world, tmp_path, epochs=20.0, save_steps=100, cached_rows=4)
    rows = training.train(made)
    assert len(rows) == 20
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert rows[-1]["mean_token_accuracy"] > rows[0]["mean_token_accuracy"] + 0.1


def test_the_loss_does_not_depend_on_how_the_batch_is_split(twin, _twin, sft_examples, world, tmp_path):
    import copy

    rows = [
        training.train(trainer(model, sft_examples, world, tmp_path / str(size), per_device_batch_size=size), stop_at=1)
        for model, size in ((twin, 4), (copy.deepcopy(_twin), 1))
    ]
    (one,), (four,) = rows
    assert one["loss"] == pytest.approx(four["loss"], rel=1e-5)
    assert one["grad_norm"] == pytest.approx(four["grad_norm"], rel=1e-4)


@pytest.mark.parametrize(("batch_size", "per_device"), [(8, 3), (2, 4), (6, 4)])
def test_a_batch_that_does_not_divide_is_refused(twin, sft_examples, world, tmp_path, batch_size, per_device):
    with pytest.raises(ValueError, match=f"batch of {batch_size} cannot be split into forward passes of {per_device}"):
        trainer(twin, sft_examples, world, tmp_path, effective_batch_size=batch_size, per_device_batch_size=per_device)
