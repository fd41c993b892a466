"""The out-of-tree task for lmms-eval: the same scores as ours, on the golden items where they are and on others."""

import ast
import importlib.util
import json
import random
from pathlib import Path

import datasets
import pytest
import yaml
from helpers.vstar_rows import RIGHT, golden, old_schema, random_rows, without_results

from o3v import evidence
from o3v.evaluation import vstar, vstar_answers, vstar_times
from o3v.evaluation.vstar import score_each, score_items
from o3v.evaluation.vstar_answers import read_texts
from o3v.text import tokens

FOLDER = Path(__file__).parents[2] / "lmms_eval_tasks" / "vstar"
PARTS = ("what", "when", "where", "when_2", "where_2")


@pytest.fixture
def utils(monkeypatch):
    """The module as lmms-eval loads it, with a judge that knows the scores of the rows."""
    for name in ("VSTAR_BOX_SPACE", "VSTAR_MAX_PIXELS"):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("utils", FOLDER / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers_of(row):
    """Raw responses that say what the results of a row hold."""
    texts = {"what": str(row["answer_vqa"] or "")}
    for chain in ("", "_2"):
        span = row[f"answer_temporal{chain}"]
        texts[f"when{chain}"] = " to ".join(f"{end:.6f}" for end in span) if span else "unknown"
        texts[f"where{chain}"] = json.dumps(row[f"answer_spatial{chain}"] or {})
    return texts


def run(utils, rows, texts, judge=None):
    """The metrics of the task, and the tuples of each item."""
    if judge:
        utils.JUDGE = judge
    tuples = []
    for number, (row, answers) in enumerate(zip(rows, texts, strict=True)):
        for part in PARTS:
            found = utils.vstar_process_results({**row, "part": part, "item": number}, [answers[part]])
            tuples.append(found["mam"])
    metrics = {
        "accuracy": utils.vstar_accuracy(tuples),
        "m_tiou": utils.vstar_m_tiou(tuples),
        "m_viou": utils.vstar_m_viou(tuples),
        "mam": utils.vstar_mam(tuples),
        "mlgm": utils.vstar_mlgm(tuples),
    }
    return metrics, tuples


def our_rows(rows, texts, box_space="video"):
    """The rows as our scorer reads the same raw responses."""
    read = []
    for row, answers in zip(rows, texts, strict=True):
        results = {"answer_vqa": evidence.parse_response(answers["what"]).final_answer}
        for chain in ("", "_2"):
            results |= {f"answer_temporal{chain}": [], f"answer_temporal_pre{chain}": answers[f"when{chain}"]}
            results |= {f"answer_spatial{chain}": {}, f"answer_spatial_pre{chain}": answers[f"where{chain}"]}
        read.append(read_texts({**without_results(row), **results}, box_space, 128 * 28 * 28))
    return read


def check_equal(utils, rows, texts, box_space="video", judge=vstar.judge_exact):
    metrics, tuples = run(utils, rows, texts, judge)
    ours = our_rows(rows, texts, box_space)
    for number, score in enumerate(score_each(ours, "strict", judge).scores):
        expected = [float(score.judge >= 2), score.tiou[0], score.viou[0], score.tiou[1], score.viou[1]]
        assert [value for item, _, value in tuples if item == number] == pytest.approx(expected, abs=1e-12), number
    overall = score_items(ours, "strict", judge)["overall"]
    means = {name: sum(overall[name]) / 2 for name in ("m_tiou", "m_viou")}
    expected = means | {name: overall[name] for name in ("accuracy", "mam", "mlgm")}
    assert metrics == pytest.approx(expected, abs=1e-12)


def test_no_item_and_a_missing_part_count_as_zero(utils):
    assert utils.vstar_mam([]) == utils.vstar_mlgm([]) == 0
    assert utils.vstar_means([(0, "what", 1.0), (1, "when", 0.5)]) == (0.5, (0.25, 0.0), (0.0, 0.0))


def test_made_up_items_have_equal_scores(utils):
    rows = random_rows(40)
    check_equal(utils, rows, [answers_of(row) for row in rows])
    check_equal(utils, [old_schema(row) for row in rows], [answers_of(row) for row in rows])


def test_golden_items_have_equal_scores(utils):
    content = golden()
    if content is None:
        pytest.skip("the golden file is not here")
    rows = [{**row, "object": ""} for row in content["items"]]
    rows = [
        row for row in rows if isinstance(row["answer_spatial"], dict) and isinstance(row["answer_spatial_2"], dict)
    ]
    scores = {row["answer"]: row["judge_score"] for row in rows}
    assert len(scores) == len(rows) > 50
    check_equal(utils, rows, [answers_of(row) for row in rows], judge=lambda _, truth: max(0, scores[truth]))


RESPONSES = [
    "",
    "no idea",
    "<think>so</think><answer>A cup.</answer>",
    "<think>0 to 9</think><answer>From <t>1.0</t>s to <t>5.0</t>s</answer>",
    "00:01 - 00:05",
    "12% to 30%",
    '```json\n{"1s": [0, 0, 10, 10], \'2\': [[1, 2, 3, 4], [0, 0, 9, 9]], "3": [1, 2',
    "[{'bbox_2d': [0, 0, 10, 10], 'timestamp': 1}]",
    '<think>{"1": [0, 0, 9, 9]}</think><answer>{"2": [0, 0, 9, 9]}</answer>',
    "<think><obj>cup</obj><box>[0,0,10,10]</box>at<t>1.2</t>s <obj>man</obj><box>[9,9,20,20]</box>at<t>2.0</t>s</think>"
    "<answer>there</answer>",
    "<think><obj>man</obj><box>[0,0,10,10]</box><box>[1,1,2,2]</box>at<t>5.5</t>s</think><answer>there</answer>",
]


@pytest.mark.parametrize("box_space", ["video", "pixels", "thousandths"])
def test_responses_as_they_come_have_equal_scores(utils, monkeypatch, box_space):
    monkeypatch.setenv("VSTAR_BOX_SPACE", box_space)
    rng, rows = random.Random(1), [RIGHT | {"vid": str(number)} for number in range(60)]
    texts = [{part: rng.choice(RESPONSES) for part in PARTS} for _ in rows]
    check_equal(utils, rows, texts, box_space)


def source_of(path, name):
    """The code of a function or constant, without its docstring and annotations."""
    for node in ast.parse(Path(path).read_text(encoding="utf-8")).body:
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        if getattr(node, "name", None) == name or name in names:
            return ast.unparse(node)
    raise AssertionError(f"{name} is not in {path}")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *[("o3v.text", name) for name in ("_UNSPACED", "_MARKS", "_TOKEN", "tokens")],
        *[(vstar.__name__, name) for name in ("judge_exact", "_words", "LGM_CEILING")],
        *[(vstar_times.__name__, name) for name in ("UNITS_S", "_TIME", "spoken_times", "clock_s")],
        *[(vstar_answers.__name__, name) for name in ("_NUMBER", "_FOUR", "_SECOND", "_SIDES", "_PART", "read_boxes")],
    ],
)
def test_the_reading_of_answers_is_the_same_code(module, name):
    """The task stands alone, so it holds copies."""
    ours = Path(importlib.util.find_spec(module).origin)
    assert source_of(FOLDER / "utils.py", name) == source_of(ours, name)
    assert tokens("A cup.") == ["a", "cup"]


def test_each_item_becomes_five_prompts_conditioned_as_in_the_benchmark(utils, monkeypatch):
    rows = [without_results(RIGHT), without_results(RIGHT | {"vid": "b", "question": "Who comes?"})]
    documents = list(utils.vstar_process_docs(datasets.Dataset.from_list(rows)))
    assert [(doc["item"], doc["part"]) for doc in documents] == [(item, part) for item in (0, 1) for part in PARTS]
    prompts = {doc["part"]: utils.vstar_doc_to_text(doc, {"post_prompt": "!"}) for doc in documents[:5]}
    assert prompts["what"] == "Answer the question about the video in a few words: What falls?!"
    assert "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]" in prompts["where"]  # the true interval
    assert "[[0, 0, 10, 10], [0, 0, 10, 10]]" in prompts["when_2"] and "30.00 seconds" in prompts["when"]
    assert "Give 2 boxes" in prompts["where_2"]
    monkeypatch.setenv("VSTAR_BOX_SPACE", "thousandths")
    assert "[[0, 0, 100, 200]" in utils.vstar_doc_to_text(documents[3])
    assert utils.vstar_doc_to_target(documents[0]) == "the cup"
    monkeypatch.setenv("VSTAR_BOX_SPACE", "inches")
    with pytest.raises(ValueError, match="VSTAR_BOX_SPACE is 'inches'"):
        utils.vstar_doc_to_text(documents[3])


def test_a_missing_video_is_named(utils, monkeypatch, tmp_path):
    monkeypatch.setenv("VSTAR_VIDEOS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"a\.mp4 does not exist; set VSTAR_VIDEOS"):
        utils.vstar_doc_to_visual(RIGHT)
    (tmp_path / "b.mp4").write_bytes(b"")
    assert utils.vstar_doc_to_visual({"vid": "b"}) == [str(tmp_path / "b.mp4")]


def test_the_yaml_names_functions_that_exist(utils):
    text = (FOLDER / "vstar.yaml").read_text(encoding="utf-8")
    names = [line.split("!function utils.")[1] for line in text.splitlines() if "!function utils." in line]
    assert len(names) == 10 and all(callable(getattr(utils, name)) for name in names)
    plain = yaml.safe_load(text.replace("!function ", ""))
    assert [metric["metric"] for metric in plain["metric_list"]] == ["accuracy", "m_tiou", "m_viou", "mam", "mlgm"]
    assert set(utils.vstar_process_results({**RIGHT, "part": "what", "item": 0}, [])) == {
        metric["metric"] for metric in plain["metric_list"]
    }
