"""Figures show the numbers they were given; odd evidence is shown as what it is."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from o3v import video
from o3v.evidence import Claim, Response
from o3v.viz import plots
from o3v.viz.boxes import PALETTE, LabelledBox, claim_colours

BOX = (10.0, 10.0, 40.0, 40.0)


def frames(count: int = 4, duration_s: float = 4.0) -> SimpleNamespace:
    """Frames at 0, 1, 2 … seconds, 84×84."""
    return SimpleNamespace(
        images=np.full((count, 84, 84, 3), 90, np.uint8), times_s=np.arange(count, dtype=float), duration_s=duration_s
    )


def response(*claims: tuple[str, float | None], times_s: tuple[float, ...] = ()) -> Response:
    made = tuple(Claim(name, (BOX,), time_s, 0, 0) for name, time_s in claims)
    return Response("", None, None, made, tuple(t for _, t in claims if t is not None) + times_s, ())


def render(figure) -> bytes:
    """The figure as PNG: a drawing error appears only here."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def written(figure) -> list[str]:
    """All texts of a figure."""
    import matplotlib.text

    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def bar_lengths(axes) -> list[float]:
    return [round(max(p.get_width(), p.get_height()), 6) for c in axes.containers for p in c.patches]


# ---- which frame


@pytest.mark.parametrize("time_s", [-0.1, 4.1, math.nan, math.inf, -math.inf])
def test_no_frame_is_nearest_to_a_time_outside_the_video(time_s):
    assert video.nearest_frame([0, 1, 2, 3], time_s, 4.0) is None


def test_no_frames_no_nearest():
    assert video.nearest_frame([], 1.0) is None


@pytest.mark.parametrize(("time_s", "index"), [(0, 0), (0.4, 0), (0.6, 1), (2.0, 2), (3.9, 3)])
def test_the_nearest_frame(time_s, index):
    assert video.nearest_frame([0, 1, 2, 3], time_s, 4.0) == index


def test_without_a_duration_the_widest_gap_follows_the_last_frame():
    assert video.nearest_frame([0, 1, 4], 7.0) == 2
    assert video.nearest_frame([0, 1, 4], 7.1) is None
    assert video.nearest_frame([5.0], 6.0) == 0
    assert video.nearest_frame([5.0], 6.1) is None


def test_boxes_go_to_the_frames_of_their_times():
    found = plots.boxes_by_frame(frames(), response(("cup", 1.2), ("dog", 99.0), ("cat", None)), {2.9: {"cup": [BOX]}})
    colour = claim_colours(["cup", "dog", "cat"])["cup"]
    assert found == [[], [LabelledBox("cup", BOX, colour)], [], [LabelledBox("cup", BOX, colour, truth=True)]]


def test_a_claim_without_a_time_is_on_the_only_frame():
    found = plots.boxes_by_frame(frames(1), response(("cup", None)))
    assert [box.name for box in found[0]] == ["cup"]


def test_claims_have_the_colours_of_their_text_whatever_the_truth():
    claims = response(("cup", 1.0), ("dog", 1.0))
    found = plots.boxes_by_frame(frames(), claims, {1.0: {f"other {i}": [BOX] for i in range(5)}})
    assert {b.name: b.colour for b in found[1] if not b.truth} == claim_colours(["cup", "dog"])


# ---- frames


def test_a_strip_needs_frames_and_fitting_lists():
    images = frames().images
    with pytest.raises(ValueError, match="0 frames"):
        plots.filmstrip([], [])
    with pytest.raises(ValueError, match="3 times"):
        plots.filmstrip(images, [0, 1, 2])
    with pytest.raises(ValueError, match="1 lists"):
        plots.filmstrip(images, [0, 1, 2, 3], [[]])


def test_a_strip_has_times_and_framed_key_frames():
    figure = plots.filmstrip(frames().images, [0, 1, 2, 3], marks=[2.1, 99, -1], title="title")
    assert [axes.get_title() for axes in figure.axes] == ["0.0 s", "1.0 s", "2.0 s · key", "3.0 s"]
    assert [axes.spines["left"].get_visible() for axes in figure.axes] == [False, False, True, False]
    assert "title" in written(figure)
    assert render(figure)


def test_a_strip_of_many_portrait_frames_breaks_into_rows():
    images = np.zeros((9, 112, 28, 3), np.uint8)
    figure = plots.filmstrip(images, range(9), columns=4)
    rows = {axes.get_subplotspec().rowspan.start for axes in figure.axes}
    assert rows == {0, 1, 2}


def test_a_trace_shows_claimed_and_key_frames_over_a_timeline():
    figure = plots.trace_figure(frames(), response(("cup", 1.2), times_s=(2.5,)), {2.9: {"cup": [BOX]}})
    *pictures, timeline = figure.axes
    assert [axes.get_title() for axes in pictures] == ["frame at 1.0 s", "frame at 3.0 s · key"]
    marks = {line.get_label(): line.get_xdata() for line in timeline.lines}
    assert list(marks["cup"]) == [1.2]
    assert list(marks["time alone"]) == [2.5]
    assert list(timeline.lines[0].get_xdata()) == [0, 1, 2, 3]
    assert list(timeline.lines[1].get_xdata()) == [2.9]
    assert render(figure)


def test_claimed_boxes_are_in_the_pictures_of_a_trace():
    figure = plots.trace_figure(frames(), response(("cup", 1.0)))
    picture = figure.axes[0].images[0].get_array()
    colour = [int(claim_colours(["cup"])["cup"][i : i + 2], 16) for i in (1, 3, 5)]
    scale = picture.shape[1] / 84
    assert (picture[round(25 * scale), round(10 * scale) + 2] == colour).all()
    assert (picture[round(25 * scale), round(25 * scale)] == 90).all()


def test_claims_outside_the_video_are_counted_on_the_trace():
    figure = plots.trace_figure(frames(), response(("cup", 99.0), ("dog", math.inf), ("cat", 1.0)))
    assert "2 claimed outside the video, which ends at 4.0 s" in written(figure)
    assert len(figure.axes) == 2
    assert render(figure)


@pytest.mark.parametrize("claims", [(), (("cup", None),), (("cup", 50.0),)])
def test_a_trace_without_shown_claims_says_so(claims):
    figure = plots.trace_figure(frames(), response(*claims))
    assert "no box is claimed at a time inside the video" in written(figure)
    assert len(figure.axes) == 4 + 1
    assert render(figure)


def test_claims_at_one_time_stand_on_each_other():
    figure = plots.trace_figure(frames(), response(("cup", 1.0), ("dog", 1.0)))
    heights = [line.get_ydata()[0] for line in figure.axes[-1].lines if line.get_label() in ("cup", "dog")]
    assert heights[0] < heights[1]


def test_names_are_no_formulas():
    figure = plots.trace_figure(frames(), response(("$x_{$", 1.0), ("<script>", 1.0)), {1.0: {"\\frac$$": [BOX]}})
    assert render(figure)
    assert render(plots.reward_bars({"$x_{$": 1.0}))
    assert render(plots.distribution({"$x_{$": 1}, {"$y^$": 1.0}))
    assert render(plots.histogram({"$x_{$": [1.0]}, "$x_{$"))
    assert render(plots.before_after({"$x_{$": {"$a_{$": 1.0}}))
    assert render(plots.learning_curves([{"$x_{$": 1, "$y_{$": 2}], "$x_{$", ["$y_{$"]))


def test_five_hundred_claims_give_a_figure():
    claims = [(f"thing {i}", i / 125) for i in range(500)]
    figure = plots.trace_figure(frames(), response(*claims), most=2)
    assert any("the first 2 of 4 frames" in text for text in written(figure))
    assert render(figure)


# ---- bars and curves


def test_reward_bars_write_their_values():
    figure = plots.reward_bars({"ans_acc": 1.0, "ans_tiou": None, "thk_spatial": 0.25, "total": 1.25})
    assert {"1.000", "does not apply", "0.250", "1.250", "ans_tiou"} <= set(written(figure))
    assert bar_lengths(figure.axes[0])[:1] == [1.0]
    assert render(plots.reward_bars({}))


def test_unknown_columns_of_curves_are_named():
    with pytest.raises(ValueError, match=r"\['kl'\].*step, loss"):
        plots.learning_curves([{"step": 1, "loss": 2.0}], "step", ["kl"])
    with pytest.raises(ValueError):
        plots.learning_curves([{"step": 1}], "step", [])


def test_curves_skip_missing_values_and_smooth_over_neighbours():
    rows = [{"step": 2, "loss": 6.0}, {"step": 1, "loss": 0.0}, {"step": 3, "loss": 3.0}, {"step": 4, "kl": None}]
    figure = plots.learning_curves(rows, "step", ["loss", "kl"], smooth=3)
    raw, smooth = figure.axes[0].lines
    assert list(raw.get_xdata()) == [1, 2, 3] and list(raw.get_ydata()) == [0, 6, 3]
    assert list(smooth.get_ydata()) == [3.0, 3.0, 4.5]  # (0+6)/2, (0+6+3)/3, (6+3)/2
    assert "no values" in written(figure)
    assert render(figure)


def test_before_after_writes_every_value():
    table = {"base": {"acc": 33.5, "mAM": 19.3}, "SFT": {"acc": 61.0, "mAM": None}}
    figure = plots.before_after(table)
    assert {"33.5", "19.3", "61.0", "–", "base", "SFT", "acc", "mAM"} <= set(written(figure))
    assert bar_lengths(figure.axes[0]) != []
    heights = [[p.get_height() for p in c.patches] for c in figure.axes[0].containers]
    assert heights == [[33.5, 19.3], [61.0, 0.0]]
    assert render(figure)
    with pytest.raises(ValueError, match="no rows"):
        plots.before_after({})


def test_before_after_takes_a_data_frame():
    import pandas as pd

    figure = plots.before_after(pd.DataFrame({"acc": [1, 2]}, index=["a", "b"]), value_format=".2f")
    assert {"1.00", "2.00"} <= set(written(figure))


def test_distribution_shows_both_shares():
    figure = plots.distribution({"temporal QA": 1, "visual QA": 3}, {"visual QA": 30.0, "other": 10.0})
    assert {"25.0%  (1)", "75.0%  (3)", "0.0%  (0)"} <= set(written(figure))
    widths = [[round(p.get_width(), 3) for p in c.patches] for c in figure.axes[0].containers]
    assert widths == [[25, 75, 0], [0, 75, 25]]
    assert render(figure)


@pytest.mark.parametrize(("counts", "reference"), [({}, None), ({"a": 0}, None), ({"a": 1}, {"a": 0.0})])
def test_a_distribution_of_nothing_is_refused(counts, reference):
    with pytest.raises(ValueError, match="above 0"):
        plots.distribution(counts, reference)


def test_histogram_counts_finite_values_in_per_cent():
    figure = plots.histogram({"a": [0, 0, 0, 10], "b": [math.nan, math.inf], "c": []}, "seconds", bins=2)
    assert {"a (n = 4)", "b (n = 0)", "c (n = 0)", "seconds"} <= set(written(figure))
    assert list(figure.axes[0].patches[0].get_data().values) == [75, 25]
    assert render(figure)
    with pytest.raises(ValueError, match="no values"):
        plots.histogram({}, "seconds")


def test_figures_leave_no_trace_in_pyplot():
    import matplotlib
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    plots.reward_bars({"a": 1.0})
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def test_importing_plots_loads_no_drawing_library():
    heavy = "{'matplotlib', 'seaborn', 'pandas', 'ipywidgets'}"
    code = f"import sys, o3v.viz.plots, o3v.viz.widgets; print({heavy} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_key_frames_are_framed_in_a_colour_of_the_palette():
    from matplotlib.colors import to_hex

    figure = plots.filmstrip(frames(1).images, [0.0], marks=[0.0])
    assert to_hex(figure.axes[0].spines["top"].get_edgecolor()).upper() == PALETTE[3]


def test_curves_by_kind_share_a_panel():
    rows = [{"step": n, "loss": n * k, "kind": f"kind {k}"} for n in range(3) for k in (1, 2)]
    (axes,) = plots.learning_curves(rows, "step", ["loss"], by="kind").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["kind 1", "kind 2"]
    assert [list(line.get_ydata()) for line in axes.lines][::2] == [[0, 1, 2], [0, 2, 4]]
    with pytest.raises(ValueError, match="no columns"):
        plots.learning_curves(rows, "step", ["loss"], by="colour")


def test_intervals_from_the_top():
    (axes,) = plots.intervals({"a": (0.5, 0.25, 0.75), "b": (0.1, 0.0, 0.2)}, "share").axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert [tuple(line.get_xdata()) for line in axes.lines] == [(0.25, 0.75), (0.5,), (0.0, 0.2), (0.1,)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]
    with pytest.raises(ValueError, match="no intervals"):
        plots.intervals({}, "share")
