"""Texts of models and rows on a terminal and in pages: nothing acts, everything is shown, in linear time."""

import gc
import json
import logging
import time

import numpy as np
import pytest
from helpers.outside import mcq_row, write_rows

from o3v.__main__ import main
from o3v.cli import table_text
from o3v.evidence import parse_response
from o3v.text import printable
from o3v.video.frames import Frames
from o3v.viz import trace
from o3v.viz.response_html import render, response_html, token_strip
from o3v.viz.widgets import TraceViewer

ACTING = {  # what would act, and how it is shown
    "\x1b[2J": "\\x1b[2J",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x9b31m": "\\x9b31m",
    "\b\b\b": "\\x08\\x08\\x08",
    "over\rwritten": "over\\rwritten",
    "\u202egpj.exe": "\\u202egpj.exe",
    "\u2066a\u2069": "\\u2066a\\u2069",
    "\u200f": "\\u200f",
    "\x00": "\\x00",
    "\ud83d": "\\ud83d",
    "\U000e0041": "\\U000e0041",
}
HARMLESS = ["café 名前 ไทย", "👩‍👧", "می\u200cخواهم", "a\tb\nc", "1–2 × 3…", "\u3000"]


@pytest.mark.parametrize("text", ACTING)
def test_what_acts_is_shown_as_its_code(text):
    assert printable(f"a{text}b") == f"a{ACTING[text]}b"


@pytest.mark.parametrize("text", HARMLESS)
def test_words_of_any_script_stay(text):
    assert printable(text) == text


@pytest.mark.parametrize("text", [text for text in ACTING if text != "\ud83d"])
def test_ids_and_tasks_of_rows_do_not_act_on_the_terminal(tmp_path, capsys, text):
    root = tmp_path / "root"
    write_rows(root / "rows.json", [mcq_row(text), mcq_row(text) | {"video_path": f"{text}.mp4".replace("\0", "")}])
    main(["check-data", str(root), "--workers", "1"])
    line = json.dumps({"completion": text, "row": mcq_row("a") | {"answer": text}})
    (root / "x.jsonl").write_text(line, encoding="utf-8")
    main(["score", str(root / "x.jsonl")])
    main(["check-data", f"{tmp_path}/{text}".replace("\0", "")])
    out, err = capsys.readouterr()
    shown = out + err[err.index("o3v: ") :]  # after the progress bars
    assert printable(shown) == shown and "\r" not in shown
    assert ACTING[text] in out


def test_a_cell_of_a_table_is_one_line():
    """A task with line breaks could show a row of its own."""
    assert table_text([{"task": "a\nb  1.000", "n": 1}]).count("\n") == 1


def test_the_answer_of_a_model_does_not_act_on_the_terminal(capsys):
    """`ask` prints through the logger of the command."""
    from o3v.__main__ import Output

    Output().handle(logging.makeLogRecord({"msg": "%s", "args": ("\x1b[2J\u202eanswer",)}))
    assert capsys.readouterr().out == "\\x1b[2J\\u202eanswer\n"


def frames(count=12):
    images, times_s = np.zeros((count, 56, 84, 3), np.uint8), np.arange(count) * 1.0
    return Frames(images, times_s, np.arange(count), (84, 56), float(count), "pyav")


@pytest.mark.parametrize("text", ACTING)
def test_no_page_holds_a_raw_control_character(text):
    claim = f"<obj>{text}cup</obj><box>[1,1,9,9]</box>at<t>1.0</t>s"
    shown = trace.ShownResponse(
        parse_response(f"<think>{text}{claim}</think><answer>{text}</answer>"), {text: 1.0}, text
    )
    parts = [
        trace.rollouts_html(frames(), [shown], text),
        trace.trace_html(frames(), shown, text),
        token_strip([text], [1]),
    ]
    page = trace.html_page("".join(parts), text)
    assert printable(page) == page and "\r" not in page
    assert (ACTING[text] if text != "\ud83d" else "?cup") in page
    assert render("{{ a }}", a="a\tb\nc") == "a\tb\nc"


def claims(count, bad):
    """A response with many claims; with `bad`, each has a problem."""
    unit = "" if bad else "s"
    some = (
        f"<obj>thing {i}</obj><box>[{i % 40},1,{i % 40 + 20},40]</box>at<t>{i % 12}.5</t>{unit} " for i in range(count)
    )
    return parse_response(f"<think>{''.join(some)}</think><answer>x</answer>")


def seconds(show, response):
    """CPU seconds, the least of three. Garbage collection is off: its time depends on all objects of the test run."""
    times_s = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            start_s = time.process_time()
            show(response)
            times_s.append(time.process_time() - start_s)
    finally:
        gc.enable()
    return min(times_s)


def show_trace(response):
    return trace.trace_html(frames(), trace.ShownResponse(response))


def show_widget(response):
    return TraceViewer(frames(), trace.ShownResponse(response))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize(
    ("show", "count"),
    [(response_html, 10_000), (show_trace, 4_000), (show_widget, 4_000)],
    ids=["html", "trace", "widget"],
)
def test_many_claims_take_time_in_proportion(show, count, bad):
    """10,000 claims in HTML and 4,000 in a viewer took the time of their square."""
    quarter, whole = claims(count // 4, bad), claims(count, bad)
    assert len(whole.claims) == count and bool(whole.problems) == bad
    show(quarter)
    small_s, whole_s = seconds(show, quarter), seconds(show, whole)
    assert whole_s < 3 and whole_s < 8 * small_s + 0.3
