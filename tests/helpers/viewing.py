"""Small frames, boxes and responses for the tests of viewers, and readers of figures."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np

from o3v.viz.boxes import LabelledBox

EVIL = "<script>alert('x')</script>\"&"


def frames(count: int = 4, width: int = 84, height: int = 84) -> SimpleNamespace:
    """Frame i is a plain grey of 20 + 10·i, at i / 2 seconds."""
    images = np.stack(
        [np.full((height, width, 3), 20 + 10 * i, np.uint8) for i in range(count)] or [np.zeros((0, 1, 1, 3))]
    )
    return SimpleNamespace(images=images[:count], times_s=np.arange(count) / 2, duration_s=count / 2)


def boxes(count: int = 4, name: str = "cup") -> list[list[LabelledBox]]:
    return [[LabelledBox(name, (10, 10, 40, 40 + i))] for i in range(count)]


def claim(name: str, box: str, time_s: float) -> str:
    return f"<obj>{name}</obj><box>{box}</box>at<t>{time_s}</t>s"


def render_png(figure) -> bytes:
    """Renders a figure; a drawing error appears only here."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def texts_of(figure) -> list[str]:
    """All texts of a figure."""
    import matplotlib.text

    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


TEXT = (
    f"<think>First {claim('cup', '[10,10,40,40]', 0.5)}, then {claim('car', '[40,40,80,80]', 1.4)}.</think>"
    "<answer>A</answer>"
)
TRUTH = {0.6: {"cup": [(10, 10, 40, 70)]}}
