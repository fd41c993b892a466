"""The sizes of a model that decide its memory and time, from its configuration alone.

The parameters are counted on torch's meta device, with the classes of transformers: no weights, no network. The
configurations of the models that the profiles name are shipped as a table.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from o3v.config import REPOSITORY

VISION_25 = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
VISION_3_4B = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16}
VISION_3_8B = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16}
SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
FIELDS = (*SIZES, "num_key_value_heads", "vocab_size")


@dataclass(frozen=True)
class KnownModel:
    """The configuration of a model on the hub, as far as it decides sizes."""

    family: str
    parameters: int  # as the hub counts them
    language: tuple[int, ...]  # FIELDS of the language model
    vision: Mapping[str, Any]
    tied: bool  # the head shares the weights of the embedding
    more: Mapping[str, Any] = field(default_factory=dict)  # of the language model


# Source: config.json and the number of parameters of each model on the hub.
KNOWN: Mapping[str, KnownModel] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": KnownModel(
        "qwen2_5_vl", 3_754_622_976, (2048, 11_008, 36, 16, 2, 151_936), VISION_25 | {"out_hidden_size": 2048}, True
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": KnownModel(
        "qwen2_5_vl", 8_292_166_656, (3584, 18_944, 28, 28, 4, 152_064), VISION_25 | {"out_hidden_size": 3584}, False
    ),
    "Qwen/Qwen3-VL-4B-Instruct": KnownModel(
        "qwen3_vl",
        4_437_815_808,
        (2560, 9728, 36, 32, 8, 151_936),
        VISION_3_4B | {"out_hidden_size": 2560, "deepstack_visual_indexes": [5, 11, 17]},
        True,
        {"head_dim": 128},
    ),
    "Qwen/Qwen3-VL-8B-Instruct": KnownModel(
        "qwen3_vl",
        8_767_123_696,
        (4096, 12_288, 36, 32, 8, 151_936),
        VISION_3_8B | {"out_hidden_size": 4096, "deepstack_visual_indexes": [8, 16, 24]},
        False,
        {"head_dim": 128},
    ),
}
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj")  # of the language model: training.trainer.LANGUAGE_ATTENTION


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a model. Widths are numbers of features, counts are numbers of parameters."""

    parameters: int  # all
    vision_parameters: int  # of the vision tower
    lora_width: int  # parameters of the adapters on the language model's attention, for each unit of their rank
    vocabulary: int
    layers: int
    width: int
    mlp_width: int
    query_width: int
    key_width: int  # of keys; values have the same
    vision_layers: int
    vision_width: int
    vision_mlp_width: int
    vision_gated: bool  # Qwen2.5-VL: gate, up and down projections; Qwen3-VL: two projections
    patch_px: int  # side of a patch, pixels
    merged: int  # patches of one image token

    @property
    def grid_px(self) -> int:
        """Side of the square of one image token, in pixels: 28 for Qwen2.5-VL, 32 for Qwen3-VL."""
        return round(self.patch_px * self.merged**0.5)


def find_model(base: str) -> Path | None:
    """The folder of a model: a folder anywhere, one of this repository, or a snapshot in the hub cache; else None.

    The cache is where `HF_HUB_CACHE`, `HF_HOME` or `XDG_CACHE_HOME` say, as for the hub's client.
    """
    for folder in (REPOSITORY / base, Path(base).expanduser()):
        if (folder / "config.json").is_file():
            return folder
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
    snapshots = (cache / f"models--{base.replace('/', '--')}" / "snapshots").glob("*/config.json")
    return max((path.parent for path in snapshots), key=lambda path: path.stat().st_mtime, default=None)


def missing_weights(folder: Path) -> list[str]:
    """Names of the weight files that a model folder lacks, by its index of shards. An empty list: all are there."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [] if any(folder.glob("*.safetensors")) else ["model.safetensors"]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return [index.name]
    return [name for name in names if not (folder / name).is_file()]


def parameters_of(base: str) -> int:
    """About how many parameters a model has, without torch: from the table, or from its weight files; else 0."""
    if base in KNOWN:
        return KNOWN[base].parameters
    folder = find_model(base)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) // 2 if folder else 0


def model_shape(base: str) -> ModelShape:
    """The shape of a base model: hub name in the table, model folder, or hub name in the local cache.

    Raises ValueError if the configuration cannot be found or is not one of a video-language model. Imports torch and
    transformers (some seconds).
    """
    folder = find_model(base)
    if folder is None and base not in KNOWN:
        raise ValueError(f"{base}: no folder with config.json, not in the local hub cache, none of {', '.join(KNOWN)}")
    import torch
    from transformers import AutoConfig
    from transformers.models.auto import AutoModelForImageTextToText

    try:
        if folder is not None:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        else:
            known = KNOWN[base]
            text = {**dict(zip(FIELDS, known.language, strict=True)), **known.more, "tie_word_embeddings": known.tied}
            vision, tied = dict(known.vision), known.tied
            config = AutoConfig.for_model(
                known.family, text_config=text, vision_config=vision, tie_word_embeddings=tied
            )
        with torch.device("meta"):
            return shape_of(AutoModelForImageTextToText.from_config(config))
    except (ValueError, OSError, AttributeError, KeyError) as error:
        message = " ".join(str(error).split())
        raise ValueError(f"{base}: config.json is not one of a video-language model: {message:.200}") from None


def shape_of(model: Any) -> ModelShape:
    """The shape of a model of transformers that was built already, on any device."""
    text, vision = model.config.get_text_config(), model.config.vision_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    layers = [m for name, m in model.named_modules() if "language_model" in name and name.endswith(ADAPTED)]
    blocks = {name.rsplit(".", 1)[-1] for name, _ in model.model.visual.named_modules()}
    return ModelShape(
        parameters=sum(p.numel() for p in model.parameters()),
        vision_parameters=sum(p.numel() for p in model.model.visual.parameters()),
        lora_width=sum(layer.in_features + layer.out_features for layer in layers),
        vocabulary=text.vocab_size,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        mlp_width=text.intermediate_size,
        query_width=text.num_attention_heads * head,
        key_width=text.num_key_value_heads * head,
        vision_layers=vision.depth,
        vision_width=vision.hidden_size,
        vision_mlp_width=vision.intermediate_size,
        vision_gated="gate_proj" in blocks,
        patch_px=vision.patch_size,
        merged=vision.spatial_merge_size**2,
    )
