"""Sends one JSON request to a service, with limits on time and size of the reply. Keys never stand in an error.

Also the protocol of OpenAI's chat completions, which annotators and judges speak.

Follows no redirect, because keys and frames would go to another host. The standard library is enough and, unlike the
clients of the services, lets us bound the whole exchange: a server that sends a byte now and then ends too.
"""

import base64
import json
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from o3v.text import printable, redact

MAX_REPLY_BYTES = 8_000_000  # an annotation has some thousand
MAX_ERROR_CHARS = 200  # of the server's own words in an error
BUSY = (408, 409, 425, 429, 500, 502, 503, 504)  # a retry may help
MAX_TOKENS = 1 << 40  # of one reply; a larger count is an error of the server
OPENAI = "https://api.openai.com/v1"
REFUSED = (400, 413, 415, 422)  # this request is refused, others may not be


@dataclass(frozen=True)
class Reply:
    """The text of an answer and its cost in tokens."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0


class ServiceUnavailable(RuntimeError):
    """The service is busy, slow or broken for now."""


class RequestRefused(ValueError):
    """The service refuses this request; others may be answered."""


class ServiceError(ValueError):
    """The service refuses all requests: a wrong key, model or address."""


def check_endpoint(url: str) -> str:
    """The URL without a slash at its end. Raises ValueError unless it is http(s)://host[:port][/path] without secrets.

    >>> check_endpoint("http://localhost:8000/v1/")
    'http://localhost:8000/v1'
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"the endpoint {printable(redact(url)):.80} is not a URL such as http://localhost:8000/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("the endpoint must hold no user, password or query; set the API key in the environment")
    return url.rstrip("/")


def post_json(url: str, headers: Mapping[str, str], body: Any, timeout_s: float) -> Any:
    """Sends `body` as JSON and returns the JSON of the reply.

    Args:
        url: address, checked with `check_endpoint`.
        headers: further headers, such as the key.
        body: any JSON value.
        timeout_s: limit of the whole exchange, in seconds.

    Raises ServiceUnavailable for a busy, slow or broken service, RequestRefused and ServiceError for refusals.
    """
    host, connection = urlsplit(url).netloc, _connect(url, timeout_s)
    late, sockets = threading.Event(), []

    def stop() -> None:
        late.set()
        for sock in (*sockets, connection.sock):
            with suppress(OSError, AttributeError):  # not connected yet, or closed
                sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, stop)
    timer.daemon = True
    timer.start()
    try:
        connection.connect()
        sockets.append(connection.sock)  # a reply takes it from the connection
        if late.is_set():  # the timer found no socket to close
            raise TimeoutError
        sent = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        connection.request("POST", urlsplit(url).path, json.dumps(body).encode(), sent)
        with connection.getresponse() as response:
            text = _read(response)
            _check_status(host, response, text)
        return json.loads(text)
    except (RequestRefused, ServiceError):
        raise
    except (OSError, HTTPException, ValueError, RecursionError, AttributeError) as error:  # AttributeError: closed
        reason = f"no complete reply within {timeout_s:g} s" if late.is_set() else _reason(error)
        raise ServiceUnavailable(f"{host}: {reason}") from None
    finally:
        timer.cancel()
        connection.close()


def _connect(url: str, timeout_s: float) -> HTTPConnection:
    """A connection to the host of a URL, through the proxy that the environment names for it, if any."""
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    proxy = getproxies().get(parts.scheme) if parts.scheme == "https" and not proxy_bypass(parts.netloc) else None
    if not proxy:
        return kind(parts.hostname, parts.port, timeout=timeout_s)
    via = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    connection = kind(via.hostname, via.port, timeout=timeout_s)
    user = f"{unquote(via.username)}:{unquote(via.password or '')}".encode() if via.username else b""
    headers = {"Proxy-Authorization": f"Basic {base64.b64encode(user).decode()}"} if user else {}
    connection.set_tunnel(parts.hostname, parts.port, headers)
    return connection


def _read(response: HTTPResponse) -> bytes:
    """The body of a reply. Raises OSError if it is incomplete, too large or compressed."""
    if response.getheader("Content-Encoding", "identity") != "identity":  # can grow a thousandfold
        raise OSError("the reply is compressed, which was not asked for")
    text = response.read(MAX_REPLY_BYTES + 1)
    if len(text) > MAX_REPLY_BYTES:
        raise OSError(f"the reply has more than {MAX_REPLY_BYTES:,} bytes")
    if response.length:
        raise OSError("the reply breaks off")
    return text


def _check_status(host: str, response: HTTPResponse, text: bytes) -> None:
    """Raises the error of a status that is no success. Replies to a wrong key are not quoted: they may repeat it."""
    status = response.status
    if 200 <= status < 300:
        return
    if status in BUSY:
        raise ServiceUnavailable(f"{host}: status {status}")
    if 300 <= status < 400:
        raise ServiceError(f"{host}: status {status}, a redirect, which is not followed; give the final address")
    if status in (401, 403):
        raise ServiceError(f"{host}: status {status}: the service does not accept the API key")
    words = printable(redact(" ".join(text[:2_000].decode(errors="replace").split())))[:MAX_ERROR_CHARS]
    kind = RequestRefused if status in REFUSED else ServiceError
    raise kind(f"{host}: status {status}: {words}")


def _reason(error: Exception) -> str:
    return redact(str(error))[:MAX_ERROR_CHARS] if isinstance(error, OSError) else f"broken: {type(error).__name__}"


def read_key(name: str) -> str:
    """An API key from the environment. Raises ValueError if it is not set or cannot be sent in a header."""
    key = os.environ.get(name, "")
    if not key:
        raise ValueError(f"the environment variable {name} is not set; set it to the API key of the service")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"the environment variable {name} holds characters that no API key has; set it again")
    return key


def count_tokens(usage: Any, *names: str) -> int:
    """The sum of some counts of a reply; a count that is missing or impossible is 0."""
    counts = [usage.get(name) for name in names] if isinstance(usage, dict) else []
    return sum(count for count in counts if type(count) is int and 0 <= count < MAX_TOKENS)


def openai_headers(own_server: bool) -> dict[str, str]:
    """The key from OPENAI_API_KEY; optional for your own server. Raises the errors of `read_key`."""
    key = "none" if own_server and not os.environ.get("OPENAI_API_KEY") else read_key("OPENAI_API_KEY")
    return {"Authorization": f"Bearer {key}"}


def read_chat(reply: Any, model: str) -> Reply:
    """The answer of a chat completion. Raises ServiceUnavailable, naming the model, for a reply of another form."""
    try:
        text, usage = reply["choices"][0]["message"]["content"] or "", reply.get("usage")
        if not isinstance(text, str):
            raise TypeError("the answer is not a text")
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ServiceUnavailable(f"{model}: a reply of another form ({type(error).__name__})") from None
    return Reply(text, count_tokens(usage, "prompt_tokens"), count_tokens(usage, "completion_tokens"))
