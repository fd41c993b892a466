"""Widgets that show what they are asked for; without a kernel a picture or a page is left, never a dead widget."""

from __future__ import annotations

import io
import time
import tracemalloc

import numpy as np
import pytest
from helpers.html_reader import Reader
from helpers.viewing import EVIL, TEXT, TRUTH, boxes, claim, frames
from PIL import Image

from o3v.evidence import parse_response
from o3v.viz import filter_cases, player, trace, widgets
from o3v.viz.boxes import LabelledBox, draw_boxes
from o3v.viz.response_html import Mark, shift


@pytest.fixture
def shown(monkeypatch) -> list:
    """What was displayed."""
    import IPython.display

    displayed: list = []
    monkeypatch.setattr(IPython.display, "display", displayed.append)
    return displayed


@pytest.mark.parametrize(("frame_count", "box_count"), [(0, 0), (4, 3), (3, 4)])
def test_frames_and_boxes_that_do_not_fit_are_refused(frame_count, box_count, shown):
    for draw in (widgets.frame_viewer, widgets.FrameViewer, player.html_player):
        with pytest.raises(ValueError, match="do not fit together"):
            draw(frames(frame_count), boxes(box_count))
    assert shown == []


def told(text: str, **more) -> trace.ShownResponse:
    return trace.ShownResponse(parse_response(text), **more)


def picture_of(viewer: widgets.FrameViewer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(bytes(viewer.picture.value))))


# ---- frames


def test_the_slider_changes_the_picture_and_the_time():
    f, b = frames(), [[box._replace(colour="#0072B2") for box in found] for found in boxes()]
    viewer = widgets.FrameViewer(f, b)
    assert viewer.words.value.startswith("0.00 s · frame 1 of 4")
    for i in (3, 1):
        viewer.slider.value = i
        assert (picture_of(viewer) == np.asarray(draw_boxes(f.images[i], b[i]))).all()
        assert viewer.words.value == f"{i / 2:.2f} s · frame {i + 1} of 4 · cup (claimed)"
        assert shift(i / 2, f.times_s, f.duration_s) in viewer.time.value


def test_steps_and_the_slider_cannot_leave_the_frames():
    viewer = widgets.FrameViewer(frames(3))
    back, on = viewer.steps
    back.click()
    assert viewer.slider.value == 0
    for _ in range(5):
        on.click()
    assert viewer.slider.value == 2 and (viewer.play.min, viewer.play.max) == (0, 2)
    viewer.slider.value = 99
    assert viewer.slider.value == 2


def test_claimed_and_true_boxes_can_be_left_out():
    f = frames(1)
    claimed, true = LabelledBox("cup", (10, 10, 40, 40)), LabelledBox("cup", (50, 50, 80, 80), truth=True)
    viewer = widgets.FrameViewer(f, [[claimed, true]])
    viewer.true.value = False
    assert (picture_of(viewer) == np.asarray(draw_boxes(f.images[0], [claimed]))).all()
    viewer.true.value, viewer.claimed.value = True, False
    assert (picture_of(viewer) == np.asarray(draw_boxes(f.images[0], [true]))).all()
    viewer.true.value = False
    assert (picture_of(viewer) == np.asarray(draw_boxes(f.images[0], []))).all()


def test_the_zoom_shows_the_region_of_a_box():
    f = frames(1)
    f.images = f.images.copy()
    f.images[0, 20:30, 20:30] = (200, 0, 0)  # a tenth of the width
    viewer = widgets.FrameViewer(f, [[LabelledBox("red", (20, 20, 30, 30))]])
    viewer.claimed.value = False
    before = (picture_of(viewer)[..., 0] > 150).mean()
    viewer.claimed.value = viewer.zoom.value = True
    seen = picture_of(viewer)
    assert seen.shape[1] == 336 and (seen[..., 0] > 150).mean() > 10 * before  # a quarter of what is shown


def test_names_and_notes_are_escaped_beside_the_slider():
    viewer = widgets.FrameViewer(frames(1), boxes(1, EVIL), [[EVIL]], [Mark(EVIL, 0.2, "#000000")])
    for text in (viewer.words.value, viewer.time.value):
        assert "<script" not in text and "&lt;script" in text


def test_the_widget_is_displayed_with_a_folded_picture(shown):
    widgets.frame_viewer(frames(), boxes(), interactive=True)
    (folded,) = shown
    assert folded.data.startswith("<details><summary>all 4 frames, 0.0 s to 1.5 s</summary><img ")
    assert 'alt="all 4 frames' in folded.data


@pytest.mark.parametrize(
    ("value", "interactive"), [(None, True), ("", True), ("0", True), ("1", False), ("true", False)]
)
def test_the_environment_decides_between_widget_and_picture(value, interactive, shown, monkeypatch):
    monkeypatch.delenv(widgets.HEADLESS, raising=False)
    if value is not None:
        monkeypatch.setenv(widgets.HEADLESS, value)
    assert (widgets.frame_viewer(frames(1), boxes(1)) is not None) is interactive


def test_headless_no_viewer_leaves_a_widget(shown):
    made = [told(TEXT, terms={"total": 1.0}), told("no form", terms={"total": 0.0})]
    case = filter_cases.FilterCase(
        "large box", "cup in frame 1", frames(1).images[0], (LabelledBox("cup", (1, 1, 80, 80)),)
    )
    for view in (
        lambda: widgets.frame_viewer(frames(), boxes(), interactive=False),
        lambda: widgets.trace_viewer(frames(), made[0], "What?", TRUTH, interactive=False),
        lambda: widgets.rollout_viewer(frames(), made, "What?", TRUTH, interactive=False),
        lambda: widgets.filter_case_viewer([case], interactive=False),
    ):
        shown.clear()
        assert view() is None
        (page,) = shown
        assert Reader(page.data).all("img") and "application/vnd.jupyter.widget" not in page.data


def test_a_move_takes_under_50_ms_and_leaves_nothing_behind():
    """16 frames of 640×360 with five boxes. Noise, the worst picture to compress; the best of many moves is judged."""
    f = frames(16, 640, 360)
    f.images = np.random.default_rng(0).integers(0, 255, f.images.shape, np.uint8)
    b = [[LabelledBox(f"thing {i}", (90 * i, 50, 90 * i + 150, 250)) for i in range(5)]] * 16
    viewer = widgets.FrameViewer(f, b)
    took = []
    for i in range(1, 16):
        start = time.perf_counter()
        viewer.slider.value = i
        took.append(time.perf_counter() - start)
    assert min(took) < 0.05
    small = widgets.FrameViewer(frames(16), boxes(16))
    tracemalloc.start()
    for n in range(1_050):
        if n == 50:
            begun = tracemalloc.get_traced_memory()[0]
        small.slider.value = (n + 1) % 16
    grown = tracemalloc.get_traced_memory()[0] - begun
    tracemalloc.stop()
    assert grown < 200_000  # bytes, of a thousand pictures of some 5 kB


# ---- traces


def test_a_chip_shows_its_frame_and_brings_out_its_box():
    f = frames()
    viewer = widgets.TraceViewer(f, told(TEXT), "What?", TRUTH)
    assert [chip.description for chip in viewer.chips] == ["cup · 0.5 s", "car · 1.4 s"]
    viewer.chips[1].click()
    assert viewer.viewer.slider.value == 3
    seen = picture_of(viewer.viewer)
    assert seen[240, 240, 0] == 50 and seen[20, 100, 0] < 25  # inside of the box, and outside: darkened
    viewer.viewer.slider.value = 2
    assert picture_of(viewer.viewer)[20, 100, 0] == 40
    viewer.chips[0].click()
    assert viewer.viewer.slider.value == 1 and "cup: Δt -0.1 s to the key time, IoU 0.50" in viewer.viewer.words.value


def texts(widget) -> str:
    """All that a widget and its children say in HTML."""
    return "".join(
        [getattr(widget, "value", "") if type(widget).__name__ == "HTML" else ""]
        + [texts(child) for child in getattr(widget, "children", ())]
    )


def test_a_trace_says_the_text_the_answer_the_vote_and_the_terms():
    viewer = widgets.TraceViewer(frames(), told(TEXT, terms={"ans_acc": 0.5}, vote="3 of 8"), EVIL)
    said = texts(viewer.widget)
    assert "First " in said and "answer: <b>A</b> · 3 of 8" in said and "<td>0.50</td>" in said
    assert "<script" not in said


def test_problems_are_marked_where_they_are():
    viewer = widgets.TraceViewer(frames(), told(TEXT.replace("</think>", "<obj>x</think>")))
    assert "underline wavy" in texts(viewer.widget) and "<li>" in texts(viewer.widget)


def test_no_evidence_and_too_much_of_it(shown):
    empty = widgets.TraceViewer(frames(), told("I do not know."))
    assert empty.chips == [] and "no answer" in texts(empty.widget)
    many = " ".join(claim("cup", "[1,1,9,9]", n % 4 / 2) for n in range(500))
    full = widgets.TraceViewer(frames(), told(f"<think>{many}</think><answer>A</answer>"))
    assert len(full.chips) == widgets.CHIPS
    outside = widgets.TraceViewer(frames(), told(f"<think>{claim('cup', '[1,1,9,9]', 99)}</think><answer>A</answer>"))
    assert outside.chips[0].disabled and outside.chips[0].tooltip == "outside of the video"


def test_rollouts_are_chosen_from_a_list(shown):
    made = [told("no form", terms={"total": 0.25}), told(TEXT, terms={"total": 1.5})]
    box = widgets.rollout_viewer(frames(), made, "What?", TRUTH, interactive=True)
    chosen = box.children[0]
    assert [label for label, _ in chosen.options] == ["1 · total 0.25", "2 · total 1.50"]
    assert "no form" in texts(box)
    chosen.value = 1
    assert "no form" not in texts(box) and "<td>1.50</td>" in texts(box)
    assert shown[0].data.startswith("<details>")


def test_cases_of_an_audit_by_what_became_of_them(shown):
    kept, large = [("kept", "one"), ("kept", "two")], [("large box", EVIL)]
    picture = frames(1).images[0]
    cases = [filter_cases.FilterCase(r, w, picture + 10 * n, ()) for n, (r, w) in enumerate(large + kept)]
    box = widgets.filter_case_viewer(cases, interactive=True)
    (kind, slider), words, _ = box.children[0].children, *box.children[1:]
    assert kind.options == ("large box", "kept") and words.value.startswith("1 of 1 · &lt;script")
    kind.value = "kept"
    slider.value = 1
    assert words.value == "2 of 2 · two"
    kind.value = "large box"
    assert words.value.startswith("1 of 1")
    assert widgets.filter_case_viewer([], interactive=True) is None and "no case" in shown[-1].data
