"""Widgets show the chosen frame, claim, response or case; without a kernel a static version is displayed instead."""

import io
import tracemalloc

import numpy as np
import pytest
from helpers.html_reader import Reader
from helpers.viewing import EVIL, TEXT, TRUTH, boxes, claim, frames
from PIL import Image

from o3v.evidence import parse_response
from o3v.viz import trace, widgets
from o3v.viz.boxes import LabelledBox, draw_boxes
from o3v.viz.plots import FilterCase
from o3v.viz.response_html import Mark, timeline_x


@pytest.fixture
def shown(monkeypatch) -> list:
    """What is displayed while a kernel is there."""
    import IPython.display

    displayed: list = []
    monkeypatch.delenv(widgets.HEADLESS, raising=False)
    monkeypatch.setattr(IPython.display, "display", displayed.append)
    return displayed


@pytest.mark.parametrize(("frame_count", "box_count"), [(0, 0), (4, 3), (3, 4)])
def test_frames_and_boxes_that_do_not_fit_are_refused(frame_count, box_count, shown):
    for draw in (widgets.frame_viewer, widgets.FrameViewer, trace.html_player):
        with pytest.raises(ValueError, match="do not fit together"):
            draw(frames(frame_count), boxes(box_count))
    assert shown == []


def shown_response(text: str, **more) -> trace.ShownResponse:
    return trace.ShownResponse(parse_response(text), **more)


def image_of(viewer: widgets.FrameViewer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(bytes(viewer.image.value))))


# ---- frames


def test_the_slider_changes_the_image_and_the_time():
    video, shown_boxes = frames(), [[box._replace(colour="#0072B2") for box in some] for some in boxes()]
    viewer = widgets.FrameViewer(video, shown_boxes)
    assert "frame 1 of 4" in viewer.caption.value
    for i in (3, 1):
        viewer.slider.value = i
        assert (image_of(viewer) == np.asarray(draw_boxes(video.images[i], shown_boxes[i]))).all()
        assert all(part in viewer.caption.value for part in (f"{i / 2:.2f} s", f"frame {i + 1} of 4", "cup (claimed)"))
        assert f"translate({timeline_x(i / 2, video.times_s, video.duration_s)} 0)" in viewer.timeline.value


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


def test_claimed_and_true_boxes_can_be_hidden():
    image = frames(1).images[0]
    claimed, true = LabelledBox("cup", (10, 10, 40, 40)), LabelledBox("cup", (50, 50, 80, 80), truth=True)
    viewer = widgets.FrameViewer(frames(1), [[claimed, true]])
    viewer.true.value = False
    assert (image_of(viewer) == np.asarray(draw_boxes(image, [claimed]))).all()
    viewer.true.value, viewer.claimed.value = True, False
    assert (image_of(viewer) == np.asarray(draw_boxes(image, [true]))).all()
    viewer.true.value = False
    assert (image_of(viewer) == np.asarray(draw_boxes(image, []))).all()


def test_the_zoom_shows_the_region_of_a_box():
    video = frames(1)
    video.images[0, 20:30, 20:30] = (200, 0, 0)  # about an eighth of the width
    viewer = widgets.FrameViewer(video, [[LabelledBox("red", (20, 20, 30, 30))]])
    viewer.claimed.value = False
    before = (image_of(viewer)[..., 0] > 150).mean()
    viewer.claimed.value = viewer.zoom.value = True
    image = image_of(viewer)
    assert image.shape[1] == 336 and (image[..., 0] > 150).mean() > 10 * before  # now a quarter of the area


def test_names_and_notes_are_escaped_beside_the_slider():
    viewer = widgets.FrameViewer(frames(1), boxes(1, EVIL), [[EVIL]], [Mark(EVIL, 0.2, "#000000")])
    for text in (viewer.caption.value, viewer.timeline.value):
        assert "<script" not in text and "&lt;script" in text


def test_a_folded_image_is_displayed_before_the_widget(shown):
    widgets.frame_viewer(frames(), boxes())
    (folded,) = shown
    assert folded.data.startswith("<details><summary>all 4 frames")
    assert "4 frames" in Reader(folded.data).all("img")[0]["alt"]


@pytest.mark.parametrize(("value", "is_widget"), [("", True), ("0", True), ("1", False), ("true", False)])
def test_the_environment_decides_between_widget_and_image(value, is_widget, shown, monkeypatch):
    monkeypatch.setenv(widgets.HEADLESS, value)
    assert (widgets.frame_viewer(frames(1), boxes(1)) is not None) is is_widget


def test_headless_no_viewer_returns_a_widget(shown, monkeypatch):
    monkeypatch.setenv(widgets.HEADLESS, "1")
    responses = [shown_response(TEXT, terms={"total": 1.0}), shown_response("no form", terms={"total": 0.0})]
    case = FilterCase("large box", "cup in frame 1", frames(1).images[0], (LabelledBox("cup", (1, 1, 80, 80)),))
    for view in (
        lambda: widgets.frame_viewer(frames(), boxes()),
        lambda: widgets.trace_viewer(frames(), responses[0], "What?", TRUTH),
        lambda: widgets.rollout_viewer(frames(), responses, "What?", TRUTH),
        lambda: widgets.filter_case_viewer([case]),
    ):
        shown.clear()
        assert view() is None
        (page,) = shown
        assert Reader(page.data).all("img") and "application/vnd.jupyter.widget" not in page.data


def test_moving_the_slider_does_not_accumulate_memory():
    viewer = widgets.FrameViewer(frames(16), boxes(16))
    tracemalloc.start()
    for n in range(350):
        if n == 50:
            before = tracemalloc.get_traced_memory()[0]
        viewer.slider.value = (n + 1) % 16
    growth = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert growth < 200_000  # bytes; 300 images of about 5 kB would be 1.5 MB


# ---- traces


def test_a_chip_shows_its_frame_and_highlights_its_box():
    viewer = widgets.TraceViewer(frames(), shown_response(TEXT), "What?", TRUTH)
    assert [chip.description for chip in viewer.chips] == ["cup · 0.5 s", "car · 1.4 s"]
    viewer.chips[1].click()
    assert viewer.viewer.slider.value == 3
    image = image_of(viewer.viewer)
    assert image[240, 240, 0] == 50 and image[20, 100, 0] < 25  # inside the box; outside it, darkened
    viewer.viewer.slider.value = 2
    assert image_of(viewer.viewer)[20, 100, 0] == 40
    viewer.chips[0].click()
    assert viewer.viewer.slider.value == 1
    assert "Δt -0.1 s" in viewer.viewer.caption.value and "IoU 0.50" in viewer.viewer.caption.value


def texts(widget) -> str:
    """All HTML of a widget and its children."""
    return "".join(
        [getattr(widget, "value", "") if type(widget).__name__ == "HTML" else ""]
        + [texts(child) for child in getattr(widget, "children", ())]
    )


def test_a_trace_shows_the_text_the_answer_the_vote_and_the_terms():
    viewer = widgets.TraceViewer(frames(), shown_response(TEXT, terms={"ans_acc": 0.5}, vote="3 of 8"), EVIL)
    html = texts(viewer.widget)
    assert "First " in html and "<b>A</b> · 3 of 8" in html and "<td>0.50</td>" in html
    assert "<script" not in html


def test_problems_are_marked_at_their_place():
    viewer = widgets.TraceViewer(frames(), shown_response(TEXT.replace("</think>", "<obj>x</think>")))
    assert "underline wavy" in texts(viewer.widget) and "<li>" in texts(viewer.widget)


def test_no_claims_and_more_claims_than_chips():
    empty = widgets.TraceViewer(frames(), shown_response("I do not know."))
    assert empty.chips == [] and "no answer" in texts(empty.widget)
    many = " ".join(claim("cup", "[1,1,9,9]", n % 4 / 2) for n in range(500))
    full = widgets.TraceViewer(frames(), shown_response(f"<think>{many}</think><answer>A</answer>"))
    assert len(full.chips) == widgets.MAX_CHIPS
    outside = widgets.TraceViewer(
        frames(), shown_response(f"<think>{claim('cup', '[1,1,9,9]', 99)}</think><answer>A</answer>")
    )
    assert outside.chips[0].disabled and "outside" in outside.chips[0].tooltip


def test_rollouts_are_chosen_from_a_list(shown):
    responses = [shown_response("no form", terms={"total": 0.25}), shown_response(TEXT, terms={"total": 1.5})]
    box = widgets.rollout_viewer(frames(), responses, "What?", TRUTH)
    chosen = box.children[0]
    assert [label for label, _ in chosen.options] == ["1 · total 0.25", "2 · total 1.50"]
    assert "no form" in texts(box)
    chosen.value = 1
    assert "no form" not in texts(box) and "<td>1.50</td>" in texts(box)
    assert shown[0].data.startswith("<details>")


def test_filter_cases_are_chosen_by_reason(shown):
    image = frames(1).images[0]
    rows = [("large box", EVIL), ("kept", "one"), ("kept", "two")]
    cases = [FilterCase(reason, caption, image + 10 * n, ()) for n, (reason, caption) in enumerate(rows)]
    box = widgets.filter_case_viewer(cases)
    (reason, slider), caption, _ = box.children[0].children, *box.children[1:]
    assert reason.options == ("large box", "kept") and caption.value.startswith("1 of 1 · &lt;script")
    reason.value = "kept"
    slider.value = 1
    assert caption.value == "2 of 2 · two"
    reason.value = "large box"
    assert caption.value.startswith("1 of 1")


def test_without_filter_cases_no_widget_is_returned(shown):
    assert widgets.filter_case_viewer([]) is None
    assert "no case" in shown[-1].data
