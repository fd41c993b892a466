"""Clients of large models that annotate videos: Gemini, and any server with the OpenAI API (for example vLLM).

Both send the same prompt and the same frames, each frame after a line with its time, and ask for JSON of the schema
`annotation.ANNOTATION_SCHEMA`. API keys come from the environment and are never logged or stored. The prompts follow
the paper (annotation pipeline, step 1). This module does not know retries or caching (`annotation_requests`).
"""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from PIL import Image

from o3v import video
from o3v.data.annotation import ANNOTATION_SCHEMA, AnnotationItem
from o3v.data.annotation_requests import Annotator
from o3v.http_json import (
    OPENAI,
    Reply,
    RequestRefused,
    ServiceUnavailable,
    check_endpoint,
    count_tokens,
    openai_headers,
    post_json,
    read_chat,
    read_key,
)
from o3v.schema import SchemaError, resolve_inside

_RULES = """Make one training example for a model that must show evidence for its answers.
Ask one question about a specific object or person, such that one has to watch to answer it, and answer it briefly.
Choose 1 to 5 key frames ("at": {at}) and give in each the boxes of 1 to 3 objects that matter, each box
[x0, y0, x1, y1] as shares of the frame between 0 and 1, tight around the object, never the whole frame.
Then reason step by step from what is seen to the answer. Whenever the reasoning names an object, write
<obj>name</obj><box>[x0,y0,x1,y1]</box>at<t>{at_tag}</t>s with a name, box and time that stand in the key frames;
name nothing that does not. Output JSON only."""
ANNOTATION_PROMPTS: Mapping[str, str] = {  # by kind of item
    "segment": "These are frames of a video of {duration_s:.1f} seconds with an action in it.\n{notes}\n"
    + _RULES.format(at="the time in seconds", at_tag="seconds"),
    "regions": "These are frames of a video at {fps:g} frames a second, with captions of regions by frame index.\n"
    "{notes}\n" + _RULES.format(at="the frame index", at_tag="frame index"),
}


def make_annotator(name: str, root: Path | str, model: str = "", endpoint: str = "") -> Annotator:
    """Returns the annotator "gemini" or "openai" for the videos below `root`.

    "openai" needs a `model`. An empty `endpoint` means the URL of the service itself. Raises ValueError for
    another name, a missing model, or an endpoint that is no URL or holds a password.
    """
    if name == "gemini":
        return Gemini(root, model or Gemini.model, base_url=endpoint or None)
    if name == "openai" and model:
        return OpenAICompatible(root, model, base_url=endpoint or None)
    raise ValueError(f"annotator {name!r} with model {model!r}: choose gemini, or openai with a model")


@dataclass(frozen=True)
class _Client:
    """Base class of both clients. `root` is the folder that the items' paths start from.

    A video becomes `n_frames` JPEG images of at most `max_pixels`. A request with its reply may take `timeout_s`.
    """

    root: Path | str
    model: str
    n_frames: int = 16
    max_pixels: int = 512 * 512
    timeout_s: float = 120.0
    base_url: str | None = None
    deterministic: bool = field(default=False, init=False)
    service: ClassVar[str]  # its own address

    def __post_init__(self) -> None:
        check_endpoint(self.base_url or self.service)

    @property
    def name(self) -> str:
        """Everything that determines the answers."""
        server = f" {check_endpoint(self.base_url)}" if self.base_url else ""
        return f"{type(self).__name__} {self.model} {self.n_frames}×{self.max_pixels} {ANNOTATION_PROMPTS!r}{server}"

    def __call__(self, item: AnnotationItem) -> Reply:
        """Sends one request. Raises the errors of `http_json.post_json`, and ValueError without a key.

        Raises RequestRefused for a video that cannot be read.
        """
        notes = "\n".join(f"From {start:g} to {end:g}: {text}" for start, end, text in item.notes)
        prompt = ANNOTATION_PROMPTS[item.kind].format(duration_s=item.duration_s, fps=item.fps, notes=notes)
        try:
            frames = video.sample_frames(resolve_inside(self.root, item.video_path), self.n_frames, self.max_pixels)
        except (video.VideoError, SchemaError, OSError) as error:
            raise RequestRefused(f"the video cannot be read: {error}") from None
        captioned = []
        for index, time_s, image in zip(frames.indices, frames.times_s, frames.images, strict=True):
            jpeg = io.BytesIO()
            Image.fromarray(image).save(jpeg, "JPEG", quality=85)
            captioned.append((f"Frame {int(index)} at {time_s:.1f}s:", base64.b64encode(jpeg.getvalue()).decode()))
        path, headers, body = self._request(prompt, captioned)
        server = check_endpoint(self.base_url or self.service)
        return self.read_reply(post_json(f"{server}/{path}", headers, body, self.timeout_s))

    def read_reply(self, reply: Any) -> Reply:
        """Reads the JSON of a reply. Raises ServiceUnavailable if it has another form."""
        try:
            return self._read(reply)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise ServiceUnavailable(f"{self.model}: a reply of another form ({type(error).__name__})") from None


@dataclass(frozen=True)
class Gemini(_Client):
    """Google's Gemini. Reads the API key from GEMINI_API_KEY. Protocol: ai.google.dev/api/generate-content."""

    model: str = "gemini-2.5-pro"
    service: ClassVar[str] = "https://generativelanguage.googleapis.com"

    def _request(self, prompt: str, frames: list[tuple[str, str]]) -> tuple[str, dict[str, str], dict[str, Any]]:
        """Path, headers and body of a request."""
        parts: list[dict[str, Any]] = [{"text": prompt}]
        for caption, jpeg in frames:
            parts += [{"text": caption}, {"inlineData": {"mimeType": "image/jpeg", "data": jpeg}}]
        config = {
            "responseMimeType": "application/json",
            "responseJsonSchema": dict(ANNOTATION_SCHEMA),
            "temperature": 0.0,
        }
        body = {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}
        path = f"v1/models/{quote(self.model.removeprefix('models/'))}:generateContent"
        return path, {"x-goog-api-key": read_key("GEMINI_API_KEY")}, body

    def _read(self, reply: Any) -> Reply:
        """Reads a reply. A blocked answer has no parts, and its text is empty."""
        candidates = reply.get("candidates") or [{}]
        parts = (candidates[0].get("content") or {}).get("parts") or []
        text = "".join(part.get("text", "") for part in parts if not part.get("thought"))
        usage = reply.get("usageMetadata")
        tokens_out = count_tokens(usage, "candidatesTokenCount", "thoughtsTokenCount")
        return Reply(text, count_tokens(usage, "promptTokenCount"), tokens_out)


@dataclass(frozen=True)
class OpenAICompatible(_Client):
    """Any server with the OpenAI API. Reads the API key from OPENAI_API_KEY; optional for your own server."""

    service: ClassVar[str] = OPENAI

    def _request(self, prompt: str, frames: list[tuple[str, str]]) -> tuple[str, dict[str, str], dict[str, Any]]:
        """Path, headers and body of a request."""
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        for caption, jpeg in frames:
            image = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{jpeg}"}}
            content += [{"type": "text", "text": caption}, image]
        schema = {"name": "annotation", "schema": dict(ANNOTATION_SCHEMA)}
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "response_format": {"type": "json_schema", "json_schema": schema},
            "temperature": 0.0,
        }
        return "chat/completions", openai_headers(own_server=bool(self.base_url)), body

    def _read(self, reply: Any) -> Reply:
        return read_chat(reply, self.model)
