"""Full fine-tuning needs fp32 master weights: a learning rate of 1e-6 is below the resolution of bf16.

A bf16 number has 8 significant bits, so an AdamW step of 1e-6 is lost in every weight above 5e-4. On the tiny model,
ten steps at 1e-6 move all weights in fp32 and 1% of them in bf16. The way is fp32 weights with the arithmetic in bf16
(autocast). DeepSpeed ZeRO and FSDP keep the fp32 weights themselves, a part on each GPU.
"""

import os
from typing import Any

import torch

LOW_PRECISION = (torch.bfloat16, torch.float16)


def require_master_weights(model: Any, arguments: Any, lora_rank: int = 0) -> None:
    """Raises ValueError if weights below fp32 would be trained by an optimizer without fp32 copies of them.

    Args:
        model: the model to train, before its trainer is made.
        arguments: the trainer's TrainingArguments, which know whether DeepSpeed or FSDP keeps the fp32 weights.
        lora_rank: not 0 for LoRA, whose adapters are fp32 anyway.
    """
    low = [p for p in model.parameters() if p.requires_grad and p.dtype in LOW_PRECISION]
    if lora_rank or not low or keeps_master_weights(arguments):
        return
    dtype = str(low[0].dtype).removeprefix("torch.")
    count = sum(p.numel() for p in low)
    raise ValueError(
        f"full fine-tuning of {count:,} weights in {dtype} would hardly change them: a step of the learning rate "
        f"{arguments.learning_rate:g} is rounded away. Load the model with models.load(..., master_weights=True) "
        "(16 bytes a weight with AdamW), train LoRA adapters (lora_rank), or shard the fp32 weights over GPUs with "
        "DeepSpeed ZeRO-2/3 or FSDP (accelerate launch)"
    )


def keeps_master_weights(arguments: Any) -> bool:
    """Whether the engine of this run keeps fp32 copies of low-precision weights: DeepSpeed ZeRO, or FSDP with bf16."""
    fsdp = arguments.fsdp_plugin_args is not None or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"
    return arguments.deepspeed_plugin is not None or (fsdp and arguments.bf16)
