"""Outputs: never over an input, a device or a pipe; the mode of files; unfinished files of killed processes."""

import errno
import json
import os
import stat
import time
from pathlib import Path

import pytest
from helpers.outside import mcq_row, write_rows

from o3v import files
from o3v.__main__ import main
from o3v.data import stgr

SCORED = {"completion": "<think>a</think><answer>B</answer>", "row": mcq_row("a")}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    write_rows(folder / "STGR.json", [mcq_row("a"), mcq_row("b") | {"answer": "no letter"}])
    return folder


def test_check_data_does_not_write_over_its_input(root, capsys):
    before = (root / "STGR.json").read_bytes()
    for arguments in ([], ["--allow-missing"], ["--export", "trl"]):
        if arguments[-1:] == ["trl"]:
            (root / "STGR.trl.jsonl").symlink_to("STGR.json")  # the name of the export is a link to the input
        assert main(["check-data", str(root), "--out", str(root), "--workers", "1", *arguments]) == 2
        assert "would overwrite the input" in capsys.readouterr().err
    assert (root / "STGR.json").read_bytes() == before


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_score_does_not_write_over_its_input_by_any_name(tmp_path, link, capsys):
    source = tmp_path / "x.jsonl"
    source.write_text(json.dumps(SCORED), encoding="utf-8")
    output = tmp_path / "y.jsonl" if link else tmp_path / "sub/../x.jsonl"
    (tmp_path / "sub").mkdir()
    if link:
        link(source, output)
    assert main(["score", str(source), "--out", str(output)]) == 2
    error = capsys.readouterr().err
    assert "would overwrite the input" in error and error.count("\n") == 1
    assert json.loads(source.read_text(encoding="utf-8")) == SCORED


@pytest.mark.parametrize("name", ["kept.json", "audit.json", "in/rows.json", "out/rows.json"])
def test_sift_does_not_write_over_its_input(tmp_path, name, capsys):
    write_rows(tmp_path / name, [mcq_row("a")])
    before = (tmp_path / name).read_bytes()
    assert main(["sift", str(tmp_path / name), str(tmp_path)]) == 2
    assert "would overwrite the input" in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("out", ["videos", "videos/out"])
def test_annotate_does_not_write_into_its_folder_of_videos(tmp_path, out, capsys):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(b"x")
    assert main(["annotate", str(tmp_path / "videos"), str(tmp_path / out)]) == 2
    assert "would overwrite the input" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "videos").iterdir()] == ["a.mp4"]


def test_a_run_does_not_write_over_its_notebooks(tmp_path, capsys):
    from helpers.toy_notebooks import write_toys

    notebooks = write_toys(tmp_path / "smoke-0")
    before = (notebooks / "01_make.ipynb").read_bytes()
    assert main(["run", "--profile", "smoke", "--notebooks", str(notebooks), "--out", str(tmp_path)]) == 2
    assert "would overwrite its notebooks" in capsys.readouterr().err
    assert (notebooks / "01_make.ipynb").read_bytes() == before


def test_a_default_name_never_replaces_a_file(tmp_path):
    """`ask index.mp4` wrote over index.html."""
    assert files.free_path(tmp_path / "index.html") == tmp_path / "index.html"
    (tmp_path / "index.html").write_text("my page")
    (tmp_path / "index-2.html").symlink_to("nowhere")
    assert files.free_path(tmp_path / "index.html") == tmp_path / "index-3.html"


def test_ask_gives_each_page_a_name_of_its_own(tmp_path, twin, world, monkeypatch, capsys):
    from o3v import models

    models.save(twin, tmp_path / "model")
    source = next((world / "videos").rglob("*.mp4"))
    (tmp_path / "index.mp4").write_bytes(source.read_bytes())
    (tmp_path / "index.html").write_text("my page")
    monkeypatch.chdir(tmp_path)
    arguments = ["ask", "index.mp4", "What?", "--model", "model", "--profile", "smoke"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith("index-2.html\n")
    assert Path("index.html").read_text() == "my page" and "<figure" in Path("index-2.html").read_text(encoding="utf-8")
    monkeypatch.setattr(models, "load", lambda _: pytest.fail("the model is loaded before the names are checked"))
    for output in ("index.mp4", "model/config.json", "model"):
        assert main([*arguments, "--out", output]) == 2
        assert "would overwrite the input" in capsys.readouterr().err


@pytest.mark.timeout(20)
def test_a_device_or_pipe_is_never_replaced(tmp_path, capsys):
    source = tmp_path / "x.jsonl"
    source.write_text(json.dumps(SCORED), encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "null"):
        assert main(["score", str(source), "--out", str(tmp_path / name)]) == 2
        assert "is a device or pipe" in capsys.readouterr().err
        with pytest.raises(FileExistsError, match="device or pipe"):
            files.write_text(tmp_path / name, "x")
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode) and stat.S_ISCHR(os.stat(tmp_path / "null").st_mode)
    with pytest.raises(FileExistsError, match="a folder"):
        files.write_text(tmp_path, "x")


def test_a_link_stays_a_link_and_its_target_gets_the_text(tmp_path):
    (tmp_path / "link").symlink_to("sub/target.txt")
    (tmp_path / "sub").mkdir()
    for text in ("new", "newer"):
        files.write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "sub/target.txt").read_text() == text
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        files.write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").is_symlink()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_files_respect_the_umask_and_old_ones_keep_their_mode(tmp_path):
    old = os.umask(0o027)
    try:
        files.write_text(tmp_path / "new", "x")
        assert mode(tmp_path / "new") == 0o640
        for bits in (0o600, 0o444, 0o755):
            (tmp_path / "old").write_text("x") if bits == 0o600 else None
            (tmp_path / "old").chmod(bits)
            files.write_text(tmp_path / "old", "y")
            assert mode(tmp_path / "old") == bits
    finally:
        os.umask(old)


def test_what_is_made_from_a_private_file_is_private(root, tmp_path):
    (root / "STGR.json").chmod(0o600)
    source = tmp_path / "x.jsonl"
    source.write_text(json.dumps(SCORED), encoding="utf-8")
    source.chmod(0o640)
    out = tmp_path / "out"
    main(["check-data", str(root), "--out", str(out), "--workers", "1"])
    main(["sift", str(root / "STGR.json"), str(tmp_path / "sifted"), "--workers", "1"])
    main(["score", str(source), "--out", str(out / "terms.jsonl")])
    assert mode(out / "STGR.json") == 0o600 and mode(out / "terms.jsonl") == 0o640
    made = [path for path in (tmp_path / "sifted").rglob("*") if path.is_file()]
    assert len(made) >= 6 and not [path for path in made if mode(path) & 0o077]


def test_unfinished_files_of_a_killed_process_are_removed(root, tmp_path):
    """In a folder with a lock at once, beside a single output after an hour."""
    out = tmp_path / "out"
    (out / "out").mkdir(parents=True)
    for folder in (out, out / "out"):
        (folder / ".o3v-0123456789ab.json").write_text("half")
    assert main(["sift", str(root / "STGR.json"), str(out), "--workers", "1"]) == 0
    assert not list(out.rglob(".o3v-*"))
    fresh, stale = tmp_path / ".o3v-1.html", tmp_path / ".o3v-2.html"
    for path in (fresh, stale):
        path.write_text("half")
    os.utime(stale, (time.time() - 4_000,) * 2)
    files.sweep(tmp_path)
    assert fresh.exists() and not stale.exists()


def test_a_full_disk_leaves_no_half_file_and_the_next_run_goes_on(root, tmp_path, monkeypatch, capsys):
    arguments = ["sift", str(root / "STGR.json"), str(tmp_path / "out"), "--workers", "1"]
    real, left = os.replace, [3]

    def full(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert main(arguments) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob(".o3v-*")) and not (tmp_path / "out/kept.json").exists()
    assert main(arguments) == 0
    assert [e.id for e in stgr.read_stgr(tmp_path / "out/kept.json")] == ["a"]


@pytest.mark.timeout(20)
def test_a_pipe_among_the_files_of_a_root_is_named_and_costs_only_itself(root, capsys):
    os.mkfifo(root / "pipe.json")
    assert main(["check-data", str(root), "--workers", "1"]) == 1
    output = capsys.readouterr().out
    assert "pipe.json is a device or pipe" in output and "videor1_mcq" in output
    for arguments in (["sift", str(root / "pipe.json"), str(root / "o")], ["score", str(root / "pipe.json")]):
        assert main(arguments) == 2
        assert "is a device or pipe" in capsys.readouterr().err
    assert not (root / "o").exists()
