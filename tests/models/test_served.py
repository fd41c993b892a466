"""A model on a server: the request, the answers in order, and what goes wrong."""

import base64
import io
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from o3v import inference, models
from o3v.config import InferenceConfig
from o3v.http_json import RequestRefused, ServiceUnavailable
from o3v.inference import Question
from o3v.models.served import ServedModel
from o3v.prompts import plain_prompt

FRAMES = list(np.random.default_rng(0).integers(0, 256, (2, 56, 84, 3), dtype=np.uint8))


class Server(ThreadingHTTPServer):
    """Answers with the question and a number; with each of `faults` first (a status, or choices to send)."""

    daemon_threads = True

    def __init__(self, faults=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.bodies = list(faults), []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        fault = self.server.faults.pop(0) if self.server.faults else None
        user = next(message for message in body["messages"] if message["role"] == "user")
        texts = [f"{user['content'][-1]['text']} {number}" for number in range(body["n"])]
        choices = [{"message": {"content": text}} for text in texts] if fault is None else fault
        reply = json.dumps({"choices": choices}).encode()
        self.send_response(fault if isinstance(fault, int) else 200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)


@pytest.fixture
def serve(twin, tmp_path):
    """Makes a model on a server with these faults, and the server."""
    models.save(twin, tmp_path / "model")
    servers = []

    def make(*faults):
        servers.append(Server(faults))
        url = f"http://127.0.0.1:{servers[-1].server_address[1]}/v1"
        vlm = models.connect(tmp_path / "model", url, "served")
        return replace(vlm, model=replace(vlm.model, attempts=2)), servers[-1]

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def prompts(*questions):
    return [plain_prompt(FRAMES, (0.0, 1.5), 3.0, question) for question in questions]


def test_a_bad_url_is_refused_before_any_question(twin, tmp_path):
    with pytest.raises(ValueError, match="endpoint"):
        ServedModel("localhost:8000", "m")
    with pytest.raises(OSError):
        models.connect(tmp_path / "nowhere", "http://localhost:8000/v1")


@pytest.mark.parametrize(
    ("faults", "error", "message"),
    [
        ([400], RequestRefused, "status 400"),
        ([503, 503], ServiceUnavailable, "status 503"),
        ([[], []], ServiceUnavailable, "served: 0 answers instead of 1"),
        ([[{"message": {}}]] * 2, ServiceUnavailable, "another form"),
    ],
)
def test_a_server_that_refuses_or_breaks_ends_the_batch(serve, faults, error, message):
    vlm, server = serve(*faults)
    with pytest.raises(error, match=message):
        models.generate(vlm, prompts("Who?"), 5)
    assert len(server.bodies) == len(faults)


def test_a_busy_server_is_asked_again(serve):
    vlm, server = serve(503)
    assert models.generate(vlm, prompts("Who?"), 5) == ["Who? 0"]
    assert len(server.bodies) == 2


def test_the_request_has_our_prompt_and_names_every_setting(serve, twin):
    vlm, server = serve()
    models.generate(vlm, prompts("Who?"), 5, repetition_penalty=1.05)
    (body,) = server.bodies
    assert body["model"] == "served"
    (message,) = body["messages"]
    kinds = [part.get("text", part["type"]) for part in message["content"]]
    assert kinds[:5] == ["Frame 1 at 0.0s: ", "image_url", "\n", "Frame 2 at 1.5s: ", "image_url"]
    assert kinds[-1] == "Who?"
    sent = [part["image_url"]["url"].partition(",")[2] for part in message["content"] if part["type"] == "image_url"]
    for text, frame in zip(sent, FRAMES, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))), frame)
    settings = {name: body[name] for name in ("max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "n")}
    assert settings == dict(max_tokens=5, temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.05, n=1)
    banned = twin.processor.tokenizer.convert_tokens_to_ids(list(models.VISION_TOKENS))
    assert body["logit_bias"] == {str(token): -100.0 for token in banned}


def test_several_samples_of_several_prompts_stay_in_order(serve):
    vlm, server = serve()
    texts = models.generate(vlm, prompts("A?", "B?", "C?"), 5, temperature=0.7, seed=3, repeats=2, top_k=9)
    assert texts == ["A? 0", "A? 1", "B? 0", "B? 1", "C? 0", "C? 1"]
    assert {(b["temperature"], b["top_p"], b["top_k"]) for b in server.bodies} == {(0.7, 0.95, 9)}
    seeds = {body["messages"][0]["content"][-1]["text"]: body["seed"] for body in server.bodies}
    assert seeds == {"A?": 3, "B?": 5, "C?": 7}  # vLLM seeds the samples of a request with seed, seed + 1, …


def test_a_begun_response_is_continued(serve):
    vlm, server = serve()
    models.generate(vlm, [replace(prompts("Who?")[0], response_prefix="<think>so</think>")], 5)
    (body,) = server.bodies
    assert body["messages"][-1] == {"role": "assistant", "content": "<think>so</think>"}
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False


def test_answers_are_stored_as_those_of_a_model_in_process(serve, tmp_path):
    vlm, server = serve()
    questions = [Question(f"{n}", tmp_path, lambda n=n: prompts(f"Q{n}?")[0]) for n in range(3)]
    config = InferenceConfig(batch_size=2, max_new_tokens=5)
    rows = inference.answer(vlm, questions, config, tmp_path / "out")
    assert [(row["key"], row["response"]) for row in rows] == [("0", "Q0? 0"), ("1", "Q1? 0"), ("2", "Q2? 0")]
    inference.answer(vlm, questions, config, tmp_path / "out")
    assert len(server.bodies) == 3  # nothing is asked twice
