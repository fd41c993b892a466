"""Prompts: the input of the model, and the response that it learns."""

from dataclasses import replace

import pytest
from helpers.world import FRAMES, builder_of

from o3v import evidence, prompts
from o3v.geometry import box_iou, rescale_box
from o3v.rewards import score_completion
from o3v.schema import Example, Task


def parts(prompt, kind):
    return [p for message in prompt.messages for p in message["content"] if p["type"] == kind]


def example_of(examples, task):
    return next(e for e in examples if e.task is task)


def test_every_task_has_a_system_prompt():
    assert set(prompts.SYSTEM_PROMPTS) == set(Task) == set(prompts.TARGET_ANSWERS)


def test_a_row_without_chain_cannot_be_imitated(sft_examples):
    with pytest.raises(ValueError, match="no reasoning_process"):
        prompts.target_text(replace(sft_examples[0], reasoning_process=None), (56, 56))


def test_every_frame_comes_after_its_time(sft_examples, world):
    prompt = builder_of(world).for_example(example_of(sft_examples, Task.MCQ), training=False)
    assert len(parts(prompt, "image")) == len(prompt.images) == FRAMES.n_frames
    text = "".join(p.get("text", "▣") for p in prompt.messages[1]["content"])
    expected = "".join(f"Frame {i} at {t:.1f}s: ▣\n" for i, t in enumerate(prompt.times_s, 1))
    assert text.startswith(expected + "The video is in total ")


def test_key_frames_are_inserted_in_training_only(sft_examples, world):
    example = example_of(sft_examples, Task.SPATIO_TEMPORAL)
    train, infer = (builder_of(world).for_example(example, training=t) for t in (True, False))
    keys = {k.time_s for k in example.key_frames}
    assert all(any(abs(key - t) < 1e-3 for t in train.times_s) for key in keys)
    assert set(infer.times_s) <= set(train.times_s) and list(train.times_s) == sorted(train.times_s)
    assert len(infer.times_s) == FRAMES.n_frames


@pytest.mark.parametrize("box_space", ["pixels", "thousandths"])
def test_boxes_are_converted_to_the_models_space(sft_examples, world, box_space):
    example = example_of(sft_examples, Task.SPATIO_TEMPORAL)
    prompt = builder_of(world, box_space).for_example(example, training=True)
    assert prompt.space_wh == {"pixels": (56, 56), "thousandths": (1000, 1000)}[box_space]
    claims = evidence.parse_response(prompts.target_text(example, prompt.space_wh)).claims
    truth = {(round(k.time_s, 1), name): boxes[0] for k in example.key_frames for name, boxes in k.items.items()}
    assert claims
    for claim in claims:
        true_box = rescale_box(truth[round(claim.time_s, 1), claim.name], (1, 1), prompt.space_wh)
        assert box_iou(claim.boxes[0], true_box) > 0.8  # rounded to whole units


def test_boxes_of_images_are_in_pixels_of_the_resized_image(sft_examples, world):
    example = example_of(sft_examples, Task.SPATIAL)
    prompt = builder_of(world).for_example(example, training=True)
    assert prompt.row["image_size"] == [224, 224] and prompt.row["image_size_refine"] == [56, 56]
    original = evidence.answer_boxes(example.answer)[0]
    learned = evidence.answer_boxes(prompts.target_text(example, prompt.space_wh))
    assert len(learned) == 2  # in the thinking and in the answer
    assert all(box_iou(box, rescale_box(original, (224, 224), (56, 56))) > 0.8 for box in learned)


def test_targets_keep_the_grammar_and_answer_their_task(sft_examples, world):
    for example in sft_examples:
        response = evidence.parse_response(prompts.target_text(example, (56, 56)))
        assert response.problems == (), example.id
        if example.task in (Task.TEMPORAL, Task.TEMPORAL_MCQ):
            assert evidence.answer_span(response.answer) is not None
        if example.task is Task.MCQ:
            assert evidence.answer_choice(response.answer) == example.answer


def test_boxes_in_a_question_are_in_the_models_space(sft_examples, world):
    question_text = "The boxes are <box>[0.25,0.5,0.75,1]</box>, <box>[0,0,0.5,0.5]</box>. When is it there?"
    row = replace(example_of(sft_examples, Task.TEMPORAL), question=question_text)
    prompt = builder_of(world).for_example(row, training=True)
    expected = "The boxes are [14,28,42,56], [0,0,28,28]. When is it there?"
    assert prompt.messages[1]["content"][-1]["text"] == expected == prompt.row["question"]
    thousandths = builder_of(world, "thousandths").for_example(row, training=False)
    assert "[250,500,750,1000]" in thousandths.messages[1]["content"][-1]["text"]
    assert len(prompt.messages[1]["content"]) == len(prompts.frame_parts(prompt.times_s, prompt.duration_s)) + 1


TIMES_S = (0.0, 1.5, 3.0, 4.5, 6.0)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("[1.1, 4.2]", "[1.5, 4.5]"),
        ("[1.5, 5.0]", "[1.5, 6.0]"),
        ("[3.2, 7.0]", "[4.5, 7.4]"),  # no frame after it: to the end of the video
        ("[3.2, 4.0]", "[3.0, 4.5]"),  # no frame in it: from the last frame before it
        ("B\n[1.1, 4.2]", "B\n[1.5, 4.5]"),
    ],
)
def test_a_span_is_moved_to_frame_times(sft_examples, answer, expected):
    row = replace(example_of(sft_examples, Task.TEMPORAL), answer=answer)
    row = replace(row, task=Task.TEMPORAL_MCQ) if answer.startswith("B") else row
    assert prompts.snap_to_frames(row, TIMES_S, 7.4).answer == expected


@pytest.mark.parametrize("answer", ["soon", "[1.0]", "[a, b]", ""])
def test_a_temporal_row_without_a_span_is_named(sft_examples, answer):
    row = replace(example_of(sft_examples, Task.TEMPORAL), answer=answer)
    with pytest.raises(ValueError, match=f"{row.id}.*no span"):
        prompts.target_text(row, (56, 56))
    assert prompts.snap_to_frames(row, TIMES_S, 7.4) == row


@pytest.mark.parametrize("answer", ["B", "(B)", "[B]", "b", "B. the red car", "B) it\n"])
def test_the_target_of_an_option_in_any_form_earns_the_full_reward(sft_examples, answer):
    row = replace(example_of(sft_examples, Task.MCQ), answer=answer)
    assert score_completion(prompts.target_text(row, (56, 56)), row, 1.0)["ans_acc"] == 1.0
    temporal = replace(example_of(sft_examples, Task.TEMPORAL), task=Task.TEMPORAL_MCQ, answer=f"{answer}\n[1.0, 3.0]")
    scores = score_completion(prompts.target_text(temporal, (56, 56)), temporal, 1.0)
    assert scores["ans_acc"] == scores["ans_tiou"] == 1.0


@pytest.mark.parametrize(("stated_wh", "factor"), [([224, 224], 1), ([448, 448], 2)])
def test_the_stated_image_size_is_the_unit_of_target_and_reward(sft_examples, world, stated_wh, factor):
    """The file may be a smaller copy of the image that was annotated."""
    row = example_of(sft_examples, Task.SPATIAL).to_row() | {"image_size": stated_wh}
    for name in ("answer", "reasoning_process"):
        row[name] = evidence.map_boxes(row[name], lambda box: tuple(factor * side for side in box))
    example = Example.from_row(row)
    prompt = builder_of(world).for_example(example, training=True)
    scores = score_completion(prompts.target_text(example, prompt.space_wh), prompt.row, 1.0)
    assert scores["ans_viou"] > 0.9 and scores["thk_spatial"] > 0.9


def test_a_time_in_the_span_moves_to_a_frame_in_the_span(sft_examples):
    chain = "First at <t>1.1</t>s, last at <t>2.9</t>s, gone at <t>4.4</t>s."
    row = replace(example_of(sft_examples, Task.TEMPORAL), answer="[1.0, 2.95]", reasoning_process=chain)
    snapped = prompts.snap_to_frames(row, TIMES_S, 7.4)
    assert snapped.reasoning_process == "First at <t>1.5</t>s, last at <t>1.5</t>s, gone at <t>4.5</t>s."
    assert prompts.snap_to_frames(replace(row, reasoning_process=None), TIMES_S, 7.4).reasoning_process is None
    claims = example_of(sft_examples, Task.SPATIO_TEMPORAL)
    assert prompts.snap_to_frames(claims, TIMES_S, 7.4) is claims
