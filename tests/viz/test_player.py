"""The player: plain HTML with a slider that contains every image and loads nothing."""

import base64
import io
import re

import numpy as np
from helpers.html_reader import Reader
from helpers.viewing import EVIL, boxes, frames
from PIL import Image

from o3v.viz import trace
from o3v.viz.boxes import LabelledBox
from o3v.viz.response_html import Mark


def test_the_player_contains_every_frame_with_a_caption():
    read = Reader(trace.html_player(frames(), boxes()))
    for i, attributes in enumerate(read.all("img")):
        assert all(part in attributes["alt"] for part in (f"{i / 2:.2f} s", f"frame {i + 1} of 4", "cup (claimed)"))
        image = Image.open(io.BytesIO(base64.b64decode(attributes["src"].removeprefix("data:image/jpeg;base64,"))))
        assert image.size == (336, 336)
        assert abs(image.getpixel((300, 300))[0] - (20 + 10 * i)) < 4
    (slider,) = read.all("input")
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "3")


def test_the_player_escapes_its_texts():
    page = trace.html_player(frames(2), boxes(2, EVIL), [[EVIL + "\ud800"]] * 2)
    read = Reader(page)
    assert len(read.all("script")) == 1
    assert page.count("alert('x')") == 0
    assert EVIL in read.text
    page.encode()


def test_the_player_loads_nothing():
    page = trace.html_player(frames(), boxes())
    assert not re.search(r"https?:|//cdn|@import|url\(", page)
    assert all(image["src"].startswith("data:") for image in Reader(page).all("img"))


def test_two_players_on_a_page_have_different_ids():
    pages = [trace.html_player(frames(1)) for _ in range(2)]
    ids = [Reader(page).all("div")[0]["id"] for page in pages]
    assert ids[0] != ids[1]
    assert all(page.count(name) == 2 for page, name in zip(pages, ids, strict=True))  # the element and its script


def test_sixteen_frames_stay_under_400_kb():
    video = frames(16, 640, 360)
    video.images = np.random.default_rng(0).integers(0, 255, video.images.shape, np.uint8)  # noise compresses worst
    assert len(trace.html_player(video, boxes(16))) < 400_000


def test_a_caption_counts_the_names_after_the_eighth():
    page = trace.html_player(frames(1), [[LabelledBox(f"object {i}", (1, 1, 9, 9)) for i in range(500)]])
    assert "and 492 more" in page
    assert len(page) < 100_000


def test_a_true_box_is_named_as_such():
    page = trace.html_player(frames(1), [[LabelledBox("cup", (1, 1, 9, 9), truth=True)]])
    assert "cup (true)" in page


def test_notes_and_marks_appear_with_their_frames():
    marks = [Mark("cup", 0.5, "#0072B2"), Mark(EVIL, 1.5, "#E69F00", truth=True), Mark("late", 99, "#000000")]
    page = trace.html_player(frames(2), boxes(2), notes=[["first"], [EVIL]], marks=marks)
    read = Reader(page)
    assert "first" in read.text and "cup, 0.5 s" in read.text and "late" not in read.text
    assert [f["data-now"] for f in read.all("figure")] == ["translate(20.0 0)", "translate(500.0 0)"]
    assert len(read.all("script")) == 1
