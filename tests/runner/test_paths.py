"""Tests of paths as shown to people. `root` stands for the repository."""

import pytest

from o3v.runner import paths


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    monkeypatch.setattr(paths, "REPOSITORY", folder)
    return folder


def test_paths_outside_of_the_repository_and_the_working_directory_stay_absolute(root):
    assert paths.display_path(root.parent / "runs") == str(root.parent / "runs")
    assert paths.path_from(root / "notebooks", root.parent / "runs") == str(root.parent / "runs")
    assert paths.path_from(root.parent / "notebooks", root / "runs") == str(root / "runs")


def test_paths_below_the_repository_or_the_working_directory_are_relative(root, tmp_path, monkeypatch):
    assert paths.display_path(root / "runs/tiny-0") == "runs/tiny-0"
    assert paths.path_from(root / "notebooks", root / "runs/tiny-0") == "../runs/tiny-0"
    monkeypatch.chdir(tmp_path)
    assert paths.display_path(tmp_path / "here/a.html") == "here/a.html"
    assert paths.display_path(root / "runs") == "runs"


def test_the_path_of_the_repository_is_removed_from_a_text_but_not_from_similar_paths(root):
    text = f"{root}/runs/a.mp4, \\n{root}/b in {root}. Not {root}-2/c, {root.parent}/d"
    assert paths.hide_repository(text) == f"runs/a.mp4, \\nb in .. Not {root}-2/c, {root.parent}/d"


def test_a_repository_at_the_root_of_the_file_system_changes_no_text(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "REPOSITORY", type(tmp_path)("/"))
    assert paths.hide_repository("https://a.org/b /c/d") == "https://a.org/b /c/d"
