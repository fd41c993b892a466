"""Network annotators against a local server that speaks their protocol, faults included."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from o3v import annotate, video
from o3v.annotate import Pace, Report
from o3v.annotations import Item
from o3v.annotators import Gemini, OpenAICompatible

GOOD = json.dumps({"question": "Who?", "answer": "He", "key_frames": [], "reasoning": "So."})
ITEM = Item("i0", "STR_coin", "a.mp4", 2.0, 10.0, ((0.0, 1.0, "a {man} comes"),))
PACE = Pace(workers=1, per_minute=1e6, attempts=7, shortest_s=0.0, longest_s=0.01)
SECRET = "k-very-secret"


class Server(ThreadingHTTPServer):
    """Plays a script of faults, then answers well. Keeps what it was sent."""

    daemon_threads = True

    def __init__(self, script=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.got = list(script), []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), json.loads(body)))
        fault = self.server.script.pop(0) if self.server.script else None
        if isinstance(fault, int):
            return self._send(fault, json.dumps({"error": {"code": fault, "message": "no", "status": "NO"}}))
        if fault == "time-out":
            time.sleep(1.5)
        said = {"half an answer": GOOD[:20], "wrong types": GOOD.replace('"He"', "7")}.get(fault, GOOD)
        if "generateContent" in self.path:
            reply = {
                "candidates": [{"content": {"role": "model", "parts": [{"text": said}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 20, "thoughtsTokenCount": 3},
            }
        else:
            message = {"role": "assistant", "content": said}
            reply = {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 23, "total_tokens": 123},
            }
        text = json.dumps(reply)
        self._send(200, text[: len(text) // 2] if fault == "half a JSON" else text)

    def _send(self, status, text):
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())
        except BrokenPipeError:
            pass


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    video.write_video(folder / "a.mp4", np.full((20, 56, 56, 3), 90, np.uint8), fps=10)
    return folder


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


def make(kind, root, server):
    if kind is Gemini:
        return Gemini(root, frames=4, timeout_s=1.0, base_url=server.url)
    return OpenAICompatible(root, "m", frames=4, timeout_s=1.0, base_url=f"{server.url}/v1")


@pytest.mark.parametrize("kind", [Gemini, OpenAICompatible])
def test_one_request_holds_words_frames_and_schema(kind, root, tmp_path):
    server = Server()
    answer = make(kind, root, server)(ITEM)
    assert answer == annotate.Answer(GOOD, 100, 23)
    ((path, headers, body),) = server.got
    sent = json.dumps(body)
    assert SECRET in str(headers) and SECRET not in sent and SECRET not in path
    assert "a {man} comes" in sent and "Frame 0 at 0.0s:" in sent and "key_frames" in sent
    assert sent.count("image/jpeg") == 4


@pytest.mark.parametrize("kind", [Gemini, OpenAICompatible])
def test_faults_are_outlived(kind, root, tmp_path, capfd):
    faults = [429, 500, "time-out", "half a JSON", "half an answer", "wrong types"]
    server, report = Server(faults), Report()
    ((_, text),) = annotate.annotate([ITEM], make(kind, root, server), tmp_path, PACE, report)
    assert text == GOOD
    assert (len(server.got), report.asked, report.retries, report.failed) == (7, 7, 6, 0)
    kept = "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert GOOD in json.loads(kept)["text"] and SECRET not in kept + "".join(capfd.readouterr())
    assert list(annotate.annotate([ITEM], make(kind, root, server), tmp_path, PACE)) == [(ITEM, GOOD)]
    assert len(server.got) == 7


@pytest.mark.parametrize("kind", [Gemini, OpenAICompatible])
def test_a_refused_key_stops_the_run(kind, root, tmp_path):
    server = Server([401])
    with pytest.raises(Exception, match="401"):
        list(annotate.annotate([ITEM], make(kind, root, server), tmp_path, PACE))
    assert len(server.got) == 1


@pytest.mark.parametrize("kind", [Gemini, OpenAICompatible])
def test_without_a_key(kind, root, monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY")
    annotator = Gemini(root) if kind is Gemini else OpenAICompatible(root, "m")
    with pytest.raises(ValueError, match="_API_KEY is not set"):
        annotator(ITEM)
