"""Boxes are drawn on their pixels, labels stay readable, and invalid boxes are labelled as such."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageColor

from o3v.viz.boxes import PALETTE, LabelledBox, claim_colours, draw_boxes, ink_on, short_name

GROUND = (90, 90, 90)
BLUE = "#0072B2"
BLUE_RGB = ImageColor.getrgb(BLUE)


def ground(width: int = 84, height: int = 84) -> np.ndarray:
    return np.full((height, width, 3), GROUND, np.uint8)


def pixels_of(image, colour_rgb) -> np.ndarray:
    return (np.asarray(image) == colour_rgb).all(axis=2)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_an_array_that_is_no_uint8_rgb_image_is_refused(image):
    with pytest.raises(ValueError, match="uint8"):
        draw_boxes(image, [])


@pytest.mark.parametrize("box", [(100, 100, 120, 120), (-30, -30, -5, -5), (84, 0, 90, 40)])
def test_a_box_outside_the_image_is_only_a_label(box):
    drawn = np.asarray(draw_boxes(ground(), [LabelledBox("ghost", box, BLUE)]))
    rows = np.flatnonzero(pixels_of(drawn, BLUE_RGB).any(axis=1))
    assert 0 < len(rows) < 30  # the height of one label


@pytest.mark.parametrize("box", [(50, 10, 20, 30), (float("nan"),) * 4, (0, 0, float("inf"), 5), (5, 5, 5, 5)])
def test_an_invalid_box_is_only_a_label(box):
    drawn = draw_boxes(ground(), [LabelledBox("bad", box, BLUE)])
    assert 0 < pixels_of(drawn, BLUE_RGB).any(axis=1).sum() < 30


@pytest.mark.parametrize("name", ["", " \n\t", "x" * 10_000, "<script>", "\ud800", "\u540d\u524d", "a\nb", "$x_{$"])
def test_any_name_can_be_drawn(name):
    assert draw_boxes(ground(), [LabelledBox(name, (10, 10, 50, 50))]).size == (336, 336)


def test_the_input_is_not_changed():
    image = ground()
    draw_boxes(image, [LabelledBox("a", (10, 10, 50, 50))])
    assert (image == GROUND).all()


def test_a_small_frame_is_enlarged_by_a_whole_factor_and_a_large_one_is_not():
    assert draw_boxes(ground(84, 56), []).size == (336, 224)
    assert draw_boxes(ground(640, 360), []).size == (640, 360)
    assert draw_boxes(ground(10, 10), [], scale=2.5).size == (25, 25)


def test_the_line_lies_inside_the_edge_of_the_box():
    drawn = pixels_of(draw_boxes(ground(), [LabelledBox("a", (21, 42, 63, 70), BLUE)]), BLUE_RGB)
    below = drawn[175:]  # 4 × 42 = 168 is the top edge; the label may be above it or on it
    columns, rows = np.flatnonzero(below.any(axis=0)), np.flatnonzero(below.any(axis=1)) + 175
    assert (columns.min(), columns.max()) == (4 * 21, 4 * 63 - 1)
    assert rows.max() == 4 * 70 - 1
    assert not drawn[180:270, 95:240].any()  # nothing inside


def test_truth_is_dashed_around_its_box():
    drawn = pixels_of(draw_boxes(ground(), [LabelledBox("a", (21, 21, 63, 63), BLUE, truth=True)]), BLUE_RGB)
    left = drawn[84:240, 82]  # two pixels left of 4 × 21
    assert 0.3 < left.mean() < 0.8
    assert not drawn[84:240, 84:90].any()


def test_a_claim_equal_to_the_truth_leaves_both_visible():
    box = (21, 21, 63, 63)
    drawn = draw_boxes(ground(), [LabelledBox("a", box, BLUE, truth=True), LabelledBox("a", box, BLUE)])
    blue = pixels_of(drawn, BLUE_RGB)
    assert blue[100:230, 84].all() and 0.3 < blue[100:230, 82].mean() < 0.8


def test_a_box_that_exceeds_the_image_is_drawn_along_its_border():
    drawn = pixels_of(draw_boxes(ground(), [LabelledBox("a", (-50, -50, 500, 500), BLUE)]), BLUE_RGB)
    assert drawn[-1].all() and drawn[:, 0].all() and drawn[:, -1].all()


def test_labels_do_not_cover_each_other():
    boxes = [LabelledBox(f"object {i}", (30, 30, 60, 60), colour) for i, colour in enumerate(PALETTE)]
    drawn = draw_boxes(ground(), boxes)
    # a label has about 50 × 17 pixels of its colour, the visible rest of hidden lines has far fewer
    sizes = [pixels_of(drawn, ImageColor.getrgb(colour)).sum() for colour in PALETTE]
    assert min(sizes) > 250


def test_five_hundred_boxes_are_drawn():
    boxes = [LabelledBox(f"n{i}", (i % 80, i % 70, i % 80 + 9, i % 70 + 9)) for i in range(500)]
    assert draw_boxes(ground(), boxes).size == (336, 336)


@given(st.lists(st.text(max_size=8), max_size=30), st.lists(st.text(max_size=8), max_size=5))
def test_a_name_added_later_changes_no_colour(names, more):
    colours = claim_colours(names)
    assert claim_colours([*names, *more]) | colours == claim_colours([*names, *more])
    assert set(colours) == set(names)


@given(st.lists(st.text(max_size=8), unique=True, max_size=7))
def test_seven_names_have_seven_colours(names):
    assert len(set(claim_colours(names).values())) == len(names)


def test_case_and_white_space_of_a_name_do_not_change_its_colour():
    assert claim_colours(["Red  Ball"])["Red  Ball"] == claim_colours(["red ball"])["red ball"]


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance."""
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.array(ImageColor.getrgb(colour)) / 255
    ]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize("colour", PALETTE)
def test_text_on_every_colour_reaches_the_contrast_of_wcag_aa(colour):
    light, dark = sorted((luminance(colour), luminance(ink_on(colour))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_short_names():
    assert short_name("  a\n b ") == "a b"
    assert short_name("") == "(no name)"
    assert short_name("abcdef", 4) == "abc…"
    assert short_name("\ud800") == "?"
