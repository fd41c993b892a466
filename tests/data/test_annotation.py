"""Annotations: their form, and their conversion to rows."""

import json
import os
import shutil

import numpy as np
import pytest

from o3v.data.annotation import AnnotationError, AnnotationItem, find_videos, parse_annotation, to_example
from o3v.toyworld.writing import write_video

ANNOTATION = {
    "question": "Who comes?",
    "answer": "The man",
    "key_frames": [{"at": 4.7, "objects": [{"name": "man", "box": [0.1, 0.2, 0.5, 0.9]}]}],
    "reasoning": "The <obj>man</obj><box>[0.1,0.2,0.5,0.9]</box>at<t>4.7</t>s comes.",
}
ITEM = AnnotationItem("i0", "STR_coin", "videos/0.mp4", duration_s=10.0, fps=10.0)


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ('{"question": "a', "", "is not JSON"),
        ("[]", "is not JSON", "it holds no object"),
        (json.dumps({k: v for k, v in ANNOTATION.items() if k != "reasoning"}), "annotation", "'reasoning'"),
        (json.dumps(ANNOTATION | {"answer": 7}), "annotation.answer", "of type string, found 7"),
        (json.dumps(ANNOTATION | {"key_frames": [{"at": True, "objects": []}]}), "key_frames[0].at", "of type number"),
        (json.dumps(ANNOTATION | {"key_frames": [{"at": 1}]}), "annotation.key_frames[0]", "'objects'"),
        (json.dumps(ANNOTATION).replace("0.2,", '"0.2",', 1), "key_frames[0].objects[0].box[1]", "of type number"),
    ],
)
def test_a_malformed_annotation_is_refused_with_its_place(text, place, expected):
    with pytest.raises(AnnotationError) as caught:
        parse_annotation(text)
    assert place in str(caught.value) and expected in str(caught.value)


def test_a_long_value_does_not_fill_the_message():
    with pytest.raises(AnnotationError) as caught:
        parse_annotation(json.dumps(ANNOTATION | {"key_frames": "x" * 10_000}))
    assert "of type array" in str(caught.value) and len(str(caught.value)) < 200


def test_markdown_fences_are_removed():
    assert parse_annotation(f"```json\n{json.dumps(ANNOTATION)}\n```") == ANNOTATION


def test_an_annotation_becomes_a_row():
    example = to_example(ITEM, json.dumps(ANNOTATION))
    assert (example.id, example.source, example.video_path) == ("i0", "STR_coin", "videos/0.mp4")
    (frame,) = example.key_frames
    assert (frame.idx, frame.time_s, frame.items) == (47, 4.7, {"man": ((0.1, 0.2, 0.5, 0.9),)})


def test_frame_indices_become_seconds():
    annotation = ANNOTATION | {"key_frames": [ANNOTATION["key_frames"][0] | {"at": 47}], "reasoning": "At <t>47</t>s."}
    item = AnnotationItem("i0", "STR_plm_rdcap", "videos/0.mp4", duration_s=10.0, fps=10.0, kind="regions")
    example = to_example(item, json.dumps(annotation))
    assert example.key_frames[0].time_s == 4.7 and example.reasoning_process == "At <t>4.7</t>s."


@pytest.mark.parametrize(
    ("number", "field"),
    [
        ("[0.1, 0.2, 5, 0.9]", "key_items.47.man"),
        (f"[0.1, 0.2, {'9' * 400}, 0.9]", "key_items.47.man"),
        ("NaN", "key_frames[0].at"),
        ("-1", "key_frames[0].at"),
        ("999.0", "key_frames[0].at is 999, outside the video of 10 s"),
        ("9" * 400, "key_frames[0].at"),
        ("9" * 5_000, "key_frames[0].at"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_field(number, field):
    text = json.dumps(ANNOTATION).replace("[0.1, 0.2, 0.5, 0.9]" if "[" in number else "4.7", number, 1)
    with pytest.raises(AnnotationError) as caught:
        to_example(ITEM, text)
    assert field in str(caught.value)


@pytest.mark.parametrize("depth", [900, 3_000, 100_000])
def test_deep_nesting_is_refused(depth):
    nested = "[" * depth + "]" * depth
    with pytest.raises(AnnotationError, match=r"nested too deep|of type string"):
        parse_annotation(json.dumps(ANNOTATION).replace('"Who comes?"', nested))


def test_a_key_frame_without_objects_is_refused():
    with pytest.raises(AnnotationError, match=r"key_frames\[1\]\.objects is empty"):
        to_example(ITEM, json.dumps(ANNOTATION | {"key_frames": [*ANNOTATION["key_frames"], {"at": 5, "objects": []}]}))


def test_ids_of_videos_are_unique_and_a_name_that_is_not_utf8_is_named(tmp_path):
    write_video(tmp_path / "x.mp4", np.zeros((5, 56, 56, 3), np.uint8), fps=10)
    for name in (b"x.mov", b"x.mp4.mp4", b"y.mp4", b"caf\xe9.mp4"):
        shutil.copy(tmp_path / "x.mp4", os.fsencode(tmp_path) + b"/" + name)
    items, errors = find_videos(tmp_path)
    assert [item.id for item in items] == ["x.mov", "x.mp4", "x.mp4.mp4", "y"]
    assert errors == ["caf\\xe9.mp4: the name is not UTF-8; rename the file"]
