"""Pretrains the tiny base model, a Qwen2.5-VL of 2.9 million parameters, from random weights.

Four stages on rendered scenes. First the vision tower learns as an object detector. The language model then learns over
the frozen tower: on single images and crops, on videos of two to four frames, and on whole videos. A finished base can
continue with whole videos in a further stage. No text contains an evidence tag; SFT teaches those. The random draws of
each step depend only on (seed, stage, step, part), so an interrupted run resumes and gives the same weights.

Departs from the paper, which starts from Qwen2.5-VL-7B.
"""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from o3v import evidence, files
from o3v.config import FrameConfig, PretrainConfig
from o3v.models.vlm import VideoModel, load
from o3v.tinybase import architecture
from o3v.tinybase.batches import ROW_FACTORS, draw_batch, tokenizer_texts
from o3v.tinybase.clips import Clip, draw_clips
from o3v.tinybase.detection_head import Detector, detection_set, patches
from o3v.tinybase.optimization import PARTS, Loss, Optimizer, backward, rate_factor, shared_cores
from o3v.tinybase.shared_prefix import PLAIN, Packer, answer_loss

History = list[dict[str, float]]  # one row per step

STAGES = ("vision", "pictures", "shorts", "films", "further")  # "further" continues a finished base
TOKENIZER_CLIPS = 300
MUON = {"vision": 3.0, "pictures": 1.5, "shorts": 1.5, "films": 1.5, "further": 1.5}  # Muon's rate in units of AdamW's
# share of a stage's steps, at its end, over which the learning rate falls to 0
DECAY = {"vision": 0.3, "pictures": 0.0, "shorts": 0.0, "films": 0.6, "further": 0.6}
LANGUAGE_MIX = {  # kinds of the batches of a stage, in a cycle
    "pictures": ("picture", "picture", "crop", "picture"),
    "shorts": ("short", "short", "glance", "short", "picture", "short", "short", "glance", "short", "crop"),
    "films": ("film", "caption", "film", "picture", "film", "film", "caption", "film", "crop", "film"),
}
LANGUAGE_MIX["further"] = LANGUAGE_MIX["films"]
COPY_SCALE = 0.7  # length of a copied embedding in units of the length of the original
TIME_TAG = evidence.TAGS[-2]  # the tag before a time


def vision_loss(vlm: VideoModel, head: Detector, clips: Sequence[Clip], config: PretrainConfig) -> Loss:
    """The loss of the first stage: detection on random frames and crops of the clips."""
    images, targets = detection_set(clips)
    tower, embeddings = vlm.model.model.visual, vlm.model.get_input_embeddings().weight

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """One part of a step's batch."""
        chosen = rng.integers(len(images), size=config.vision_batch_size // PARTS)
        noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
        tokens = tower(*patches(images[chosen], noise)).pooler_output
        return head.loss(tokens.view(len(chosen), -1, tokens.shape[-1]), targets[chosen], embeddings), {}

    return loss


def language_loss(vlm: VideoModel, clips: Sequence[Clip], config: PretrainConfig, stage: str) -> Loss:
    """The loss of a language stage: the answers to questions about the clips, over the frozen vision tower.

    The history gets the loss of each kind of batch and, as "… right", the share of tokens that the model ranks first.
    """
    packer, kinds, tower = Packer(vlm, clips[0].size_wh), LANGUAGE_MIX[stage], vlm.model.model.visual
    vlm.model.model.language_model.set_attn_implementation(PLAIN)

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        """One part of a step's batch."""
        kind = kinds[step % len(kinds)]
        batch = draw_batch(kind, clips, int(config.batch_size * ROW_FACTORS[kind]) // PARTS, rng)
        packed = packer.pack(batch.videos, batch.qa_pairs)
        noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
        with torch.no_grad():
            image_tokens = tower(*patches(batch.images, noise)).pooler_output
        value, accuracy = answer_loss(vlm, packed, image_tokens)
        return value, {kind: value.item(), f"{kind} right": accuracy.item()}

    return loss


@dataclass(frozen=True)
class Run:
    """The settings of a pretraining run."""

    frames: FrameConfig
    config: PretrainConfig
    seed: int
    folder: Path  # of the checkpoints
    start_hash: str | None = None  # sha256 of the weights that the run starts from, None for random weights

    @property
    def made_by(self) -> str:
        """All settings that determine the weights, as text."""
        config = replace(self.config, num_measured=0, save_steps=0)
        return repr((self.frames, config, self.seed, self.start_hash or ""))

    @property
    def batch_seed(self) -> tuple[int, ...]:
        """The seed of the batches. It includes the start weights, so that a further stage draws other batches."""
        return (self.seed, int(self.start_hash[:8], 16)) if self.start_hash else (self.seed,)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a stage in one file, written atomically."""

    path: Path
    modules: dict[str, nn.Module]
    optimizer: Optimizer
    made_by: str  # settings of the run

    def save(self, rows: History) -> None:
        """Writes the modules, the optimizer and the history so far."""
        state = {
            "made_by": self.made_by,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": [part.state_dict() for part in self.optimizer.parts],
            "rows": rows,
        }
        with files.atomic_path(self.path) as unfinished:
            torch.save(state, unfinished)

    def load(self) -> History:
        """Restores the state and returns the history, which is empty when the file does not exist.

        Raises ValueError when the file was made with other settings.
        """
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
    name: str, modules: dict[str, nn.Module], make_loss: Callable[[], Loss], run: Run, frozen: nn.Module | None = None
) -> History:
    """Trains one stage, or resumes it from its checkpoint. Returns one row per step.

    Args:
        name: name of the stage, one of STAGES.
        modules: modules to train and save, by name.
        make_loss: makes the loss; not called when the stage is finished.
        run: settings of the run.
        frozen: a part of the modules that is not trained.
    """
    steps, started = run.config.steps[name], time.perf_counter()
    frozen_ids = {id(p) for p in frozen.parameters()} if frozen else set()
    named = {f"{m}.{n}": p for m, module in modules.items() for n, p in module.named_parameters()}
    trained = {n: p for n, p in named.items() if id(p) not in frozen_ids}
    optimizer = Optimizer(trained, run.config.learning_rate, MUON[name])
    checkpoint = Checkpoint(run.folder / f"{name}.pt", modules, optimizer, run.made_by)
    rows = checkpoint.load()
    before_s = rows[-1]["elapsed_s"] if rows else 0.0
    loss = make_loss() if len(rows) < steps else None
    bar = tqdm(range(len(rows), steps), desc=name, initial=len(rows), total=steps, mininterval=5)
    with shared_cores() as pool:
        for step in bar:
            seed = (*run.batch_seed, STAGES.index(name), step)
            numbers = backward(loss, optimizer.parameters, step, seed, pool)
            optimizer.step(rate_factor(step, steps, DECAY[name]))
            rows.append({"step": step, "elapsed_s": before_s + time.perf_counter() - started, **numbers})
            bar.set_postfix(loss=f"{numbers['loss']:.3f}", refresh=False)
            if (step + 1) % run.config.save_steps == 0 or step + 1 == steps:
                checkpoint.save(rows)
    return rows


def pretrain(
    frames: FrameConfig, config: PretrainConfig, seed: int, folder: Path, start: Path | None = None
) -> tuple[VideoModel, dict[str, History]]:
    """Trains the base model. Returns it with the history of each stage. Resumes from the checkpoints in `folder`.

    The result is deterministic for a seed on one kind of machine. Raises ValueError when `folder` holds a run with
    other settings, OSError when `start` is not a base model.

    Args:
        frames: number of frames per video and their largest size in pixels.
        config: sizes of the training.
        seed: seed of the clips, the weights and the batches.
        folder: folder of the checkpoints.
        start: folder of a finished base; then only the further stage is trained, from its weights.
    """
    run = Run(frames, config, seed, folder, files.hash_path(start / "model.safetensors") if start else None)
    clips = functools.cache(lambda: draw_clips(config.clips, frames, seed))  # rendered only if a stage needs them
    history: dict[str, History] = {}
    if start:
        vlm = load(start)
    else:
        first = draw_clips(min(TOKENIZER_CLIPS, config.clips), frames, seed)
        vlm = architecture.build(tokenizer_texts(first, seed), seed)
        modules = vision_modules(vlm, max(first[0].size_wh))
        history["vision"] = run_stage(
            "vision", modules, lambda: vision_loss(vlm, modules["head"], clips(), config), run
        )
    for stage in STAGES[-1:] if start else STAGES[1:-1]:
        history[stage] = run_stage(
            stage,
            {"model": vlm.model.train()},
            lambda stage=stage: language_loss(vlm, clips(), config, stage),
            run,
            frozen=vlm.model.model.visual,
        )
    vlm.model.eval().model.language_model.set_attn_implementation("sdpa")
    settle_tags(vlm)
    return vlm, history


def vision_modules(vlm: VideoModel, side_px: int) -> dict[str, nn.Module]:
    """What the first stage trains: the tower, a new detection head, and the embeddings that the head reads through."""
    tower = vlm.model.model.visual
    head = Detector(tower.config.out_hidden_size, vlm.processor.tokenizer, side_px)
    return {"tower": tower, "head": head, "embeddings": vlm.model.get_input_embeddings()}


@torch.no_grad()
def settle_tags(vlm: VideoModel) -> None:
    """Gives useful embeddings to the tokens that no training text contains. Training only pushed them away.

    The evidence tags get the mean of all other embeddings, as new tokens do in transformers. Two tokens get a copy
    instead, because the model reads a number off the token before it. The tag before a time gets the embedding of
    " at ", the word before a time in plain text. The bracket "[" of a box gets that of " [", its only form in plain
    text. Copies are scaled by COPY_SCALE, so that the model does not generate them in place of the original.
    """
    tokenizer, embeddings = vlm.processor.tokenizer, vlm.model.get_input_embeddings().weight
    for text, source in (("[", " ["), (TIME_TAG, " at 0")):
        embeddings[tokenizer(text).input_ids[0]] = COPY_SCALE * embeddings[tokenizer(source).input_ids[0]]
    tags = tokenizer.convert_tokens_to_ids(list(evidence.TAGS))
    others = [i for i in range(len(embeddings)) if i not in set(tags)]
    embeddings[[i for i in tags if i != tokenizer.convert_tokens_to_ids(TIME_TAG)]] = embeddings[others].mean(0)
