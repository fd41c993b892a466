"""Clients of large models that annotate videos: Gemini, and any server with the OpenAI API (for example vLLM).

Both send the same prompt and the same frames, each frame after a line with its time, and ask for JSON of the schema
`annotation.ANNOTATION_SCHEMA`. API keys come from the environment and are never logged or stored. The prompts follow
the paper (annotation pipeline, step 1). This module does not know retries or caching (`annotation_requests`).
"""

import base64
import importlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from o3v import video
from o3v.data.annotation import ANNOTATION_SCHEMA, AnnotationItem
from o3v.data.annotation_requests import Annotator, Reply, ServiceUnavailable
from o3v.schema import resolve_inside

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

BUSY = (408, 409, 425, 429, 500, 502, 503, 504)  # HTTP status codes after which a retry may help


def make_annotator(name: str, root: Path | str, model: str = "", endpoint: str = "") -> Annotator:
    """Returns the annotator "gemini" or "openai" for the videos below `root`.

    "openai" needs a `model`. An empty `endpoint` means the URL of the service itself. Raises ValueError for
    another name or a missing model.
    """
    if name == "gemini":
        return Gemini(root, model or Gemini.model, base_url=endpoint or None)
    if name == "openai" and model:
        return OpenAICompatible(root, model, base_url=endpoint or None)
    raise ValueError(f"annotator {name!r} with model {model!r}: choose gemini, or openai with a model")


@dataclass(frozen=True)
class _Client:
    """Base class of both clients. `root` is the folder that the items' paths start from.

    A video becomes `n_frames` JPEG images of at most `max_pixels`. A request may take `timeout_s`.
    """

    root: Path | str
    model: str
    n_frames: int = 16
    max_pixels: int = 512 * 512
    timeout_s: float = 120.0
    base_url: str | None = None
    deterministic: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """Everything that determines the answers."""
        return f"{type(self).__name__} {self.model} {self.n_frames}×{self.max_pixels} {ANNOTATION_PROMPTS!r}"

    def __call__(self, item: AnnotationItem) -> Reply:
        """Sends one request. Raises ServiceUnavailable for a busy or slow service or a broken reply.

        Raises ValueError without a key, and ImportError without the library of the client.
        """
        notes = "\n".join(f"From {start:g} to {end:g}: {text}" for start, end, text in item.notes)
        prompt = ANNOTATION_PROMPTS[item.kind].format(duration_s=item.duration_s, fps=item.fps, notes=notes)
        frames = video.sample_frames(resolve_inside(self.root, item.video_path), self.n_frames, self.max_pixels)
        captioned = []
        for index, time_s, image in zip(frames.indices, frames.times_s, frames.images, strict=True):
            jpeg = io.BytesIO()
            Image.fromarray(image).save(jpeg, "JPEG", quality=85)
            captioned.append((f"Frame {int(index)} at {time_s:.1f}s:", jpeg.getvalue()))
        try:
            return self._send(prompt, captioned)
        except Exception as error:
            if reason := self._temporary_fault(error):
                raise ServiceUnavailable(f"{self.model}: {reason}") from None
            raise


@dataclass(frozen=True)
class Gemini(_Client):
    """Google's Gemini, through google-genai. Reads the API key from GEMINI_API_KEY."""

    model: str = "gemini-2.5-pro"

    @cached_property
    def _client(self) -> Any:
        options = {"base_url": self.base_url, "timeout": round(self.timeout_s * 1000)}
        return _import("google.genai").Client(api_key=_key("GEMINI_API_KEY"), http_options=options)

    def _send(self, prompt: str, frames: list[tuple[str, bytes]]) -> Reply:
        types = _import("google.genai.types")
        parts: list[Any] = [prompt]
        for caption, jpeg in frames:
            parts += [caption, types.Part.from_bytes(data=jpeg, mime_type="image/jpeg")]
        config = types.GenerateContentConfig(
            response_mime_type="application/json", response_json_schema=dict(ANNOTATION_SCHEMA), temperature=0.0
        )
        response = self._client.models.generate_content(model=self.model, contents=parts, config=config)
        usage = response.usage_metadata
        if not usage:
            return Reply(response.text or "")
        tokens_out = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
        return Reply(response.text or "", usage.prompt_token_count or 0, tokens_out)

    def _temporary_fault(self, error: Exception) -> object:
        """Status or type of an error after which a retry may help, else None."""
        errors = _import("google.genai.errors")
        if isinstance(error, errors.APIError):
            return error.code if error.code in BUSY else None
        # google-genai passes on the errors of its HTTP library, which depends on the installation
        broken = isinstance(error, json.JSONDecodeError | errors.UnknownApiResponseError | OSError)
        broken = broken or type(error).__module__.startswith(("httpx", "httpcore", "aiohttp"))
        return type(error).__name__ if broken else None


@dataclass(frozen=True)
class OpenAICompatible(_Client):
    """Any server with the OpenAI API. Reads the API key from OPENAI_API_KEY; optional for your own server."""

    @cached_property
    def _client(self) -> Any:
        key = os.environ.get("OPENAI_API_KEY", "none") if self.base_url else _key("OPENAI_API_KEY")
        return _import("openai").OpenAI(api_key=key, base_url=self.base_url, timeout=self.timeout_s, max_retries=0)

    def _send(self, prompt: str, frames: list[tuple[str, bytes]]) -> Reply:
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        for caption, jpeg in frames:
            url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
            content += [{"type": "text", "text": caption}, {"type": "image_url", "image_url": {"url": url}}]
        schema = {"name": "annotation", "schema": dict(ANNOTATION_SCHEMA)}
        response = self._client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": content}],
            response_format={"type": "json_schema", "json_schema": schema},
            temperature=0.0,
        )
        usage, text = response.usage, response.choices[0].message.content or ""
        return Reply(text, usage.prompt_tokens, usage.completion_tokens) if usage else Reply(text)

    def _temporary_fault(self, error: Exception) -> object:
        """Status or type of an error after which a retry may help, else None."""
        openai = _import("openai")
        if isinstance(error, openai.APIStatusError):
            return error.status_code if error.status_code in BUSY else None
        broken = openai.APIError | json.JSONDecodeError | AttributeError | IndexError | TypeError
        return type(error).__name__ if isinstance(error, broken) else None


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"{module} is not installed; pip install 'o3v[annotate]'") from None


def _key(name: str) -> str:
    if not os.environ.get(name):
        raise ValueError(f"the environment variable {name} is not set; set it to the API key of the service")
    return os.environ[name]
