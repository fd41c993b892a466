"""Network annotators against a local server that speaks their protocol, faults included."""

import json

import numpy as np
import pytest
from helpers.annotation_server import GOOD, Server

from o3v import video
from o3v.data import annotation_requests
from o3v.data.annotation import AnnotationItem
from o3v.data.annotation_clients import Gemini, OpenAICompatible
from o3v.data.annotation_requests import RequestLimits, RequestReport

ITEM = AnnotationItem("i0", "STR_coin", "a.mp4", 2.0, 10.0, ((0.0, 1.0, "a {man} comes"),))
PACE = RequestLimits(workers=1, per_minute=1e6, attempts=7, shortest_s=0.0, longest_s=0.01)
SECRET = "k-very-secret"


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
    assert answer == annotation_requests.Reply(GOOD, 100, 23)
    ((path, headers, body),) = server.got
    sent = json.dumps(body)
    assert SECRET in str(headers) and SECRET not in sent and SECRET not in path
    assert "a {man} comes" in sent and "Frame 0 at 0.0s:" in sent and "key_frames" in sent
    assert sent.count("image/jpeg") == 4


@pytest.mark.parametrize("kind", [Gemini, OpenAICompatible])
def test_faults_are_outlived(kind, root, tmp_path, capfd):
    faults = [429, 500, "time-out", "half a JSON", "half an answer", "wrong types"]
    server, report = Server(faults), RequestReport()
    ((_, text),) = annotation_requests.annotate([ITEM], make(kind, root, server), tmp_path, PACE, report)
    assert text == GOOD
    assert (len(server.got), report.asked, report.retries, report.failed) == (7, 7, 6, 0)
    kept = "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert GOOD in json.loads(kept)["text"] and SECRET not in kept + "".join(capfd.readouterr())
    assert list(annotation_requests.annotate([ITEM], make(kind, root, server), tmp_path, PACE)) == [(ITEM, GOOD)]
    assert len(server.got) == 7


@pytest.mark.parametrize("kind", [Gemini, OpenAICompatible])
def test_a_refused_key_stops_the_run(kind, root, tmp_path):
    server = Server([401])
    with pytest.raises(Exception, match="401"):
        list(annotation_requests.annotate([ITEM], make(kind, root, server), tmp_path, PACE))
    assert len(server.got) == 1


@pytest.mark.parametrize("kind", [Gemini, OpenAICompatible])
def test_without_a_key(kind, root, monkeypatch):
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY")
    annotator = Gemini(root) if kind is Gemini else OpenAICompatible(root, "m")
    with pytest.raises(ValueError, match="_API_KEY is not set"):
        annotator(ITEM)
