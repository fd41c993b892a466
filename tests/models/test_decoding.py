"""Generation that drops ended rows: equal to transformers where it is greedy, by hand where it samples."""

import copy

import pytest
import torch
from transformers import Cache, GenerationConfig
from transformers.cache_utils import DynamicLayer

from o3v.models import prefix_cache
from o3v.models.decoding import Decoding, decode, read_settings
from o3v.models.vlm import encode
from o3v.prompts import plain_prompt

END = 3


def scripted(rows):
    """A model that continues row i with `rows[i]` and then ends it; its cache holds the number of the row."""
    layer = DynamicLayer()
    numbers = torch.arange(len(rows), dtype=torch.float32).view(-1, 1, 1, 1)
    layer.update(numbers, numbers)
    cache, lengths = Cache(layers=[layer]), []

    def logits_of(tokens):
        return torch.nn.functional.one_hot(torch.tensor(tokens), 6).float()

    def next_logits(tokens, mask, positions):
        lengths.append(len(tokens))
        running = cache.layers[0].keys[:, 0, 0, 0].long().tolist()
        assert len(running) == len(mask) == len(positions)
        return logits_of(
            [([*rows[row], END] + [END] * 9)[position] for row, position in zip(running, positions, strict=True)]
        )

    first = logits_of([(*row, END)[0] for row in rows])
    return next_logits, first, cache, lengths


def test_rows_end_at_different_times_and_leave_the_batch():
    rows = [[4, 5, 4, 5], [4], [5, 5], [4, 4, 4]]
    next_logits, first, cache, lengths = scripted(rows)
    mask, positions = torch.ones(4, 1), torch.ones(4, dtype=torch.long)
    new = decode(next_logits, first, cache, mask, positions, Decoding(10, (END,), pad_id=0))
    assert new.tolist() == [[4, 5, 4, 5, 3], [4, 3, 0, 0, 0], [5, 5, 3, 0, 0], [4, 4, 4, 3, 0]]
    assert lengths == [4, 3, 2, 1]  # rows that the model still computes


def test_the_length_limit_and_the_least_length():
    next_logits, first, cache, _ = scripted([[4] * 9, [4]])
    start = (first, cache, torch.ones(2, 1), torch.ones(2, dtype=torch.long))
    assert decode(next_logits, *start, Decoding(3, (END,))).tolist() == [[4, 4, 4], [4, 3, 0]]
    next_logits, first, cache, _ = scripted([[4]])
    start = (first, cache, torch.ones(1, 1), torch.ones(1, dtype=torch.long))
    assert decode(next_logits, *start, Decoding(4, (END,), min_new_tokens=3))[0, -1] == END


def test_choices_respect_top_p_top_k_temperature_and_suppressed_tokens():
    torch.manual_seed(0)
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).repeat(20_000, 1)

    def shares(**settings):
        tokens = Decoding(1, **settings).choose(logits.clone())
        return (tokens.bincount(minlength=4) / len(tokens)).tolist()

    assert shares() == [1, 0, 0, 0]  # greedy
    assert shares(temperature=1.0) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.015)
    assert shares(temperature=1.0, top_p=0.8) == pytest.approx([0.625, 0.375, 0, 0], abs=0.015)
    assert shares(temperature=1.0, top_k=1) == [1, 0, 0, 0]
    assert shares(temperature=1.0, suppressed=(0,)) == pytest.approx([0, 0.6, 0.3, 0.1], abs=0.015)
    squared = [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]  # temperature 1/2 squares probabilities
    assert shares(temperature=0.5) == pytest.approx(squared, abs=0.015)


@pytest.mark.parametrize(
    "changes", [{"num_beams": 2}, {"repetition_penalty": 1.05}, {"stop_strings": ["x"]}, {"min_p": 0.1}]
)
def test_other_settings_are_left_to_transformers(changes):
    model = type("Model", (), {"generation_config": GenerationConfig(eos_token_id=3, pad_token_id=0)})()
    assert read_settings(model, {"max_new_tokens": 5, "do_sample": False}) == Decoding(5, (3,), 0)
    assert read_settings(model, {"max_new_tokens": 5} | changes) is None
    assert read_settings(model, {"max_new_tokens": 5, "streamer": object()}) is None


def test_greedy_tokens_are_those_of_transformers_when_rows_end_early(twin):
    """Every frequent token ends a row, so rows end at different times."""
    import numpy as np

    model = copy.deepcopy(twin.model).eval()
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (56, 56, 3), dtype=np.uint8) for _ in range(4)]
    prompts = [plain_prompt([f], (), 0.0, q) for f, q in zip(frames, ("What?", "Where is it?", "a", "b"), strict=True)]
    inputs = dict(encode(twin.processor, prompts))
    model.generation_config.eos_token_id = None
    free = model.generate(**inputs, max_new_tokens=12, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    model.generation_config.eos_token_id = sorted({int(row[4 + 2 * i]) for i, row in enumerate(free)})
    expected = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    found = prefix_cache.generate(model, **inputs, max_new_tokens=12, do_sample=False)
    assert torch.equal(found, expected)
