"""Keys: no redirect, no echo, no parameter that is recorded; no file of a run holds one, however the run ends."""

import json
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from helpers.lab import JupyterLab
from helpers.outside import accept_interrupt
from helpers.toy_notebooks import PARAMETERS, write_notebook

from o3v.__main__ import main
from o3v.data.annotation_clients import make_annotator
from o3v.http_json import ServiceError, check_endpoint, post_json
from o3v.text import redact
from o3v.toyworld.writing import write_video

KEY, PASSWORD = "k-planted-0123456789", "planted-password"


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


class Echo(ThreadingHTTPServer):
    """Answers with a status, and with all headers that it received, in the body and in a `Location` elsewhere."""

    daemon_threads = True

    def __init__(self, status, location=""):
        self.received = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                self.server.received.append(dict(self.headers))
                self.rfile.read(int(self.headers["Content-Length"]))
                body = json.dumps({"error": {"message": f"bad key: {dict(self.headers)}"}}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if location:
                    self.send_header("Location", location)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST

        super().__init__(("127.0.0.1", 0), Handler)
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    write_video(folder / "a.mp4", np.full((10, 56, 56, 3), 90, np.uint8), fps=10)
    return folder


def arguments(videos, name, url):
    more = ["--model", "m", "--endpoint", url, "--per-minute", "6000", "--workers", "1"]
    return ["annotate", str(videos), str(videos.parent / "out"), "--annotator", name, *more]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("name", ["gemini", "openai"])
def test_a_redirect_is_not_followed(videos, name, status, capsys):
    """The key and the frames went to the other host."""
    other = Echo(200)
    assert main(arguments(videos, name, Echo(status, f"{other.url}/x").url)) == 2
    error = capsys.readouterr().err
    assert other.received == [] and "a redirect, which is not followed" in error


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418])
@pytest.mark.parametrize("name", ["gemini", "openai"])
def test_a_server_that_echoes_the_key_does_not_make_us_print_it(videos, name, status, capfd, caplog):
    server = Echo(status)
    assert main(arguments(videos, name, server.url)) == (0 if status == 400 else 2)
    assert KEY in str(server.received[0])
    shown = "".join(capfd.readouterr()) + caplog.text
    assert f"status {status}" in shown and KEY not in shown
    for path in videos.parent.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()


def test_the_words_of_a_server_are_shortened_and_shown_without_control_characters():
    server = Echo(404)
    with pytest.raises(ServiceError) as error:
        post_json(f"{server.url}/v1", {"X-Long": "\x1b[31m" + "y" * 5_000}, {}, timeout_s=5)
    assert len(str(error.value)) < 300 and "\x1b" not in str(error.value)


BAD_ENDPOINTS = [
    f"http://user:{PASSWORD}@127.0.0.1/v1",
    f"https://{PASSWORD}@host/v1",
    f"http://host/v1?key={PASSWORD}",
    f"http://host/v1#{PASSWORD}",
]
NO_ENDPOINTS = [
    "file:///etc/passwd",
    "ftp://host/x",
    "host/v1",
    "http://",
    "http://[::1",
    "http://h:99999/",
    "http://h h/",
]


@pytest.mark.parametrize("url", BAD_ENDPOINTS)
@pytest.mark.parametrize("name", ["gemini", "openai"])
def test_an_endpoint_holds_no_secret_and_the_refusal_does_not_repeat_it(tmp_path, name, url):
    with pytest.raises(ValueError, match="no user, password or query") as error:
        make_annotator(name, tmp_path, "m", url)
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize("url", NO_ENDPOINTS)
def test_an_endpoint_is_a_url_of_the_web(url):
    with pytest.raises(ValueError, match="is not a URL such as"):
        check_endpoint(url)


@pytest.mark.parametrize("key", ["", "a b", "a\nX: y", "é"])
def test_a_key_that_cannot_be_sent_is_refused_without_repeating_it(videos, monkeypatch, key, capsys):
    monkeypatch.setenv("GEMINI_API_KEY", key)
    assert main(arguments(videos, "gemini", "http://127.0.0.1:1")) == 2
    error = capsys.readouterr().err
    assert "GEMINI_API_KEY" in error and (not key or key not in error)


def test_secrets_in_a_text_become_stars(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    monkeypatch.setenv("SHORT_KEY", "none")
    text = f"{KEY} and hf_0123456789, none, http://me:{PASSWORD}@host and ftp://me@host/a@b"
    assert redact(text) == "*** and ***, none, http://***@host and ftp://***@host/a@b"


SHOW_KEY = f"""\
import os, sys, time
from o3v.runner.stage import open_stage
stage = open_stage(run_dir, "01_show")
key = os.environ["GEMINI_API_KEY"]
---
print(key)
sys.__stderr__.write(key + chr(10))
sys.__stderr__.flush()
print("http://user:{PASSWORD}@host")
key
---
stage.path("started").write_text("")
time.sleep(pause_s)
---
if fail:
    raise ValueError(f"401: wrong key {{key}} for http://user:{PASSWORD}@host")
---
stage.record({{"a": 1}}, [])
"""


def run_command(tmp_path, *overrides):
    write_notebook(tmp_path / "nb/01_show.ipynb", SHOW_KEY, PARAMETERS + "pause_s = 0.0\nfail = False\nmodel = ''\n")
    more = [part for override in overrides for part in ("-p", override)]
    paths = ["--notebooks", str(tmp_path / "nb"), "--out", str(tmp_path / "runs")]
    return [sys.executable, "-m", "o3v", "run", "--profile", "smoke", *paths, *more]


def assert_no_secret_in_files(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert len(paths) >= 3
    for path in paths:
        data = path.read_bytes()
        assert KEY.encode() not in data and PASSWORD.encode() not in data, path


@pytest.mark.parametrize("fail", [False, True])
def test_no_file_of_a_run_holds_a_key_after_success_or_failure(tmp_path, fail):
    """Also, all files respect the umask; they were readable by all."""
    command = run_command(tmp_path, f"01.fail={fail}")
    done = subprocess.run(command, capture_output=True, text=True, check=False, umask=0o077)
    assert done.returncode == int(fail)
    assert KEY not in done.stdout + done.stderr and PASSWORD not in done.stdout + done.stderr
    page = next((tmp_path / "runs").rglob("01_show.html")).read_text(encoding="utf-8")
    assert "***" in page and ("wrong key ***" in page) == fail
    assert not [path for path in (tmp_path / "runs").rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert_no_secret_in_files(tmp_path / "runs")


@pytest.mark.timeout(60)
def test_no_file_of_a_run_holds_a_key_after_an_interrupt(tmp_path):
    command = run_command(tmp_path, "01.pause_s=60")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=accept_interrupt
    )
    deadline = time.monotonic() + 40
    while not list((tmp_path / "runs").rglob("started")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = "".join(process.communicate(timeout=20))
    assert process.returncode == 130 and KEY not in output and "Traceback" not in output
    assert next((tmp_path / "runs").rglob("01_show.html")).stat().st_size > 1_000
    assert_no_secret_in_files(tmp_path / "runs")


@pytest.mark.parametrize("value", [KEY, f"x{KEY}", f"http://user:{PASSWORD}@host"])
def test_a_parameter_with_a_secret_is_refused_and_nothing_is_written(tmp_path, value, capsys):
    assert main(run_command(tmp_path, f"01.model={value}")[3:]) == 2
    error = capsys.readouterr().err
    assert "01_show.model holds a key or password" in error and value not in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.timeout(90)
def test_a_jupyterlab_of_the_tests_needs_its_token(tmp_path):
    """Its token was empty: every user of the machine had a shell."""
    with JupyterLab(tmp_path) as lab:
        assert lab.status("/api") == 200  # the version is public
        for path in ("/api/contents", "/api/kernels", "/api/terminals", "/api/sessions"):
            assert lab.status(path) == 403 and lab.status(path, "x" * 48) == 403
            assert lab.status(path, lab.token) == 200
        assert lab.token not in " ".join(lab.command) and len(lab.token) == 48
