"""The command for lmms-eval, and the reading of its results."""

import json
import shlex

import pytest
import yaml

from o3v.evaluation.lmms import TASKS_FOLDER, VSTAR_TASK, lmms_command, lmms_results, local_vstar_task


@pytest.mark.parametrize("name", ["tvgbench", "longvideo-reason", "other"])
def test_a_benchmark_without_a_task_is_refused(name):
    with pytest.raises(ValueError, match=f"no task for '{name}'; it has charades-sta"):
        lmms_command(name, "m", "out")


def test_the_command(tmp_path):
    words = shlex.split(lmms_command("videomme", "Qwen/Qwen2.5-VL-7B-Instruct", tmp_path / "my out"))
    assert words[:5] == ["python", "-m", "lmms_eval", "--model", "qwen2_5_vl"]
    assert words[words.index("--model_args") + 1] == "pretrained=Qwen/Qwen2.5-VL-7B-Instruct,max_num_frames=64"
    assert words[words.index("--tasks") + 1] == "videomme" and "--include_path" not in words
    assert words[words.index("--output_path") + 1] == str(tmp_path / "my out")


def test_our_own_task_is_included_with_the_models_space_of_boxes():
    command = lmms_command("vstar", "Qwen/Qwen3-VL-8B-Instruct", "out")
    assert command.startswith("VSTAR_BOX_SPACE=thousandths ") and "--model qwen3_vl" in command
    assert f"--include_path {TASKS_FOLDER}" in command and "max_num_frames=16" in command
    assert f"task: {VSTAR_TASK}\n" in (TASKS_FOLDER / "vstar" / "vstar.yaml").read_text()


def test_the_task_with_a_local_file(tmp_path):
    folder = local_vstar_task(tmp_path / "tasks", tmp_path / 'my "items".json')
    text = (folder / "vstar" / "vstar.yaml").read_text().replace("!function ", "")
    assert yaml.safe_load(text)["dataset_path"] == "json"
    assert yaml.safe_load(text)["dataset_kwargs"]["data_files"]["test"] == str(tmp_path / 'my "items".json')
    assert (folder / "vstar" / "utils.py").read_bytes() == (TASKS_FOLDER / "vstar" / "utils.py").read_bytes()
    command = lmms_command("vstar", "m", "out", tmp_path / "my videos", folder)
    assert f"VSTAR_VIDEOS='{tmp_path}/my videos'" in command and f"--include_path {folder}" in command


def test_results_are_read_from_the_newest_file(tmp_path):
    assert lmms_results(tmp_path) == []
    metrics = {
        "alias": "videomme",
        "videomme_perception_score,none": 60.0,
        "videomme_perception_score_stderr,none": "N/A",
    }
    scored = {"mam,none": 0.5, "mam_stderr,none": 0.1, "samples": 7}
    content = {
        "results": {"videomme": metrics, "x": scored},
        "n-samples": {"videomme": {"original": 9, "effective": 8}},
    }
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "2026_results.json").write_text(json.dumps(content))
    first, second = lmms_results(tmp_path)
    assert first == {
        "task": "videomme",
        "metric": "videomme_perception_score",
        "value": 60.0,
        "low": None,
        "high": None,
        "n": 8,
    }
    assert (second["metric"], second["low"], second["n"]) == ("mam", pytest.approx(0.5 - 0.196), 7)


@pytest.mark.parametrize("text", ["[]", "{}", '{"results": []}', "{"])
def test_a_file_of_another_form_is_one_error(tmp_path, text):
    (tmp_path / "x_results.json").write_text(text)
    with pytest.raises(ValueError, match=r"x_results\.json"):
        lmms_results(tmp_path)
