"""Exports rows for other trainers: TRL, ms-swift and LLaMA-Factory, one conversation per row.

Question and answer keep the evidence grammar, with its system prompt. Boxes become thousandths, the space of Qwen3-VL.
The pixel boxes of Qwen2.5-VL cannot be exported: they depend on the frame size that the trainer chooses.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from o3v.prompts import BOX_SPACES, SYSTEM_PROMPTS, target_text
from o3v.schema import Example, Row, Task

THOUSANDTHS = BOX_SPACES["thousandths"]


def to_trl(example: Example, response: str) -> Row:
    """TRL: `prompt` and `completion` as messages, with `videos` or `images`."""
    kind = _media_kind(example)
    question = [{"type": kind}, {"type": "text", "text": example.question}]
    return {
        "prompt": [
            {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPTS[example.task]}]},
            {"role": "user", "content": question},
        ],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": response}]}],
        f"{kind}s": [example.media_path],
    }


def to_swift(example: Example, response: str) -> Row:
    """ms-swift: `messages` with a placeholder for the video or image."""
    kind = _media_kind(example)
    return {
        "messages": [
            {"role": "system", "content": SYSTEM_PROMPTS[example.task]},
            {"role": "user", "content": f"<{kind}>{example.question}"},
            {"role": "assistant", "content": response},
        ],
        f"{kind}s": [example.media_path],
    }


def to_llama_factory(example: Example, response: str) -> Row:
    """LLaMA-Factory: `conversations` in the ShareGPT format, with the system prompt in `system`."""
    kind = _media_kind(example)
    return {
        "conversations": [
            {"from": "human", "value": f"<{kind}>{example.question}"},
            {"from": "gpt", "value": response},
        ],
        "system": SYSTEM_PROMPTS[example.task],
        f"{kind}s": [example.media_path],
    }


def _media_kind(example: Example) -> str:
    return "image" if example.task is Task.SPATIAL else "video"


FORMATS: Mapping[str, Callable[[Example, str], Row]] = {
    "trl": to_trl,
    "swift": to_swift,
    "llama-factory": to_llama_factory,
}


def export_rows(examples: Iterable[Example], name: str) -> Iterator[Row]:
    """Converts rows to the format `name`. The response of a row without reasoning (RL) is its answer alone.

    Raises ValueError for an unknown format.
    """
    if name not in FORMATS:
        raise ValueError(f"format {name!r} does not exist; choose one of {', '.join(FORMATS)}")
    for example in examples:
        response = target_text(example, THOUSANDTHS) if example.reasoning_process else example.answer
        yield FORMATS[name](example, response)
