"""A JupyterLab or Notebook server for tests: on this machine only, with a random token that no process list shows."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


class JupyterLab:
    """A running server with the notebooks in `folder`. Whoever knows `token` can run code as this user.

    `app` is the module of the server, jupyterlab or notebook; `address` is that of a notebook in it.
    """

    def __init__(self, folder: Path, app: str = "jupyterlab", **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.token, self.folder = f"http://127.0.0.1:{port}", secrets.token_hex(24), folder
        self.environment = {**os.environ, **environment, "JUPYTER_TOKEN": self.token}
        self.environment.pop("O3V_HEADLESS", None)
        self.pages = {"jupyterlab": "lab/tree", "notebook": "notebooks"}[app]
        options = [f"--port={port}", "--ip=127.0.0.1", "--allow-root", "--no-browser"]
        self.command = [sys.executable, "-m", app, f"--notebook-dir={folder}", *options]

    def address(self, notebook: str) -> str:
        return f"{self.url}/{self.pages}/{notebook}?reset&token={self.token}"

    def __enter__(self) -> JupyterLab:
        with (self.folder / "lab.log").open("wb") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)
        for _ in range(400):  # a busy machine is slow
            if self.status("/api") == 200:
                break
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def status(self, path: str, token: str = "") -> int:
        """The HTTP status of a request; 0 if nobody answers."""
        headers = {"Authorization": f"token {token}"} if token else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers), timeout=5) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0
