"""Media: containers that name other files, sizes that need gigabytes, formats that start programs, odd names."""

import io
import json
import os
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.clips import encode
from helpers.outside import inspect_or_crash
from PIL import Image

from o3v import video
from o3v.config import load_profile
from o3v.data.annotation import find_videos
from o3v.data.check import MISSING, UNREADABLE, inspect_in_processes, inspect_media
from o3v.evaluation.vstar_items import read_items
from o3v.prompts import PromptBuilder
from o3v.schema import SchemaError, resolve_inside

PEAK = """
import re, sys
from pathlib import Path
from o3v.data.check import inspect_media
import av, PIL.Image
inspect_media(sys.argv[1], ("absent", True))
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
before = peak()
print(inspect_media(sys.argv[1], (sys.argv[2], sys.argv[2].endswith((".png", ".jpg", ".gif")))).problem)
print(peak() - before)
"""

PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
    "live m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path}\n",
    "ffconcat": "ffconcat version 1.0\nfile '{path}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{path}</BaseURL></MPD>",
    "imf": "<?xml version='1.0'?><CompositionPlaylist><Id>{path}</Id></CompositionPlaylist>",
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_playlist_named_as_a_video_is_refused(tmp_path, name, ending):
    secret = encode(tmp_path / "secret.ts", 10)
    (tmp_path / "root").mkdir()
    path = tmp_path / "root" / f"a.{ending}"
    path.write_text(PLAYLISTS[name].format(path=secret), encoding="utf-8")
    with pytest.raises(video.VideoError, match="not a readable video"):
        video.probe(path)


def peak_mb(folder: Path, name: str) -> tuple[str, int]:
    """The problem of a medium, and the memory that finding it takes."""
    out = subprocess.check_output([sys.executable, "-c", PEAK, str(folder), name], text=True, stderr=subprocess.DEVNULL)
    problem, megabytes = out.split("\n")[:2]
    return problem, int(megabytes)


def large_png(side: int, mode: str = "L") -> bytes:
    """A PNG of side × side pixels in a few kB."""
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, "PNG", compress_level=9)
    return file.getvalue()


def test_a_large_picture_named_as_a_video_costs_nothing(tmp_path):
    (tmp_path / "a.mp4").write_bytes(large_png(16_000))
    assert peak_mb(tmp_path, "a.mp4")[0] == UNREADABLE
    assert peak_mb(tmp_path, "a.mp4")[1] < 50


def test_large_frames_in_a_small_video_cost_nothing(tmp_path):
    """1 GB at first, from a file of 0.2 MB: the decoder believes the picture, not the container."""
    picture = large_png(16_000)
    with av.open(str(tmp_path / "a.mov"), "w") as out:
        stream = out.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
        out.start_encoding()
        for number in range(3):
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            packet.is_keyframe = True
            out.mux(packet)
    assert peak_mb(tmp_path, "a.mov")[0] == UNREADABLE
    assert peak_mb(tmp_path, "a.mov")[1] < 150


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_large_picture_is_refused_before_it_is_decoded(tmp_path):
    """13376² pixels, just below Pillow's own limit, took 2 GB from 22 kB."""
    (tmp_path / "a.png").write_bytes(large_png(13_376, "1"))
    assert peak_mb(tmp_path, "a.png")[0] == UNREADABLE
    assert peak_mb(tmp_path, "a.png")[1] < 50
    with pytest.raises(video.VideoError, match=r"a\.png: not a readable image \(13376×13376 are more than 33,554,432"):
        video.read_image(tmp_path / "a.png", 56 * 56)


def test_the_largest_picture_with_transparency_takes_less_than_500_mb(tmp_path):
    (tmp_path / "a.png").write_bytes(large_png(5_792, "LA"))
    assert peak_mb(tmp_path, "a.png")[0] == "None"
    assert peak_mb(tmp_path, "a.png")[1] < 500


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.eps"])
def test_postscript_starts_no_program(tmp_path, name, monkeypatch):
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n{} loop\n%%EOF\n"
    (tmp_path / name).write_bytes(text)
    for function in ("Popen", "run", "check_call"):
        monkeypatch.setattr(subprocess, function, lambda *_, **__: pytest.fail("a program is started"))
    with pytest.raises(video.VideoError, match="not a readable image"):
        video.read_image(tmp_path / name, 56 * 56)


def test_transparent_pixels_are_white_as_before(tmp_path):
    pixels = np.zeros((60, 60, 4), np.uint8)
    pixels[:, :30] = (200, 0, 0, 255)
    pixels[:, 30:] = (0, 0, 0, 128)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image, _ = video.read_image(tmp_path / "a.png", 60 * 60)
    assert image[20, 5].tolist() == [200, 0, 0]
    assert image[20, 50].tolist() == [127, 127, 127]  # 255 * (1 - 128 / 255)


@pytest.mark.timeout(20)
def test_pipes_and_devices_are_no_media(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").symlink_to("/dev/zero")
    for name in ("a.mp4", "b.mp4"):
        for is_image in (False, True):
            assert inspect_media(str(tmp_path), (name, is_image)).problem == MISSING
        with pytest.raises(video.VideoError, match="not a regular file"):
            video.probe(tmp_path / name)
        with pytest.raises(video.VideoError, match="not a readable image"):
            video.read_image(tmp_path / name, 56 * 56)


ODD_PATHS = ["../secret.mp4", "/etc/passwd", "link.mp4", "folder/secret.mp4", "loop/a.mp4", "x" * 300 + ".mp4"]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    encode(tmp_path / "secret.mp4", 10)
    (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    return folder


@pytest.mark.parametrize("path", ODD_PATHS)
def test_a_path_of_a_row_stays_in_its_root(root, path):
    with pytest.raises(SchemaError):
        resolve_inside(root, path)
    assert inspect_media(str(root), (path, False)).problem == MISSING


@pytest.mark.parametrize("path", ODD_PATHS)
def test_the_videos_of_vstar_stay_in_their_root(root, path, tmp_path):
    from o3v.inference.vstar_protocol import vstar_questions

    item = {"vid": path, "answer": "a", "timestamps": [0, 1], "bboxes": [], "fps": 10, "frame_count": 10}
    item |= {"question": "?", "temporal_question": "?", "spatial_question": "?", "spatial_question_2": "?"}
    item |= {"width": 168, "height": 84, "object": "a"}
    with pytest.raises(SchemaError):
        vstar_questions([item], PromptBuilder(root, load_profile("smoke").frames, "pixels"))
    if path.startswith(("..", "/")):
        files = tmp_path / "items.jsonl"
        files.write_text(json.dumps(item), encoding="utf-8")
        with pytest.raises(SchemaError, match="row 0: field 'vid'"):
            read_items(files)


def test_every_name_in_a_folder_of_videos_is_an_item_or_is_listed(tmp_path):
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    encode(folder / "0.mp4", 10)
    for name in ("0.mkv", "sub/é 名.mp4", "sub/\x1b[31m.mp4", "sub/a\nb.mp4"):
        (folder / name).write_bytes((folder / "0.mp4").read_bytes())
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "more").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.mp4")
    with open(os.fsencode(folder) + b"/caf\xe9.mp4", "wb"):
        pass
    items, errors = find_videos(folder)
    assert sorted(item.id for item in items) == ["0.mkv", "0.mp4", "sub/é 名"]
    listed = ["caf\\xe9.mp4", "loop.mp4", "more: a link", "pipe.mp4", "sub/\\x1b[31m.mp4", "a\\nb.mp4"]
    assert len(errors) == len(listed)
    for name in listed:
        assert [error for error in errors if name in error], name


def test_a_medium_that_crashes_its_decoder_costs_only_itself():
    names = [str(number) for number in range(40)]
    names[7], names[30] = "crash a", "crash b"
    infos = list(inspect_in_processes(inspect_or_crash, [(name, False) for name in names], workers=2))
    assert [info.duration_s for info in infos] == [None if "crash" in name else float(name) for name in names]
    assert [info.problem for info in infos if info.duration_s is None] == [UNREADABLE] * 2


def test_a_png_with_a_bomb_in_its_text_is_refused(tmp_path):
    """A compressed text chunk of 100 MB in 100 kB."""
    data = large_png(64)
    text = b"x\0\0" + zlib.compress(b"0" * 100_000_000, 9)
    chunk = len(text).to_bytes(4, "big") + b"zTXt" + text + zlib.crc32(b"zTXt" + text).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    assert peak_mb(tmp_path, "a.png")[0] == UNREADABLE
    assert peak_mb(tmp_path, "a.png")[1] < 50
