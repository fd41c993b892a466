"""Parity by files: what is missing or damaged, each kind of difference, and a record that no longer fits."""

import json

import pytest
from helpers.parity_files import checkpoint, exchange, row, write_engine

from o3v import files
from o3v.planning import parity

TOLERANCE = parity.TOLERANCES["float32"]


@pytest.fixture
def model(tmp_path):
    return checkpoint(tmp_path / "model")


@pytest.fixture
def folder(model):
    return exchange(model)


def spoil(path, change):
    value = files.read_json(path)
    change(value)
    files.write_json(path, value)


def test_a_folder_without_weights_is_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is no folder with a model's weights"):
        parity.model_files(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [parity.CASES, parity.ENGINE])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing; run `o3v parity`"):
        parity.compare(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (parity.ENGINE, lambda v: v.pop("answers"), "has no `settings` and `answers`"),
        (parity.CASES, lambda v: v["settings"].pop("dtype"), "`settings` has no dtype"),
        (parity.ENGINE, lambda v: v.update(answers=3), "has no `settings` and `answers`"),
        (parity.CASES, lambda v: v["settings"].update(model_files=[]), "`model_files` of `settings` is no mapping"),
        (parity.ENGINE, lambda v: v["answers"].pop(2), "not the cases 0, 1, 2"),
        (parity.ENGINE, lambda v: v["answers"].pop(), "has 4 answers to 5 cases"),
        (parity.ENGINE, lambda v: v["answers"][1].pop("tokens"), r"case 1: tokens is missing"),
        (parity.ENGINE, lambda v: v["answers"][3]["tokens"].append(2.5), r"case 3: tokens .*wrong values"),
        (parity.ENGINE, lambda v: v["answers"][3]["logprobs"].pop(), r"case 3: logprobs \(one for each of tokens\)"),
        (parity.ENGINE, lambda v: v["answers"][0].update(image_grids=[[1, 2]]), "case 0: image_grids"),
        (parity.CASES, lambda v: v["cases"][0].pop("margins"), "case 0: margins"),
        (parity.CASES, lambda v: v["settings"].update(dtype="float16"), "answers other cases"),
    ],
)
def test_a_damaged_file_is_named_with_its_case_and_field(folder, name, change, message):
    spoil(folder / name, change)
    with pytest.raises(ValueError, match=message):
        parity.compare(folder)
    assert not (folder / parity.RECORD).exists()


def test_numbers_that_are_none_are_refused(folder):
    text = (folder / parity.ENGINE).read_text(encoding="utf-8").replace("-0.25", "NaN", 1)
    (folder / parity.ENGINE).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="case 0: logprobs"):
        parity.compare(folder)


def test_an_unknown_precision_is_refused(model):
    folder = exchange(model, dtype="float16")
    with pytest.raises(ValueError, match="dtype 'float16' is none of float32, bfloat16"):
        parity.compare(folder)


def test_a_checkpoint_that_changed_after_the_cases_is_refused(folder, model):
    (model / "model.safetensors").write_text("other weights", encoding="utf-8")
    with pytest.raises(parity.NoParity, match=r"model\.safetensors changed since cases\.json was written"):
        parity.compare(folder)


def test_equal_engines_pass_and_training_may_start(folder, model):
    record = parity.compare(folder)
    assert record["passed"] and record["differences"] == []
    assert [(r["checked"], r["number"], r["equal"]) for r in record["table"]] == [
        ("token ids", 5, 5),
        ("image grids", 5, 5),
        ("greedy tokens", 5, 5),
        ("log-probabilities, by token", 15, 15),
    ]
    assert parity.require_parity(model) == record


def difference(change, cases=5):
    ours = [row(n, margins=[1.0, 0.0005, 2.0]) for n in range(cases)]
    theirs = [row(n) for n in range(cases)]
    change(theirs[1])
    return parity.compare_rows(ours, theirs, TOLERANCE)


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda r: r.update(input_ids=[1, 5, 2]), ["case 1: token ids differ"]),
        (lambda r: r.update(image_grids=[[1, 4, 2]]), ["case 1: image grids differ"]),
        (lambda r: r.update(tokens=[6, 8, 9]), ["case 1: greedy tokens differ from token 0 on, where the margin is 1"]),
        # the best two of the second token are 0.0005 apart: within rounding, either may win
        (lambda r: r.update(tokens=[7, 3, 4]), []),
        # an answer that ends early has no margin to excuse it
        (
            lambda r: r.update(tokens=[7, 8, 9, 4], logprobs=[-0.5, -1.0, -0.25, 0.0]),
            ["case 1: greedy tokens differ from token 3 on, where the margin is inf"],
        ),
        # 15 tokens, one 0.003 off: the mean is 0.0002
        (
            lambda r: r.update(logprobs=[-0.503, -1.0, -0.25]),
            ["log-probabilities differ by 0.0002 on average, at most by 0.003"],
        ),
        (lambda r: r.update(logprobs=[-0.5009, -1.0, -0.25]), []),
    ],
)
def test_each_kind_of_difference(change, messages):
    table, differences = difference(change)
    assert differences == messages
    assert len(table) == 4


def test_small_differences_of_all_tokens_add_up():
    ours = [row(0, margins=[1.0, 1.0, 1.0])]
    theirs = [row(0, logprobs=[-0.5005, -1.0005, -0.2505])]  # each within 0.001, the mean above 0.0001
    _, differences = parity.compare_rows(ours, theirs, TOLERANCE)
    assert differences == ["log-probabilities differ by 0.0005 on average, at most by 0.0005"]


def test_engines_without_a_common_token_are_not_called_equal():
    ours = [row(0, margins=[0.0, 1.0, 1.0])]
    _, differences = parity.compare_rows(ours, [row(0, tokens=[1, 2, 3])], TOLERANCE)
    assert differences == ["log-probabilities: the engines agree on no token, so none is compared"]


def test_too_few_cases_prove_nothing(model):
    record = parity.compare(exchange(model, cases=4))
    assert record["differences"] == ["only 4 cases; at least 5 are needed"]
    with pytest.raises(parity.NoParity, match="only 4 cases"):
        parity.require_parity(model)


def test_training_needs_a_record(model):
    with pytest.raises(parity.NoParity, match=r"no parity record of .*model.*run `o3v parity .*model --data ROOT`"):
        parity.require_parity(model)
    with pytest.raises(parity.NoParity, match=r"Qwen/Qwen2\.5-VL-7B-Instruct is not a folder"):
        parity.require_parity("Qwen/Qwen2.5-VL-7B-Instruct")


@pytest.mark.parametrize("name", ["preprocessor_config.json", "model.safetensors", "tokenizer.json", "added.json"])
def test_a_record_of_other_files_is_refused(folder, model, name):
    assert parity.compare(folder)["passed"]
    (model / name).write_text("doctored", encoding="utf-8")
    with pytest.raises(parity.NoParity, match=rf"is of other files: {name} changed since; run `o3v parity"):
        parity.require_parity(model)


def test_a_failed_or_damaged_record_is_refused(folder, model):
    write_engine(folder, [row(n, image_grids=[[1, 4, 2]]) for n in range(5)])
    assert not parity.compare(folder)["passed"]
    with pytest.raises(parity.NoParity, match=r"the engines differ on .*case 0: image grids differ; case 1.*; do not"):
        parity.require_parity(model)
    (folder / parity.RECORD).write_text(json.dumps([1]), encoding="utf-8")
    with pytest.raises(parity.NoParity, match=r"record\.json is not a parity record"):
        parity.require_parity(model)


def test_an_old_verdict_does_not_outlive_a_failed_comparison(folder, model):
    assert parity.compare(folder)["passed"]
    (folder / parity.ENGINE).unlink()
    with pytest.raises(FileNotFoundError):
        parity.compare(folder)
    with pytest.raises(parity.NoParity, match="no parity record"):
        parity.require_parity(model)
