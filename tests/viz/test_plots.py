"""Figures show the numbers that they get; invalid evidence is shown as invalid."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.viewing import render_png, texts_of

from o3v.evidence import Claim, Response
from o3v.viz import plots
from o3v.viz.boxes import INK, PALETTE, LabelledBox, claim_colours

BOX = (10.0, 10.0, 40.0, 40.0)


def frames(count: int = 4, duration_s: float = 4.0) -> SimpleNamespace:
    """Frames at 0, 1, 2 … seconds, 84×84."""
    return SimpleNamespace(
        images=np.full((count, 84, 84, 3), 90, np.uint8), times_s=np.arange(count, dtype=float), duration_s=duration_s
    )


def response(*claims: tuple[str, float | None], times_s: tuple[float, ...] = ()) -> Response:
    made = tuple(Claim(name, (BOX,), time_s, 0, 0) for name, time_s in claims)
    return Response("", None, None, made, tuple(t for _, t in claims if t is not None) + times_s, ())


def test_boxes_go_to_the_frames_of_their_times():
    boxes = plots.boxes_by_frame(frames(), response(("cup", 1.2), ("dog", 99.0), ("cat", None)), {2.9: {"cup": [BOX]}})
    colour = claim_colours(["cup", "dog", "cat"])["cup"]
    assert boxes == [[], [LabelledBox("cup", BOX, colour)], [], [LabelledBox("cup", BOX, colour, truth=True)]]


def test_a_true_box_is_not_drawn_where_its_object_may_not_be():
    boxes = plots.boxes_by_frame(frames(), response(("cup", 2.4)), {2.4: {"cup": [BOX]}, 99.0: {"cup": [BOX]}})
    assert [[box.truth for box in some] for some in boxes] == [[], [], [False], []]
    assert plots.truth_frame(2.9, frames()) == 3 and plots.truth_frame(2.85, frames()) is None


def test_a_claim_without_a_time_is_on_the_only_frame():
    boxes = plots.boxes_by_frame(frames(1), response(("cup", None)))
    assert [box.name for box in boxes[0]] == ["cup"]


def test_claims_have_the_colours_of_their_text_whatever_the_truth():
    claims = response(("cup", 1.0), ("dog", 1.0))
    boxes = plots.boxes_by_frame(frames(), claims, {1.0: {f"other {i}": [BOX] for i in range(5)}})
    assert {b.name: b.colour for b in boxes[1] if not b.truth} == claim_colours(["cup", "dog"])


def test_a_strip_needs_frames_and_fitting_lists():
    images = frames().images
    with pytest.raises(ValueError, match="0 frames"):
        plots.filmstrip([], [])
    with pytest.raises(ValueError, match="3 captions"):
        plots.filmstrip(images, [0, 1, 2])
    with pytest.raises(ValueError, match="1 lists"):
        plots.filmstrip(images, [0, 1, 2, 3], [[]])


def test_a_strip_has_times_or_captions_and_a_title():
    figure = plots.filmstrip(frames().images, [0, 1, 2, 3], title="title")
    assert [axes.get_title() for axes in figure.axes] == ["0.0 s", "1.0 s", "2.0 s", "3.0 s"]
    captioned = plots.filmstrip(frames().images, "abcd")
    assert [axes.get_title() for axes in captioned.axes] == list("abcd")
    assert "title" in texts_of(figure)
    assert render_png(figure)


def test_a_strip_of_many_portrait_frames_breaks_into_rows():
    images = np.zeros((9, 112, 28, 3), np.uint8)
    figure = plots.filmstrip(images, range(9), columns=4)
    rows = {axes.get_subplotspec().rowspan.start for axes in figure.axes}
    assert rows == {0, 1, 2}


def test_a_trace_shows_claimed_and_key_frames_over_a_timeline():
    figure = plots.trace_figure(frames(), response(("cup", 1.2), times_s=(2.5,)), {2.9: {"cup": [BOX]}})
    *images, timeline = figure.axes
    assert [axes.get_title() for axes in images] == ["frame at 1.0 s", "frame at 3.0 s · key"]
    assert [axes.spines["left"].get_visible() for axes in images] == [False, True]
    marks = {line.get_label(): line.get_xdata() for line in timeline.lines}
    assert list(marks["cup"]) == [1.2]
    assert list(marks["time alone"]) == [2.5]
    assert list(timeline.lines[0].get_xdata()) == [0, 1, 2, 3]
    assert list(timeline.lines[1].get_xdata()) == [2.9]
    assert render_png(figure)


def test_claimed_boxes_are_in_the_images_of_a_trace():
    figure = plots.trace_figure(frames(), response(("cup", 1.0)))
    image = figure.axes[0].images[0].get_array()
    colour = [int(claim_colours(["cup"])["cup"][i : i + 2], 16) for i in (1, 3, 5)]
    scale = image.shape[1] / 84
    assert (image[round(25 * scale), round(10 * scale) + 2] == colour).all()
    assert (image[round(25 * scale), round(25 * scale)] == 90).all()


def test_claims_outside_the_video_are_counted_on_the_trace():
    figure = plots.trace_figure(frames(), response(("cup", 99.0), ("dog", math.inf), ("cat", 1.0)))
    assert "2 claimed outside the video, which ends at 4.0 s" in texts_of(figure)
    assert len(figure.axes) == 2
    assert render_png(figure)


@pytest.mark.parametrize("claims", [(), (("cup", None),), (("cup", 50.0),)])
def test_a_trace_without_shown_claims_says_so(claims):
    figure = plots.trace_figure(frames(), response(*claims))
    assert "no box is claimed at a time inside the video" in texts_of(figure)
    assert len(figure.axes) == 4 + 1
    assert render_png(figure)


def test_claims_at_one_time_are_stacked():
    figure = plots.trace_figure(frames(), response(("cup", 1.0), ("dog", 1.0)))
    heights = [line.get_ydata()[0] for line in figure.axes[-1].lines if line.get_label() in ("cup", "dog")]
    assert heights[0] < heights[1]


def test_names_are_no_formulas():
    figure = plots.trace_figure(frames(), response(("$x_{$", 1.0), ("<script>", 1.0)), {1.0: {"\\frac$$": [BOX]}})
    assert render_png(figure)


def test_five_hundred_claims_give_a_figure():
    claims = [(f"object {i}", i / 125) for i in range(500)]
    figure = plots.trace_figure(frames(), response(*claims), max_frames=2)
    assert any("the first 2 of 4 frames" in text for text in texts_of(figure))
    assert render_png(figure)


def test_key_frames_are_framed_in_a_colour_that_no_claim_has():
    from matplotlib.colors import to_hex

    figure = plots.trace_figure(frames(1), response(), {0.0: {}})
    assert to_hex(figure.axes[0].spines["top"].get_edgecolor()).upper() == INK and INK not in PALETTE
