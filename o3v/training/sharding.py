"""Weights that DeepSpeed ZeRO-3 and FSDP2 divide over processes: whole for a while, to generate and to save.

All processes must call these functions at the same place. Without sharding they do nothing but read. This module does
not know rewards or rows.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from trl.models.utils import unwrap_model_for_generation


@contextmanager
def whole_weights(trainer: Any) -> Iterator[None]:
    """In the block every process has all weights of the model, and may call any part of it any number of times.

    Needs the memory of all weights on each device. Without it, generation of different lengths would wait for ever, as
    each layer is gathered from all processes at each call.
    """
    kept = {"gradient_checkpointing_kwargs": trainer.args.gradient_checkpointing_kwargs}
    with unsharded(trainer.model), unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator, **kept):
        yield


@contextmanager
def unsharded(model: Any) -> Iterator[None]:
    """In the block the layers that FSDP2 has divided are whole, and their weights are plain tensors."""
    layers = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if layers:  # torch 2.13 takes the first module that runs as the root, and generation runs parts of the model
        layers[0]._get_fsdp_state()._lazy_init()
    for layer in layers:
        layer.set_reshard_after_forward(False, recurse=False)
        layer.unshard()
    try:
        yield
    finally:
        for layer in layers:
            layer.reshard()
            layer.set_reshard_after_forward(layer is not layers[0], recurse=False)


def whole_state(model: Any) -> dict[str, torch.Tensor]:
    """The trained weights by name, whole and on the CPU, in every process.

    ZeRO-3 keeps empty tensors in the model itself: what is saved without gathering has no numbers, and no error.
    """
    state = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with _gathered(parameter):
                whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
                state[name] = whole.detach().cpu().clone()
    return state


def _gathered(parameter: torch.nn.Parameter) -> Any:
    """A parameter that ZeRO-3 has divided, whole in the block."""
    if not hasattr(parameter, "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([parameter])
