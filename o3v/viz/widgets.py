"""ipywidgets for notebooks: frames with their boxes, a response claim by claim, several responses, filter cases.

A widget does not work without a kernel, so each viewer also displays a static image or page, folded. If the environment
variable O3V_HEADLESS is set to anything but 0 (when a program executes notebooks), only the static version is
displayed, unfolded. Images come from `boxes` and `plots`, HTML from `response_html` and `trace`. Does not know models.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from o3v.evidence import Claim
from o3v.geometry import is_box
from o3v.video.frames import Frames
from o3v.viz import trace
from o3v.viz.boxes import LabelledBox, claim_colours, draw_boxes, ink_on, short_name, spotlight, zoom
from o3v.viz.plots import NO_TRUTH, BoxesPerFrame, FilterCase, Truth, filmstrip, frame_of
from o3v.viz.response_html import claim_summary, escape, problem_list, render, segments, timeline_html
from o3v.viz.trace import Marks, Notes, ShownResponse

if TYPE_CHECKING:
    from ipywidgets import Button, Widget
    from matplotlib.figure import Figure

HEADLESS = "O3V_HEADLESS"
MAX_CHIPS = 60  # claims shown as buttons; later claims are text
PNG = {"format": "png", "compress_level": 1}  # fast
LEFT = {"align_items": "flex-start"}  # otherwise an image is stretched to the width of the page


class FrameViewer:
    """A slider with play and step buttons over frames with their boxes; box kinds can be hidden, one box enlarged.

    `widget` is what to display. Arguments and errors are those of `trace.html_player`.
    """

    def __init__(self, frames: Frames, boxes: BoxesPerFrame = (), notes: Notes = (), marks: Marks = ()) -> None:
        import ipywidgets as widgets

        self.boxes, self.frames, self.notes, self.marks = trace.with_colours(frames, boxes), frames, notes, marks
        self.highlight: tuple[int | None, Sequence[LabelledBox]] = (None, ())  # a frame and boxes on it
        last = len(self.boxes) - 1
        self.slider = widgets.IntSlider(min=0, max=last, description="frame", readout=False)
        self.play = widgets.Play(min=0, max=last, interval=trace.STEP_MS)
        self.steps = []
        for sign, tooltip, step in (("◀", "previous frame", -1), ("▶", "next frame", 1)):
            self.steps.append(widgets.Button(description=sign, tooltip=tooltip, layout={"width": "36px"}))
            self.steps[-1].on_click(lambda _, step=step: self.show(self.slider.value + step))
        self.claimed, self.true, self.zoom = toggles = [
            widgets.ToggleButton(value=label != "zoom", description=label, layout={"width": "90px"})
            for label in ("claimed", "true", "zoom")
        ]
        self.image, self.caption = widgets.Image(format="png"), widgets.HTML()
        self.timeline = widgets.HTML(layout={"width": "560px", "max_width": "100%"})
        widgets.jslink((self.play, "value"), (self.slider, "value"))
        for control in (self.slider, *toggles):
            control.observe(self._draw, "value")
        self._draw()
        rows = [widgets.HBox([self.play, *self.steps, self.slider]), widgets.HBox(toggles)]
        self.widget = widgets.VBox([*rows, self.timeline, self.caption, self.image], layout=LEFT)

    def show(self, index: int, highlight: Sequence[LabelledBox] = ()) -> None:
        """Shows a frame (the first or last one for an index outside), the rest of it darker than `highlight`."""
        self.highlight = (index, highlight)
        if self.slider.value == max(0, min(index, self.slider.max)):
            self._draw()
        self.slider.value = index

    def _draw(self, _change: object = None) -> None:
        i, times_s, image = self.slider.value, self.frames.times_s, self.frames.images[self.slider.value]
        boxes = [box for box in self.boxes[i] if (self.true if box.truth else self.claimed).value]
        highlight = [box for box in self.highlight[1] if is_box(box.box_px)] if self.highlight[0] == i else []
        width = draw_boxes(image, ()).width
        image = spotlight(image, [box.box_px for box in highlight])
        if self.zoom.value and (highlight or boxes):
            image, boxes = zoom(image, boxes, (highlight or boxes)[0].box_px)
        lines = [trace.frame_caption(self.frames, i, self.boxes[i]), *(self.notes[i] if self.notes else ())]
        self.caption.value = render('{{ lines|join("<br>"|safe) }}', lines=lines)
        self.timeline.value = timeline_html(times_s, self.frames.duration_s, self.marks, times_s[i])
        self.image.value = trace.encode(draw_boxes(image, boxes, width / image.shape[1]).save, **PNG)


class TraceViewer:
    """A response claim by claim over its frames: a click on a claim shows its frame and highlights its boxes."""

    def __init__(self, frames: Frames, shown: ShownResponse, question: str = "", truth_px: Truth = NO_TRUTH) -> None:
        import ipywidgets as widgets

        response = shown.response
        self.viewer = FrameViewer(frames, *trace.evidence(frames, response, truth_px))
        colours = claim_colours(claim.name for claim in response.claims)
        self.chips: list[Button] = []
        pieces: list[Widget] = []
        text = ""  # between two chips, in one widget
        for number, words in segments(response):
            if number is not None and len(self.chips) < MAX_CHIPS:
                pieces += _text(text)
                claim, text = response.claims[number], ""
                pieces.append(self._chip(claim, colours[claim.name]))
                self.chips.append(pieces[-1])
            else:
                text += words
        pieces += _text(text)
        row = {"flex_flow": "row wrap", "align_items": "baseline", "max_width": "760px"}
        below = widgets.HTML(problem_list(response) + trace.result_html(shown))
        title = widgets.HTML(f"<b>{escape(question)}</b>")
        self.widget = widgets.VBox([title, self.viewer.widget, widgets.Box(pieces, layout=row), below], layout=LEFT)

    def _chip(self, claim: Claim, colour: str) -> Button:
        import ipywidgets as widgets

        index = frame_of(claim, self.viewer.frames)
        moment = "" if claim.time_s is None else f" · {claim.time_s:g} s"
        boxes = [LabelledBox(claim.name, tuple(box), colour) for box in claim.boxes]
        chip = widgets.Button(
            description=f"{short_name(claim.name)}{moment}",
            tooltip="outside of the video" if index is None else claim_summary(claim),
            disabled=index is None,
            style={"button_color": colour, "text_color": ink_on(colour)},
            layout={"width": "auto"},
        )
        chip.on_click(lambda _: self.viewer.show(index, boxes))
        return chip


def _text(words: str) -> list[Widget]:
    import ipywidgets as widgets

    return [widgets.HTML(f'<span style="white-space:pre-wrap">{words}</span>')] if words.strip() else []


def frame_viewer(frames: Frames, boxes: BoxesPerFrame = (), notes: Notes = (), marks: Marks = ()) -> Widget | None:
    """Displays all frames as one image, and returns the widget of a `FrameViewer`; None under O3V_HEADLESS."""
    boxes = trace.with_colours(frames, boxes)
    label = f"all {len(boxes)} frames, {frames.times_s[0]:.1f} s to {frames.times_s[-1]:.1f} s"
    figure = filmstrip(frames.images, frames.times_s, boxes, columns=4)
    return _display(figure, label, lambda: FrameViewer(frames, boxes, notes, marks).widget)


def trace_viewer(frames: Frames, shown: ShownResponse, question: str = "", truth_px: Truth = NO_TRUTH) -> Widget | None:
    """Displays `trace.trace_html`, and returns the widget of a `TraceViewer`; None under O3V_HEADLESS."""
    page = trace.trace_html(frames, shown, question, truth_px)
    return _display(page, "the same without a kernel", lambda: TraceViewer(frames, shown, question, truth_px).widget)


def rollout_viewer(
    frames: Frames, responses: Sequence[ShownResponse], question: str = "", truth_px: Truth = NO_TRUTH
) -> Widget | None:
    """Displays `trace.rollouts_html`, and returns a list that shows one response as a `TraceViewer`.

    Returns None under O3V_HEADLESS. Raises ValueError when there is no response.
    """

    def _browser() -> Widget:
        import ipywidgets as widgets

        totals = [shown.terms.get("total") for shown in responses]
        labels = [f"{n}{'' if total is None else f' · total {total:.2f}'}" for n, total in enumerate(totals, 1)]
        chosen = widgets.Dropdown(options=[(label, n) for n, label in enumerate(labels)], description="response")
        box = widgets.VBox([chosen], layout=LEFT)

        def _show(_change: object = None) -> None:
            for earlier in box.children[1:]:
                earlier.close()
            box.children = [chosen, TraceViewer(frames, responses[chosen.value], question, truth_px).widget]

        chosen.observe(_show, "value")
        _show()
        return box

    return _display(trace.rollouts_html(frames, responses, question, truth_px), "the same without a kernel", _browser)


def filter_case_viewer(cases: Sequence[FilterCase]) -> Widget | None:
    """Displays all cases as one image, and returns a widget that shows them one by one, by reason.

    Returns None without cases and under O3V_HEADLESS. Only cases of the same image size are in the one image.
    """
    if not cases:
        return _display("<p>no case to show</p>", "no case", None)

    def _browser() -> Widget:
        import ipywidgets as widgets

        reason = widgets.Dropdown(options=reasons, description="reason")
        slider = widgets.IntSlider(min=0, max=0, description="case", readout=False)
        image, caption = widgets.Image(format="png"), widgets.HTML()

        def _show(_change: object = None) -> None:
            matching = [case for case in cases if case.reason == reason.value]
            slider.max = len(matching) - 1
            case = matching[slider.value]
            image.value = trace.encode(draw_boxes(case.image, case.boxes).save, **PNG)
            caption.value = f"{slider.value + 1} of {len(matching)} · {escape(case.caption)}"

        for control in (reason, slider):
            control.observe(_show, "value")
        _show()
        return widgets.VBox([widgets.HBox([reason, slider]), caption, image], layout=LEFT)

    reasons = list(dict.fromkeys(case.reason for case in cases))
    same_size = [case for case in cases if case.image.shape == cases[0].image.shape]
    captions, _, images, boxes = zip(*same_size, strict=True)
    label = f"{len(same_size)} cases: {', '.join(reasons)}"
    return _display(filmstrip(images, captions, boxes, columns=4), label, _browser)


def _display(still: str | Figure, label: str, make: Callable[[], Widget] | None) -> Widget | None:
    """Displays the static version; folded, and with the widget as result, if there is a widget and a kernel."""
    from IPython.display import HTML, display

    class Still(HTML):
        def __repr__(self) -> str:  # what an editor shows that does not trust the notebook
            return f"{label}: HTML, shown in a trusted notebook or folder, and in the exported page"

    page = still if isinstance(still, str) else trace.image_html(trace.encode(still.savefig, format="jpeg"), label)
    if make is None or os.environ.get(HEADLESS, "0") not in ("", "0"):
        display(Still(page))
        return None
    display(Still(f"<details><summary>{escape(label)}</summary>{page}</details>"))
    return make()
