"""The tiny base model, from nothing: a Qwen2.5-VL of a few million parameters that learns to see and to speak plainly.

Four stages on scenes drawn for them: the vision tower as a detector; then, over the finished tower, the language
model on single pictures and crops; then on films of two to four frames, to tell frames apart; then on whole films. A
base that is there can go on with whole films in a further stage. None meets the evidence tags, which SFT is to teach.
Every step draws its batch from (seed, stage, step, part), so an interrupted run goes on where it was and ends the
same. The method's paper starts from Qwen2.5-VL-7B instead.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from o3v import evidence, files, prompts
from o3v.config import FrameConfig, PretrainConfig
from o3v.models.vlm import VideoModel, load
from o3v.tinybase import architecture
from o3v.tinybase.batches import ROWS_AS, draw_batch, plain_texts
from o3v.tinybase.clips import Clip, draw_clips
from o3v.tinybase.detection_head import Detector, detection_set, patches
from o3v.tinybase.shared_prefix import PLAIN, Packer, answer_loss

Rows = list[dict[str, float]]
Loss = Callable[[int, np.random.Generator], tuple[torch.Tensor, dict[str, float]]]  # of one part of a step's batch

STAGES = ("vision", "pictures", "shorts", "films", "further")  # the last is a finished base's, the others a new one's
TOKENIZER_CLIPS = 300
MUON = {"vision": 3.0, "pictures": 1.5, "shorts": 1.5, "films": 1.5, "further": 1.5}  # Muon's rate in units of AdamW's
DECAY = {
    "vision": 0.3,
    "pictures": 0.0,
    "shorts": 0.0,
    "films": 0.6,
    "further": 0.6,
}  # share of a stage's steps over which the rate falls to 0
LANGUAGE_MIX = {  # batches of each kind in a round
    "pictures": ("picture", "picture", "crop", "picture"),
    "shorts": ("short", "short", "glance", "short", "picture", "short", "short", "glance", "short", "crop"),
    "films": ("film", "caption", "film", "picture", "film", "film", "caption", "film", "crop", "film"),
}
LANGUAGE_MIX["further"] = LANGUAGE_MIX["films"]
SHORTER = 0.7  # the length of an embedding that is copied, in lengths of the one that it is copied from
TIME = evidence.TAGS[-2]  # the tag before a time
PARTS = 2  # of a batch, each computed in a thread of its own: two on half of the cores are quicker than one on all


def _vision_loss(vlm: VideoModel, head: Detector, clips: Sequence[Clip], config: PretrainConfig) -> Loss:
    images, targets = detection_set(clips)
    tower, embeddings = vlm.model.model.visual, vlm.model.get_input_embeddings().weight

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        picked = rng.integers(len(images), size=config.vision_batch_size // PARTS)
        grain = torch.Generator().manual_seed(int(rng.integers(2**31)))
        tokens = tower(*patches(images[picked], grain)).pooler_output
        value = head.loss(tokens.view(len(picked), -1, tokens.shape[-1]), targets[picked], embeddings)
        return value, {}

    return loss


def _language_loss(vlm: VideoModel, clips: Sequence[Clip], config: PretrainConfig, stage: str) -> Loss:
    packer, kinds, tower = Packer(vlm, clips[0].size_wh), LANGUAGE_MIX[stage], vlm.model.model.visual
    vlm.model.model.language_model.set_attn_implementation(PLAIN)

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        kind = kinds[step % len(kinds)]
        batch = draw_batch(kind, clips, int(config.batch_size * ROWS_AS[kind]) // PARTS, rng)
        packed = packer.pack(batch.films, [[(a.question, a.answer) for a in row] for row in batch.asked])
        grain = torch.Generator().manual_seed(int(rng.integers(2**31)))
        with torch.no_grad():
            seen = tower(*patches(batch.images, grain)).pooler_output
        value, right = answer_loss(vlm, packed, seen)
        return value, {kind: value.item(), f"{kind} right": right.item()}

    return loss


@dataclass(frozen=True)
class Run:
    """What a run was asked to do."""

    frames: FrameConfig
    config: PretrainConfig
    seed: int
    start: str = ""  # sha256 of the weights to go on from

    @property
    def made_by(self) -> str:
        """All that decides the weights, as text."""
        return repr((self.frames, replace(self.config, num_measured=0, save_steps=0), self.seed, self.start))

    @property
    def drawn_from(self) -> tuple[int, ...]:
        """What batches are drawn from: the seed, and the base that goes on, so that it meets others than before."""
        return (self.seed, int(self.start[:8], 16)) if self.start else (self.seed,)


class Optimizer:
    """Muon for the matrices inside the layers, AdamW for embeddings, patches, norms and biases."""

    def __init__(self, parameters: dict[str, nn.Parameter], rate: float, muon: float) -> None:
        inner = [p for n, p in parameters.items() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        chosen = set(map(id, inner))
        outer = [p for p in parameters.values() if id(p) not in chosen]
        self.parts = [
            torch.optim.Muon(inner, lr=muon * rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(outer, lr=rate, weight_decay=0.01, betas=(0.9, 0.98)),
        ]
        self.parameters, self.rates = list(parameters.values()), (muon * rate, rate)

    def step(self, share: float) -> None:
        """One step at `share` of the rate, gradients clipped."""
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part, rate in zip(self.parts, self.rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * share
            part.step()
            part.zero_grad()


def rate_share(step: int, steps: int, decay: float, warmup: int = 50) -> float:
    """Share of the full rate: rises over the warm-up, holds, and falls to nothing over the last part, if any."""
    return min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps) if decay else 1.0)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a stage in one file, written whole. `made_by` is what it was trained with."""

    path: Path
    modules: dict[str, nn.Module]
    optimizer: Optimizer
    made_by: str

    def save(self, rows: Rows) -> None:
        """Writes modules, optimiser and the rows of history so far."""
        state = {
            "made_by": self.made_by,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": [part.state_dict() for part in self.optimizer.parts],
            "rows": rows,
        }
        with files.atomic_path(self.path) as unfinished:
            torch.save(state, unfinished)

    def load(self) -> Rows:
        """The rows of history so far, none without a file. Raises ValueError for one made with other settings."""
        if not self.path.exists():
            return []
        state = torch.load(self.path, weights_only=True)
        if state["made_by"] != self.made_by:
            raise ValueError(f"{self.path} was made with other settings; choose another run_dir or remove it")
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for part, saved in zip(self.optimizer.parts, state["optimizer"], strict=True):
            part.load_state_dict(saved)
        return state["rows"]


def run_stage(
    name: str,
    modules: dict[str, nn.Module],
    frozen: nn.Module | None,
    make_loss: Callable[[], Loss],
    run: Run,
    folder: Path,
) -> Rows:
    """Trains the modules but for the frozen one, or goes on from the stage's checkpoint. Returns a row a step."""
    steps, started = run.config.steps[name], time.perf_counter()
    still = {id(p) for p in frozen.parameters()} if frozen else set()
    parameters = {f"{m}.{n}": p for m, mod in modules.items() for n, p in mod.named_parameters() if id(p) not in still}
    optimizer = Optimizer(parameters, run.config.learning_rate, MUON[name])
    checkpoint = Checkpoint(folder / f"{name}.pt", modules, optimizer, run.made_by)
    rows = checkpoint.load()
    before = rows[-1]["elapsed_s"] if rows else 0.0
    loss = make_loss() if len(rows) < steps else None
    bar = tqdm(range(len(rows), steps), desc=name, initial=len(rows), total=steps, mininterval=5)
    with shared_cores() as pool:
        for step in bar:
            begin = partial(gradients, loss, optimizer.parameters, step, (*run.drawn_from, STAGES.index(name), step))
            notes = average(optimizer.parameters, list(pool.map(begin, range(PARTS))))
            optimizer.step(rate_share(step, steps, DECAY[name]))
            rows.append({"step": step, "elapsed_s": before + time.perf_counter() - started, **notes})
            bar.set_postfix(loss=f"{notes['loss']:.3f}", refresh=False)
            if (step + 1) % run.config.save_steps == 0 or step + 1 == steps:
                checkpoint.save(rows)
    return rows


@contextmanager
def shared_cores() -> Iterator[ThreadPoolExecutor]:
    """A thread for each part of a batch, among which the cores are shared out."""
    cores = torch.get_num_threads()
    torch.set_num_threads(max(1, cores // PARTS))
    try:
        with ThreadPoolExecutor(PARTS) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)


def gradients(
    loss: Loss, parameters: Sequence[nn.Parameter], step: int, seed: tuple[int, ...], part: int
) -> tuple[tuple[torch.Tensor | None, ...], dict[str, float]]:
    """The gradient of each parameter on one part of a step's batch, and what there is to note."""
    # the cache of casts is shared by threads: which of them filled it would decide in which order gradients are summed
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        value, notes = loss(step, np.random.default_rng([*seed, part]))
    return torch.autograd.grad(value, parameters, allow_unused=True), {"loss": value.item(), **notes}


def average(parameters: Sequence[nn.Parameter], parts: Sequence[Any]) -> dict[str, float]:
    """Gives each parameter the mean of its gradients, and returns the mean of the notes."""
    for parameter, *found in zip(parameters, *(gradients for gradients, _ in parts), strict=True):
        parameter.grad = None if found[0] is None else torch.stack(found).mean(0)
    noted = [notes for _, notes in parts]
    return {name: sum(notes[name] for notes in noted) / len(noted) for name in noted[0]}


def pretrain(
    frames: FrameConfig, config: PretrainConfig, seed: int, folder: Path, start: Path | None = None
) -> tuple[VideoModel, dict[str, Rows]]:
    """The base model and a row of history for each step of each stage; goes on from what `folder` holds.

    With `start`, the folder of a finished base, only its further stage is trained. Deterministic for a seed on one kind
    of machine. Raises ValueError when `folder` holds a run of other settings, OSError when there is no base at `start`.
    """
    run = Run(frames, config, seed, files.hash_path(start / "model.safetensors") if start else "")
    clips = functools.cache(lambda: draw_clips(config.clips, frames, seed))  # not drawn when all is done
    history: dict[str, Rows] = {}
    if start:
        vlm = load(start)
    else:
        first = draw_clips(min(TOKENIZER_CLIPS, config.clips), frames, seed)
        vlm = architecture.build(texts(first, seed), seed)
        history["vision"] = _learn_to_see(vlm, clips, max(first[0].size_wh), run, folder)
    for stage in STAGES[-1:] if start else STAGES[1:-1]:
        history[stage] = run_stage(
            stage,
            {"model": vlm.model.train()},
            vlm.model.model.visual,
            lambda stage=stage: _language_loss(vlm, clips(), config, stage),
            run,
            folder,
        )
    vlm.model.eval().model.language_model.set_attn_implementation("sdpa")
    settle_tags(vlm)
    return vlm, history


def _learn_to_see(vlm: VideoModel, clips: Callable[[], list[Clip]], side_px: int, run: Run, folder: Path) -> Rows:
    """The first stage: the tower as a detector, whose head is thrown away."""
    tower, embeddings = vlm.model.model.visual, vlm.model.get_input_embeddings()
    head = Detector(tower.config.out_hidden_size, vlm.processor.tokenizer, side_px)
    seeing = {"tower": tower, "head": head, "embeddings": embeddings}
    return run_stage("vision", seeing, None, lambda: _vision_loss(vlm, head, clips(), run.config), run, folder)


@torch.no_grad()
def settle_tags(vlm: VideoModel) -> None:
    """Gives tokens that no text held embeddings that SFT need not fetch back: training only ever pushed them away.

    The evidence tags get the mean of all, as transformers does with new tokens. But a time's tag begins as the word
    before a time, " at ", and the bracket of a box, which plain words only have after a space, as the one there. So
    numbers are read off them as well; the copies are shorter, lest they be said in the other's place.
    """
    tokenizer, embeddings = vlm.processor.tokenizer, vlm.model.get_input_embeddings().weight
    for text, told in (("[", " ["), (TIME, " at 0")):
        embeddings[tokenizer(text).input_ids[0]] = SHORTER * embeddings[tokenizer(told).input_ids[0]]
    tags = tokenizer.convert_tokens_to_ids(list(evidence.TAGS))
    others = [i for i in range(len(embeddings)) if i not in set(tags)]
    embeddings[[i for i in tags if i != tokenizer.convert_tokens_to_ids(TIME)]] = embeddings[others].mean(0)


def texts(clips: Sequence[Clip], seed: int) -> Iterator[str]:
    """All that the tokenizer should know: what is asked and said of these clips, frame prompts, system prompts."""
    yield from plain_texts(clips, seed)
    yield from prompts.SYSTEM_PROMPTS.values()
    for clip in clips:
        parts = prompts.frame_parts(clip.times_s, clip.duration_s)
        yield from (part["text"] for part in parts if part["type"] == "text")
