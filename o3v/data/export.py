"""Rows for other trainers: TRL, ms-swift and LLaMA-Factory, one conversation a line.

Question and answer stay in the method's grammar, with its system prompt. Boxes become thousandths, which Qwen3-VL
speaks; Qwen2.5-VL's pixels depend on the size that a trainer gives its frames, so they cannot be written ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from o3v.prompts import BOX_SPACES, SYSTEM_PROMPTS, target_text
from o3v.schema import Example, Row, Task

THOUSANDTHS = BOX_SPACES["thousandths"]


def to_trl(example: Example, response: str) -> Row:
    """TRL: `prompt` and `completion` as messages, `videos` or `images` beside them."""
    kind = "image" if example.task is Task.SPATIAL else "video"
    asked = [{"type": kind}, {"type": "text", "text": example.question}]
    return {
        "prompt": [
            {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPTS[example.task]}]},
            {"role": "user", "content": asked},
        ],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": response}]}],
        f"{kind}s": [example.media_path],
    }


def to_swift(example: Example, response: str) -> Row:
    """ms-swift: `messages` with a mark for the medium."""
    kind = "image" if example.task is Task.SPATIAL else "video"
    return {
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPTS[example.task]},
            {"role": "user", "content": f"<{kind}>{example.question}"},
            {"role": "assistant", "content": response},
        ],
        f"{kind}s": [example.media_path],
    }


def to_llama_factory(example: Example, response: str) -> Row:
    """LLaMA-Factory: ShareGPT's `conversations`, the system prompt beside them."""
    kind = "image" if example.task is Task.SPATIAL else "video"
    return {
        "conversations": [
            {"from": "human", "value": f"<{kind}>{example.question}"},
            {"from": "gpt", "value": response},
        ],
        "system": SYSTEM_PROMPTS[example.task],
        f"{kind}s": [example.media_path],
    }


FORMATS: Mapping[str, Callable[[Example, str], Row]] = {
    "trl": to_trl,
    "swift": to_swift,
    "llama-factory": to_llama_factory,
}


def export_rows(examples: Iterable[Example], name: str) -> Iterator[Row]:
    """Rows in the format `name`. Rows without a chain (RL) get the bare answer as their response.

    Raises ValueError for a format that does not exist.
    """
    if name not in FORMATS:
        raise ValueError(f"format {name!r} does not exist; choose one of {', '.join(FORMATS)}")
    for example in examples:
        response = target_text(example, THOUSANDTHS) if example.reasoning_process else example.answer
        yield FORMATS[name](example, response)
