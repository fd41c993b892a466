"""A local server that speaks Gemini's and OpenAI's protocols, with faults on demand. Used by tests."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = json.dumps({"question": "Who?", "answer": "He", "key_frames": [], "reasoning": "So."})


class Server(ThreadingHTTPServer):
    """Plays a script of faults, then answers well. Keeps what it was sent."""

    daemon_threads = True

    def __init__(self, script=(), delay_s=0.0, text=GOOD):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.got, self.delay_s, self.text = list(script), [], delay_s, text
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
        time.sleep(self.server.delay_s)
        said = {"half an answer": GOOD[:20], "wrong types": GOOD.replace('"He"', "7")}.get(fault, self.server.text)
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
        except (BrokenPipeError, ConnectionResetError):
            pass
