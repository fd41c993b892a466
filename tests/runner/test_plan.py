"""Planning a run: everything that can be refused is refused before anything starts."""

from __future__ import annotations

import json

import pytest
from helpers.toy_notebooks import write_notebook, write_toys

from o3v.runner.notebook import UsageError
from o3v.runner.plan import plan_matrix, plan_run


@pytest.fixture
def toys(tmp_path):
    return write_toys(tmp_path / "notebooks")


REFUSED = [
    ({"profile": "huge"}, "profile 'huge' does not exist; choose one of smoke, tiny, full"),
    ({"seed": -1}, "whole number from 0 on"),
    ({"seed": "x"}, "whole number from 0 on"),
    ({"overrides": {"03": "b"}}, "'03' is not `notebook.parameter`"),
    ({"overrides": {"07.word": "b"}}, "no notebook '07'; there are 01_make, 02_side, 03_use"),
    ({"overrides": {"03.wrod": "b"}}, "03_use has no parameter 'wrod'; it has word"),
    ({"overrides": {"03.word": 5}}, "03_use.word must be str, found int 5"),
    ({"overrides": {"01_make.factor": "big"}}, "01_make.factor must be float"),
    ({"overrides": {"01.seed": 3}}, "seed is set for the whole run"),
    ({"overrides": {"01.run_dir": "x"}}, "run_dir is set for the whole run"),
    ({"overrides": {"01.factor": 1, "01_make.factor": 2}}, "given twice"),
    ({"start_from": "02", "only": "03"}, "either --from or --only"),
    ({"start_from": "9"}, "no notebook '9'"),
    ({"only": "use"}, "no notebook 'use'"),
    ({"resume": "tiny-9"}, "there is no run tiny-9"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_a_command_that_cannot_run_is_refused_at_once(given, message, toys, tmp_path):
    given = dict(given)
    profile, seed = given.pop("profile", None), given.pop("seed", None)
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        plan_run(profile, seed, tmp_path / "runs", notebooks=toys, **given)
    assert not (tmp_path / "runs").exists()


def test_notebooks_must_be_there_and_take_what_every_run_sets(tmp_path):
    with pytest.raises(UsageError, match="no notebooks named"):
        plan_run(None, None, tmp_path, notebooks=tmp_path)
    write_notebook(tmp_path / "01_a.ipynb", "1", "profile = 'tiny'\nseed = 0\n")
    with pytest.raises(UsageError, match=r"01_a\.ipynb has no parameter 'run_dir'"):
        plan_run(None, None, tmp_path, notebooks=tmp_path)


def test_the_folder_follows_from_profile_seed_and_overrides_alone(toys, tmp_path):
    def run_id(*given, **overrides):
        return plan_run(
            *given, tmp_path, overrides={k[1:].replace("__", "."): v for k, v in overrides.items()}, notebooks=toys
        ).run_id

    assert run_id(None, None) == "tiny-0"
    assert run_id("smoke", 3) == "smoke-3"
    changed = run_id("smoke", 3, _01__factor="1e-4", _03__word="b")
    assert changed.startswith("smoke-3-")
    assert len(changed) == len("smoke-3-") + 8
    assert changed == run_id("smoke", 3, _03_use__word="b", _1__factor=0.0001)
    assert changed != run_id("smoke", 3, _01__factor="1e-5", _03__word="b")


def test_a_plan_gives_each_notebook_its_own_parameters(toys, tmp_path):
    plan = plan_run("smoke", 3, tmp_path, overrides={"01.factor": "1e-6"}, start_from="02", notebooks=toys)
    assert [book.name for book in plan.selected] == ["02_side", "03_use"]
    assert plan.parameters(plan.notebooks[0]) == {"profile": "smoke", "seed": 3, "factor": 1e-6}
    assert plan.parameters(plan.notebooks[1]) == {"profile": "smoke", "seed": 3}
    assert plan.run_dir.is_absolute()


def test_resume_takes_everything_from_the_manifest(toys, tmp_path):
    (tmp_path / "mine").mkdir()
    manifest = tmp_path / "mine" / "manifest.json"
    for text in ("{", "[]", '{"profile": "tiny"}'):
        manifest.write_text(text)
        with pytest.raises(UsageError, match="manifest"):
            plan_run(None, None, tmp_path, resume="mine", notebooks=toys)
    manifest.write_text(json.dumps({"profile": "smoke", "seed": 4, "overrides": {"03_use.word": "c"}, "stages": {}}))
    plan = plan_run(None, None, tmp_path, resume="mine", only="3", notebooks=toys)
    assert (plan.run_id, plan.profile, plan.seed, plan.overrides) == ("mine", "smoke", 4, {"03_use.word": "c"})
    for given in ({"profile": "tiny", "seed": None}, {"profile": None, "seed": 4}):
        with pytest.raises(UsageError, match="those it was started with"):
            plan_run(*given.values(), tmp_path, resume="mine", notebooks=toys)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([], "must map"),
        ({}, "must map"),
        ({"01.factor": 1.0}, "a list of values for 01.factor"),
        ({"01.factor": []}, "a list of values for 01.factor"),
        ({"01.factor": [1.0, "big"]}, "01_make.factor must be float"),
        ({"01.factr": [1.0]}, "no parameter 'factr'"),
        ({"01.factor": ["1e-4", 0.0001]}, "twice"),
        ({"profile": ["smoke", "huge"]}, "'huge' does not exist"),
        ({"seed": [1]}, "seed is given twice"),
        ({"03.word": ["b"]}, "03.word is given twice"),
        ({"lr": [1]}, "'lr' is not `notebook.parameter`"),
    ],
)
def test_a_grid_is_refused_whole(grid, message, toys, tmp_path):
    with pytest.raises(UsageError, match=message):
        plan_matrix(grid, None, 1, tmp_path / "runs", overrides={"03.word": "x"}, notebooks=toys)


def test_a_grid_is_every_combination(toys, tmp_path):
    grid = {"profile": ["smoke", "tiny"], "01.factor": ["1e-6", 2], "03.word": ["b", "c", "d"]}
    plans = plan_matrix(grid, None, 7, tmp_path, overrides={"02.side": 5}, notebooks=toys)
    assert len({plan.run_id for plan in plans}) == 12
    assert {plan.seed for plan in plans} == {7}
    assert {plan.overrides["02_side.side"] for plan in plans} == {5.0}
    assert {plan.overrides["01_make.factor"] for plan in plans} == {1e-6, 2.0}
