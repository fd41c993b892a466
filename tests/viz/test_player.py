"""The player: plain HTML with a slider, every picture in it, nothing that runs or loads."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from helpers.html_reader import Reader
from helpers.viewing import EVIL, boxes, frames
from PIL import Image

from o3v.viz import player
from o3v.viz.boxes import LabelledBox
from o3v.viz.response_html import Mark


def test_the_player_holds_every_frame_with_words():
    read = Reader(player.html_player(frames(), boxes(), "What is it?"))
    pictures = read.all("img")
    assert [p["alt"] for p in pictures] == [f"{i / 2:.2f} s · frame {i + 1} of 4 · cup (claimed)" for i in range(4)]
    for i, p in enumerate(pictures):
        picture = Image.open(io.BytesIO(base64.b64decode(p["src"].removeprefix("data:image/jpeg;base64,"))))
        assert picture.size == (336, 336)
        assert abs(picture.getpixel((300, 300))[0] - (20 + 10 * i)) < 4
    (slider,) = read.all("input")
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "3")
    assert "What is it?" in read.text


def test_the_player_escapes_its_texts():
    page = player.html_player(frames(2), boxes(2, EVIL), EVIL + "\ud800")
    read = Reader(page)
    assert len(read.all("script")) == 1
    assert page.count("alert('x')") == 0
    assert EVIL in read.text
    page.encode()


def test_the_player_loads_nothing():
    page = player.html_player(frames(), boxes(), "t")
    assert not re.search(r"https?:|//cdn|@import|url\(", page)
    assert all(p["src"].startswith("data:") for p in Reader(page).all("img"))


def test_two_players_on_a_page_have_different_ids():
    pages = [player.html_player(frames(1)) for _ in range(2)]
    ids = [Reader(page).all("div")[0]["id"] for page in pages]
    assert ids[0] != ids[1]
    assert all(page.count(name) == 2 for page, name in zip(pages, ids, strict=True))  # the element and its script


def test_sixteen_frames_stay_under_400_kb():
    f = frames(16, 640, 360)
    noise = np.random.default_rng(0).integers(0, 255, f.images.shape, np.uint8)
    f.images = noise  # the worst picture to compress
    assert len(player.html_player(f, boxes(16))) < 400_000


def test_many_names_become_a_number():
    found = [[LabelledBox(f"thing {i}", (1, 1, 9, 9)) for i in range(500)]]
    page = player.html_player(frames(1), found)
    assert "and 492 more" in page
    assert len(page) < 100_000


def test_truth_is_named_as_such():
    page = player.html_player(frames(1), [[LabelledBox("cup", (1, 1, 9, 9), truth=True)]])
    assert "cup (true)" in page


def test_notes_and_marks_stand_with_their_frames():
    marks = [Mark("cup", 0.5, "#0072B2"), Mark(EVIL, 1.5, "#E69F00", truth=True), Mark("late", 99, "#000000")]
    page = player.html_player(frames(2), boxes(2), notes=[["first"], [EVIL]], marks=marks)
    read = Reader(page)
    assert "first" in read.text and "cup, 0.5 s" in read.text and "late" not in read.text
    assert [f["data-now"] for f in read.all("figure")] == ["translate(20.0 0)", "translate(500.0 0)"]
    assert len(read.all("script")) == 1
