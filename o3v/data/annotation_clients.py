"""Large models as annotators: Gemini, and whatever speaks OpenAI's protocol (a vLLM server, say).

Both get the same words and the same frames, each after its time, and must answer in the JSON of
`annotate.ANNOTATION`. Keys come from the environment, and are never logged or stored. Source of the two prompts:
paper, annotation pipeline, step 1, in our words.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from o3v import video
from o3v.data.annotation import ANNOTATION_SCHEMA, AnnotationItem
from o3v.data.annotation_requests import Annotator, Reply, ServiceUnavailable
from o3v.schema import resolve_inside

# what an annotator is told (paper, annotation pipeline, step 1), by kind of item
_RULES = """Make one training example for a model that must show evidence for its answers.
Ask one question about a specific object or person, such that one has to watch to answer it, and answer it briefly.
Choose 1 to 5 key frames ("at": {at}) and give in each the boxes of 1 to 3 objects that matter, each box
[x0, y0, x1, y1] as shares of the frame between 0 and 1, tight around the object, never the whole frame.
Then reason step by step from what is seen to the answer. Whenever the reasoning names an object, write
<obj>name</obj><box>[x0,y0,x1,y1]</box>at<t>{at_tag}</t>s with a name, box and time that stand in the key frames;
name nothing that does not. Output JSON only."""


ANNOTATION_PROMPTS: Mapping[str, str] = {
    "segment": "These are frames of a video of {duration_s:.1f} seconds with an action in it.\n{notes}\n"
    + _RULES.format(at="the time in seconds", at_tag="seconds"),
    "regions": "These are frames of a video at {fps:g} frames a second, with captions of regions by frame index.\n"
    "{notes}\n" + _RULES.format(at="the frame index", at_tag="frame index"),
}

BUSY = (408, 409, 425, 429, 500, 502, 503, 504)


def make_annotator(name: str, root: Path | str, model: str = "", endpoint: str = "") -> Annotator:
    """The annotator "gemini" or "openai". Raises ValueError for another name or a missing model."""
    if name == "gemini":
        return Gemini(root, model or Gemini.model, base_url=endpoint or None)
    if name == "openai" and model:
        return OpenAICompatible(root, model, base_url=endpoint or None)
    raise ValueError(f"annotator {name!r} with model {model!r}: choose gemini, or openai with a model")


@dataclass(frozen=True)
class _Network:
    """What the two have in common. `root` is the folder that items' paths start from."""

    root: Path | str
    model: str
    frames: int = 16
    max_pixels: int = 512 * 512
    timeout_s: float = 120.0
    base_url: str | None = None
    repeats: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """All that decides the answers."""
        return f"{type(self).__name__} {self.model} {self.frames}×{self.max_pixels} {ANNOTATION_PROMPTS!r}"

    def _words(self, item: AnnotationItem) -> str:
        notes = "\n".join(f"From {a:g} to {b:g}: {text}" for a, b, text in item.notes)
        return ANNOTATION_PROMPTS[item.kind].format(duration_s=item.duration_s, fps=item.fps, notes=notes)

    def _pictures(self, item: AnnotationItem) -> Iterator[tuple[str, bytes]]:
        """The frames as JPEG, each with the words before it."""
        read = video.sample_frames(resolve_inside(self.root, item.video_path), self.frames, self.max_pixels)
        for index, time_s, image in zip(read.indices, read.times_s, read.images, strict=True):
            packed = io.BytesIO()
            Image.fromarray(image).save(packed, "JPEG", quality=85)
            yield f"Frame {int(index)} at {time_s:.1f}s:", packed.getvalue()


@dataclass(frozen=True)
class Gemini(_Network):
    """Google's Gemini (google-genai). Reads its key from GEMINI_API_KEY."""

    model: str = "gemini-2.5-pro"

    @cached_property
    def _client(self) -> Any:
        genai = _import("google.genai")
        options = {"base_url": self.base_url, "timeout": round(self.timeout_s * 1000)}
        return genai.Client(api_key=_key("GEMINI_API_KEY"), http_options=options)

    def __call__(self, item: AnnotationItem) -> Reply:
        """Asks once. Raises Unavailable when the service is busy, slow or answers half, ValueError without a key."""
        from google.genai import errors, types

        parts: list[Any] = [self._words(item)]
        for words, jpeg in self._pictures(item):
            parts += [words, types.Part.from_bytes(data=jpeg, mime_type="image/jpeg")]
        config = types.GenerateContentConfig(
            response_mime_type="application/json", response_json_schema=dict(ANNOTATION_SCHEMA), temperature=0.0
        )
        try:
            said = self._client.models.generate_content(model=self.model, contents=parts, config=config)
        except errors.APIError as error:
            if error.code in BUSY:
                raise ServiceUnavailable(f"{self.model}: {error.code}") from None
            raise
        except Exception as error:  # whichever client carries the requests has errors of its own
            lost = isinstance(error, json.JSONDecodeError | errors.UnknownApiResponseError | OSError)
            if lost or type(error).__module__.startswith(("httpx", "httpcore", "aiohttp")):
                raise ServiceUnavailable(f"{self.model}: {type(error).__name__}") from None
            raise
        used = said.usage_metadata
        return Reply(
            said.text or "",
            (used.prompt_token_count or 0) if used else 0,
            ((used.candidates_token_count or 0) + (used.thoughts_token_count or 0)) if used else 0,
        )


@dataclass(frozen=True)
class OpenAICompatible(_Network):
    """Any server of OpenAI's protocol (openai). Reads its key from OPENAI_API_KEY; a local server may need none."""

    @cached_property
    def _client(self) -> Any:
        openai = _import("openai")
        key = os.environ.get("OPENAI_API_KEY", "none") if self.base_url else _key("OPENAI_API_KEY")
        return openai.OpenAI(api_key=key, base_url=self.base_url, timeout=self.timeout_s, max_retries=0)

    def __call__(self, item: AnnotationItem) -> Reply:
        """Asks once. Raises Unavailable when the service is busy, slow or answers half, ValueError without a key."""
        import openai

        content: list[dict[str, Any]] = [{"type": "text", "text": self._words(item)}]
        for words, jpeg in self._pictures(item):
            url = "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
            content += [{"type": "text", "text": words}, {"type": "image_url", "image_url": {"url": url}}]
        schema = {"name": "annotation", "schema": dict(ANNOTATION_SCHEMA)}
        try:
            said = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": content}],
                response_format={"type": "json_schema", "json_schema": schema},
                temperature=0.0,
            )
            text = said.choices[0].message.content or ""
        except openai.APIStatusError as error:
            if error.status_code in BUSY:
                raise ServiceUnavailable(f"{self.model}: {error.status_code}") from None
            raise
        except (openai.APIError, json.JSONDecodeError, AttributeError, IndexError, TypeError) as error:
            raise ServiceUnavailable(f"{self.model}: {type(error).__name__}") from None
        used = said.usage
        return Reply(text, used.prompt_tokens if used else 0, used.completion_tokens if used else 0)


def _import(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"{module} is not installed; pip install 'o3v[annotate]'") from None


def _key(name: str) -> str:
    if not os.environ.get(name):
        raise ValueError(f"the environment variable {name} is not set; put the service's key there")
    return os.environ[name]
