"""Tests of the table of cells."""

import pytest

from o3v.ablations import cells
from o3v.ablations.cells import CELLS
from o3v.config import load_profile


def test_an_unknown_cell_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="no such cell: gsppo; known are sft, sft_gspo"):
        cells.chosen_cells(["sft", "gsppo"])


def test_a_profile_without_sizes_is_named():
    with pytest.raises(ValueError, match="'full'; they run with tiny, smoke"):
        cells.sizes_of("full")


def test_a_change_of_a_field_that_does_not_exist_is_an_error():
    wrong = cells.Cell("wrong", cells.COLD_START, "gspo", {"gspo.epsilom": 0.1})
    with pytest.raises(TypeError, match="epsilom"):
        cells.settings_of(wrong, load_profile("tiny"))


def test_a_chosen_cell_comes_with_the_cells_that_it_starts_from_and_after_them():
    assert [cell.name for cell in cells.chosen_cells(["voting", "data_none"])] == [
        "sft_gspo",
        "voting",
        "sft_without_own",
        "data_none",
    ]
    names = list(CELLS)
    assert names == [cell.name for cell in cells.chosen_cells()]
    for cell in CELLS.values():
        assert cell.start in (cells.BASE, cells.COLD_START) or names.index(cell.start) < names.index(cell.name)


def test_which_cells_saw_the_whole_cold_start():
    assert cells.from_base(CELLS["data_none"]) and cells.from_base(CELLS["base"])
    assert not cells.from_base(CELLS["voting"]) and not cells.from_base(CELLS["longer_sft"])
    assert cells.is_start(CELLS["sft_gspo"]) and not cells.is_start(CELLS["sft"])


@pytest.mark.parametrize("cell", CELLS.values(), ids=lambda cell: cell.name)
def test_a_cell_changes_what_it_names_and_nothing_else(cell):
    profile = load_profile("tiny")
    settings, reward = cells.settings_of(cell, profile)
    plain, paper = cells.settings_of(cells.Cell("plain", cells.COLD_START, reading=cell.reading), profile)
    parts = {"gspo": (settings.gspo, plain.gspo), "reward": (reward, paper)}
    for part, (own, other) in parts.items():
        expected = {name.split(".")[1]: value for name, value in cell.changes.items() if name.startswith(part)}
        assert vars(own) == {**vars(other), **expected}
    assert not cell.changes or (settings.gspo, reward) != (plain.gspo, paper)
    assert settings.gspo.max_steps % settings.gspo.cycle == 0  # the last sampling is used up
