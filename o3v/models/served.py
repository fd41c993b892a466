"""A model on a server with the OpenAI API as vLLM has it: the same prompts and settings as in process.

Frames travel as PNG, each after the text with its time, so that nothing depends on how a server reads videos. This
module does not load models.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from o3v.http_json import ServiceUnavailable, check_endpoint, openai_headers, post_json
from o3v.prompts import Prompt

BANNED = -100.0  # lowest logit bias of the API


@dataclass(frozen=True)
class ServedModel:
    """What stands in place of the weights. Requests of a batch are sent side by side; the server batches them."""

    url: str  # with the version: http://localhost:8000/v1
    name: str  # as the server calls the model
    banned_ids: tuple[int, ...] = ()  # tokens that are never sampled
    workers: int = 16  # requests at a time
    timeout_s: float = 600.0  # of one request
    attempts: int = 4  # for a busy server

    def __post_init__(self) -> None:
        check_endpoint(self.url)

    def generate(self, prompts: Sequence[Prompt], repeats: int, sampling: Mapping[str, Any]) -> list[str]:
        """`repeats` responses for each prompt, one prompt after the other, with `sampling` as fields of the request.

        Raises ServiceUnavailable if the server stays busy or answers in another form, ServiceError and RequestRefused
        (`http_json`) where it refuses.
        """
        retrying = Retrying(
            stop=stop_after_attempt(self.attempts),
            wait=wait_random_exponential(max=20),
            retry=retry_if_exception_type(ServiceUnavailable),
            reraise=True,
        )
        with ThreadPoolExecutor(self.workers) as pool:
            seeds = [sampling["seed"] + number * repeats for number in range(len(prompts))]  # vLLM adds 0, 1, … to each
            ask = partial(retrying, self._ask, repeats=repeats, sampling=sampling)
            answers = pool.map(lambda prompt, seed: ask(prompt=prompt, seed=seed), prompts, seeds)
            return [text for texts in answers for text in texts]

    def _ask(self, prompt: Prompt, repeats: int, sampling: Mapping[str, Any], seed: int) -> list[str]:
        body = {"model": self.name, "messages": openai_messages(prompt), "n": repeats, **sampling, "seed": seed}
        body["logit_bias"] = {str(token): BANNED for token in self.banned_ids}
        if prompt.response_prefix:  # vLLM continues the last message
            body["messages"].append({"role": "assistant", "content": prompt.response_prefix})
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        url = f"{check_endpoint(self.url)}/chat/completions"
        reply = post_json(url, openai_headers(own_server=True), body, self.timeout_s)
        try:
            texts = [choice["message"]["content"] or "" for choice in reply["choices"]]
        except (KeyError, TypeError) as error:
            raise ServiceUnavailable(f"{self.name}: a reply of another form ({type(error).__name__})") from None
        if len(texts) != repeats or not all(isinstance(text, str) for text in texts):
            raise ServiceUnavailable(f"{self.name}: {len(texts)} answers instead of {repeats}")
        return texts


def openai_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The messages of a prompt with its images as PNG data URLs, in their places."""
    images = iter(prompt.images)

    def part(given: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": png_url(next(images))}} if given["type"] == "image" else given

    return [{**message, "content": [part(p) for p in message["content"]]} for message in prompt.messages]


def png_url(image: np.ndarray) -> str:
    """An image (height, width, 3) as a data URL, without loss."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
