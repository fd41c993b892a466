"""No data becomes code: pickles, code of a hub, and ports that run what they receive."""

import json
import os
import pickle
import subprocess
import sys

import pytest
from helpers.outside import evidence_row, write_rows

from o3v.__main__ import main


class Payload:
    """Creates the file `hacked` when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("hacked",)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_pickle_as_weights_is_never_loaded(here, twin):
    from o3v import models

    models.save(twin, here / "model")
    (here / "model/model.safetensors").unlink()
    (here / "model/pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(Exception, match=r"(?i)weights_only|unpickl|pickle|safetensors"):
        models.load(here / "model")
    assert not (here / "hacked").exists()


def test_code_in_a_model_folder_is_never_run(here, twin):
    from o3v import models

    models.save(twin, here / "model")
    (here / "model/evil.py").write_text("import os; os.mkdir('hacked')\nclass Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        path = here / "model" / name
        if path.exists():
            settings = json.loads(path.read_text()) | {"auto_map": dict.fromkeys(AUTO, "evil.Evil")}
            path.write_text(json.dumps(settings))
    try:
        models.load(here / "model")
    except (ValueError, OSError) as error:
        assert "trust_remote_code" in str(error)
    assert not (here / "hacked").exists()


AUTO = ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoProcessor", "AutoImageProcessor")


def test_models_are_loaded_without_code_of_a_hub(monkeypatch):
    from o3v.models import vlm

    asked = []

    def from_pretrained(name, **options):
        asked.append(options)
        raise OSError(name)

    monkeypatch.setattr(vlm.AutoModelForImageTextToText, "from_pretrained", from_pretrained)
    with pytest.raises(OSError, match="some/model"):
        vlm.load("some/model")
    assert asked[0]["trust_remote_code"] is False


def test_ask_with_a_missing_folder_asks_no_hub(here, world, monkeypatch, capsys):
    """`models/mine` is also a valid name on the hub."""
    from o3v import models

    monkeypatch.setattr(models, "load", lambda name: pytest.fail(f"{name} is loaded"))
    video = next((world / "videos").rglob("*.mp4"))
    assert main(["ask", str(video), "What?", "--model", "models/mine", "--profile", "smoke"]) == 2
    assert "models/mine is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "part.parquet"])
def test_a_pickle_as_rows_is_never_loaded(here, name):
    (here / name).write_bytes(pickle.dumps(Payload()))
    for arguments in (["sift", name, "out"], ["score", name], ["check-data", ".", name]):
        assert main(arguments) == 2
    assert not (here / "hacked").exists()


PORTS = """
import psutil, sys
from o3v.data import sharding
from o3v.data.filters import MODEL_FREE_STAGES
def listening():
    connections = psutil.net_connections("tcp")
    return {(c.laddr.ip, c.laddr.port) for c in connections if c.status == "LISTEN" and c.pid in family()}
def family():
    found = psutil.process_iter(["cmdline"])  # None for a process that has ended
    ray = [p.pid for p in found if any("/ray/" in part or "ray::" in part for part in p.info["cmdline"] or [])]
    return {*ray, psutil.Process().pid}
before = listening()
if __name__ == "__main__":
    shards = sharding.split_into_shards(sys.argv[1], sys.argv[2] + "/in")
    results = sharding.filter_shards(shards, sys.argv[2] + "/out", MODEL_FREE_STAGES, "ray", 1)
    print(results[0]["kept"], *sorted({ip for ip, _ in listening() - before}))
"""


@pytest.mark.timeout(120)
def test_ray_listens_on_this_machine_only(tmp_path):
    """Its ports run what they receive, and were open to the network."""
    source = write_rows(tmp_path / "rows.json", [evidence_row("a")])
    (tmp_path / "ports.py").write_text(PORTS)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, str(tmp_path / "ports.py"), str(source), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2_000:]
    kept, *addresses = done.stdout.strip().splitlines()[-1].split()
    assert kept == "1" and addresses
    assert all(address in ("127.0.0.1", "::1", "::ffff:127.0.0.1") for address in addresses)
