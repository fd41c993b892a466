"""Exports rows for other trainers: TRL, ms-swift and LLaMA-Factory, one conversation per row.

Question and answer keep the evidence grammar, with its system prompt. Boxes become thousandths, the space of Qwen3-VL.
The pixel boxes of Qwen2.5-VL cannot be exported: they depend on the frame size that the trainer chooses.
"""

from collections.abc import Iterable, Iterator

from o3v.prompts import SYSTEM_PROMPTS, box_space_size, question_in_space, target_answer, target_text
from o3v.schema import Example, Row, Task


def _trl(system: str, question: str, response: str, kind: str) -> Row:
    """TRL: `prompt` and `completion` as messages."""
    content = [{"type": kind}, {"type": "text", "text": question}]
    return {
        "prompt": [
            {"role": "system", "content": [{"type": "text", "text": system}]},
            {"role": "user", "content": content},
        ],
        "completion": [{"role": "assistant", "content": [{"type": "text", "text": response}]}],
    }


def _swift(system: str, question: str, response: str, kind: str) -> Row:
    """ms-swift: `messages` with a placeholder for the video or image."""
    texts = {"system": system, "user": f"<{kind}>{question}", "assistant": response}
    return {"messages": [{"role": role, "content": text} for role, text in texts.items()]}


def _llama_factory(system: str, question: str, response: str, kind: str) -> Row:
    """LLaMA-Factory: `conversations` in the ShareGPT format."""
    texts = {"human": f"<{kind}>{question}", "gpt": response}
    return {"conversations": [{"from": role, "value": text} for role, text in texts.items()], "system": system}


FORMATS = {"trl": _trl, "swift": _swift, "llama-factory": _llama_factory}


def export_rows(examples: Iterable[Example], name: str) -> Iterator[Row]:
    """Converts rows to the format `name`. The response of a row without reasoning (RL) is its answer alone.

    Raises ValueError for an unknown format.
    """
    if name not in FORMATS:
        raise ValueError(f"format {name!r} does not exist; choose one of {', '.join(FORMATS)}")
    space_wh = box_space_size((1, 1), "thousandths")
    for example in examples:
        to_text = target_text if example.reasoning_process else target_answer
        question, response = question_in_space(example, space_wh), to_text(example, space_wh)
        kind = "image" if example.task is Task.SPATIAL else "video"
        row = FORMATS[name](SYSTEM_PROMPTS[example.task], question, response, kind)
        yield row | {f"{kind}s": [example.media_path]}
