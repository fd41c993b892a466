"""Families of video-language models as a table: what differs between them stands here, and nowhere else.

A family is found by the `model_type` of its configuration. A further family is one more row, if its classes take
single images and continue positions after them, as those of Qwen-VL do. This module imports no model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from o3v.config import FrameConfig
from o3v.geometry import Size, fit_size


@dataclass(frozen=True)
class Family:
    """What the rest of the package has to know of a family. Sizes are in pixels."""

    model_type: str  # of the configuration
    title: str
    grid_px: int  # side of the square that becomes one token: patch size × spatial merge
    min_pixels: int  # of an image, as the processor on the hub has it; smaller images are scaled up
    box_space: str  # how the model writes boxes (model cards), a key of prompts.BOX_SPACES
    model_class: str  # names of classes of transformers
    config_class: str
    chat_template: str  # name in trl.chat_template_utils of the template that the family has on the hub
    default_system: str | None  # system message that this template adds to a conversation without one
    hub_sampling: Mapping[str, float]  # of the generation config on the hub; overridden wherever we generate

    @property
    def smallest_px(self) -> int:
        """Pixels of two by two tokens, the least size of a frame that our processor does not change."""
        return 4 * self.grid_px**2

    def frames(self, config: FrameConfig) -> FrameConfig:
        """The frame settings for this family: sides on its grid, and at least its smallest image."""
        least = {name: max(getattr(config, name), self.min_pixels) for name in ("min_pixels", "image_min_pixels")}
        return replace(config, grid_px=self.grid_px, **least)

    def fit(self, size_wh: Size, max_pixels: int) -> Size:
        """The size of an image for this family, `geometry.fit_size` on its grid."""
        return fit_size(size_wh, max_pixels, self.grid_px, self.min_pixels)


QWEN2_5_VL = Family(
    model_type="qwen2_5_vl",
    title="Qwen2.5-VL",
    grid_px=28,
    min_pixels=56 * 56,
    box_space="pixels",
    model_class="Qwen2_5_VLForConditionalGeneration",
    config_class="Qwen2_5_VLConfig",
    chat_template="qwen2_5_vl_chat_template",
    default_system="You are a helpful assistant.",
    hub_sampling={"temperature": 1e-6, "repetition_penalty": 1.05},
)

QWEN3_VL = Family(
    model_type="qwen3_vl",
    title="Qwen3-VL",
    grid_px=32,
    min_pixels=256 * 256,
    box_space="thousandths",
    model_class="Qwen3VLForConditionalGeneration",
    config_class="Qwen3VLConfig",
    chat_template="qwen3_vl_chat_template",
    default_system=None,
    hub_sampling={"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.0},
)

FAMILIES: Mapping[str, Family] = {family.model_type: family for family in (QWEN2_5_VL, QWEN3_VL)}


def family_of(config: Any, name: str = "the model") -> Family:
    """The family of a model's configuration. Raises ValueError, which lists the families, for any other type.

    `name` is what the message calls the model.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ValueError(
            f"{name}: model type {config.model_type!r} is none of {sorted(FAMILIES)}; "
            "add a row for it in o3v/models/families.py"
        )
    return family
