"""Memory of one GPU by part. Formulas with their sources; P: all parameters, T: trained ones, n: GPUs.

Bytes for each parameter under mixed-precision AdamW (Rajbhandari et al., ZeRO, arXiv:1910.02054, section 3.1):

    weights 2 P (bf16) · gradients 2 T · fp32 masters 4 T · optimizer 8 T (two fp32 moments)

    ddp     everything on every GPU
    zero2   gradients, masters and optimizer divided by n
    zero3   weights and reference divided by n as well; gathered whole to generate (2 P)
    fsdp2   as zero3
    zero3_offload   as zero3; masters and optimizer are in main memory

LoRA: T is rank · Σ (in + out) over the adapted layers; the reference is the model without its adapters (no copy).
Masters are not optional: bf16 weights alone hardly move at a learning rate of 1e-6. `precision="bf16"` exists to
show what was planned without them, `"fp32"` for a CPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from o3v.config import Engine, Optimizer
from o3v.planning.shapes import ModelShape

Precision = Literal["masters", "bf16", "fp32"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

GB = 1e9  # bytes; a card sold with "80 GB" has 85e9, so that plans in GB err to the safe side
# bytes for each parameter: weights (of P), masters, gradients, optimizer (of T)
BYTES: Mapping[str, tuple[int, int, int, int]] = {"masters": (2, 4, 2, 8), "bf16": (2, 0, 2, 4), "fp32": (4, 0, 4, 8)}
SHARDED: dict[str, frozenset[str]] = {
    "ddp": frozenset(),
    "zero2": frozenset({"fp32 masters", "gradients", "optimizer"}),
    "zero3": frozenset({"weights", "fp32 masters", "gradients", "optimizer", "reference model"}),
}
SHARDED |= dict.fromkeys(("zero3_offload", "fsdp2"), SHARDED["zero3"])
GATHERS = ("zero3", "zero3_offload", "fsdp2")
OFFLOADED = frozenset({"fp32 masters", "optimizer"})  # of zero3_offload
MOMENTS_8BIT = 2  # bytes; the scale of each block of 256 numbers adds 0.03. Embeddings keep 32 bits (transformers)
LIVE_PARAMETERS = 1_000_000_000  # DeepSpeed: stage3_max_live_parameters; for zero2 two buckets of 5e8
HEAD_TOKENS, HEAD_COLUMNS = 4096, 32_768  # TRL 1.16: tile of the fused language head (kernels/chunked_logprob.py)
CONTEXT = 1.5 * GB  # assumed: CUDA context, kernels, NCCL
USABLE = 0.92  # assumed share of a GPU's memory that tensors can fill; the allocator's gaps are the rest


@dataclass(frozen=True)
class Setup:
    """How a stage runs on each GPU. The token counts are those of its longest rows."""

    engine: Engine
    gpus: int
    rows: int  # in one forward pass
    prompt_tokens: int  # text and image tokens of a row
    image_tokens: int  # of a row
    completion_tokens: int
    lora_rank: int = 0  # 0 trains all weights
    reference: bool = False  # a KL penalty (beta above 0) needs the reference model
    generated_rows: int = 0  # sequences sampled at once; 0: the stage does not generate
    trains: bool = True
    precision: Precision = "masters"
    optimizer: Optimizer = "adamw"


def state_parts(shape: ModelShape, setup: Setup) -> dict[str, float]:
    """Bytes on each GPU of weights, fp32 masters, gradients, optimizer and reference model, as in the module's table.

    Qwen2.5-VL-7B has P = 8,292,166,656: bf16 alone 8 P = 66.3 GB, with the reference 82.9; with masters 16 P = 132.7
    on one GPU; ZeRO-2 on eight 2 P + 14 P/8 = 31.1; ZeRO-3 on eight 16 P/8 = 16.6 and 2.1 of reference.
    """
    parts = _whole_states(shape, setup)
    if setup.engine == "zero3_offload":
        parts = {name: size for name, size in parts.items() if name not in OFFLOADED}
    return {name: size / (setup.gpus if name in SHARDED[setup.engine] else 1) for name, size in parts.items()}


def offloaded_bytes(shape: ModelShape, setup: Setup) -> float:
    """Bytes of masters, moments and fp32 gradients in main memory, of all GPUs together; 0 without offload.

    DeepSpeed advises 1.5 times as much (`estimate_zero3_model_states_mem_needs`).
    """
    if setup.engine != "zero3_offload" or not setup.trains:
        return 0.0
    trained = shape.lora_width * setup.lora_rank or shape.parameters
    return sum(size for name, size in _whole_states(shape, setup).items() if name in OFFLOADED) + 4.0 * trained


def _whole_states(shape: ModelShape, setup: Setup) -> dict[str, float]:
    trained = shape.lora_width * setup.lora_rank or shape.parameters
    weight, master, gradient, optimizer = BYTES[setup.precision]
    adapters = trained if setup.lora_rank else 0
    moments = optimizer * trained
    if setup.optimizer == "adamw_8bit":
        kept = shape.vocabulary * shape.width * (setup.engine == "ddp" and not setup.lora_rank)
        moments = MOMENTS_8BIT * trained + (optimizer - MOMENTS_8BIT) * kept
    parts = {"weights": weight * (shape.parameters + adapters)}
    if setup.trains:
        parts |= {"fp32 masters": master * trained, "gradients": gradient * trained, "optimizer": moments}
        parts["reference model"] = weight * shape.parameters * (setup.reference and not setup.lora_rank)
    return parts


def activation_bytes(shape: ModelShape, rows: int, tokens: int, image_tokens: int, element: int = 2) -> float:
    """Activations with checkpointing: the input of every layer, and one layer while it is computed again.

    For each token of the language model, with width h, MLP width I, query width q and key width k (in elements):
    layers · h + (6 I + 6 h + 4 q + 4 k); for each patch of the vision tower layers · h + (6 I + 16 h) with a gated MLP,
    layers · h + (4 I + 16 h) without. Of the two layers the larger one counts: they are not computed at once. 6 I is
    gate, up, activation, product and two gradients; the other constants were fitted to the peaks that torch's CPU
    allocator reports (tests/planning). Attention is SDPA or flash, which keeps no matrix of scores.

    Args:
        shape: the model.
        rows: rows in one forward pass.
        tokens: tokens of a row, image tokens included.
        image_tokens: image tokens of a row; each has `shape.merged` patches.
        element: bytes of a number, 2 for bf16.
    """
    text, patches = rows * tokens, rows * image_tokens * shape.merged
    kept = text * shape.layers * shape.width + patches * shape.vision_layers * shape.vision_width
    attention = 6 * shape.width + 4 * (shape.query_width + shape.key_width)
    layer = text * (6 * shape.mlp_width + attention)
    vision = patches * ((6 if shape.vision_gated else 4) * shape.vision_mlp_width + 16 * shape.vision_width)
    return element * (kept + max(layer, vision))


def pixel_bytes(shape: ModelShape, rows: int, image_tokens: int) -> float:
    """Pixels on the GPU, fp32: each patch has 3 colours and the image twice (temporal patch size 2)."""
    return 4.0 * rows * image_tokens * shape.merged * 3 * 2 * shape.patch_px**2


def logit_bytes(shape: ModelShape, tokens: int, trains_head: bool, element: int = 2, tile_copies: float = 1.0) -> float:
    """The language head of TRL 1.16: logits in tiles, never as a whole; the head's gradient in fp32, then cast.

    copies · element · min(tokens, 4096) · 32,768 for the tile, and 4 V h + element · V h (no cast for fp32) for the
    gradient. All logits at once, as other code has them, would be 12–16 bytes · tokens · V.

    Args:
        shape: the model.
        tokens: tokens with a label in one forward pass.
        trains_head: whether the head has a gradient (not under LoRA).
        element: bytes of a number, 2 for bf16.
        tile_copies: 1 for the Triton kernel of a GPU, which works in place; torch's operations on a CPU make 8.25.
    """
    tile = tile_copies * element * min(tokens, HEAD_TOKENS) * HEAD_COLUMNS
    return tile + (4 + (element if element < 4 else 0)) * shape.vocabulary * shape.width * trains_head


def kv_cache_bytes(shape: ModelShape, sequences: int, tokens: int, element: int = 2) -> float:
    """Keys and values of all layers: 2 · element · layers · key width · tokens · sequences."""
    return 2.0 * element * shape.layers * shape.key_width * tokens * sequences


def buffer_bytes(shape: ModelShape, setup: Setup) -> float:
    """What an engine keeps besides the states.

    ddp: bf16 copies of the trained weights that autocast makes (2 T), and buckets as large as the gradients (n > 1).
    zero2: two buckets of 5e8 numbers. zero3 and fsdp2: the layers gathered at a time, at most 1e9 numbers.
    """
    trained = shape.lora_width * setup.lora_rank or shape.parameters
    if setup.engine == "ddp":
        return trained * (2.0 * (setup.precision == "masters") + BYTES[setup.precision][2] * (setup.gpus > 1))
    return 2.0 * min(trained if setup.engine == "zero2" else shape.parameters, LIVE_PARAMETERS)


def memory_parts(shape: ModelShape, setup: Setup) -> dict[str, float]:
    """Bytes of one GPU by part, and `peak`: the states with the larger of the two phases, training and generation."""
    rows, image_tokens = setup.rows, setup.image_tokens
    tokens = setup.prompt_tokens + setup.completion_tokens
    states = state_parts(shape, setup)
    training, generation = {}, {}
    if setup.trains:
        training["activations"] = activation_bytes(shape, rows, tokens, image_tokens)
        training["activations"] += pixel_bytes(shape, rows, image_tokens)
        training["logits"] = logit_bytes(shape, rows * setup.completion_tokens, not setup.lora_rank)
        training["engine buffers"] = buffer_bytes(shape, setup)
    if setup.generated_rows:
        generation["KV cache"] = kv_cache_bytes(shape, setup.generated_rows, tokens)
        if setup.trains and setup.engine in GATHERS:
            generation["weights gathered"] = 2.0 * shape.parameters
    parts = {**states, **training, **generation, "CUDA context": CONTEXT}
    peak = sum(states.values()) + max(sum(training.values()), sum(generation.values())) + CONTEXT
    return {**parts, "peak": peak}


def fits(parts: Mapping[str, float], gpu_memory: float) -> bool:
    """True if the peak of `memory_parts` fits a GPU of `gpu_memory` bytes, with the allocator's gaps."""
    return parts["peak"] <= USABLE * gpu_memory
