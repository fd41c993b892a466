"""Where the weights of a model can be loaded from again, and whether a model in memory still has them."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

SAMPLED = 16  # values of each tensor that enter the digest


@dataclass(frozen=True)
class ModelSource:
    """The arguments of `vlm.load` and the `weights_digest` of the loaded model."""

    name: str  # folder or hub name
    adapter: str | None
    master_weights: bool
    digest: str


@torch.no_grad()
def weights_digest(model: Any) -> str:
    """A hash of the names, shapes and some values of all weights; a training step changes it.

    Reads `SAMPLED` to twice as many evenly spaced values of each tensor, so it takes milliseconds for any model.
    """
    digest, samples = hashlib.sha256(), []
    for name, weight in model.state_dict().items():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype};".encode())
        samples.append(weight.reshape(-1)[:: max(1, weight.numel() // SAMPLED)].float())
    digest.update(torch.cat(samples).cpu().numpy().tobytes())
    return digest.hexdigest()
