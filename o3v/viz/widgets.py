"""Evidence to browse in a notebook: ipywidgets over pure drawing.

Frames with their boxes, a response claim by claim, the responses to one question, the cases of an audit. Thin wiring:
pictures come from `drawing` and `plots`, texts from `markup` and `trace`. A widget is dead where no kernel runs, so
every viewer leaves a static picture or page too, and under O3V_HEADLESS (to be set, to anything but 0, where a program
executes notebooks) nothing else. Knows nothing of models.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from o3v.geometry import is_box
from o3v.viz.boxes import LabelledBox, claim_colours, draw_boxes, ink_on, short_name, spotlight, zoom
from o3v.viz.player import STEP_MS, coloured, frame_words, img
from o3v.viz.plots import boxes_by_frame, filmstrip
from o3v.viz.response_html import Mark, claim_words, escape, problem_list, segments, timeline_html
from o3v.viz.trace import (
    ShownResponse,
    answer_html,
    claim_notes,
    frame_of,
    rollouts_html,
    terms_html,
    time_marks,
    trace_html,
)

if TYPE_CHECKING:
    from ipywidgets import Widget

    from o3v.video.frames import Frames
    from o3v.viz.filter_cases import FilterCase
    from o3v.viz.player import BoxesPerFrame
    from o3v.viz.plots import Truth

HEADLESS = "O3V_HEADLESS"
STEPS = (("◀", "one frame back"), ("▶", "one frame on"))
CHIPS = 60  # claims that are buttons; the rest of a longer response is text
LEFT = {"align_items": "flex-start"}  # else a picture is stretched to the page


class FrameViewer:
    """A slider with play and step over frames with their boxes, which boxes to show, and a zoom on one of them.

    `widget` is what to display; `notes` are lines under each frame, `marks` moments on the strip of time. Raises
    ValueError when there is no frame, or when boxes and frames differ in number.
    """

    def __init__(
        self,
        frames: Frames,
        boxes_per_frame: BoxesPerFrame = (),
        notes: Sequence[Sequence[str]] = (),
        marks: Sequence[Mark] = (),
    ) -> None:
        import ipywidgets as widgets

        self.boxes, self.frames, self.notes, self.marks = coloured(frames, boxes_per_frame), frames, notes, marks
        self.lit: tuple[int, list[LabelledBox]] = (-1, [])  # a frame, and what is brought out there
        last = len(self.boxes) - 1
        self.slider = widgets.IntSlider(min=0, max=last, description="frame", readout=False)
        self.play = widgets.Play(min=0, max=last, interval=STEP_MS)
        self.steps = [
            widgets.Button(description=sign, tooltip=words, layout={"width": "36px"}) for sign, words in STEPS
        ]
        self.claimed = widgets.ToggleButton(value=True, description="claimed", layout={"width": "90px"})
        self.true = widgets.ToggleButton(value=True, description="true", layout={"width": "90px"})
        self.zoom = widgets.ToggleButton(value=False, description="zoom", layout={"width": "90px"})
        self.picture, self.words = widgets.Image(format="png"), widgets.HTML()
        self.time = widgets.HTML(layout={"width": "560px", "max_width": "100%"})
        widgets.jslink((self.play, "value"), (self.slider, "value"))
        for button, by in zip(self.steps, (-1, 1), strict=True):
            button.on_click(lambda _, by=by: self.show(self.slider.value + by))
        for control in (self.slider, self.claimed, self.true, self.zoom):
            control.observe(self._draw, "value")
        self._draw()
        self.widget = widgets.VBox(
            [
                widgets.HBox([self.play, *self.steps, self.slider]),
                widgets.HBox([self.claimed, self.true, self.zoom]),
                self.time,
                self.words,
                self.picture,
            ],
            layout=LEFT,
        )

    def show(self, index: int, lit: Sequence[LabelledBox] = ()) -> None:
        """Shows a frame (the last or first one beyond them), the boxes in `lit` brought out of the dark."""
        self.lit = (index, list(lit))
        if self.slider.value == max(0, min(index, self.slider.max)):
            self._draw()
        self.slider.value = index

    def _draw(self, _change: object = None) -> None:
        i = self.slider.value
        image = self.frames.images[i]
        shown = [box for box in self.boxes[i] if (self.true if box.truth else self.claimed).value]
        lit = [box for box in self.lit[1] if is_box(box.box_px)] if self.lit[0] == i else []
        width = draw_boxes(image, ()).width
        if lit:
            image = spotlight(image, [box.box_px for box in lit])
        if self.zoom.value and (lit or shown):
            image, shown = zoom(image, shown, (lit or shown)[0].box_px)
        png = io.BytesIO()
        draw_boxes(image, shown, width / image.shape[1]).save(png, format="png", compress_level=1)
        lines = [frame_words(self.frames, i, self.boxes[i]), *(self.notes[i] if self.notes else ())]
        self.words.value = "<br>".join(escape(line) for line in lines)
        self.time.value = timeline_html(self.frames.times_s, self.frames.duration_s, self.marks, self.frames.times_s[i])
        self.picture.value = png.getvalue()


class TraceViewer:
    """A response claim by claim over its frames: a press on a chip shows the frame and brings out the box."""

    def __init__(self, frames: Frames, told: ShownResponse, question: str = "", truth_px: Truth | None = None) -> None:
        import ipywidgets as widgets

        response = told.response
        notes = claim_notes(frames, response, truth_px)
        self.viewer = FrameViewer(
            frames, boxes_by_frame(frames, response, truth_px), notes, time_marks(response, truth_px)
        )
        colours = claim_colours(claim.name for claim in response.claims)
        self.chips: list[Any] = []
        pieces: list[Widget] = []
        for index, words in segments(response):
            if index is None or len(self.chips) == CHIPS:
                pieces += [widgets.HTML(f'<span style="white-space:pre-wrap">{words}</span>')] if words.strip() else []
                continue
            claim, colour = response.claims[index], colours[response.claims[index].name]
            at = frame_of(claim, frames)
            moment = "" if claim.time_s is None else f" · {claim.time_s:g} s"
            chip = widgets.Button(
                description=f"{short_name(claim.name)}{moment}",
                tooltip=claim_words(claim) if at is not None else "outside of the video",
                disabled=at is None,
                style={"button_color": colour, "text_color": ink_on(colour)},
                layout={"width": "auto"},
            )
            lit = [LabelledBox(claim.name, tuple(box), colour) for box in claim.boxes]
            chip.on_click(lambda _, at=at, lit=lit: self.viewer.show(at, lit))
            self.chips.append(chip)
            pieces.append(chip)
        self.widget = widgets.VBox(
            [
                widgets.HTML(f"<b>{escape(question)}</b>"),
                self.viewer.widget,
                widgets.Box(pieces, layout={"flex_flow": "row wrap", "align_items": "baseline", "max_width": "760px"}),
                widgets.HTML(problem_list(response) + answer_html(told) + terms_html(told.terms)),
            ],
            layout=LEFT,
        )


def frame_viewer(
    frames: Frames,
    boxes_per_frame: BoxesPerFrame = (),
    notes: Sequence[Sequence[str]] = (),
    marks: Sequence[Mark] = (),
    interactive: bool | None = None,
) -> Widget | None:
    """A `FrameViewer`, and all frames as one picture.

    Without `interactive` the environment decides: O3V_HEADLESS set to anything but 0 or nothing means False. Then the
    picture is displayed and None is returned, so no widget is left dead; otherwise the picture is displayed folded
    away, and the widget returned. So it is with every viewer here.
    """
    boxes, sheet = coloured(frames, boxes_per_frame), io.BytesIO()
    filmstrip(frames.images, frames.times_s, boxes, columns=4).savefig(sheet, format="jpeg")
    words = f"all {len(boxes)} frames, {frames.times_s[0]:.1f} s to {frames.times_s[-1]:.1f} s"
    still = img(sheet.getvalue(), words)
    return _displayed(still, words, lambda: FrameViewer(frames, boxes, notes, marks).widget, interactive)


def trace_viewer(
    frames: Frames,
    told: ShownResponse,
    question: str = "",
    truth_px: Truth | None = None,
    interactive: bool | None = None,
) -> Widget | None:
    """A `TraceViewer`, and the page of `trace.trace_html`, whose chips work without a kernel."""
    page = trace_html(frames, told, question, truth_px)
    words = "the same without a kernel"
    return _displayed(page, words, lambda: TraceViewer(frames, told, question, truth_px).widget, interactive)


def rollout_viewer(
    frames: Frames,
    rollouts: Sequence[ShownResponse],
    question: str = "",
    truth_px: Truth | None = None,
    interactive: bool | None = None,
) -> Widget | None:
    """The responses to one question, each as a `TraceViewer`, chosen from a list; and `trace.rollouts_html`.

    Raises ValueError when there is no response.
    """
    page = rollouts_html(frames, rollouts, question, truth_px)

    def browse() -> Widget:
        import ipywidgets as widgets

        totals = [told.terms.get("total") for told in rollouts]
        options = [(f"{n + 1}{'' if t is None else f' · total {t:.2f}'}", n) for n, t in enumerate(totals)]
        chosen = widgets.Dropdown(options=options, description="response")
        box = widgets.VBox([chosen, widgets.VBox()], layout=LEFT)

        def show(_change: object = None) -> None:
            box.children[1].close()
            box.children = [chosen, TraceViewer(frames, rollouts[chosen.value], question, truth_px).widget]

        chosen.observe(show, "value")
        show()
        return box

    return _displayed(page, "the same without a kernel", browse, interactive)


def filter_case_viewer(cases: Sequence[FilterCase], interactive: bool | None = None) -> Widget | None:
    """The cases of an audit one by one, by what became of them; and all of them as one picture. None without cases."""
    if not cases:
        return _displayed("<p>no case to show</p>", "", lambda: None, interactive=False)
    reasons, sheet = list(dict.fromkeys(case.reason for case in cases)), io.BytesIO()
    alike = [case for case in cases if case.image.shape == cases[0].image.shape]
    images, boxes = [case.image for case in alike], [case.boxes for case in alike]
    captions = [case.reason for case in alike]
    filmstrip(images, [0.0] * len(alike), boxes, columns=4, captions=captions).savefig(sheet, format="jpeg")
    words = f"{len(alike)} cases: {', '.join(reasons)}"

    def browse() -> Widget:
        import ipywidgets as widgets

        kind = widgets.Dropdown(options=reasons, description="what")
        slider = widgets.IntSlider(min=0, max=0, description="case", readout=False)
        picture, told = widgets.Image(format="png"), widgets.HTML()

        def show(_change: object = None) -> None:
            fitting = [case for case in cases if case.reason == kind.value]
            slider.max = len(fitting) - 1
            case, png = fitting[slider.value], io.BytesIO()
            draw_boxes(case.image, case.boxes).save(png, format="png", compress_level=1)
            picture.value = png.getvalue()
            told.value = f"{slider.value + 1} of {len(fitting)} · {escape(case.words)}"

        kind.observe(show, "value")
        slider.observe(show, "value")
        show()
        return widgets.VBox([widgets.HBox([kind, slider]), told, picture], layout=LEFT)

    return _displayed(img(sheet.getvalue(), words), words, browse, interactive)


def _displayed(still_html: str, words: str, make: Callable[[], Widget], interactive: bool | None) -> Widget | None:
    """Displays what needs no kernel, and makes the widget where a kernel will stay."""
    from IPython.display import HTML, display

    if interactive is None:
        interactive = os.environ.get(HEADLESS, "0") in ("", "0")
    if not interactive:
        display(HTML(still_html))
        return None
    display(HTML(f"<details><summary>{escape(words)}</summary>{still_html}</details>"))
    return make()
