"""The video-language model: load, save, encode prompts, generate.

The same functions work for Qwen2.5-VL, Qwen3-VL and the tiny base, which has the same classes. Frames are passed as
single images, each with its time in the text, so the processor needs no video part and no torchvision. This module does
not know rewards or training.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig, AutoTokenizer, Qwen2_5_VLProcessor, set_seed
from transformers.models.auto import AutoModelForImageTextToText

from o3v.config import FrameConfig
from o3v.evidence import TAGS
from o3v.models import prefix_cache
from o3v.models.families import Family, family_of
from o3v.models.hub_files import write_processor
from o3v.models.qwen_speedups import FrameImageProcessor, apply_speedups
from o3v.models.served import ServedModel
from o3v.models.source import ModelSource, weights_digest
from o3v.prompts import Prompt, PromptBuilder
from o3v.video import FrameCache

# tokens of images and videos, which a response must never contain
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")


class FrameProcessor(Qwen2_5_VLProcessor):
    """Qwen's processor without its video part. Its files are the stock ones of `model_type` (`hub_files`)."""

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        model_type: str = "qwen2_5_vl",
    ) -> None:
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)
        self.model_type = model_type

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Writes the files that `AutoProcessor`, vLLM and lmms-eval read; trainers call this for each checkpoint."""
        return write_processor(self, self.model_type, save_directory)

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]


@dataclass(frozen=True)
class VideoModel:
    """A model with its processor and the facts of its family.

    `source` is where the weights were loaded from or saved to, so that workers can load them (`workers`).
    """

    model: Any
    processor: Any
    family: Family
    source: ModelSource | None = None

    @property
    def box_space(self) -> str:
        """How the model writes boxes, a key of prompts.BOX_SPACES."""
        return self.family.box_space

    def prompt_builder(self, root: Path | str, frames: FrameConfig, cache: FrameCache | None = None) -> PromptBuilder:
        """Prompts for this model from rows below `root`, with frames on the grid of its family, kept in `cache`."""
        return PromptBuilder(Path(root), self.family.frames(frames), self.box_space, cache)


def forbid_vision_tokens(model: Any, tokenizer: Any) -> None:
    """Suppresses vision tokens in generation: a sampled one would refer to an image that does not exist."""
    ids = tokenizer.convert_tokens_to_ids(list(VISION_TOKENS))
    model.generation_config.suppress_tokens = sorted({i for i in ids if i is not None and i >= 0})


def load(name: str | Path, adapter: str | Path | None = None, master_weights: bool = False) -> VideoModel:
    """Loads a model folder or hub name in evaluation mode: bf16 on a GPU if there is one, else fp32 on the CPU.

    `adapter` adds a LoRA folder. `master_weights` keeps the weights in fp32 on a GPU too, as full fine-tuning needs
    them; their arithmetic is bf16 (autocast). Raises OSError if the model is not found, ValueError for a family that is
    not in `families`.
    """
    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu and not master_weights else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, trust_remote_code=False)
    family = family_of(model.config, str(name))
    processor = load_processor(name, family)
    apply_speedups(model)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    forbid_vision_tokens(model, processor.tokenizer)
    model = model.to("cuda" if gpu else "cpu").eval()
    places = [place and str(Path(place).absolute() if Path(place).is_dir() else place) for place in (name, adapter)]
    source = ModelSource(*places, master_weights, weights_digest(model))
    return VideoModel(model, processor, family, source)


def load_processor(name: str | Path, family: Family) -> FrameProcessor:
    """The processor of a model folder or hub name, which leaves frames of the size of the family as they are."""
    tokenizer = AutoTokenizer.from_pretrained(name, padding_side="left", trust_remote_code=False)
    images = FrameImageProcessor.from_pretrained(name)
    images.size["shortest_edge"] = min(images.size["shortest_edge"], family.smallest_px)  # frames have their size
    return FrameProcessor(images, tokenizer, tokenizer.chat_template, family.model_type)


def connect(name: str | Path, url: str, served_name: str = "") -> VideoModel:
    """A model whose weights are on a server with vLLM's OpenAI API; only `generate` and prompts work with it.

    Args:
        name: folder or hub name, for family and tokenizer; no weights are read.
        url: of the server, with its version: http://localhost:8000/v1.
        served_name: of the model on the server; empty: `name`.

    Raises OSError if the model is not found, ValueError for another family or a bad URL.
    """
    family = family_of(AutoConfig.from_pretrained(name, trust_remote_code=False), str(name))
    processor = load_processor(name, family)
    banned = processor.tokenizer.convert_tokens_to_ids(list(VISION_TOKENS))
    return VideoModel(ServedModel(url, served_name or str(name), tuple(banned)), processor, family)


def save(vlm: VideoModel, folder: Path | str, half: bool = False) -> VideoModel:
    """Writes weights (safetensors), configs, tokenizer and processors in the hub's layout. `half` stores fp16 weights.

    `load`, `AutoProcessor`, vLLM and lmms-eval read the folder. Returns the model with the folder as its source, which
    a model with adapters or with halved weights does not have.
    """
    (copy.deepcopy(vlm.model).half() if half else vlm.model).save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    if half or hasattr(vlm.model, "peft_config"):
        return replace(vlm, source=None)
    whole = vlm.model.device.type == "cuda" and vlm.model.dtype == torch.float32
    return replace(vlm, source=ModelSource(str(Path(folder).absolute()), None, whole, weights_digest(vlm.model)))


def encode(processor: Any, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """Model inputs of a batch of prompts, padded on the left: input_ids (batch, length), pixel_values, …"""
    texts = [prompt_text(processor, prompt) for prompt in prompts]
    images = [[Image.fromarray(image) for image in p.images] for p in prompts]
    return processor(images=images, text=texts, padding=True, padding_side="left", return_tensors="pt")


def prompt_text(processor: Any, prompt: Prompt) -> str:
    """The text of a prompt with one mark for each image, and the beginning of the response if the prompt has one."""
    text = processor.tokenizer.apply_chat_template(prompt.messages, tokenize=False, add_generation_prompt=True)
    return text + (prompt.response_prefix.removeprefix(response_opening(processor)) if prompt.response_prefix else "")


def response_opening(processor: Any) -> str:
    """`<think>` if the chat template itself opens the thinking (thinking models), else an empty text.

    Completions of such a model only close the tag: the opening belongs to the response that is parsed and scored.
    """
    messages = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    prompt = processor.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return TAGS[0] if prompt.rstrip().endswith(TAGS[0]) else ""


def mixed_precision(model: Any) -> AbstractContextManager:
    """bf16 arithmetic for a model with fp32 weights on a GPU, as in its training; nothing for other models."""
    master = model.device.type == "cuda" and model.dtype == torch.float32
    return torch.autocast("cuda", torch.bfloat16) if master else nullcontext()


@torch.inference_mode()
def generate(
    vlm: VideoModel,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    repeats: int = 1,
    top_k: int = 0,
    repetition_penalty: float = 1.0,
) -> list[str]:
    """Generates `repeats` responses for each prompt, as text, one prompt after the other.

    The prompts of one call form one batch. Equal prompts are prefilled once where the model supports it.

    Args:
        vlm: the model.
        prompts: the batch.
        max_new_tokens: largest length of a response.
        temperature: 0 is greedy; sampling uses top-p 0.95.
        seed: seed of the sampling.
        repeats: responses for each prompt.
        top_k: number of tokens that sampling chooses from; 0 is all.
        repetition_penalty: 1 is none.

    A response continues `Prompt.response_prefix`, which is not repeated in the result; a `<think>` that the chat
    template opens is (`response_opening`).
    """
    if isinstance(vlm.model, ServedModel):
        settings = decoding_options(max_new_tokens, temperature, 0.95, top_k, repetition_penalty)
        return _with_openings(vlm, prompts, vlm.model.generate(prompts, repeats, api_options(settings, seed)), repeats)
    inputs = {k: v.to(vlm.model.device) for k, v in encode(vlm.processor, prompts).items()}
    set_seed(seed)
    settings = decoding_options(max_new_tokens, temperature, 0.95, top_k, repetition_penalty)
    with mixed_precision(vlm.model):
        if prefix_cache.supports_prefix_cache(vlm.model) and "pixel_values" in inputs:
            tokens = prefix_cache.generate(vlm.model, repeats, **inputs, **settings)
        else:
            tokens = vlm.model.generate(**inputs, num_return_sequences=repeats, **settings)
    texts = vlm.processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return _with_openings(vlm, prompts, texts, repeats)


def _with_openings(vlm: VideoModel, prompts: Sequence[Prompt], texts: Sequence[str], repeats: int) -> list[str]:
    opening = response_opening(vlm.processor)
    continued = [bool(prompt.response_prefix) for prompt in prompts for _ in range(repeats)]
    return [text if prefix else opening + text for prefix, text in zip(continued, texts, strict=True)]


def api_options(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """Options of `decoding_options` as fields of a request to vLLM, all named, so that no preset of the hub applies."""
    greedy = not options["do_sample"]
    return {
        "max_tokens": options["max_new_tokens"],
        "temperature": 0.0 if greedy else options["temperature"],
        "top_p": 1.0 if greedy else options["top_p"],
        "top_k": 0 if greedy else options["top_k"],
        "min_p": 0.0,
        "repetition_penalty": options["repetition_penalty"],
        "seed": seed,
    }


def decoding_options(
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    repetition_penalty: float = 1.0,
) -> dict[str, Any]:
    """Arguments of `generate` of a model: greedy at temperature 0, with every setting that the hub presets.

    Models on the hub come with settings of their own (`Family.hub_sampling`), which would otherwise apply.

    Args:
        max_new_tokens: largest length of a response.
        temperature: divides the logits; 0 is greedy.
        top_p: probability mass of the tokens that are sampled.
        top_k: number of the tokens that are sampled; 0 is all.
        repetition_penalty: divides the logits of tokens that occurred; 1 is none.
    """
    always = {"max_new_tokens": max_new_tokens, "repetition_penalty": repetition_penalty}
    if temperature <= 0:
        return {**always, "do_sample": False, "temperature": 1.0, "top_p": 1.0, "top_k": 50}  # transformers' defaults
    return {**always, "do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": top_k}


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive slices of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
