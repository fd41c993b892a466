"""GSPO with rollouts by a server: what it is sent, the weights it loads, and what is refused before training."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
from helpers.world import builder_of
from safetensors.torch import load_file

from o3v import files, models, training
from o3v.config import GspoConfig
from o3v.planning import parity
from o3v.training import gspo, rollout_server
from o3v.training.trainer import TrainingRun

CONFIG = GspoConfig(
    max_steps=2,
    prompts_per_step=2,
    num_generations=2,
    per_device_batch_size=4,
    learning_rate=1e-3,
    beta=0.0,
    max_new_tokens=4,
    save_steps=2,
)


class Vllm(ThreadingHTTPServer):
    """The addresses of a vLLM server that TRL 1.16 uses. Every completion is `tokens`."""

    daemon_threads = True

    def __init__(self, tokens=(40, 41, 42), mode="raw_logprobs"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tokens, self.mode, self.posts, self.loaded = tokens, mode, [], []
        self.by_id = self.busy = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        config = {"vllm_config": {"model_config": {"logprobs_mode": self.server.mode}}}
        replies = {"/health": {}, "/v1/models": {"data": [{"id": "served"}]}, "/server_info": config}
        self.reply(replies[self.path.partition("?")[0]])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        self.server.posts.append((self.path, body))
        if self.path == "/collective_rpc":
            self.server.loaded.append(load_file(f"{body['kwargs']['weights_path']}/model.safetensors"))
            return self.reply({"results": [None]})
        if self.path.endswith("/render"):
            count = len(body["messages"][0]["content"])
            return self.reply({"features": {"mm_placeholders": {"image": [{"offset": 0, "length": 1}] * count}}})
        if self.path == "/inference/v1/generate":
            name = (lambda t: {"token_id": t}) if self.server.by_id else (lambda t: {"token": f"token_id:{t}"})
            content = [{**name(t), "logprob": -1.0, "top_logprobs": []} for t in self.server.tokens]
            choice = {"token_ids": list(self.server.tokens), "logprobs": {"content": content}}
            return self.reply({"choices": [choice] * body["sampling_params"]["n"]})
        return self.reply({"success": not self.server.busy})


@pytest.fixture
def vllm(monkeypatch):
    """A server whose log-probabilities are all −1; the guard that compares them has a test of its own."""
    wide = parity.Tolerance(mean=100.0, most=100.0, tie=0.0)
    monkeypatch.setitem(parity.TOLERANCES, "float32", wide)
    server = Vllm()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def start(twin, tmp_path):
    """A saved checkpoint, loaded again, as notebook 03 does."""
    models.save(twin, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def record(start, passed=True):
    found = {"passed": passed, "model_files": parity.model_files(start), "engine": "vllm 0", "cases": 20}
    files.write_json(parity.folder_of(start) / parity.RECORD, found | {"differences": [] if passed else ["no"]})


def make(start, examples, world, out, url):
    config = CONFIG.__class__(**{**CONFIG.__dict__, "rollout_server": url})
    return gspo.make_trainer(models.load(start), examples, builder_of(world), config, TrainingRun(out, seed=1))


def test_training_is_refused_without_parity_of_exactly_this_checkpoint(start, rl_examples, world, tmp_path, vllm):
    with pytest.raises(parity.NoParity, match="no parity record"):
        make(start, rl_examples, world, tmp_path / "run", vllm.url)
    record(start, passed=False)
    with pytest.raises(parity.NoParity, match="the engines differ"):
        make(start, rl_examples, world, tmp_path / "run", vllm.url)
    record(start)
    (start / "preprocessor_config.json").write_text(
        (start / "preprocessor_config.json").read_text(encoding="utf-8").replace("0.", "0.9"), encoding="utf-8"
    )
    with pytest.raises(parity.NoParity, match=r"preprocessor_config\.json changed"):
        make(start, rl_examples, world, tmp_path / "run", vllm.url)
    assert vllm.posts == []


def test_a_server_that_is_absent_or_started_otherwise_is_refused(start, rl_examples, world, tmp_path, vllm):
    record(start)
    with pytest.raises(ValueError, match="endpoint"):
        make(start, rl_examples, world, tmp_path / "run", "localhost:8000")
    with pytest.raises(ConnectionError, match=r"no vLLM server answers at http://127\.0\.0\.1:9; docs/full\.md"):
        rollout_server.RolloutClient("http://127.0.0.1:9", tmp_path)
    vllm.mode = "processed_logprobs"
    with pytest.raises(ValueError, match="restart it with --logprobs-mode raw_logprobs"):
        make(start, rl_examples, world, tmp_path / "run", vllm.url)


@pytest.mark.parametrize("difference", [0.011, float("nan")])
def test_a_server_with_other_weights_ends_the_training(difference):
    guard, state = rollout_server.StopWithoutParity(0.01), SimpleNamespace(global_step=5)
    guard.on_log(None, state, None, {"reward": 1.0, rollout_server.DIFFERENCE: 0.009})
    guard.on_log(None, state, None, {"loss": 1.0})  # a step without sampling
    with pytest.raises(parity.NoParity, match="step 5: the log-probabilities of the vLLM server differ by"):
        guard.on_log(None, state, None, {rollout_server.DIFFERENCE: difference})


def test_a_server_that_keeps_what_old_weights_computed_ends_the_run(tmp_path, vllm):
    vllm.busy = True
    with pytest.raises(RuntimeError, match="keeps its prefix cache while it answers others"):
        rollout_server.RolloutClient(vllm.url, tmp_path).reset_prefix_cache()


@pytest.mark.parametrize("by_id", [False, True], ids=["0.31", "0.32"])
def test_both_ways_to_name_tokens_are_read(tmp_path, vllm, by_id):
    vllm.by_id = by_id
    found = rollout_server.RolloutClient(vllm.url, tmp_path).generate([[5, 6]], features=[None], n=2)
    assert found["completion_ids"] == [[40, 41, 42]] * 2
    assert found["logprob_token_ids"] == [[[40], [41], [42]]] * 2 and found["logprobs"][0][0] == [-1.0]


def test_a_server_samples_from_the_weights_of_each_step(start, rl_examples, world, tmp_path, vllm):
    record(start)
    trainer = make(start, rl_examples, world, tmp_path / "run", vllm.url)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    rows = training.train(trainer)
    assert len(rows) == 2 and all(row["staleness"] == 0 for row in rows)
    first, second = vllm.loaded  # before each step; the weights after the last one are never sampled from
    assert first.keys() == before.keys()
    assert all(torch.equal(first[name], before[name]) for name in before)
    assert any(not torch.equal(first[name], second[name]) for name in before)
    sent = [body for path, body in vllm.posts if path == "/inference/v1/generate"]
    assert len(sent) == 4  # two prompts a step, each with two completions
    banned = trainer.processing_class.tokenizer.convert_tokens_to_ids(list(models.VISION_TOKENS))
    image = trainer.model.config.image_token_id
    for body in sent:
        sampling = body["sampling_params"]
        assert (sampling["n"], sampling["max_tokens"], sampling["repetition_penalty"]) == (2, 4, 1.0)
        assert (sampling["temperature"], sampling["top_p"]) == (CONFIG.temperature, CONFIG.top_p)
        assert sampling["logit_bias"] == {str(token): -100.0 for token in banned}
        places = body["features"]["mm_placeholders"]["image"]
        assert all(body["token_ids"][p["offset"]] == image for p in places)
        assert sum(p["length"] for p in places) == body["token_ids"].count(image)
    pictures = [body for path, body in vllm.posts if path.endswith("/render")]
    url = pictures[0]["messages"][0]["content"][0]["image_url"]["url"]
    assert base64.b64decode(url.partition(",")[2]).startswith(b"\x89PNG")
    paths = [path for path, _ in vllm.posts if not path.endswith(("generate", "render"))]
    assert paths == ["/collective_rpc", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache"] * 2
    saved = [file.name for file in (tmp_path / "run/rollout_weights").iterdir()]
    assert saved == ["model.safetensors"]
