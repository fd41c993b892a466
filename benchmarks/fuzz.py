"""Random and damaged input to everything that reads what others wrote: rows, responses, predictions, replies, media.

Each reader may raise only its documented errors, and must not take more than 1 s of the CPU for 100 kB, nor, with the
imports, more than 500 MB. Prints one line per reader: inputs, errors by type, slowest input in seconds per 100 kB, most
memory. Ends with 1 after a failure, which it prints with the input, or after a minute in one input, with the place in
the code.

    python benchmarks/fuzz.py --minutes 10
"""

from __future__ import annotations

import argparse
import base64
import collections
import faulthandler
import gc
import io
import json
import logging
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import av
import av.logging
import decord
import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.clips import encode
from helpers.outside import evidence_row, mcq_row

from o3v import evidence, files, prompts, video
from o3v.data import annotation, annotation_clients, export, filter_report, stgr
from o3v.data.annotation import AnnotationError, AnnotationItem
from o3v.data.check import inspect_media
from o3v.evaluation import vstar, vstar_predictions
from o3v.evaluation.vstar_items import read_items
from o3v.rewards.grounded import score_completion
from o3v.schema import Example, SchemaError
from o3v.viz.response_html import response_html

LIMIT_S, LIMIT_MB, HANG_S = 1.0, 500, 60.0
ITEM = AnnotationItem("x", "own", "a.mp4", 10.0, 10.0)
EXTREMES = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0"]
WORDS = [
    *(f"<{slash}{name}>" for name in ("think", "answer", "obj", "box", "t") for slash in ("", "/")),
    *("<box>[1,2,3,4]</box>", "at<t>1.0</t>s", "</t>s to <t>", "[1.0, 3.0]", "Correct Option: ", "B", "\ud83d", "\x00"),
    *('{"', '"', "{", "}", "[", "]", "},\n{", ":", ",", " " * 200, "\n", "null", "NaN", "-", "1e999", "9" * 400, "0.5"),
    *("1:02:03", "5 minutes", "%", "\u2028", "名前", "{[]}", "(" * 150, "[" * 150, '{"a":' * 150, "\\ud83d", "\\u0000"),
]
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=20), max_size=60).map("".join)
long_texts = st.builds(lambda text, times: text * times, st.sampled_from(WORDS) | texts, st.integers(1, 2_000)).map(
    lambda text: text[:100_000]
)
any_text = texts | long_texts
odd_number = st.sampled_from([10**400, -(10**400), 1e308, float("nan"), float("inf"), -0.0, 2**63, True, None])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | long_texts.map(lambda t: t[:20_000]) | odd_number,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=15,
)


@st.composite
def changed(draw, make: Callable[[], dict]) -> dict:
    """A good object with some of its values replaced, at any depth."""
    row = make()
    for _ in range(draw(st.integers(0, 3))):
        at = row
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(at[key], dict | list) and draw(st.booleans()):
                at = at[key]
                continue
            at[key] = draw(values)
            break
    return row


def item() -> dict:
    """A V-STAR item with results."""
    boxes = [{"timestamp": 2, "xmin": 0, "ymin": 0, "xmax": 4, "ymax": 2}]
    truth = {"vid": "a.mp4", "answer": "red", "timestamps": [1, 3], "bboxes": boxes, "fps": 10, "frame_count": 100}
    return truth | predictions()


def predictions() -> dict:
    """The results of a V-STAR item."""
    results = {"answer_vqa": "red", "answer_temporal": [1, 3], "answer_spatial": {"2": [0, 0, 4, 2]}}
    results |= {"answer_temporal_2": "[1, 3]", "answer_spatial_2": {}, "answer_temporal_pre_2": "1 s to 3 s"}
    return results


def valid_annotation() -> dict:
    """An annotation that is read."""
    frame = {"at": 1, "objects": [{"name": "cup", "box": [0.1, 0.1, 0.3, 0.4]}]}
    chain = "A <obj>cup</obj><box>[0.1,0.1,0.3,0.4]</box>at<t>1.0</t>s."
    return {"question": "What?", "answer": "A cup", "reasoning": chain, "key_frames": [frame]}


def reply() -> dict:
    """A reply of both services, around an annotation."""
    text = json.dumps(valid_annotation())
    gemini = {"candidates": [{"content": {"parts": [{"text": text}]}}], "usageMetadata": {"promptTokenCount": 1}}
    return gemini | {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 1}}


row_texts = st.one_of(changed(lambda: mcq_row("a")), changed(lambda: evidence_row("b"))).map(json.dumps)


def read_rows(pieces: list[str], as_list: bool, folder: Path) -> None:
    """Reads, filters and exports the rows of a file."""
    path = folder / "rows.json"
    text = "[" + ",\n".join(pieces) + "]" if as_list else "\n".join(pieces)
    path.write_bytes(text.encode(errors="surrogatepass"))
    rows = list(stgr.read_stgr(path))
    files.write_jsonl(folder / "bad.jsonl", ({"why": str(row)} for row in rows if isinstance(row, stgr.BadRow)))
    good = [row for row in rows if isinstance(row, Example)]
    kept, _ = filter_report.filter_rows(good)
    stgr.write_stgr(folder / "kept.json", kept)
    for name in export.FORMATS:
        list(export.export_rows(kept, name))
    list(files.read_jsonl(path, []))


def read_evidence(text: str) -> None:
    """Parses, scores and shows a response."""
    response = evidence.parse_response(text)
    for row in (mcq_row("a"), evidence_row("b") | {"image_size": [168, 84]}, TEMPORAL):
        score_completion(text, row, 0.5)
    evidence.strip_tags(text)
    evidence.open_think(text)
    prompts.safe_text(text)
    response_html(response)


TEMPORAL = {"task": "temporal QA", "answer": "[1.0, 3.0]", "id": "t"}


def read_predictions(item: dict, folder: Path) -> None:
    """Reads and scores an item with its results, by both protocols."""
    (folder / "items.json").write_bytes(json.dumps([item]).encode())
    for protocol in vstar.PROTOCOLS:
        vstar.score_items(read_items(folder / "items.json"), protocol)
        vstar.score_items(vstar_predictions.read_predictions(folder / "items.json").rows, protocol)


def read_reply(value: object) -> None:
    """Reads a reply as both clients do, then its annotation."""
    for client in (annotation_clients.Gemini("."), annotation_clients.OpenAICompatible(".", "m")):
        text = client.read_reply(value).text
        for kind in ("segment", "regions"):
            annotation.to_example(AnnotationItem("x", "own", "a.mp4", 10.0, 10.0, kind=kind), text)


def read_annotation(text: str) -> None:
    """Reads the text of an annotation."""
    annotation.to_example(ITEM, text)


def read_medium(data: bytes, folder: Path, name: str) -> None:
    """Opens a damaged file as a video and as an image."""
    (folder / name).write_bytes(data)
    for is_image in (False, True):
        inspect_media(str(folder), (name, is_image))
    video.sample_frames(folder / name, 4, 56 * 56)


def media_seeds(folder: Path) -> list[bytes]:
    """Small files of all formats that are read, and of some that are not."""
    seeds = [encode(folder / f"seed.{ending}", 8).read_bytes() for ending in ("mp4", "mkv", "ts", "avi", "flv")]
    pixels = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))
    for kind in ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM"):
        file = io.BytesIO()
        pixels.save(file, kind)
        seeds.append(file.getvalue())
    return [*seeds, b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", b"ffconcat version 1.0\nfile a\n", b"%!PS-Adobe\n{} loop\n"]


@st.composite
def damaged(draw, seeds: list[bytes]) -> bytes:
    """A file with some bytes replaced, most of them in its header; cut, or two files joined."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 8))):
        length = 300 if draw(st.booleans()) else len(data)
        at = draw(st.integers(0, max(0, min(len(data), length) - 1)))
        new = draw(
            st.sampled_from([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0"]) | st.binary(max_size=4)
        )
        data[at : at + len(new)] = new
    if draw(st.integers(0, 4)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    if draw(st.integers(0, 9)) == 0:
        data += draw(st.sampled_from(seeds))
    return bytes(data)


class Watch:
    """Calls one reader, checks its errors and its time, and counts."""

    def __init__(self, name: str, allowed: tuple[type[Exception], ...]) -> None:
        self.name, self.allowed, self.slowest_s, self.most_mb = name, allowed, 0.0, 0
        self.errors: collections.Counter[str] = collections.Counter()
        self.inputs = 0

    def __call__(self, size: int, read: Callable[[], None]) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from what is in use now
        before_mb, start_s, self.inputs = peak_mb(), time.process_time(), self.inputs + 1
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        try:
            read()
        except self.allowed as error:
            self.errors[type(error).__name__] += 1
        finally:
            faulthandler.cancel_dump_traceback_later()
        seconds = time.process_time() - start_s
        self.slowest_s = max(self.slowest_s, seconds / max(1.0, size / 100_000))
        if seconds > LIMIT_S * max(1.0, size / 100_000):
            raise TimeoutError(f"{seconds:.1f} s for {size:,} bytes")
        self.most_mb = max(self.most_mb, IMPORTS_MB + peak_mb() - before_mb)
        if self.most_mb > LIMIT_MB:
            raise MemoryError(f"{self.most_mb} MB")


def peak_mb() -> int:
    """The most memory that this process has taken since the last input, in MB."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) // 1024


IMPORTS_MB = peak_mb()


def targets(folder: Path) -> dict[str, tuple[tuple[type[Exception], ...], st.SearchStrategy, Callable]]:
    """By name: the documented errors of a reader, its inputs, and the reader."""
    seeds = media_seeds(folder)
    read_reply(reply())  # imports what is imported late
    lines = st.tuples(st.lists(row_texts | any_text, max_size=8), st.booleans())
    vstar_items = changed(item) | changed(predictions).map(lambda results: item() | results)
    replies = changed(reply) | values
    return {
        "rows": ((SchemaError,), lines, lambda value: read_rows(*value, folder)),
        "evidence": ((), any_text, read_evidence),
        "V-STAR": ((SchemaError,), vstar_items, lambda value: read_predictions(value, folder)),
        "replies": ((AnnotationError, annotation_clients.ServiceUnavailable), replies, read_reply),
        "annotations": ((AnnotationError,), any_text | changed(valid_annotation).map(json.dumps), read_annotation),
        "media": ((video.VideoError,), damaged(seeds), lambda value: read_medium(value, folder, "medium.bin")),
    }


def fuzz(name: str, watch: Watch, inputs: st.SearchStrategy, read: Callable, seconds: float, number: int) -> str | None:
    """Draws inputs for some seconds. Returns the first failure with its input, or None."""
    end_s, round_number, failure = time.monotonic() + seconds, 0, [None]

    def once(value: object) -> None:
        if time.monotonic() > end_s:
            return
        size = len(value) if isinstance(value, str | bytes) else len(repr(value))
        failure[0] = value
        watch(size, lambda: read(value))
        failure[0] = None

    while time.monotonic() < end_s:
        round_number += 1
        gc.collect()
        options = settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        try:
            seed(1_000_003 * number + round_number)(options(given(inputs)(lambda value: once(value))))()
        except Exception as error:
            shown = failure[0]
            shown = base64.b64encode(shown).decode() if isinstance(shown, bytes) else repr(shown)
            return f"{type(error).__name__}: {error!s:.300}\n  input of {name}: {shown:.3000}"
    return None


def main() -> int:
    """Fuzzes all readers, each for its share of the time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one reader: rows, evidence, V-STAR, replies, annotations or media")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    av.logging.set_level(av.logging.PANIC)
    decord.logging.set_level(decord.logging.QUIET)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        chosen = {name: parts for name, parts in targets(Path(folder)).items() if options.only in (None, name)}
        for name, (allowed, inputs, read) in chosen.items():
            watch = Watch(name, allowed)
            failure = fuzz(name, watch, inputs, read, 60 * options.minutes / len(chosen), options.seed)
            errors = ", ".join(f"{kind} {count}" for kind, count in watch.errors.most_common()) or "none"
            line = f"{name}: {watch.inputs} inputs, documented errors: {errors}"
            print(f"{line}; slowest {watch.slowest_s:.2f} s per 100 kB; memory {watch.most_mb} MB", flush=True)
            if failure:
                failures += 1
                print(f"FAILED {failure}", flush=True)
    print("no failure" if not failures else f"{failures} readers failed")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
