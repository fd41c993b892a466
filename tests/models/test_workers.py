"""Answers of several processes: the same bytes as of one, errors that name the row, no worker for changed weights."""

import logging
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from o3v import files, inference, models
from o3v.config import InferenceConfig
from o3v.data.quarantine import Quarantine
from o3v.inference import answering, faithfulness, voting
from o3v.inference.answering import Question
from o3v.models import crop_judge, workers
from o3v.models.source import weights_digest

from helpers.world import FRAMES  # isort: skip

ONE = InferenceConfig(batch_size=2, max_new_tokens=4, vote_sizes=(1, 2), num_workers=1)
TWO = replace(ONE, num_workers=2)


@pytest.fixture(scope="module")
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def saved(_twin, tmp_path_factory, threads):
    """The twin, loaded from a folder; its workers stay for all tests of this module."""
    folder = tmp_path_factory.mktemp("twin")
    models.save(_twin, folder)
    yield models.load(folder)
    workers.close_workers()


def pid_of(item, vlm):
    if item == "bad":
        raise ValueError("this row is damaged")
    if item == "dead":
        os._exit(9)
    return item, os.getpid(), weights_digest(vlm.model)


def asked(vlm, items):
    return list(workers.run_batches(partial(pid_of, vlm=vlm), vlm, items, 2, "row {}".format))


@pytest.fixture
def questions(saved, vstar_items, world):
    return inference.vstar_questions(vstar_items, saved.prompt_builder(world, FRAMES))


def test_an_error_in_a_worker_names_the_row_and_the_next_call_works(saved):
    with pytest.raises(ValueError, match="this row is damaged") as caught:
        asked(saved, [*range(4), "bad", *range(4)])
    assert "while answering row bad" in caught.value.__notes__
    assert [item for item, *_ in asked(saved, range(6))] == list(range(6))


def test_batches_come_back_in_order_from_other_processes_with_the_same_weights(saved):
    items, pids, digests = zip(*asked(saved, range(12)), strict=True)
    assert items == tuple(range(12)) and os.getpid() not in pids and set(digests) == {saved.source.digest}


def test_weights_that_are_not_those_of_the_folder_are_used_in_this_process(saved, twin, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert twin.source is None
    assert {pid for _, pid, _ in asked(twin, range(4))} == {os.getpid()}
    vlm = models.save(twin, tmp_path / "a")
    assert vlm.source.name == str(tmp_path / "a") and vlm.source == models.load(tmp_path / "a").source
    torch.optim.SGD(vlm.model.parameters(), lr=1e-3).step()  # no gradients: nothing changes
    assert weights_digest(vlm.model) == vlm.source.digest
    with torch.no_grad():
        next(vlm.model.parameters()).mul_(1 + 1e-6)
    assert {pid for _, pid, _ in asked(vlm, range(4))} == {os.getpid()}
    assert "not those of a folder" in caplog.text
    assert models.save(twin, tmp_path / "half", half=True).source is None


def test_a_folder_that_has_changed_since_is_refused(saved, twin, tmp_path):
    vlm = models.save(twin, tmp_path)
    other = models.load(tmp_path)
    with torch.no_grad():
        next(other.model.parameters()).mul_(2)
    models.save(other, tmp_path)
    with pytest.raises(RuntimeError, match=r"the weights in .* have changed since the model was loaded; load it again"):
        asked(vlm, range(4))


def test_answers_in_two_processes_are_the_bytes_of_one(saved, questions, tmp_path):
    assert len(questions) == 10  # five batches
    one = inference.answer(saved, questions, ONE, tmp_path / "one", "a")
    asked(saved, range(4))  # the pool exists
    two = inference.answer(saved, questions, TWO, tmp_path / "two", "a")
    assert one == two and len(one) == 10
    parts = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(parts) == 5
    assert all((tmp_path / "one" / p).read_bytes() == (tmp_path / "two" / p).read_bytes() for p in parts)
    (tmp_path / "two" / parts[1]).unlink()
    (tmp_path / "two" / parts[3]).unlink()
    files.write_jsonl(tmp_path / "two" / parts[0], [{"key": "kept"}])  # a finished batch is not answered again
    assert inference.answer(saved, questions, TWO, tmp_path / "two", "a") == [{"key": "kept"}, *one[2:]]
    assert answering.answer_all(saved, questions, TWO) == one


def test_unreadable_questions_are_left_out_by_workers_too(saved, questions, tmp_path):
    missing = [Question(f"missing {n}", tmp_path / f"{n}.mp4", partial(open, tmp_path / f"{n}.mp4")) for n in range(2)]
    mixed, found = [missing[0], *questions[:7], missing[1]], []
    for number, config in enumerate((ONE, TWO)):
        quarantine = Quarantine(tmp_path / f"{number}.jsonl", 9, max_share=0.5, retry_s=0)
        found.append(
            [row["key"] for row in inference.answer(saved, mixed, config, tmp_path / str(number), "a", quarantine)]
        )
        assert quarantine.names == {f"missing {n} ({n}.mp4)" for n in range(2)}
    assert found[0] == found[1] == [q.key for q in questions[:7]]
    with pytest.raises(FileNotFoundError) as caught:
        inference.answer(saved, mixed, TWO, tmp_path / "strict", "a")
    assert "while answering questions missing 0 to 0/what" in caught.value.__notes__


def test_votes_trials_and_crops_in_two_processes_equal_those_of_one(saved, questions, tmp_path):
    judge = crop_judge.CropJudge(saved, batch_size=2)
    pools = [
        voting.sample_pools(saved, questions[:4], config, judge.ask, tmp_path / str(config.num_workers), seed=3)
        for config in (ONE, TWO)
    ]
    assert pools[0] == pools[1] and [len(pool) for pool in pools[0]] == [2] * 4
    prompts = [question.make() for question in questions[:4]]
    trials = [faithfulness.run_trials(saved, prompts, ["a"] * 4, config) for config in (ONE, TWO)]
    assert trials[0] == trials[1]
    crops = list(np.random.default_rng(0).integers(0, 255, (8, 56, 56, 3), np.uint8))
    assert judge.ask(crops, ["Is this a cup?"] * 8) == replace(judge, num_workers=2).ask(crops, ["Is this a cup?"] * 8)


def test_a_worker_that_dies_is_reported_with_what_to_do(saved):
    with pytest.raises(RuntimeError, match=r"a worker process died while it answered row .*fewer workers"):
        asked(saved, [*range(4), "dead"])
    assert workers._POOL.executor is None
