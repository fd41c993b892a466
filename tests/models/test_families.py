"""Families: the layout of a prompt is the family's own, boxes survive, and prompts are shared, with the real tokens."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from o3v import models, training
from o3v.config import FrameConfig, GspoConfig, SftConfig
from o3v.geometry import rescale_box
from o3v.models import prefix_cache
from o3v.models.crop_judge import CropJudge
from o3v.models.families import FAMILIES, family_of
from o3v.prompts import box_space_size
from o3v.rewards.config import RewardConfig
from o3v.schema import Task
from o3v.tinybase import twins
from o3v.training import gspo, off_policy, sft
from o3v.training.trainer import TrainingRun

FRAMES = FrameConfig(n_frames=3, max_pixels=100 * 100)
SFT = SftConfig(effective_batch_size=2, learning_rate=1e-3, loss_tokens="all", lr_scheduler="linear")
each_family = pytest.mark.parametrize("name", FAMILIES)

# what the chat templates on the hub make of a system and a user message, up to the answer (model cards)
LAYOUT = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
IMAGE = "<|vision_start|>{pads}<|vision_end|>"


@pytest.fixture(scope="session")
def twin_folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twins")
    return {name: twins.make_twin(folder / name, name) for name in FAMILIES}


@pytest.fixture
def vlm(twin_folders, name):
    return models.load(twin_folders[name])


@pytest.fixture
def example(world, rl_examples):
    return next(e for e in rl_examples if e.task is Task.SPATIO_TEMPORAL)


def text_of(message):
    return "".join(part.get("text", "▣") for part in message["content"])


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match=r"folder: model type 'llava' is none of .*add a row for it in o3v/models/fam"):
        family_of(SimpleNamespace(model_type="llava"), "folder")
    with pytest.raises(ValueError, match="no twin of 'llava'; choose one of qwen2_5_vl, qwen3_vl"):
        twins.make_twin("anywhere", "llava")


@each_family
def test_a_twin_is_not_written_over_other_files(tmp_path, name):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="has content"):
        twins.make_twin(tmp_path, name)


@each_family
def test_a_twin_has_the_real_tokens_and_the_files_of_the_hub(twin_folders, vlm, name):
    folder, tokenizer = twin_folders[name], vlm.processor.tokenizer
    present = {path.name for path in folder.iterdir()}
    assert present >= {"config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json"}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == name and config["text_config"]["vocab_size"] >= 151_936
    assert sum(p.numel() for p in vlm.model.parameters()) < 80e6
    # ids as published, of Qwen's tokenizer: https://qwen.readthedocs.io, key concepts, and model cards
    assert tokenizer("Hello, world!")["input_ids"] == [9707, 11, 1879, 0]
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>", "<|image_pad|>"]) == [151643, 151645, 151655]
    text = "<think><obj>red car</obj><box>[10,20,30,40]</box>at<t>12.5</t>s é 你好\n</think>"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


@each_family
def test_the_layout_of_a_prompt_is_the_familys_own(vlm, world, example, name):
    """Text, times, image tokens and tags, token by token, as evaluation, SFT and GSPO give them to the model."""
    family, builder = FAMILIES[name], vlm.prompt_builder(world, FRAMES)
    prompt = builder.for_example(example, training=True)
    tokens = [image.shape[0] * image.shape[1] // family.grid_px**2 for image in prompt.images]
    assert all(image.shape[0] % family.grid_px == image.shape[1] % family.grid_px == 0 for image in prompt.images)
    system, user = prompt.messages
    user_text = text_of(user)
    assert user_text.startswith(f"Frame 1 at {prompt.times_s[0]:.1f}s: ▣\nFrame 2 at {prompt.times_s[1]:.1f}s: ▣\n")
    for count in tokens:
        user_text = user_text.replace("▣", IMAGE.format(pads="<|image_pad|>" * count), 1)
    expected = LAYOUT.format(system=text_of(system), user=user_text)
    inputs = models.encode(vlm.processor, [prompt])
    assert vlm.processor.tokenizer.decode(inputs["input_ids"][0]) == expected
    assert inputs["input_ids"][0].tolist() == vlm.processor.tokenizer(expected)["input_ids"]
    assert inputs["image_grid_thw"].prod(1).tolist() == [4 * count for count in tokens]
    row = gspo.gspo_row(example, builder)
    trl = vlm.processor.apply_chat_template(
        [_with_images(row)], tokenize=True, return_dict=True, add_generation_prompt=True
    )
    assert list(trl["input_ids"][0]) == inputs["input_ids"][0].tolist()


def _with_images(row):
    """The conversation of a row with its images inside, as TRL passes it to the processor."""
    images = iter(row["images"])
    fill = {"image": lambda part: {"type": "image", "image": next(images)}}
    return [{**m, "content": [fill.get(p["type"], lambda p: p)(p) for p in m["content"]]} for m in row["prompt"]]


@each_family
def test_a_conversation_without_a_system_message_gets_the_familys_default(vlm, name):
    messages = [{"role": "user", "content": [{"type": "text", "text": "What?"}]}]
    text = vlm.processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    default = FAMILIES[name].default_system
    system = f"<|im_start|>system\n{default}<|im_end|>\n" if default else ""
    assert text == f"{system}<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n"


sides = st.integers(30, 1500)
fractions = st.tuples(*[st.floats(0, 1)] * 4)


@given(sides, sides, fractions, st.sampled_from(list(FAMILIES)))
def test_a_box_survives_the_way_to_the_model_and_back(width, height, box, name):
    """From shares of the frame to the model's whole numbers and back: within half of the model's unit."""
    family = FAMILIES[name]
    fitted = family.fit((width, height), 128 * 28 * 28)
    assert fitted[0] % family.grid_px == fitted[1] % family.grid_px == 0
    space_wh = box_space_size(fitted, family.box_space)
    written = tuple(round(v) for v in rescale_box(box, (1, 1), space_wh))
    back = rescale_box(written, space_wh, (width, height))
    half_unit = [size / units / 2 for size, units in zip((width, height) * 2, space_wh * 2, strict=True)]
    exact = rescale_box(box, (1, 1), (width, height))
    assert all(abs(a - b) <= h * (1 + 1e-9) for a, b, h in zip(back, exact, half_unit, strict=True))


@given(st.integers(8, 2000), st.integers(8, 2000), st.integers(4096, 200_000), st.sampled_from(list(FAMILIES)))
def test_fitted_sizes_are_not_changed_by_the_loaded_processor(width, height, max_pixels, name):
    family = FAMILIES[name]
    smart_resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl").smart_resize
    new_w, new_h = family.fit((width, height), max_pixels)
    assert new_w * new_h <= max_pixels
    if max(new_w, new_h) < 200 * min(new_w, new_h):
        assert smart_resize(new_h, new_w, family.grid_px, family.smallest_px, 12_845_056) == (new_h, new_w)


@pytest.mark.parametrize(("name", "expected"), [("qwen2_5_vl", (84, 56)), ("qwen3_vl", (320, 224))])
def test_small_crops_are_enlarged_to_the_smallest_image_of_the_family(name, expected):
    """The processor of Qwen3-VL would enlarge a crop of 60 × 40 to 65,536 pixels; ours leaves fitted frames alone."""
    judge = CropJudge(SimpleNamespace(family=FAMILIES[name]))
    small, large = np.zeros((40, 60, 3), np.uint8), np.zeros((300, 300, 3), np.uint8)
    assert judge.sized(small).shape[1::-1] == expected
    assert judge.sized(large) is large


@each_family
def test_shared_prompts_give_the_numbers_of_whole_rows(vlm, world, rl_examples, name):
    """Log-probabilities and their gradients of completions after shared prompts, and greedy tokens."""
    builder, model = vlm.prompt_builder(world, FRAMES), vlm.model
    examples = [e for e in rl_examples if e.video_path][:2]
    batch = [builder.for_example(examples[n], training=True) for n in (0, 1, 0)]
    inputs = dict(models.encode(vlm.processor, batch))
    ids = torch.from_numpy(np.random.default_rng(0).integers(1000, 9000, (3, 4)))
    mask = torch.tensor([[1] * 4, [1, 1, 0, 0], [1, 1, 1, 0]])
    whole = {
        "input_ids": torch.cat([inputs["input_ids"], ids], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], mask], 1),
        "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], 1),
    }
    logits = model(**(inputs | whole), logits_to_keep=5).logits[:, :-1]
    expected = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1) * mask
    expected.sum().backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    prefix = prefix_cache.prefill(model, inputs)
    assert prefix.index.tolist() == [0, 1, 0]
    found, _ = prefix_cache.log_probs(model, prefix, ids, mask, 1.0)
    assert torch.allclose(found * mask, expected, atol=2e-5)
    (found * mask).sum().backward()
    for key, parameter in model.named_parameters():
        if key in gradients:
            assert torch.allclose(parameter.grad, gradients[key], atol=1e-4), key
    options = models.decoding_options(6)
    assert torch.equal(prefix_cache.generate(model, **inputs, **options), model.generate(**inputs, **options))


@each_family
def test_no_setting_of_the_hub_reaches_our_sampling(vlm, world, example, name, monkeypatch):
    """The twin's generation config names a temperature, top_k or a penalty, as on the hub, and two end tokens."""
    hub = vlm.model.generation_config
    assert {key: getattr(hub, key) for key in FAMILIES[name].hub_sampling} == FAMILIES[name].hub_sampling
    assert hub.eos_token_id == [151645, 151643]
    used = []
    decode = prefix_cache.decoding.decode
    monkeypatch.setattr(prefix_cache.decoding, "decode", lambda *a: (used.append(a[-1]), decode(*a))[1])
    builder = vlm.prompt_builder(world, FRAMES)
    prompt = builder.for_example(example, training=True)
    models.generate(vlm, [prompt], 2)
    models.generate(vlm, [prompt], 2, temperature=1.0, top_k=7)
    config = GspoConfig(num_generations=2, max_new_tokens=2)
    rollouts = off_policy.sample_rollouts(vlm, [prompt], config, RewardConfig.paper(), seed=0)
    assert rollouts.mask.shape == rollouts.ids.shape == (2, 2)
    assert [(s.temperature, s.top_p, s.top_k, s.eos_ids) for s in used] == [
        (0.0, 1.0, 0, (151645, 151643)),
        (1.0, 0.95, 7, (151645, 151643)),
        (1.0, 1.0, 0, (151645, 151643)),
    ]


@each_family
def test_an_sft_and_a_gspo_step(vlm, world, sft_examples, rl_examples, tmp_path, name):
    """Both trainers with the real vocabulary: finite losses, weights that move, saved and loaded in the same family."""
    builder = vlm.prompt_builder(world, FRAMES)
    made = sft.make_trainer(vlm, sft_examples[:2], builder, SFT, TrainingRun(tmp_path / "sft", 0))
    losses = sft.task_losses(made, sft_examples[:2], 1)
    assert all(0.8 * np.log(151_000) < loss < 1.2 * np.log(151_000) for loss in losses.values())
    before = {key: p.detach().clone() for key, p in vlm.model.named_parameters()}
    (row,) = training.train(made)
    assert np.isfinite(row["loss"])
    config = GspoConfig(
        max_steps=1, prompts_per_step=1, num_generations=2, per_device_batch_size=2, max_new_tokens=4, top_k=50
    )
    trainer = gspo.make_trainer(vlm, rl_examples[:3], builder, config, TrainingRun(tmp_path / "gspo", 0))
    assert trainer.shares_prefix
    (row,) = training.train(trainer)
    assert np.isfinite(row["loss"]) and row["ratio/q50"] == pytest.approx(1)
    assert any(not torch.equal(p, before[key]) for key, p in vlm.model.named_parameters())
    models.save(vlm, tmp_path / "saved")
    assert models.load(tmp_path / "saved").family is FAMILIES[name]
