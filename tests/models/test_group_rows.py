"""A prompt and its completions in one row give the numbers and gradients of separate rows, checkpointed too."""

import numpy as np
import pytest
import torch
from helpers.small_qwen3 import small_qwen3

from o3v.models import group_rows, prefix_cache
from o3v.models.vlm import encode
from o3v.prompts import plain_prompt

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)
IDS = torch.from_numpy(np.random.default_rng(1).integers(20, 300, (4, 6)))
MASK = torch.tensor([[1] * 6, [1] * 3 + [0] * 3, [1] * 5 + [0], [1] + [0] * 5])


@pytest.fixture(params=["qwen2_5_vl", "qwen3_vl"])
def vlm(twin, request):
    return twin if request.param == "qwen2_5_vl" else small_qwen3(twin.processor.tokenizer)


@pytest.fixture
def inputs(vlm):
    """Rows 0 and 2 have the same prompt; the prompts differ in length and in their numbers of frames."""
    asked = [(3, "What is it?"), (2, "What?"), (3, "What is it?"), (2, "Where is the red car now?")]
    batch = [plain_prompt(list(FRAMES[:n]), tuple(map(float, range(n))), 9.0, question) for n, question in asked]
    return dict(encode(vlm.processor, batch))


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def separate_rows(model, inputs, temperature):
    whole = {
        "input_ids": torch.cat([inputs["input_ids"], IDS], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], MASK], 1),
        "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(IDS)], 1),
    }
    spread = (model(**(inputs | whole)).logits[:, -7:-1] / temperature).log_softmax(-1)
    return spread.gather(-1, IDS[..., None]).squeeze(-1) * MASK, -(spread.exp() * spread).sum(-1) * MASK


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_log_probabilities_and_gradients_are_those_of_separate_rows(vlm, inputs, checkpointed, attention, monkeypatch):
    monkeypatch.setattr(group_rows, "SCORED_AT_ONCE", 4)  # 15 tokens in four parts
    model, temperature = vlm.model.train(), 0.7
    model.set_attn_implementation(attention)
    expected, entropy = separate_rows(model, inputs, temperature)
    weights = torch.arange(24.0).view(4, 6) * MASK / 24
    theirs = gradients(model, (expected * weights).sum())
    group_rows.add_scoring(model)
    if checkpointed:
        model.gradient_checkpointing_enable()
    rows = group_rows.pack(model, inputs, IDS, MASK)
    prompts, longest = 3, inputs["input_ids"].shape[1] - 1 + (1 + 6) + (1 + 5)  # row 0 and row 2 share a prompt
    assert rows.inputs["input_ids"].shape == (prompts, longest) and rows.completion.shape == (15, 2)
    found, spread = model(**rows.inputs, scored_labels=rows.labels, temperature=temperature)
    assert torch.allclose(rows.unpack(found, 6), expected, atol=1e-5)
    assert torch.allclose(rows.unpack(spread, 6), entropy, atol=1e-5)
    ours = gradients(model, (rows.unpack(found, 6) * weights).sum())
    assert ours.keys() == theirs.keys() and max(value.abs().max() for value in theirs.values()) > 0.01
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, atol=1e-5), name


def test_a_branch_sees_the_prompt_and_itself_and_padding_only_itself():
    segments = torch.tensor([[-1, 0, 1, 1, 2, -1]])
    seen = group_rows.attention_mask(segments)[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 0, 0, 1, 0],
        [0, 1, 0, 0, 0, 1],
    ]


def test_without_labels_the_model_stays_as_it_is(vlm, inputs):
    model = vlm.model.eval()
    with torch.no_grad():
        expected = model(**inputs).logits
        group_rows.add_scoring(model)
        assert torch.equal(model(**inputs).logits, expected)
    model.generation_config.eos_token_id = None
    assert model.generate(**inputs, max_new_tokens=2, do_sample=False).shape[1] == inputs["input_ids"].shape[1] + 2


def test_other_attention_is_not_supported(twin):
    assert group_rows.supports_group_rows(twin.model)
    twin.model.config.get_text_config()._attn_implementation = "flash_attention_2"
    assert not group_rows.supports_group_rows(twin.model)


def test_a_prefix_cache_that_checkpointing_leaves_empty_is_an_error(twin):
    inputs = dict(encode(twin.processor, [plain_prompt(list(FRAMES), (0.0, 1.0, 2.0), 9.0, "What?")]))
    model = twin.model
    model.gradient_checkpointing_enable()
    with pytest.raises(RuntimeError, match=r"prefix cache is empty.*checkpointing.*group_rows"):
        prefix_cache.prefill(model.train(), inputs)
    assert prefix_cache.prefill(model.eval(), inputs).cache.get_seq_length() == inputs["input_ids"].shape[1]
