"""Inference: stored answers, V-STAR's questions, and the parsing of their answers."""

import json
import math
from pathlib import Path

import pytest
from helpers.world import builder_of

from o3v import evidence, inference, video
from o3v.config import InferenceConfig
from o3v.data.quarantine import Quarantine
from o3v.evaluation import vstar
from o3v.evaluation.vstar_items import item_boxes
from o3v.inference import answering
from o3v.rewards.config import RewardConfig

CONFIG = InferenceConfig(batch_size=4, max_new_tokens=5)
ITEM = {
    "vid": "v.mp4",
    "width": 200,
    "height": 100,
    "object": "red car",
    "answer": "a car",
    "timestamps": [2.0, 5.5],
    "bboxes": [{"timestamp": s, "xmin": 20, "ymin": 10, "xmax": 60, "ymax": 50} for s in (2, 3, 4, 5)],
}

QUESTIONS = {"question": "What?", "temporal_question": "When?", "spatial_question": "Where?", "spatial_question_2": "?"}


def respond(*claims):
    think = " ".join(evidence.format_claim(name, [box], t) for name, box, t in claims)
    return evidence.parse_response(evidence.format_response(think, "there"))


def test_an_empty_question_is_refused_and_without_a_file_there_is_none():
    with pytest.raises(ValueError, match="the question is empty"):
        inference.file_questions("a.mp4", "  ", builder_of(Path(".")))
    assert inference.file_questions("", "What?", builder_of(Path("."))) == []


def test_no_claim_gives_no_box():
    assert inference.spatial_answer(respond(), (56, 28), ITEM, [2.0], span_given=True) == {}


def test_each_second_gets_the_claim_nearest_in_time_in_original_pixels():
    response = respond(("red car", (0, 0, 14, 14), 2.1), ("red car", (28, 0, 42, 14), 4.9))
    got = inference.spatial_answer(response, (56, 28), ITEM, [2.0, 3.0, 4.0, 5.0], span_given=True)
    left, right = [0.0, 0.0, 50.0, 50.0], [100.0, 0.0, 150.0, 50.0]
    assert got == {"2": left, "3": left, "4": right, "5": right}


def test_without_a_given_span_only_seconds_between_claims_are_answered():
    response = respond(("red car", (0, 0, 14, 14), 3.2), ("red car", (0, 0, 14, 14), 3.9))
    assert set(inference.spatial_answer(response, (56, 28), ITEM, [2.0, 3.0, 4.0, 5.0], span_given=False)) == {"3", "4"}


def test_claims_about_other_objects_count_only_if_none_names_the_object():
    other, own = ("blue ball", (28, 14, 42, 28), 2.0), ("Red Car", (0, 0, 14, 14), 5.0)
    assert inference.spatial_answer(respond(other, own), (56, 28), ITEM, [2.0], True) == {"2": [0.0, 0.0, 50.0, 50.0]}
    assert inference.spatial_answer(respond(other), (56, 28), ITEM, [2.0], True) == {"2": [100.0, 50.0, 150.0, 100.0]}


def test_perfect_answers_score_perfectly():
    response = respond(*[("red car", (5.6, 2.8, 16.8, 14), float(s)) for s in (2, 3, 4, 5)])
    rows = {ask: "<think></think><answer>a car</answer>" for ask in inference.VSTAR_QUESTIONS}
    rows |= dict.fromkeys(("when", "when_2"), "<think></think><answer>From <t>2.0</t>s to <t>5.5</t>s</answer>")
    rows |= dict.fromkeys(("where", "where_2"), response.text)
    answers = [{"key": f"0/{ask}", "response": text, "space_wh": [56, 28]} for ask, text in rows.items()]
    read = inference.read_vstar_answers([{**ITEM, "domain": "x", "fps": 10, "frame_count": 80}], answers)
    summary = inference.result_columns(vstar.score_items(read, protocol="strict")["overall"])
    assert summary == {"accuracy": 1.0, "m_tiou": 1.0, "m_viou": 1.0, "mam": 1.0, "mlgm": pytest.approx(13.8, abs=0.1)}


@pytest.mark.parametrize(
    ("text", "judged", "span"),
    [
        ("Frame 1 red car, blue cup; frame 2 nothing.\nThe blue cup", 0, []),
        ("Frame 1 red car: from 2.0s; frame 2 nothing: to 3.0s.\nFrom 2.0s to 4.0s, the red car", 3, [2.0, 4.0]),
        ("the red car, from 2s to 4s", 3, [2.0, 4.0]),
        ("<think>A cup.\nA blue cup</think><answer>The red car\n2s to 4s</answer>", 3, [2.0, 4.0]),
    ],
)
def test_an_answer_in_plain_words_is_read_from_its_conclusion(text, judged, span):
    answers = [{"key": f"0/{ask}", "response": text, "space_wh": [84, 84]} for ask in inference.VSTAR_QUESTIONS]
    (read,) = inference.read_vstar_answers([ITEM], answers)
    assert read["judge_score"] == judged and vstar.spoken_span(read["answer_temporal_pre"], "strict") == span


def test_each_item_gives_five_questions(world, vstar_items):
    questions = inference.vstar_questions(vstar_items, builder_of(world))
    assert [q.key for q in questions[:5]] == [f"0/{ask}" for ask in ("what", "when", "when_2", "where", "where_2")]
    texts = {q.key.split("/")[1]: q.make().row["question"] for q in questions[:5]}
    item = vstar_items[0]
    start_s, end_s = item["timestamps"]
    assert texts["what"] == item["question"] and texts["when"] == item["temporal_question"]
    assert f"from {start_s:.1f}s to {end_s:.1f}s" in texts["where"]  # chain 1 gets the true interval
    assert texts["when_2"].count("[") == len(item["bboxes"])  # chain 2 the true boxes
    assert f"{len(item['bboxes'])} boxes" in texts["where_2"]  # and their number


def test_an_interrupted_run_generates_only_the_missing_answers(twin, world, vstar_items, tmp_path, monkeypatch):
    questions = inference.vstar_questions(vstar_items, builder_of(world))
    whole = inference.answer(twin, questions, CONFIG, tmp_path / "whole")
    generate, calls = answering.generate, []

    def failing(vlm, prompts, *rest, **options):
        calls.append(len(prompts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(vlm, prompts, *rest)

    monkeypatch.setattr(answering, "generate", failing)
    with pytest.raises(KeyboardInterrupt):
        inference.answer(twin, questions, CONFIG, tmp_path / "part")
    assert inference.answer(twin, questions, CONFIG, tmp_path / "part") == whole
    assert calls == [4, 4, 4, 2]  # the first batch was not generated again


def test_true_boxes_are_in_pixels_of_the_frames(world, vstar_items):
    frames = video.sample_frames(world / vstar_items[0]["video_path"], 3, 56 * 56)
    truth = inference.item_boxes_px("0/where", vstar_items, frames)
    second, box = next(iter(item_boxes(vstar_items[0]).items()))
    assert truth[second] == {vstar_items[0]["object"]: [pytest.approx(tuple(v / 4 for v in box))]}
    assert inference.item_boxes_px("holiday.mp4", vstar_items, frames) == {}
    seconds = inference.item_times_s("0/where", vstar_items)
    assert seconds == list(truth) and inference.item_times_s("holiday.mp4", vstar_items) == []
    keyed = video.sample_frames(world / vstar_items[0]["video_path"], 3, 56 * 56, key_times_s=seconds)
    assert all(abs(keyed.times_s - second).min() <= 0.1 for second in seconds)


def test_the_whole_video_as_every_span_earns_only_some_tiou(twin, world, vstar_items, monkeypatch):
    monkeypatch.setattr(
        answering,
        "generate",
        lambda vlm, prompts, longest, **options: [
            evidence.format_response("So.", "From <t>0.0</t>s to <t>99.0</t>s") for _ in prompts
        ],
    )
    low = inference.heldout_mam(twin, vstar_items, builder_of(world), CONFIG)
    assert 0 < low < 1 / 3


def test_training_questions_are_rewarded_as_at_the_end(twin, rl_examples, world, tmp_path, monkeypatch):
    """All correct except a time that is wrong by 2 s: exp(-2²/2) at σ = 1 s. A second call generates nothing."""
    example = next(e for e in rl_examples if e.key_frames)
    late = example.key_frames[-1].time_s + 2
    name, (box, *_) = next(iter(example.key_frames[-1].items.items()))
    width, height = builder_of(world).for_example(example, training=True).space_wh
    box = [side * size for side, size in zip(box, (width, height, width, height), strict=True)]
    text = evidence.format_response(evidence.format_claim(name, [box], late), example.answer)
    monkeypatch.setattr(answering, "generate", lambda vlm, prompts, longest, **options: [text for _ in prompts])
    place = (builder_of(world), CONFIG, RewardConfig.paper(), tmp_path)
    (row,) = inference.score_examples(twin, [example], *place)
    assert (row["id"], row["task"], row["response"]) == (example.id, example.task, text)
    assert row["ans_acc"] == row["format"] == 1 and row["ans_tiou"] is None
    assert row["thk_temporal_point"] == pytest.approx(math.exp(-2), abs=0.02)
    assert inference.heldout_rewards(twin, [example], *place[:-1]) == [row]  # the same without files
    monkeypatch.delattr(answering, "generate")
    assert inference.score_examples(twin, [example], *place) == [row]


def test_an_item_whose_video_is_lost_gets_no_answer_and_counts_zero(twin, world, vstar_items, tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "generate", lambda vlm, prompts, longest, **options: ["red"] * len(prompts))
    builder = builder_of(world)
    questions = inference.vstar_questions([ITEM | QUESTIONS, *vstar_items], builder)  # v.mp4 does not exist
    with pytest.raises(FileNotFoundError):
        inference.answer(twin, questions, CONFIG, tmp_path / "strict")
    quarantine = Quarantine(tmp_path / "unreadable.jsonl", 100, retry_s=0)
    answers = inference.answer(twin, questions, CONFIG, tmp_path / "answers", quarantine=quarantine)
    assert [row["key"] for row in answers] == [q.key for q in questions[5:]]
    lost, *others = inference.read_vstar_answers([ITEM | QUESTIONS, *vstar_items], answers)
    assert (lost["answer_vqa"], lost["judge_score"], lost["answer_spatial"]) == ("", 0, {})
    assert all(item["answer_vqa"] == "red" for item in others)
    assert vstar.score_items([lost | {"fps": 10, "frame_count": 100}], "strict")["overall"]["mam"] == 0
    names = [question.key for question, _ in inference.readable(questions, 2, quarantine)]
    assert names == [question.key for question in questions[5:7]]
    assert len((tmp_path / "unreadable.jsonl").read_text().splitlines()) == 5


def test_the_official_evaluation_asks_where_for_json_and_reads_it(world, vstar_items):
    item, builder = vstar_items[0], builder_of(world)
    plain, asked = (
        {q.key: q.make() for q in inference.vstar_questions([item], builder, official)} for official in (False, True)
    )
    changed = [key for key in plain if plain[key].row["question"] != asked[key].row["question"]]
    assert changed == ["0/where", "0/where_2"] and InferenceConfig.official().json_boxes
    seconds = [box["timestamp"] for box in item["bboxes"]]
    assert f"The seconds are {', '.join(f'{s:g}' for s in seconds)}." in asked["0/where"].row["question"]
    written = json.dumps({f"{second:g}": [0, 0, *asked["0/where"].space_wh] for second in seconds})
    answers = [
        {"key": key, "response": written if "where" in key else "x", "space_wh": list(prompt.space_wh)}
        for key, prompt in asked.items()
    ]
    (read,) = inference.read_vstar_answers([item], answers)
    assert read["answer_spatial"] == {f"{s:g}": [0, 0, item["width"], item["height"]] for s in seconds}
