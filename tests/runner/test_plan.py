"""Tests of planning a run: wrong arguments raise an error before anything starts."""

import json

import pytest
from helpers.toy_notebooks import write_notebook, write_toys

from o3v.runner.plan import plan_matrix, plan_resumed, plan_run


@pytest.fixture
def toys(tmp_path):
    return write_toys(tmp_path / "notebooks")


REFUSED = [
    ({"profile": "huge"}, "profile 'huge' does not exist; choose one of .*smoke, tiny, .*full"),
    ({"seed": -1}, "must be an integer from 0"),
    ({"seed": "x"}, "must be an integer from 0"),
    (
        {"overrides": {"03": "b"}},
        "'03' does not have the form NOTEBOOK.PARAMETER, and no notebook has a",
    ),
    ({"overrides": {"seed": 3}}, "seed is an option of the run"),
    ({"overrides": {"factor": "big"}}, "01_make.factor must be float"),
    ({"overrides": {"07.word": "b"}}, "no notebook '07'; choose one of 01_make, 02_side, 03_use"),
    ({"overrides": {"03.wrod": "b"}}, "03_use has no parameter 'wrod'; choose one of word"),
    ({"overrides": {"03.word": 5}}, "03_use.word must be str, found int 5"),
    ({"overrides": {"01_make.factor": "big"}}, "01_make.factor must be float"),
    ({"overrides": {"01.seed": 3}}, "seed is set for the whole run"),
    ({"overrides": {"01.run_dir": "x"}}, "run_dir is set for the whole run"),
    ({"overrides": {"01.factor": 1, "01_make.factor": 2}}, "given twice"),
    ({"start_from": "02", "only": "03"}, "either --from or --only"),
    ({"start_from": "9"}, "no notebook '9'"),
    ({"only": "use"}, "no notebook 'use'"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_wrong_arguments_raise_an_error_and_write_nothing(arguments, message, toys, tmp_path):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        plan_run(**{"profile": None, "seed": None, **arguments}, out=tmp_path / "runs", notebooks=toys)
    assert not (tmp_path / "runs").exists()


def test_notebooks_must_exist_and_have_the_parameters_of_every_run(tmp_path):
    with pytest.raises(ValueError, match="no notebooks named"):
        plan_run(None, None, tmp_path, notebooks=tmp_path)
    write_notebook(tmp_path / "01_a.ipynb", "1", "profile = 'tiny'\nseed = 0\n")
    with pytest.raises(ValueError, match=r"01_a\.ipynb has no parameter 'run_dir'"):
        plan_run(None, None, tmp_path, notebooks=tmp_path)


def test_the_name_of_a_run_depends_only_on_profile_seed_and_overrides(toys, tmp_path):
    def run_id(profile, seed, overrides=None):
        return plan_run(profile, seed, tmp_path, overrides=overrides, notebooks=toys).run_dir.name

    assert run_id(None, None) == "tiny-0"
    assert run_id("smoke", 3) == "smoke-3"
    changed = run_id("smoke", 3, {"01.factor": "1e-4", "03.word": "b"})
    assert changed.startswith("smoke-3-")
    assert len(changed) == len("smoke-3-") + 8
    assert changed == run_id("smoke", 3, {"03_use.word": "b", "1.factor": 0.0001})
    assert changed != run_id("smoke", 3, {"01.factor": "1e-5", "03.word": "b"})


def test_a_plan_gives_each_notebook_its_own_parameters(toys, tmp_path):
    plan = plan_run("smoke", 3, tmp_path, overrides={"01.factor": "1e-6"}, start_from="02", notebooks=toys)
    assert [book.name for book in plan.selected] == ["02_side", "03_use"]
    assert plan.parameters(plan.notebooks[0]) == {"profile": "smoke", "seed": 3, "factor": 1e-6}
    assert plan.parameters(plan.notebooks[1]) == {"profile": "smoke", "seed": 3}
    assert plan.run_dir.is_absolute()


def test_a_resumed_plan_takes_profile_seed_and_overrides_from_the_manifest(toys, tmp_path):
    with pytest.raises(ValueError, match="there is no run mine"):
        plan_resumed("mine", tmp_path, notebooks=toys)
    (tmp_path / "mine").mkdir()
    manifest = tmp_path / "mine" / "manifest.json"
    for text in ("{", "[]", '{"profile": "tiny"}'):
        manifest.write_text(text)
        with pytest.raises(ValueError, match="manifest"):
            plan_resumed("mine", tmp_path, notebooks=toys)
    manifest.write_text(json.dumps({"profile": "smoke", "seed": 4, "overrides": {"03_use.word": "c"}, "stages": {}}))
    plan = plan_resumed("mine", tmp_path, only="3", notebooks=toys)
    assert (plan.run_dir.name, plan.profile, plan.seed, plan.overrides) == ("mine", "smoke", 4, {"03_use.word": "c"})


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
        ({"lr": [1]}, "'lr' does not have the form NOTEBOOK.PARAMETER"),
    ],
)
def test_a_wrong_grid_raises_an_error(grid, message, toys, tmp_path):
    with pytest.raises(ValueError, match=message):
        plan_matrix(grid, tmp_path / "runs", {"seed": 1, "03.word": "x"}, notebooks=toys)


def test_a_grid_gives_a_plan_for_each_combination(toys, tmp_path):
    grid = {"profile": ["smoke", "tiny"], "01.factor": ["1e-6", 2], "03.word": ["b", "c", "d"]}
    plans = plan_matrix(grid, tmp_path, {"seed": 7, "02.side": 5}, notebooks=toys)
    assert len({plan.run_dir for plan in plans}) == 12
    assert {plan.seed for plan in plans} == {7}
    assert {plan.overrides["02_side.side"] for plan in plans} == {5.0}
    assert {plan.overrides["01_make.factor"] for plan in plans} == {1e-6, 2.0}


def test_a_letter_after_the_number_runs_after_the_number(toys, tmp_path):
    write_notebook(toys / "03b_more.ipynb", "1", 'profile = "smoke"\nseed = 0\nrun_dir = ""\n')
    write_notebook(toys / "04_last.ipynb", "1", 'profile = "smoke"\nseed = 0\nrun_dir = ""\n')

    def names(**options):
        return [book.name for book in plan_run("smoke", 0, tmp_path, notebooks=toys, **options).selected]

    assert names() == ["01_make", "02_side", "03_use", "03b_more", "04_last"]
    assert names(only="3") == ["03_use"] and names(only="03b") == names(only="3b") == ["03b_more"]
    assert names(start_from="03b_more") == ["03b_more", "04_last"]


@pytest.fixture
def with_data(tmp_path):
    """Three notebooks of which the first has a data root, and the last two a base model."""
    folder, common = tmp_path / "with data", 'profile = "smoke"\nseed = 0\nrun_dir = ""\n'
    write_notebook(folder / "01_data.ipynb", "1", common + 'data_root = ""\n')
    write_notebook(folder / "02_sft.ipynb", "1", common + 'base = ""\n')
    write_notebook(folder / "05_eval.ipynb", "1", common + 'base = ""\n')
    return folder


def overrides(folder, given, **environment):
    return plan_run("smoke", 0, folder.parent, overrides=given, environment=environment, notebooks=folder).overrides


def test_a_parameter_without_a_notebook_is_for_all_that_have_it(with_data):
    assert overrides(with_data, {"base": "a/b"}) == {"02_sft.base": "a/b", "05_eval.base": "a/b"}
    both = {"05.base": "c/d", "base": "a/b"}  # the own value of a notebook comes first, in any order
    assert overrides(with_data, both) == {"02_sft.base": "a/b", "05_eval.base": "c/d"}
    assert overrides(with_data, both) == overrides(with_data, dict(reversed(both.items())))


@pytest.mark.parametrize("parameter", ["data_root", "01.data_root"])
def test_a_data_root_must_be_a_folder_and_becomes_absolute(with_data, tmp_path, monkeypatch, parameter):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"01_data\.data_root is 'data', which is not a folder"):
        overrides(with_data, {parameter: "data"})
    (tmp_path / "data").mkdir()
    assert overrides(with_data, {parameter: "data"}) == {"01_data.data_root": str(tmp_path / "data")}
    assert overrides(with_data, {parameter: ""}) == {"01_data.data_root": ""}


def test_the_environment_names_the_data_root_unless_a_parameter_does(with_data, toys, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    first, second = map(str, folders)
    assert overrides(with_data, {}, O3V_DATA=first) == {"01_data.data_root": first}
    assert overrides(with_data, {"data_root": second}, O3V_DATA=first) == {"01_data.data_root": second}
    assert overrides(with_data, {"01.data_root": ""}, O3V_DATA=first) == {"01_data.data_root": ""}
    with pytest.raises(ValueError, match="not a folder"):
        overrides(with_data, {}, O3V_DATA=str(tmp_path / "c"))
    assert plan_run("smoke", 0, tmp_path, environment={"O3V_DATA": first}, notebooks=toys).overrides == {}


def test_a_base_is_a_folder_anywhere_or_a_name_on_the_hub(with_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for missing in ("./model", "/nowhere/model", "model", "a/b/c"):
        with pytest.raises(ValueError, match="is not a folder, and no name on the hub"):
            overrides(with_data, {"base": missing})
    (tmp_path / "model").mkdir()
    assert overrides(with_data, {"02.base": "model"}) == {"02_sft.base": str(tmp_path / "model")}
    assert overrides(with_data, {"02.base": "data/o3v-tiny-base"}) == {"02_sft.base": "data/o3v-tiny-base"}
