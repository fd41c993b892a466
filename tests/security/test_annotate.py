"""Annotation by services: interrupts, slow and large replies, budgets, stored answers that nobody pays for twice."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from helpers.annotation_server import ANNOTATION, Server
from helpers.outside import accept_interrupt

from o3v.__main__ import main
from o3v.data.annotation import AnnotationItem
from o3v.data.annotation_clients import Gemini, OpenAICompatible
from o3v.data.annotation_requests import Reply, RequestLimits, RequestReport, annotate
from o3v.http_json import MAX_REPLY_BYTES, RequestRefused, ServiceError, ServiceUnavailable, post_json
from o3v.toyworld.writing import write_video

FAST = RequestLimits(workers=2, per_minute=1e6, attempts=2, min_wait_s=0.0, max_wait_s=0.01)
LIMITS = {"workers": 2, "per_minute": 1e6, "attempts": 2, "min_wait_s": 0.0, "max_wait_s": 0.01}


@pytest.fixture
def videos(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k-0123456789")
    folder = tmp_path / "videos"
    write_video(folder / "00.mp4", np.full((10, 56, 56, 3), 90, np.uint8), fps=10)
    for n in range(1, 30):
        (folder / f"{n:02d}.mp4").write_bytes((folder / "00.mp4").read_bytes())
    return folder


def arguments(videos, url, *more):
    options = ["--annotator", "openai", "--model", "m", "--endpoint", f"{url}/v1", "--per-minute", "6000", *more]
    return ["annotate", str(videos), str(videos.parent / "out"), *options]


class RawServer:
    """Accepts connections and answers each with `speak(connection)`, after the request has arrived."""

    def __init__(self, speak):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.speak, self.count = speak, 0
        threading.Thread(target=self.serve, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def serve(self):
        while True:
            connection, _ = self.socket.accept()
            self.count += 1
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        with connection:
            try:
                connection.recv(1 << 16)
                self.speak(connection)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):  # a close with unread bytes of the request would reset the connection
                    pass
            except OSError:
                pass


def silent(connection):
    time.sleep(60)


def drip_headers(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def drip_body(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


def drip_to_the_end(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.05)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("speak", [silent, drip_headers, drip_body, drip_to_the_end])
def test_a_slow_reply_ends_at_its_limit(speak):
    """A byte now and then kept the connection open for ever."""
    server, start_s = RawServer(speak), time.monotonic()
    with pytest.raises(ServiceUnavailable, match=r"no complete reply within 0\.5 s"):
        post_json(f"{server.url}/v1", {}, {}, timeout_s=0.5)
    assert 0.4 < time.monotonic() - start_s < 1.5


@pytest.mark.timeout(30)
@pytest.mark.parametrize("head", [b"Content-Length: 400000000\r\n", b"", b"Transfer-Encoding: chunked\r\n"])
def test_a_reply_of_400_mb_is_cut(head):
    """It cost 1.3 GB. What is sent is counted here, so a reader that takes all of it is found."""
    sent = []

    def speak(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        piece = b"x" * 1_000_000
        for _ in range(400):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if b"chunked" in head else piece)
            sent.append(len(piece))

    with pytest.raises(ServiceUnavailable, match="more than 8,000,000 bytes"):
        post_json(f"{RawServer(speak).url}/v1", {}, {}, timeout_s=20)
    assert sum(sent) < MAX_REPLY_BYTES + 20_000_000


REPLIES = {
    "compressed": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "compressed"),
    "half": (b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a": 1}', "breaks off"),
    "no JSON": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{,", "broken"),
    "deep": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000, "broken"),
    "digits": (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"9" * 5_000, "broken"),
    "no HTTP": (b"hello\r\n\r\n", "broken"),
    "nothing": (b"", "closed connection|broken"),
    "not UTF-8": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xfe\xfd", "broken"),
    "many headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000 + b"\r\n", "broken"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", REPLIES)
def test_a_broken_reply_is_asked_for_again(name):
    reply, reason = REPLIES[name]
    with pytest.raises(ServiceUnavailable, match=reason):
        post_json(f"{RawServer(lambda connection: connection.sendall(reply)).url}/v1", {}, {}, timeout_s=5)


def test_a_proxy_sees_neither_key_nor_frames(monkeypatch):
    heard = []

    class Proxy(RawServer):
        def answer(self, connection):
            with connection:
                heard.append(connection.recv(1 << 16))

    monkeypatch.setenv("HTTPS_PROXY", Proxy(silent).url.replace("//", "//me:word@"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ServiceUnavailable):
        post_json("https://service.example/v1", {"Authorization": "Bearer k-0123456789"}, {}, timeout_s=5)
    assert heard[0].startswith(b"CONNECT service.example:443 ") and b"0123456789" not in heard[0]
    assert b"Proxy-Authorization: Basic bWU6d29yZA==" in heard[0]  # me:word


@pytest.mark.parametrize(
    ("status", "error"), [(503, ServiceUnavailable), (400, RequestRefused), (401, ServiceError), (404, ServiceError)]
)
def test_each_status_has_its_error(status, error):
    with pytest.raises(error, match=f"status {status}"):
        post_json(f"{Server([status]).url}/v1/chat/completions", {}, {}, timeout_s=5)


def interrupted(videos, url, after):
    """Runs annotate in a process, sends Ctrl-C when `after()` holds; its exit code and the seconds it took to end."""
    command = [sys.executable, "-m", "o3v", *arguments(videos, url)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=accept_interrupt
    )
    deadline = time.monotonic() + 30
    while not after() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    start_s = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert "o3v: interrupted" in errors and "Traceback" not in errors
    return process.returncode, time.monotonic() - start_s


@pytest.mark.timeout(60)
def test_an_interrupt_ends_at_once_although_the_server_is_silent(videos):
    server = RawServer(silent)
    code, seconds = interrupted(videos, server.url, lambda: server.count >= 8)
    assert code == 130 and seconds < 2
    assert server.count == 8  # no request starts after it


@pytest.mark.timeout(60)
def test_an_interrupt_keeps_every_answer_that_arrived(videos, tmp_path):
    server = Server(delay_s=0.2)
    code, seconds = interrupted(videos, server.url, lambda: len(server.requests) >= 10)
    assert code == 130 and seconds < 2
    num_requests = len(server.requests)
    assert num_requests <= 17  # 8 at a time
    stored = [p for p in (tmp_path / "out/answers").iterdir() if not p.name.startswith(".")]
    assert len(stored) == num_requests
    server.delay_s = 0
    assert main(arguments(videos, server.url)) == 0
    assert len(server.requests) == 30


BAD_LIMITS = [
    ("--per-minute", "0"),
    ("--per-minute", "-1"),
    ("--per-minute", "nan"),
    ("--per-minute", "inf"),
    ("--workers", "0"),
    ("--workers", "-3"),
    ("--max-requests", "0"),
    ("--max-cost", "nan"),
    ("--prices", "1"),
]


@pytest.mark.parametrize("option", BAD_LIMITS)
def test_impossible_limits_are_refused_in_one_line(videos, option, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments(videos, "http://127.0.0.1:1", *option))
    error = capsys.readouterr().err
    assert ended.value.code == 2 and option[0] in error and error.count("\n") == 1


def test_a_limit_of_the_cost_needs_prices(videos, capsys):
    assert main(arguments(videos, "http://127.0.0.1:1", "--max-cost", "1")) == 2
    assert "--prices" in capsys.readouterr().err


def test_a_budget_of_requests_stops_cleanly_and_a_later_run_goes_on(videos, tmp_path, capsys):
    server = Server()
    for total in (10, 20, 30):
        assert main(arguments(videos, server.url, "--max-requests", "10")) == 0
        output = capsys.readouterr().out
        assert len(server.requests) == total
        assert ("the budget is used up" in output) == (total < 30)
    assert len(list((tmp_path / "out/answers").glob("[!.]*"))) == 30


def test_a_budget_of_dollars_stops_cleanly(videos, tmp_path, capsys):
    """A reply of the server has 100 tokens of input and 23 of output: 0.0001 + 0.00023 dollars at 1 and 10 a million.

    0.00132 dollars are 4 replies; 3 more may be under way.
    """
    server = Server()
    more = ["--max-cost", "0.00132", "--prices", "1", "10", "--workers", "4"]
    assert main(arguments(videos, server.url, *more)) == 0
    assert 4 <= len(server.requests) <= 7
    assert f"{30 - len(server.requests)} videos not asked" in capsys.readouterr().out


def test_two_commands_on_one_folder_do_not_ask_twice(videos, capsys):
    server = Server(delay_s=0.3)
    command = [sys.executable, "-m", "o3v", *arguments(videos, server.url)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not server.requests:
        time.sleep(0.01)
    assert main(arguments(videos, server.url)) == 2
    assert "is used by another `o3v annotate`" in capsys.readouterr().err
    assert first.wait(30) == 0 and len(server.requests) == 30


def item(name):
    return AnnotationItem(name, "own", "a.mp4", 2.0, 10.0)


class Faulty:
    """Answers "b" and fails for the others as told."""

    name, deterministic = "faulty", False

    def __init__(self, error):
        self.error, self.asked = error, []

    def __call__(self, item):
        self.asked.append(item.id)
        if item.id != "b" and self.error:
            raise self.error
        return Reply(ANNOTATION)


@pytest.mark.parametrize("error", [RequestRefused("status 400"), ServiceUnavailable("status 503")])
def test_a_refused_item_costs_only_itself_and_is_named(tmp_path, error, caplog):
    report = RequestReport()
    answers = list(annotate([item("a"), item("b"), item("c")], Faulty(error), tmp_path, FAST, report))
    assert [found.id for found, _ in answers] == ["b"] and report.failed == 2
    assert sorted(line.split(":")[0] for line in caplog.messages) == ["a", "c"]


def test_a_video_that_breaks_after_it_was_found_costs_only_itself(videos, tmp_path):
    (videos / "00.mp4").write_bytes((videos / "01.mp4").read_bytes()[:300])
    client = OpenAICompatible(videos, "m", base_url=Server().url)
    with pytest.raises(RequestRefused, match=r"the video cannot be read: .*00\.mp4"):
        client(AnnotationItem("00", "own", "00.mp4", 1.0, 10.0))


@pytest.mark.parametrize("text", ["{", "[]", '{"text": 7}', "", '{"text": "\\ud83d"}', "[" * 100_000])
def test_a_damaged_stored_answer_is_named_and_neither_read_nor_replaced(tmp_path, text, caplog):
    asked = Faulty(None)
    assert len(list(annotate([item("b")], asked, tmp_path, FAST))) == 1
    (stored,) = tmp_path.iterdir()
    stored.write_text(text)
    report = RequestReport()
    assert list(annotate([item("b")], asked, tmp_path, FAST, report)) == []
    assert asked.asked == ["b"] and report.failed == 1 and stored.read_text() == text
    assert f"b: the stored answer {stored} is damaged; remove it to ask again" in caplog.text


ODD_REPLIES = [
    "null",
    "[]",
    "7",
    '{"choices": []}',
    '{"choices": [{"message": {"content": ["a"]}}], "candidates": [{"content": {"parts": [{"text": 7}]}}]}',
    '{"choices": {"0": 1}, "candidates": "x"}',
    '{"choices": [{"message": null}], "candidates": [7]}',
]


@pytest.mark.parametrize("text", ODD_REPLIES)
@pytest.mark.parametrize("kind", [Gemini, OpenAICompatible])
def test_a_reply_of_another_form_is_asked_for_again(videos, monkeypatch, text, kind):
    monkeypatch.setenv("GEMINI_API_KEY", "k-0123456789")
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
    server = RawServer(lambda connection: connection.sendall((head + text).encode()))
    try:
        reply = kind(videos, "m", base_url=server.url)(AnnotationItem("00", "own", "00.mp4", 1.0, 10.0))
    except ServiceUnavailable as error:
        assert "another form" in str(error)
    else:  # a blocked answer of Gemini has no candidates
        assert kind is Gemini and reply == Reply("") and "candidates" not in text


@pytest.mark.parametrize("count", ["null", '"many"', "-5", "1e400", "9" * 400, "true", "[1]"])
def test_an_impossible_count_of_tokens_does_not_lose_the_answer(videos, monkeypatch, count):
    """The answer was paid for, and lost while its tokens were added up."""
    message = json.dumps(ANNOTATION)
    text = f'{{"choices": [{{"message": {{"content": {message}}}}}], "usage": {{"prompt_tokens": {count}}}}}'
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n"
    server = RawServer(lambda connection: connection.sendall((head + text).encode()))
    client = OpenAICompatible(videos, "m", base_url=server.url)
    assert client(AnnotationItem("00", "own", "00.mp4", 1.0, 10.0)) == Reply(ANNOTATION, 0, 0)


def test_the_endpoint_belongs_to_the_key_of_a_stored_answer(videos):
    urls = [None, "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1", "http://127.0.0.1:2/v1/"]
    names = [OpenAICompatible(videos, "m", base_url=url).name for url in urls]
    assert len(set(names)) == 3 and names[2] == names[3]


def test_a_clock_set_back_changes_nothing(tmp_path, monkeypatch):
    """Requests keep their distance and locks their limit by a clock that only goes on."""
    hours = iter(range(10_000, 0, -1))
    monkeypatch.setattr(time, "time", lambda: 3_600.0 * next(hours))
    limits = RequestLimits(**LIMITS | {"per_minute": 600})
    start_s = time.monotonic()
    assert len(list(annotate([item("b"), AnnotationItem("b", "own", "b", 1, 1)], Faulty(None), tmp_path, limits))) == 2
    assert 0.09 < time.monotonic() - start_s < 1


assert os.name == "posix"  # the interrupts are signals
