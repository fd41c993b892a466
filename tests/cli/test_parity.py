"""The command `o3v parity`: what is missing is said before a model is loaded; the exit code is the verdict."""

import pytest
from helpers.parity_files import checkpoint, exchange, row, write_engine

from o3v.__main__ import main
from o3v.planning import parity


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.delenv("O3V_DATA", raising=False)
    return checkpoint(tmp_path / "model")


def test_what_is_missing_is_said_first(model, tmp_path, capsys):
    assert main(["parity", str(tmp_path / "nowhere")]) == 2
    assert "nowhere is no folder with a model's weights" in capsys.readouterr().err
    assert main(["parity", str(model)]) == 2
    assert "name the data root with the prompts: --data ROOT, or O3V_DATA" in capsys.readouterr().err
    assert main(["parity", str(model), "--data", str(tmp_path)]) == 2
    assert "has neither json_data/STGR-RL.json" in capsys.readouterr().err
    assert main(["parity", str(model), "--only", "compare"]) == 2
    assert "cases.json is missing; run `o3v parity`" in capsys.readouterr().err
    assert not parity.folder_of(model).exists()


def test_the_exit_code_is_the_verdict_and_the_table_is_printed(model, capsys):
    folder = exchange(model)
    assert main(["parity", str(model), "--only", "compare"]) == 0
    text = capsys.readouterr().out
    assert "vllm 0 in float32 against transformers, 5 prompts" in text and "the engines agree" in text
    assert all(name in text for name in ("token ids", "image grids", "greedy tokens", "log-probabilities, by token"))
    write_engine(folder, [row(number, input_ids=[1]) for number in range(5)])
    assert main(["parity", str(model), "--only", "compare"]) == 1
    text = capsys.readouterr().out
    assert "differs: case 0: token ids differ" in text and "the engines DIFFER" in text
