"""Boxes by second in raw responses: JSON with the usual damage, the evidence grammar, and the spaces of boxes."""

import time

import pytest
from helpers.vstar_rows import RIGHT

from o3v import evidence
from o3v.evaluation.vstar_answers import read_boxes, read_texts, space_size, spatial_answer

BOX, TWO = (1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)


@pytest.mark.parametrize(
    "text", ["", "no", "[1, 2, 3, 4]", '{"1": null, "2": []}', '{"1": [1, 2, 3]}', "3 [", '{"1": [nan, 2, 3, 4]}']
)
def test_no_box_with_a_second(text):
    assert read_boxes(text) == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"3": [1, 2, 3, 4], "4": [5, 6, 7, 8]}',
        'Here it is:\n```json\n{"3": [1, 2, 3, 4],\n "4": [5, 6, 7, 8]}\n```\nAnything else?',
        "{'3': (1, 2, 3, 4), '4': (5, 6, 7, 8),}",
        '{3: [1,2,3,4,], 4.0: [5,6,7,8],',
        '{"3": [[1, 2, 3, 4]], "4": [5.0, 6.0, 7.0, 8.0], "5": [1, 2',
        '[{"3": [1, 2, 3, 4]}, {"4": [5, 6, 7, 8]}]',
        '[["3", [1, 2, 3, 4]], [4, [5, 6, 7, 8]]]',
        '[{"timestamp": 3, "bbox_2d": [1, 2, 3, 4]}, {"timestamp": "4s", "bbox_2d": [5, 6, 7, 8]}]',
        '[{"bbox_2d": [1, 2, 3, 4], "time": 3.0}, {"bbox_2d": [5, 6, 7, 8], "time": 4}]',
        '{"3s": [1, 2, 3, 4], "00:04": [5, 6, 7, 8]}',
        '{"3": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 4}, "4": {"box": [5, 6, 7, 8]}}',
        '{"3": [1, 2, 3, 4], // the cup\n "4": [5, 6, 7, 8], "5": ...}',
        "At 3 seconds: [1, 2, 3, 4]\nAt 4 seconds: [5, 6, 7, 8]",
    ],
)  # fmt: skip
def test_boxes_by_second_however_they_are_written(text):
    assert read_boxes(text) == {3.0: [BOX], 4.0: [TWO]}


def test_several_boxes_a_second_and_negative_sides():
    assert read_boxes('{"3": [[1, 2, 3, 4], [-5, 6, 7, 8]]}') == {3.0: [BOX, (-5.0, 6.0, 7.0, 8.0)]}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ["[", "[1,", '"3": ', "1:", "{", "[1,2,3,", " ", "timestamp: ", "9", "3 , "])
def test_odd_texts_take_linear_time(part):
    start_s = time.process_time()
    assert read_boxes(part * (100_000 // len(part))) == {}
    assert time.process_time() - start_s < 4


def test_box_spaces():
    item = {"width": 640, "height": 360}
    assert space_size(item, "video", 1) == (640, 360) and space_size(item, "shares", 1) == (1, 1)
    assert space_size(item, "pixels", 128 * 28 * 28) == (420, 224)  # as geometry.fit_size
    with pytest.raises(ValueError, match="box space 'inches' is none of video, pixels"):
        space_size(item, "inches", 1)


def test_boxes_in_the_answer_come_before_claims_in_the_thinking():
    claim = evidence.format_claim("cup", [(0, 0, 20, 20)], 1.0)
    written = evidence.format_response(claim, '{"1": [0, 0, 10, 10]}')
    claimed = evidence.format_response(claim, "there")
    answers = [
        spatial_answer(evidence.parse_response(t), (100, 50), RIGHT, [1.0, 2.0], True) for t in (written, claimed)
    ]
    assert answers == [{"1": [0, 0, 10, 10]}, {"1": [0, 0, 20, 20], "2": [0, 0, 20, 20]}]


def test_a_row_without_the_size_of_its_video_is_left_as_it_is():
    row = {k: v for k, v in RIGHT.items() if k != "width"} | {
        "answer_spatial": {},
        "answer_spatial_pre": '{"1": [0,0,1,1]}',
    }
    assert read_texts(row, "video", 1) == row
