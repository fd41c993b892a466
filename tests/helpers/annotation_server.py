"""A local server for tests: the protocols of Gemini and OpenAI, with faults on demand."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANNOTATION = json.dumps({"question": "Who?", "answer": "He", "key_frames": [], "reasoning": "So."})


class Server(ThreadingHTTPServer):
    """Replies with each of `faults` in turn (a status code or a name), then with `text`. Records the `requests`."""

    daemon_threads = True

    def __init__(self, faults=(), delay_s=0.0, text=ANNOTATION):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.requests, self.delay_s, self.text = list(faults), [], delay_s, text
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), json.loads(body)))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            return self._send(fault, json.dumps({"error": {"code": fault, "message": "no", "status": "NO"}}))
        if fault == "time-out":
            time.sleep(1.5)
        time.sleep(self.server.delay_s)
        broken = {"half an answer": ANNOTATION[:20], "wrong types": ANNOTATION.replace('"He"', "7")}
        answer = broken.get(fault, self.server.text)
        if "generateContent" in self.path:
            reply = {
                "candidates": [{"content": {"role": "model", "parts": [{"text": answer}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 20, "thoughtsTokenCount": 3},
            }
        else:
            message = {"role": "assistant", "content": answer}
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
        except (BrokenPipeError, ConnectionResetError):
            pass
