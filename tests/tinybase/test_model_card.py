"""The model card: measured numbers and whether they reach the required values."""

import pytest

from o3v import files
from o3v.evaluation.bootstrap import MeanWithInterval
from o3v.tinybase import model_card

GOOD = MeanWithInterval(0.96, 0.94, 0.98, 500, {"red": (0.9, 200), "blue": (1.0, 300)})
BAD = MeanWithInterval(0.30, 0.25, 0.35, 500, {})


@pytest.mark.parametrize(
    ("name", "value", "reached"),
    [
        ("crop yes/no, accuracy", 0.949, False),
        ("crop yes/no, accuracy", 0.95, True),
        ("format reward", 0.051, False),
        ("format reward", 0.05, True),
    ],
)
def test_a_required_value_includes_its_bound(name, value, reached):
    assert model_card.reached(name, value) is reached


def test_the_table_shows_which_values_are_reached():
    rows = model_card.table({"crop yes/no, accuracy": GOOD, "what/which, accuracy": BAD, "four options, accuracy": BAD})
    assert rows["reached"].tolist() == ["yes", "no", ""]
    assert rows.loc["what/which, accuracy", "95% interval"] == "0.250–0.350"


def test_the_page_has_the_numbers_and_the_hash_of_the_weights(tmp_path):
    (tmp_path / model_card.WEIGHTS).write_bytes(b"weights")
    model_card.write(tmp_path, {"crop yes/no, accuracy": GOOD}, {}, {"parameters": 2_800_832, "command": "papermill x"})
    page, numbers = (tmp_path / "README.md").read_text(), files.read_json(tmp_path / model_card.METRICS)
    assert "2.8 million" in page and "| command | papermill x |" in page
    assert "| crop yes/no, accuracy | 0.960 | 0.940–0.980 | 500 | at least 0.95 | yes |" in page
    assert page.index("| red | 0.9 |") < page.index("| blue | 1.0 |")  # hardest first
    sha256 = numbers["made"]["weights, sha256"]
    assert sha256 == files.hash_path(tmp_path / model_card.WEIGHTS) and sha256 in page
