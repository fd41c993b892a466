"""The annotation clients against a local server of their protocols, with faults."""

import json

import numpy as np
import pytest
from helpers.annotation_server import ANNOTATION, Server

from o3v.data.annotation import AnnotationItem
from o3v.data.annotation_clients import Gemini, OpenAICompatible
from o3v.data.annotation_requests import Reply, RequestLimits, RequestReport, annotate
from o3v.toyworld.writing import write_video

ITEM = AnnotationItem("i0", "STR_coin", "a.mp4", 2.0, 10.0, ((0.0, 1.0, "a {man} comes"),))
LIMITS = RequestLimits(workers=1, per_minute=1e6, attempts=7, min_wait_s=0.0, max_wait_s=0.01)
SECRET = "k-very-secret"

pytestmark = pytest.mark.parametrize("kind", [Gemini, OpenAICompatible])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", np.full((20, 56, 56, 3), 90, np.uint8), fps=10)
    return folder


@pytest.fixture(autouse=True)
def api_keys(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


def make_client(kind, root, server):
    if kind is Gemini:
        return Gemini(root, n_frames=4, timeout_s=1.0, base_url=server.url)
    return OpenAICompatible(root, "m", n_frames=4, timeout_s=1.0, base_url=f"{server.url}/v1")


def test_a_request_holds_prompt_frames_and_schema(kind, root):
    server = Server()
    assert make_client(kind, root, server)(ITEM) == Reply(ANNOTATION, tokens_in=100, tokens_out=23)
    ((path, headers, body),) = server.requests
    sent = json.dumps(body)
    assert SECRET in str(headers) and SECRET not in sent and SECRET not in path
    assert "a {man} comes" in sent and "Frame 0 at 0.0s:" in sent and "key_frames" in sent
    assert sent.count("image/jpeg") == 4


def test_requests_are_repeated_after_faults(kind, root, tmp_path, capfd):
    server = Server([429, 500, "time-out", "half a JSON", "half an answer", "wrong types"])
    client, report = make_client(kind, root, server), RequestReport()
    assert list(annotate([ITEM], client, tmp_path, LIMITS, report)) == [(ITEM, ANNOTATION)]
    assert (len(server.requests), report.requests, report.retries, report.failed) == (7, 7, 6, 0)
    stored = "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert json.loads(stored)["text"] == ANNOTATION and SECRET not in stored + "".join(capfd.readouterr())
    assert list(annotate([ITEM], client, tmp_path, LIMITS)) == [(ITEM, ANNOTATION)]
    assert len(server.requests) == 7  # the stored answer is not requested again


def test_a_rejected_key_stops_the_run(kind, root, tmp_path):
    server = Server([401])
    with pytest.raises(Exception, match="401"):
        list(annotate([ITEM], make_client(kind, root, server), tmp_path, LIMITS))
    assert len(server.requests) == 1


def test_a_missing_key_is_an_error(kind, root, monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY")
    annotator = Gemini(root) if kind is Gemini else OpenAICompatible(root, "m")
    with pytest.raises(ValueError, match="_API_KEY is not set"):
        annotator(ITEM)
