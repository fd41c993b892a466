"""One of two gloo processes: the gradient of grouped rows under DDP and FSDP2, against one process without either."""

import itertools

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from helpers.small_qwen3 import small_qwen3
from o3v import models
from o3v.config import find_base, load_profile
from o3v.models import group_rows
from o3v.prompts import plain_prompt

MASK = torch.tensor([[1] * 6, [1] * 3 + [0] * 3])


def rows_of(vlm, rank):
    """Two completions of one prompt, other ones in each process."""
    rng = np.random.default_rng(rank)
    frames = list(rng.integers(0, 256, (2 + rank, 64, 64, 3), dtype=np.uint8))
    prompt = plain_prompt(frames, tuple(map(float, range(len(frames)))), 9.0, "What is it?")
    inputs = dict(models.encode(vlm.processor, [prompt] * 2))
    return group_rows.pack(vlm.model, inputs, torch.from_numpy(rng.integers(20, 300, MASK.shape)), MASK)


def loss_of(model, rows):
    logps, _ = model(**rows.inputs, scored_labels=rows.labels, temperature=0.7)
    return -(logps * torch.linspace(0.1, 1, len(logps))).sum()


def make(family):
    base = models.load(find_base(load_profile("tiny").base))
    vlm = base if family == "qwen2_5_vl" else small_qwen3(base.processor.tokenizer)
    group_rows.add_scoring(vlm.model)
    vlm.model.train().gradient_checkpointing_enable()
    return vlm


def gradients(model):
    found = {name.removeprefix("module."): p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: grad.full_tensor() if hasattr(grad, "full_tensor") else grad for name, grad in found.items()}


def compare(family, engine):
    """Largest difference between the gradient of two processes and that of one, and the largest gradient."""
    rank, vlm = dist.get_rank(), make(family)
    for other in range(2):
        (loss_of(vlm.model, rows_of(vlm, other)) / 2).backward()
    expected = {name: grad.clone() for name, grad in gradients(vlm.model).items()}
    vlm.model.zero_grad()
    model, rows = vlm.model, rows_of(vlm, rank)
    if engine == "ddp":
        model = DistributedDataParallel(model)
    else:
        mesh = init_device_mesh("cpu", (2,))
        for layer in (*model.model.language_model.layers, *model.model.visual.blocks):
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    loss_of(model, rows).backward()
    found = gradients(model)
    assert found.keys() == expected.keys()
    difference = max((found[name] - expected[name]).abs().max().item() for name in expected)
    return difference, max(value.abs().max().item() for value in expected.values())


if __name__ == "__main__":
    dist.init_process_group("gloo")
    for case in itertools.product(("qwen2_5_vl", "qwen3_vl"), ("ddp", "fsdp2")):
        print(*case, *compare(*case))
    dist.destroy_process_group()
