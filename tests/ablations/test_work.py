"""Tests of one cell: what it trains and writes, and that a finished one never runs twice."""

from dataclasses import replace

import pytest
from helpers.world import FRAMES

from o3v import files, models
from o3v.ablations import cells, store, work
from o3v.ablations.cells import CELLS
from o3v.ablations.results import finished_cells, item_series
from o3v.config import load_profile

SIZES = cells.Sizes(1, 1, 2, questions=2, items=2, general=1, voted=1, votes=2, save_steps=2)


@pytest.fixture
def runs(world, sft_examples, rl_examples, vstar_items, twin, tmp_path, monkeypatch):
    """A folder with the run of seed 0, whose cold start is the untrained twin."""
    stage = tmp_path / "runs/smoke-0/01_data_pipeline"
    for name, examples in (("sft", sft_examples), ("rl", rl_examples)):
        files.write_jsonl(stage / f"{name}.jsonl", (example.to_row() for example in examples))
    files.write_jsonl(stage / "eval.jsonl", vstar_items)
    files.write_json(stage / "data.media.json", {"folders": {"data": str(world), "vstar": str(world)}})
    models.save(twin, tmp_path / "runs/smoke-0/02_sft/checkpoint")
    smoke = load_profile("smoke")
    gspo = replace(smoke.gspo, prompts_per_step=1, num_generations=2, per_device_batch_size=2, max_new_tokens=6)
    smoke = replace(smoke, frames=FRAMES, gspo=gspo, inference=replace(smoke.inference, max_new_tokens=6))
    monkeypatch.setattr(work, "load_profile", lambda name: smoke)
    monkeypatch.setitem(cells.SIZES, "smoke", SIZES)
    return tmp_path / "runs"


def kill(*_):
    """Stands for a signal."""
    raise KeyboardInterrupt


def run(name, runs, seed=0):
    return work.run_cell(CELLS[name], seed, runs, runs.parent / "out", "smoke")


def test_a_missing_run_is_named_with_its_command(runs):
    with pytest.raises(FileNotFoundError, match=r"smoke-7.* is missing: o3v run --profile smoke --seed 7 --only 01"):
        run("sft", runs, seed=7)
    (runs / "smoke-0/02_sft/checkpoint/model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="--seed 0 --only 02"):
        run("sft", runs)
    assert not (runs.parent / "out").exists()


def test_a_missing_start_is_named_and_the_cell_stands_as_failed(runs):
    with pytest.raises(FileNotFoundError, match="voting starts from the model of sft_gspo, seed 0"):
        run("voting", runs)
    record = store.read_cell(runs.parent / "out", "voting", 0)
    assert record["status"] == "failed" and record["error"].startswith("FileNotFoundError: voting starts")


def test_too_few_rows_are_an_error_with_what_to_do(runs, monkeypatch):
    monkeypatch.setitem(cells.SIZES, "smoke", replace(SIZES, longer_steps=9))
    with pytest.raises(ValueError, match=r"longer_sft needs 72 rows of SFT and finds 15 in .*sft_rows"):
        run("longer_sft", runs)


def test_a_cell_that_only_answers_has_a_score_for_each_item_and_never_runs_twice(runs, monkeypatch):
    record = run("sft", runs)
    assert record["status"] == "finished" and record["steps"] == 0 and record["curve"] == {}
    assert record["inputs"].keys() == {"sft.jsonl", "rl.jsonl", "eval.jsonl", "checkpoint/model.safetensors"}
    assert len(record["code"]) == 64 and record["seconds"]["all"] > 0 and record["starts"] == 1
    series = item_series(finished_cells([record])["sft"][0])
    assert {kind: len(values) for kind, values in series.items()} == {"vstar": 2, "reward": 2}
    monkeypatch.setattr(work.models, "load", None)  # would fail if it ran
    assert run("sft", runs) == record
    (runs / "smoke-0/01_data_pipeline/rl.jsonl").open("a").write("\n")
    with pytest.raises(ValueError, match=r"sft-0\.json was made with other inputs; move it away"):
        run("sft", runs)
    assert store.read_cell(runs.parent / "out", "sft", 0) == record


def test_a_killed_cell_answers_without_training_again(runs, monkeypatch):
    out = runs.parent / "out"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(work.CellWork, "scores", kill)
        run("longer_sft", runs)
    assert store.read_cell(out, "longer_sft", 0)["status"] == "started"
    with monkeypatch.context() as patched:
        patched.setattr(work.training, "train", None)  # would fail if it trained
        record = run("longer_sft", runs)
    assert record["status"] == "finished" and record["starts"] == 2
    assert record["steps"] == 1 and record["curve"]["loss"][0] > 0 and record["seconds"]["training"] > 0
    assert not (out / "work/longer_sft-0/checkpoint").exists()  # nothing starts from it


def test_unfinished_work_of_other_code_is_not_continued(runs, monkeypatch, caplog):
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(work.CellWork, "scores", kill)
        run("sft", runs)
    left = runs.parent / "out/work/sft-0/answers/old.jsonl"
    files.write_text(left, "")
    monkeypatch.setattr(work, "code_digest", lambda *_: "other")
    record = run("sft", runs)
    assert not left.exists() and record["code"] == "other" and record["starts"] == 1
    assert "its unfinished work is removed" in caplog.text


def test_a_cell_that_another_process_runs_is_left_alone(runs):
    with files.locked(runs.parent / "out/work/sft-0", 0.0, "o3v ablate"), pytest.raises(BlockingIOError):
        run("sft", runs)
    assert store.read_cell(runs.parent / "out", "sft", 0) is None


def test_gspo_and_what_starts_from_it(runs):
    record = run("sft_gspo", runs)
    assert record["steps"] == 2 and len(record["curve"]["loss"]) == 2
    out = runs.parent / "out"
    assert (out / "work/sft_gspo-0/checkpoint").is_dir() and not (out / "work/sft_gspo-0/trainer").exists()
    votes = run("voting", runs)["scores"]["voting"]
    assert votes.keys() == {"single", "majority", "confidence"} and len(votes["single"]) == 1
    assert run("removal", runs)["scores"]["removal"] == {}  # an untrained model claims nothing
    assert [r["cell"] for r in store.read_assembled(store.assemble(out))] == ["removal", "sft_gspo", "voting"]
