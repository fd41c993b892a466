"""The command `o3v eval`: scoring, judges, comparison, answering, lmms-eval."""

import json

import pytest
from helpers.annotation_server import Server
from helpers.vstar_rows import RIGHT, random_rows, without_results

from o3v.__main__ import main

WORSE = {"answer_temporal": [20.0, 30.0], "answer_temporal_2": [20.0, 30.0]}


@pytest.fixture
def files(tmp_path):
    """The benchmark's file, predictions in both formats, and worse ones."""
    rows = random_rows(25)
    (tmp_path / "items.json").write_text(json.dumps([without_results(row) for row in rows]))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "worse.json").write_text(json.dumps([row | WORSE for row in rows]))
    return tmp_path


def run(capsys, *arguments):
    code = main(["eval", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "name a file of predictions"),
        (["none.json"], "none.json"),
        (["a.json", "--benchmark", "mme", "--items", "items.json"], "benchmark 'mme' is none of vstar"),
        (["a.json", "--benchmark", "videomme"], "needs its annotation file"),
        (["a.json", "--out", "a.json"], "would overwrite the input"),
        (["a.json", "--model", "m"], "--model needs --items and --videos"),
        (["--through", "lmms-eval"], "--through needs --out"),
        (["--through", "lmms-eval", "--out", "x"], "--through needs --model"),
        (["a.json", "--judge", "m", "--endpoint", "ftp://x"], "is not a URL"),
    ],
)
def test_wrong_arguments_are_one_line(files, monkeypatch, capsys, arguments, error):
    monkeypatch.chdir(files)
    code, _, message = run(capsys, *arguments)
    assert code == 2 and error in message and message.count("\n") == 1


def test_both_formats_give_the_same_report(files, capsys):
    for name in ("a.json", "a.jsonl"):
        code, text, _ = run(capsys, files / name, "--items", files / "items.json", "--out", files / f"{name}.report")
        assert code == 0 and "V-STAR, protocol strict, 95% intervals" in text and "whole frame" in text
    reports = [json.loads((files / f"{name}.report").read_text()) for name in ("a.json", "a.jsonl")]
    assert reports[0] == reports[1] and reports[0]["items"] == 25
    assert (files / "a.json").read_text().startswith("[{")  # inputs are as they were


def test_the_gate_ends_with_1_where_b_is_worse_beyond_the_interval(files, capsys):
    pairs = {("a.json", "worse.json"): 1, ("worse.json", "a.json"): 0, ("a.json", "a.jsonl"): 0}
    for (first, second), expected in pairs.items():
        code, text, _ = run(capsys, "--compare", files / first, files / second, "--items", files / "items.json")
        assert code == expected and ("B is worse in m_tiou, mam" in text) == bool(expected)


def test_judges_are_stored_compared_and_paid_once(files, capsys):
    server = Server(text="3")
    judges = ["--judge", "m", "--judge", "exact", "--endpoint", f"{server.url}/v1", "--prices", "1", "2"]
    code, text, _ = run(capsys, files / "a.json", *judges, "--out", files / "report.json")
    report = json.loads((files / "report.json").read_text())
    assert code == 0 and "kappa_right" in text
    first = report["judges"][0]
    assert first["asked"] == len(server.requests) == 3  # three different answers
    assert first["usd"] == pytest.approx((3 * 100 * 1 + 3 * 23 * 2) / 1e6)
    answered = report["answered"]
    assert report["overall"]["accuracy"]["value"] == answered / 25 and report["agreement"]["n"] == answered
    run(capsys, files / "a.json", *judges)
    assert len(server.requests) == 3


def test_another_benchmark(tmp_path, capsys):
    row = {"path": "v.mp4", "question": "a man sits", "start": 1.0, "end": 7.5, "duration": 30.0}
    (tmp_path / "tvg.json").write_text(json.dumps([row, row | {"start": 9.0}]))
    (tmp_path / "p.jsonl").write_text('{"key": "v.mp4/a man sits", "response": "1 to 7.5 s"}\n{"broken\n')
    items = ["--benchmark", "tvgbench", "--items", tmp_path / "tvg.json"]
    code, text, _ = run(capsys, tmp_path / "p.jsonl", *items, "--out", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert code == 0 and report["overall"]["miou"]["value"] == 1.0 and "row 2: field 'start, end' is [9.0, 7.5]" in text
    assert report["findings"]["unreadable"]["number"] == 1
    assert "Qwen2.5-VL-7B 16.3, Open-o3-Video-7B 20.8" in text  # table 2 of the paper
    (tmp_path / "none.jsonl").write_text("")
    assert run(capsys, "--compare", tmp_path / "p.jsonl", tmp_path / "none.jsonl", *items)[0] == 0  # one item


def test_the_command_for_lmms_eval_and_its_results(tmp_path, capsys):
    options = ["--through", "lmms-eval", "--benchmark", "videomme", "--out", tmp_path / "lmms"]
    code, text, _ = run(capsys, *options, "--model", "m")
    assert code == 0 and "--tasks videomme" in (tmp_path / "lmms/lmms_eval.sh").read_text() and "lmms_eval.sh" in text
    content = {"results": {"videomme": {"videomme_perception_score,none": 60.0}}}
    (tmp_path / "lmms/1_results.json").write_text(json.dumps(content))
    code, text, _ = run(capsys, *options)
    assert code == 0 and "videomme_perception_score" in text and "60.000" in text


def test_rows_of_the_old_schema_and_odd_files_are_scored(tmp_path, capsys):
    rows = [RIGHT, RIGHT | {"vid": "b", "answer_temporal": "x", "answer_spatial": [1, 2], "extra": 1}, 3]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    code, text, _ = run(capsys, tmp_path / "p.json")
    assert code == 0 and all(kind in text for kind in ("malformed", "extra keys", "unreadable"))


def test_a_model_answers_first_and_its_predictions_are_scored(twin, world, tmp_path, capsys, monkeypatch):
    from o3v import models
    from o3v.inference import answering

    monkeypatch.setattr(models, "load", lambda name: twin)
    monkeypatch.setattr(answering, "generate", lambda vlm, prompts, longest, **_: ["From 1.0s to 3.0s"] * len(prompts))
    given = [tmp_path / "p.jsonl", "--items", world / "V_STaR_test.json", "--videos", world, "--profile", "smoke"]
    code, text, error = run(capsys, *given, "--model", "a-model", "--out", tmp_path / "r.json")
    assert code == 0, error
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["items"] == 2 and report["answered"] == 2 and "missing" not in report["findings"]
    assert report["overall"]["m_tiou"]["value"] > 0 and "V-STAR, protocol strict" in text
    written = (tmp_path / "p.jsonl").read_text()
    assert run(capsys, *given)[0] == 0 and (tmp_path / "p.jsonl").read_text() == written
