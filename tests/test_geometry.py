"""Boxes, spans, sizes: edge cases first, then properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from o3v.geometry import box_area, box_iou, clip_box, fit_size, is_box, rescale_box, span_iou

side = st.floats(0, 1000, allow_nan=False)
boxes = st.tuples(side, side, side, side).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
spans = st.tuples(side, side).map(sorted)


def test_inverted_and_empty_boxes_have_no_area():
    assert box_area((3, 0, 1, 4)) == 0
    assert box_area((1, 1, 1, 5)) == 0
    assert box_iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0
    assert span_iou((5, 3), (0, 9)) == 0


@pytest.mark.parametrize("box", [(0, 0, math.nan, 1), (0, 0, math.inf, 1), (2, 0, 1, 1), (0, 0, 1), (0, 0, 1, 0)])
def test_invalid_boxes(box):
    assert not is_box(box)


def test_iou_by_hand():
    assert box_iou((0, 0, 4, 4), (2, 2, 6, 6)) == pytest.approx(4 / 28)
    assert span_iou((0, 3), (2, 6)) == pytest.approx(1 / 6)


@given(boxes, boxes)
def test_iou_is_symmetric_and_between_0_and_1(a, b):
    assert box_iou(a, b) == box_iou(b, a)
    assert 0 <= box_iou(a, b) <= 1


@given(boxes)
def test_the_iou_of_a_box_with_itself_is_one(box):
    assert box_iou(box, box) == pytest.approx(1.0 if box_area(box) > 0 else 0.0)


@given(spans, spans)
def test_span_iou_is_symmetric_and_between_0_and_1(a, b):
    assert span_iou(a, b) == span_iou(b, a)
    assert 0 <= span_iou(a, b) <= 1


@given(boxes, st.integers(1, 2000), st.integers(1, 2000))
def test_rescaling_there_and_back(box, width, height):
    back = rescale_box(rescale_box(box, (width, height), (84, 56)), (84, 56), (width, height))
    assert back == pytest.approx(box, abs=1e-6)


def test_clipping():
    assert clip_box((-5, 10, 50, 500), (40, 100)) == (0, 10, 40, 100)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(784, 128 * 784))
def test_fitted_sizes_are_on_the_grid_and_small_enough(width, height, max_pixels):
    new_w, new_h = fit_size((width, height), max_pixels)
    assert new_w % 28 == new_h % 28 == 0 and new_w >= 28 and new_h >= 28
    assert new_w * new_h <= max_pixels


def test_fitted_sizes_are_those_of_the_processor():
    smart_resize = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl").smart_resize
    for width, height in ((640, 360), (224, 224), (1920, 1080), (480, 640), (100, 90)):
        for max_pixels in (84 * 84, 128 * 784, 1280 * 784):
            expected = smart_resize(height, width, min_pixels=784, max_pixels=max_pixels)
            assert fit_size((width, height), max_pixels) == expected[::-1]


def test_sizes_that_cannot_be_fitted():
    with pytest.raises(ValueError, match="less than one 28x28 patch"):
        fit_size((100, 100), 100)
    with pytest.raises(ValueError, match="must be positive"):
        fit_size((0, 100), 7056)
