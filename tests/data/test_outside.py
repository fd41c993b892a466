"""Rows from users: each is accepted, or refused with its number, id, field and reason, and the others are kept."""

import json

import numpy as np
import pytest
from helpers.annotation_server import ANNOTATION, Server
from helpers.clips import encode
from PIL import Image

from o3v.__main__ import main
from o3v.config import load_profile
from o3v.data import annotation, stgr
from o3v.data.check import check_file, good_rows
from o3v.data.export import FORMATS, export_rows
from o3v.prompts import PromptBuilder, target_text
from o3v.rewards import score_completion
from o3v.schema import Example

BOX = "<obj>square</obj><box>[160,120,320,240]</box>"
KEY = {"key_frames": [{"idx": 10, "time": 1.0, "path": None}], "key_items": {"10": {"cup": [[0.1, 0.1, 0.3, 0.4]]}}}
CHAIN = "The <obj>cup</obj><box>[0.1,0.1,0.3,0.4]</box>at<t>1.0</t>s is held."


def row(row_id, **change):
    base = {"id": row_id, "source": "STR_didemo", "question": "When?", "video_path": "a.mp4", "image_path": None}
    return base | {"task": "temporal QA", "answer": "[1.0, 3.0]", "reasoning_process": "at <t>2.0</t>s", **change}


def image_row(row_id, path, size, box=BOX):
    where = {"video_path": None, "image_path": path, "image_size": size, "reasoning_process": f"A {box}."}
    return row(row_id, task="visual QA", source="TreeVGR", question="Where is the square?", answer=box, **where)


def mcq(row_id, answer, **change):
    return row(row_id, task="General video QA MCQ", source="videor1_mcq", answer=answer, **change)


def evidence(row_id, **change):
    task = {"task": "temporal-spatial free-form QA", "answer": "a cup", "reasoning_process": CHAIN}
    return row(row_id, **task | KEY | change)


GOOD_ROWS = [
    row("good"),
    row("dash", answer="1.0-3.0"),
    row("grammar", answer="From <t>1.0</t>s to <t>3.0</t>s"),
    row("temporal letter", task="temporal QA (MCQ)", source="timerft", answer="(b)\n[1.0, 3.0]"),
    mcq("letter and text", "B. the red car"),
    mcq("letter and abbreviation", "(B) U.S. Army"),
    mcq("lower case", "b"),
    mcq("tagged answer", "<answer>B</answer>"),
    mcq("media mark", "B", question="<video>\nWhich? A. x B. y"),
    mcq("line separators", "B", question="It reads\u2028'OPEN'\x85. Which? A. x B. y"),
    evidence("wrapped chain", reasoning_process=f"<think>{CHAIN}</think>"),
    image_row("same size", "whole.jpg", [320, 240]),
    image_row("shares", "whole.jpg", [320, 240], BOX.replace("160,120,320,240", "0.5,0.5,1,1")),
    image_row("smaller copy", "whole.jpg", [640, 480], BOX.replace("160,120,320,240", "320,240,640,480")),
    image_row("16 bit", "grey.png", [320, 240]),
]
BAD_ROWS = {  # by id: the row, and what its line says
    "inverted": (row("inverted", answer="[8.0, 7.0]"), "field 'answer'"),
    "negative": (row("negative", answer="[-1.0, 5]"), "field 'answer'"),
    "empty": (row("empty", answer="[2.0, 2.0]"), "field 'answer'"),
    "two spans": (row("two spans", answer="[[1.0, 3.0], [5.0, 6.0]]"), "field 'answer'"),
    "bad number": (row("bad number", answer="[1.2.3, 4.0]"), "field 'answer'"),
    "two lines": (row("two lines", answer="[1.0, 3.0]\n[5.0, 6.0]"), "field 'answer'"),
    "two forms": (row("two forms", answer="1.0-3.0 [5, 6]"), "field 'answer'"),
    "endless": (row("endless", answer=f"[1, {'9' * 400}]"), "field 'answer'"),
    "beyond": (row("beyond", answer="[1.0, 99.0]"), "99 s in a.mp4"),
    "after the end": (row("after the end", answer="[10.2, 10.8]"), "10.8 s in a.mp4"),
    "no letter": (mcq("no letter", "the red car"), "field 'answer'"),
    "two letters": (mcq("two letters", "(A), (C)"), "field 'answer'"),
    "letters below": (mcq("letters below", "A. x\nC. z"), "field 'answer'"),
    "abbreviation": (mcq("abbreviation", "U.S. Army"), "field 'answer'"),
    "cut emoji": (mcq("cut emoji", "B", question="Which \ud83d?"), "field 'question'"),
    "long number": (
        evidence("long number", key_items={"10": {"cup": [[0, 0, 10**400, 1]]}}),
        "field 'key_items.10.cup'",
    ),
    "long time": (evidence("long time", key_frames=[{"idx": 10, "time": 10**400}]), "field 'key_frames[0]'"),
    "true time": (evidence("true time", key_frames=[{"idx": 10, "time": True}]), "field 'key_frames[0]'"),
    "long path": (row("long path", video_path="x" * 300 + ".mp4"), "does not exist"),
    "pixels": (evidence("pixels", reasoning_process=CHAIN.replace("0.1,0.1,0.3,0.4", "16,8,50,30")), "which needs 0–1"),
    "digits": (evidence("digits", reasoning_process=CHAIN.replace("0.3,0.4", "9" * 308 + ",1")), "which needs 0–1"),
    "exponent": (
        image_row("exponent", "whole.jpg", [320, 240], BOX + BOX.replace("160", "1.6e2")),
        "four plain numbers",
    ),
    "image as video": (row("image as video", video_path="whole.jpg"), "whole.jpg cannot be read"),
    "video as image": (image_row("video as image", "a.mp4", [176, 96]), "a.mp4 cannot be read"),
    "open tag": (evidence("open tag", reasoning_process=f"So </think> {CHAIN}"), "field 'reasoning_process'"),
    "special": (mcq("special", "B", question="Which?<|im_end|>"), "field 'question'"),
    "turned": (image_row("turned", "turned.jpg", [320, 240]), "image_size is 320×240, but turned.jpg is 240×320"),
    "cut": (image_row("cut", "cut.jpg", [320, 240]), "cut.jpg cannot be read"),
    "late key": (evidence("late key", **{"key_frames": [{"idx": 10, "time": 999.0}]}), "999 s in a.mp4"),
    "missing": (row("missing", video_path="b.mp4"), "b.mp4 does not exist"),
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    encode(folder / "a.mp4", 100)
    pixels = np.full((240, 320, 3), 200, np.uint8)
    pixels[120:, 160:] = [200, 0, 0]
    exif = Image.Exif()
    exif[0x112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(folder / "whole.jpg")
    Image.fromarray(pixels).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.tile(np.linspace(0, 65_535, 320).astype(np.uint16), (240, 1))).save(folder / "grey.png")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:1_500])
    rows = [*GOOD_ROWS, *(bad for bad, _ in BAD_ROWS.values())]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    return folder


def test_check_data_names_each_bad_row_and_keeps_every_good_one(root, monkeypatch):
    monkeypatch.setattr("o3v.data.check.MAX_CASES", 99)
    coverage = check_file(root, root / "rows.json", workers=1)
    cases = [case for found in coverage.cases.values() for case in found]
    for row_id, (_, reason) in BAD_ROWS.items():
        assert any(f"({row_id})" in case and reason in case for case in cases), f"{row_id}: {cases}"
    assert [e.id for e in good_rows(root / "rows.json", coverage)] == [r["id"] for r in GOOD_ROWS]


def test_the_command_ends_with_1_and_writes_the_good_rows(root, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["check-data", str(root), "--out", str(out), "--workers", "1"]) == 1
    assert len(json.loads((out / "rows.json").read_text(encoding="utf-8"))) == len(GOOD_ROWS)
    assert main(["check-data", str(root), "--allow-missing", "--workers", "1"]) == 0
    assert "image size" in capsys.readouterr().out


def test_the_target_of_every_good_row_earns_the_full_reward(root):
    """Every term is above 0.9. It can be below 1, because boxes are written in whole pixels."""
    builder = PromptBuilder(root, load_profile("tiny").frames, "pixels")
    coverage = check_file(root, root / "rows.json", workers=1)
    for example in good_rows(root / "rows.json", coverage):
        prompt = builder.for_example(example, training=True)
        scores = score_completion(target_text(example, prompt.space_wh), prompt.row, progress=1.0)
        for term, value in scores.items():
            assert value is None or term == "total" or value > 0.9, f"{example.id}: {term} {value}"


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_exports_hold_one_mark_for_each_medium_and_no_special_token(root, name):
    coverage = check_file(root, root / "rows.json", workers=1)
    for line in export_rows(good_rows(root / "rows.json", coverage), name):
        text = json.dumps(line, ensure_ascii=False)
        assert text.count("<image>") + text.count("<video>") == (0 if name == "trl" else 1)
        assert "<|im_end|>" not in text


def test_exports_of_rows_without_reasoning_use_the_grammar_and_thousandths(root):
    question = "Is <box>[160,120,320,240]</box> red?"
    image = image_row("image", "whole.jpg", [320, 240]) | {"reasoning_process": None, "question": question}
    rows = [image, row("span", reasoning_process=None), mcq("letter", "(b) a car", reasoning_process=None)]
    texts = [
        line["messages"][1]["content"] + "|" + line["messages"][2]["content"]
        for line in export_rows(map(Example.from_row, rows), "swift")
    ]
    assert texts[0] == "<image>Is [500,500,1000,1000] red?|<obj>square</obj><box>[500,500,1000,1000]</box>"
    assert texts[1].endswith("|From <t>1.0</t>s to <t>3.0</t>s")
    assert texts[2].endswith("|B")


BROKEN = {
    "quote": json.dumps(evidence("x")).replace("is held", 'is "held"'),
    "tab": json.dumps(evidence("x")).replace("is held", "is\theld"),
    "comma": json.dumps(evidence("x")).replace(", ", " ", 1),
    "digits": json.dumps(evidence("x")).replace(": 1.0", ": " + "9" * 5_000),
    "depth": json.dumps(evidence("x"))[:-1] + ', "more": ' + "[" * 5_000 + "]" * 5_000 + "}",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("lines", [False, True])
def test_a_broken_row_is_the_only_one_lost(tmp_path, name, lines):
    """The broken row has several key frames, which must not be taken for rows."""
    frames = ', {"idx": 20, "time": 2.0, "path": null}, {"idx": 30, "time": 3.0, "path": null}]'
    texts = [
        json.dumps(row("a")),
        BROKEN[name].replace("null}]", "null}" + frames),
        *(json.dumps(row(i)) for i in "bcd"),
    ]
    path = tmp_path / "rows.json"
    path.write_text("\n".join(texts) if lines else "[" + ",\n".join(texts) + "]", encoding="utf-8")
    found = list(stgr.read_stgr(path))
    assert [e.id for e in found if isinstance(e, Example)] == ["a", "b", "c", "d"]
    assert [e.number for e in found if not isinstance(e, Example)] == [2]


@pytest.mark.parametrize("rest", ['[{"id": "b"}]', "xxxx", '{"id": "b"}'])
def test_text_after_the_list_is_a_bad_row(tmp_path, rest):
    (tmp_path / "rows.json").write_text(json.dumps([row("a")]) + "\n" + rest)
    found = list(stgr.read_stgr(tmp_path / "rows.json"))
    assert found[0].id == "a" and "one list" in found[1].reason and len(found) == 2


def test_outputs_of_files_with_one_name_do_not_replace_each_other(root, tmp_path, capsys):
    (root / "rows.jsonl").write_text(json.dumps(row("a")))
    assert main(["check-data", str(root), "--out", str(tmp_path / "out"), "--workers", "1"]) == 2
    assert "same name" in capsys.readouterr().err


def test_a_file_of_another_kind_does_not_end_the_check(root, capsys):
    (root / "a-list.jsonl").write_text("null\n")
    assert main(["check-data", str(root), "--workers", "1"]) == 1
    out = capsys.readouterr().out
    assert "a-list.jsonl: expected" in out and "image size" in out


def test_score_leaves_out_each_line_that_it_cannot_score(tmp_path, capsys):
    good = {"completion": "<think>a</think><answer>B</answer>", "row": mcq("a", "<answer>B</answer>")}
    sizes = {"image_size": [0, 0], "image_size_refine": [0, 0]}
    zero = {"completion": f"<think>a</think><answer>{BOX}</answer>", "row": image_row("z", "a", [0, 0]) | sizes}
    late = {"completion": CHAIN, "row": evidence("n", key_frames=[{"idx": 10, "time": float("nan")}])}
    late["completion"] = f"<think>{CHAIN}</think><answer>a cup</answer>"
    path = tmp_path / "completions.jsonl"
    path.write_bytes(
        b"\n".join([*(json.dumps(line).encode() for line in (good, zero, late)), b'{"completion": "\xe9"}'])
    )
    assert main(["score", str(path), "--out", str(tmp_path / "terms.jsonl")]) == 1
    assert "General video QA MCQ  1" in capsys.readouterr().out
    assert len((tmp_path / "terms.jsonl").read_text().splitlines()) == 1


def test_a_byte_order_mark_is_skipped(root):
    for name, text in (("list.json", json.dumps([row("a")])), ("lines.jsonl", json.dumps(row("a")) + "\r\n")):
        (root / name).write_text(text, encoding="utf-8-sig")
        assert [e.id for e in stgr.read_stgr(root / name)] == ["a"]


def test_sift_continues_after_bad_rows(root, tmp_path, capsys):
    assert main(["sift", str(root / "rows.json"), str(tmp_path / "out"), "--workers", "1"]) == 0
    kept = [e.id for e in stgr.read_stgr(tmp_path / "out" / "kept.json")]
    assert set(kept) >= {r["id"] for r in GOOD_ROWS}
    faults = (tmp_path / "out/in/faults.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert {"inverted", "no letter", "open tag", "special"} <= {json.loads(line)["id"] for line in faults}


def test_every_file_of_a_folder_is_an_item_or_is_listed(tmp_path):
    """Endings do not matter, and two files that differ only in the ending are two items."""
    for name, options in {
        "clip.mp4": {},
        "clip.mov": {},
        "b.m4v": {"mux_movflags": "faststart"},
        "sub/d.ts": {},
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        encode(tmp_path / name, 12, **options)
    (tmp_path / "clip.mp4").rename(tmp_path / "renamed.dat")
    encode(tmp_path / "clip.mp4", 12)
    (tmp_path / "notes.txt").write_text("no video")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    (tmp_path / ".half.mp4").write_bytes(b"x")
    items, errors = annotation.find_videos(tmp_path)
    assert [item.id for item in items] == ["b", "clip.mov", "clip.mp4", "renamed", "sub/d"]
    assert len({item.id for item in items}) == len(items)
    assert len(errors) == 2 and "notes.txt" in errors[0] and "photo.png" in errors[1]


WRAPPED = {
    "thinking": "<think>\nThe person holds {something}.\n</think>\n\n" + ANNOTATION,
    "prose": "Here it is:\n```json\n" + ANNOTATION + "\n```\nAnything else? {no}",
    "twice": '{"question": "draft"}\n' + ANNOTATION,
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_last_object_of_a_reply_is_the_annotation(name):
    assert annotation.parse_annotation(WRAPPED[name]) == json.loads(ANNOTATION)


@pytest.mark.parametrize("text", ["", "no object", "{" * 100_000, "[" * 100_000, '{"a": ' * 50_000, "x" * 2_000_000])
@pytest.mark.timeout(20)
def test_a_reply_without_an_annotation_is_refused_quickly(text):
    with pytest.raises(annotation.AnnotationError):
        annotation.parse_annotation(text)


def test_no_annotation_at_all_is_a_result_not_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    videos = tmp_path / "videos"
    videos.mkdir()
    encode(videos / "a.mp4", 12)
    server = Server(text="I see nothing. \ud83d")  # half of a surrogate pair can be stored
    endpoint = ["--annotator", "openai", "--model", "m", "--endpoint", f"{server.url}/v1", "--per-minute", "6000"]
    assert main(["annotate", str(videos), str(tmp_path / "out"), *endpoint]) == 0
    assert "no rows" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/kept.json").read_text()) == []
    assert "not JSON" in (tmp_path / "out/unread.jsonl").read_text()
