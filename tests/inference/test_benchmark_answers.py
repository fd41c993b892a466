"""Predictions of a model for a benchmark: videos that are found, unfinished runs, files that are not ours."""

import json

import pytest
from helpers.world import builder_of

from o3v.config import InferenceConfig
from o3v.evaluation.benchmarks import BenchmarkItem
from o3v.evaluation.vstar_items import read_items
from o3v.evaluation.vstar_predictions import read_predictions
from o3v.inference import answering
from o3v.inference.benchmark_answers import answer_benchmark, answer_vstar, find_videos
from o3v.schema import Task

CONFIG = InferenceConfig(batch_size=4, max_new_tokens=3)


def test_videos_are_found_by_path_name_and_stem(world, tmp_path):
    stem = read_items(world / "V_STaR_test.json")[0]["vid"]
    name = f"videos/eval/{stem}.mp4"
    found, problems = find_videos(world, [name, stem, f"{stem}.mp4", f"{stem}.avi", "none", "none"])
    assert found == {name: name, stem: name, f"{stem}.mp4": name, f"{stem}.avi": name}
    assert problems == ["none: has no video"]
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.mp4").write_bytes(b"no video")
    found, problems = find_videos(tmp_path, ["same", "a/same.mp4"])
    assert found == {} and problems[0] == "same: several videos have this name: a/same.mp4, b/same.mp4"
    assert problems[1].startswith("a/same.mp4: ")  # the right one, which is no video
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    found, problems = find_videos(tmp_path, ["broken"])
    assert found == {} and problems[0].startswith("broken: ")


def test_v_star_predictions_are_complete_and_a_killed_run_continues(twin, world, tmp_path, monkeypatch):
    items = read_items(world / "V_STaR_test.json")
    lost = items[0] | {"vid": "lost.mp4", "question": "Where?"}
    generate, calls = answering.generate, []

    def failing(vlm, prompts, *rest, **options):
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(vlm, prompts, *rest, **options)

    monkeypatch.setattr(answering, "generate", failing)
    out = tmp_path / "p.jsonl"
    with pytest.raises(KeyboardInterrupt):
        answer_vstar(twin, [*items, lost], builder_of(world), CONFIG, out)
    assert not out.exists()
    problems = answer_vstar(twin, [*items, lost], builder_of(world), CONFIG, out)
    assert calls == [4, 4, 4, 2] and len(problems) == 1 and problems[0].startswith("lost.mp4: ")
    found = read_predictions(out, [*items, lost])
    assert [row["vid"] for row in found.rows] == [*(item["vid"] for item in items), "lost.mp4"]
    assert found.findings["missing"] == ["item 3 (lost.mp4)"] and not found.findings["extra keys"]
    assert all("answer_spatial_pre_2" in row for row in found.rows[:2])
    answer_vstar(twin, [*items, lost], builder_of(world), CONFIG, out)
    assert len(calls) == 4  # nothing is generated again


def test_a_file_of_another_model_is_not_overwritten(twin, world, tmp_path):
    out = tmp_path / "p.jsonl"
    out.write_text("mine")
    with pytest.raises(FileExistsError, match="choose another file"):
        answer_vstar(twin, read_items(world / "V_STaR_test.json"), builder_of(world), CONFIG, out)
    assert out.read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="none of the videos"):
        answer_vstar(twin, [], builder_of(world), CONFIG, tmp_path / "q.jsonl")


def test_other_benchmarks_get_one_question_an_item_with_their_task(twin, world, tmp_path, monkeypatch):
    video = read_items(world / "V_STaR_test.json")[0]["vid"]
    items = [
        BenchmarkItem("a", video, "What?\nA. x\nB. y", "A", letters="AB"),
        BenchmarkItem("b", video, "When?", span_s=(0.0, 1.0)),
        BenchmarkItem("c", video, "Why?", "so"),
        BenchmarkItem("d", "lost.mp4", "Why?", "so"),
    ]
    tasks = []

    def generate(vlm, prompts, longest, **options):
        tasks.extend(prompt.row["task"] for prompt in prompts)
        return ["B" for _ in prompts]

    monkeypatch.setattr(answering, "generate", generate)
    problems = answer_benchmark(twin, items, builder_of(world), CONFIG, tmp_path / "p.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert rows == [{"key": key, "response": "B"} for key in "abc"] and len(problems) == 1
    assert tasks == [Task.MCQ, Task.TEMPORAL, Task.FREE_FORM]
