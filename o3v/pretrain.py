"""A stand-in for the base model: a tiny Qwen2.5-VL that learns to see, in minutes, on a CPU.

The method starts from Qwen2.5-VL-7B, which sees and speaks but does not ground its reasoning. The stand-in, the
tiny twin, learns on frames drawn on the fly: first the vision tower under a detection head that is thrown away,
then, over the finished tower, the language model on captions that name every box, of single frames and then of
films, and on plain questions. It never meets the evidence tags; teaching those is what SFT is for. Not part of the
paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import set_seed
from transformers.modeling_outputs import BaseModelOutputWithPooling

from o3v import artifacts, prompts, synth
from o3v.clips import Clip, describe, draw_clips, plain_texts, questions, some_frames
from o3v.config import FrameConfig, PretrainConfig, Profile
from o3v.geometry import PATCH_FACTOR, box_area, rescale_box
from o3v.model import FrameImageProcessor, VideoModel, save
from o3v.tiny import build

History = dict[str, list[dict[str, float]]]

EMPTY = -1
HISTORY = "history.json"  # written last: a folder that has it is whole
PADDED_TO = 32  # tokens; few different shapes keep the allocator's memory small
PICTURE_FACTOR = 6  # pictures in a batch for each video, since they are short
DENSE_SHARE = 0.5  # of the batches of videos; the others hold questions


def patches(images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (n · patches a frame, 1176) and grid (n, 3) of equal frames, as the image processor gives them.

    The same numbers in one go, since pretraining sees many thousands of frames.
    """
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (FrameImageProcessor.image_mean, FrameImageProcessor.image_std))
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std
    n, _, height, width = pixels.shape
    rows, columns = height // 14, width // 14
    parts = pixels.view(n, 3, rows // 2, 2, 14, columns // 2, 2, 14).permute(0, 2, 5, 3, 6, 1, 4, 7)
    parts = parts.unsqueeze(6).expand(*parts.shape[:6], 2, 14, 14)
    return parts.reshape(n * rows * columns, -1), torch.tensor([[1, rows, columns]] * n)


class Detector(nn.Module):
    """The head of the first stage. Each token says whether the centre of a thing lies in its cell, and if so the
    thing's colour, kind and box (0–1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = (1, len(synth.COLORS), len(synth.THINGS), 4)
        self.layer = nn.Linear(width, sum(self.parts))  # no deeper, so that the tokens themselves say it

    def loss(self, tokens: torch.Tensor, color: torch.Tensor, thing: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
        """tokens (n, cells, width); color, thing (n, cells), EMPTY where no centre is; box (n, cells, 4)."""
        there = color != EMPTY
        found, colors, things, boxes = self.layer(tokens).split(self.parts, dim=-1)
        return (
            F.binary_cross_entropy_with_logits(found.squeeze(-1), there.float())
            + F.cross_entropy(colors[there], color[there])
            + F.cross_entropy(things[there], thing[there])
            + 10 * F.l1_loss(boxes[there].sigmoid(), box[there])
        )


def train_vision(vlm: VideoModel, clips: Sequence[Clip], config: PretrainConfig, seed: int) -> list[dict[str, float]]:
    """Trains the vision tower as a detector on single frames. Returns rows of step and loss."""
    set_seed(seed)
    height, width = clips[0].images.shape[1:3]
    images = np.concatenate([clip.images for clip in clips])
    targets = [
        torch.stack(x) for x in zip(*(_cells(b, (width, height)) for c in clips for b in c.boxes_px), strict=True)
    ]
    tower = vlm.model.model.visual
    head = Detector(tower.config.out_hidden_size)
    order = np.random.default_rng(seed)

    def loss() -> torch.Tensor:
        picked = order.integers(len(images), size=config.vision_batch)
        tokens = tower(*patches(images[picked])).pooler_output
        return head.loss(tokens.view(len(picked), -1, tokens.shape[-1]).float(), *(t[picked] for t in targets))

    return _train([*tower.parameters(), *head.parameters()], loss, config.vision_steps, config.learning_rate, "vision")


def _cells(boxes_px: dict[str, tuple[int, ...]], size_wh: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Targets of one frame, a value for each token: colour, thing and box of the object centred there."""
    columns, rows = (side // PATCH_FACTOR for side in size_wh)
    color, thing = (torch.full((rows * columns,), EMPTY) for _ in range(2))
    box = torch.zeros(rows * columns, 4)
    for name, box_px in sorted(boxes_px.items(), key=lambda item: box_area(item[1])):
        x, y = ((box_px[i] + box_px[i + 2]) / 2 / PATCH_FACTOR for i in (0, 1))
        cell = min(int(y), rows - 1) * columns + min(int(x), columns - 1)
        words = name.split(" ")
        color[cell], thing[cell] = list(synth.COLORS).index(words[0]), list(synth.THINGS).index(words[1])
        box[cell] = torch.tensor(rescale_box(box_px, size_wh, (1, 1)))
    return color, thing, box


def _train(
    parameters: list[nn.Parameter], loss: Callable[[], torch.Tensor], steps: int, rate: float, name: str
) -> list[dict[str, float]]:
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1, pct_start=0.1)
    history = []
    for step in tqdm(range(steps), desc=name, mininterval=5):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        history.append({"step": step, "loss": value.item()})
    return history


def train_language(vlm: VideoModel, clips: Sequence[Clip], config: PretrainConfig, seed: int) -> list[dict[str, float]]:
    """Trains the language model over the frozen tower: pictures first, then films. Returns rows of step and loss.

    A picture is one frame of a clip, described. Films come by turns: four frames, all described, or all frames with
    plain questions.
    """
    set_seed(seed + 1)
    rng = np.random.default_rng(seed + 1)
    model = vlm.model.train()
    seen = see(vlm, clips)
    steps = iter(range(config.picture_steps + config.film_steps))

    def loss() -> torch.Tensor:
        if next(steps) < config.picture_steps:
            picked, frames, dense = rng.integers(len(clips), size=config.batch * PICTURE_FACTOR), 1, True
        else:
            picked, dense = rng.integers(len(clips), size=config.batch), rng.random() < DENSE_SHARE
            frames = 4 if dense else len(clips[0].times_s)
        kept = [sorted(rng.choice(len(clips[0].times_s), frames, replace=False)) for _ in picked]
        batch = [some_frames(clips[i], k) for i, k in zip(picked, kept, strict=True)]
        turns = [[("Describe every frame.", describe(c))] if dense else [*questions(c, rng)][:6] for c in batch]
        inputs, labels = _encode(vlm, batch, turns)
        features = torch.cat([seen[i, k].flatten(0, 1) for i, k in zip(picked, kept, strict=True)])
        pictures = {"image": BaseModelOutputWithPooling(pooler_output=(features,))}
        hidden = model.model(**inputs, mm_encoder_outputs=pictures).last_hidden_state[:, :-1]
        return F.cross_entropy(model.lm_head(hidden).float().flatten(0, 1), labels[:, 1:].flatten())

    parameters = [p for name, p in model.named_parameters() if ".visual." not in name]
    history = _train(parameters, loss, config.picture_steps + config.film_steps, config.learning_rate, "language")
    model.eval()
    return history


@torch.no_grad()
def see(vlm: VideoModel, clips: Sequence[Clip]) -> torch.Tensor:
    """The tower's tokens of every frame: (clips, frames, tokens a frame, width)."""
    tower = vlm.model.model.visual
    tokens = [
        tower(*patches(clip.images)).pooler_output.view(len(clip.images), -1, tower.config.out_hidden_size)
        for clip in clips
    ]
    return torch.stack(tokens)


def _encode(
    vlm: VideoModel, clips: Sequence[Clip], turns: Sequence[list[tuple[str, str]]]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Inputs and labels of conversations of several turns about each clip; only the answers are labelled."""
    tokenizer = vlm.processor.tokenizer
    height, width = clips[0].images.shape[1:3]
    picture = "<|image_pad|>" * (height // PATCH_FACTOR * (width // PATCH_FACTOR))
    rows = []
    for clip, asked in zip(clips, turns, strict=True):
        ids: list[int] = []
        labels: list[int] = []
        for number, (question, answer) in enumerate(asked):
            parts = [] if number else prompts.frame_parts(clip.times_s, clip.duration_s)
            messages = [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            if number:  # the template opens every conversation with a system turn
                text = "\n" + text[text.index("<|im_start|>user") :]
            said, told = tokenizer([text.replace("<|image_pad|>", picture), answer + "<|im_end|>"])["input_ids"]
            ids += said + told
            labels += [-100] * len(said) + told
        rows.append((torch.tensor(ids), torch.tensor(labels)))
    length = -(-max(len(ids) for ids, _ in rows) // PADDED_TO) * PADDED_TO

    def padded(values: list[torch.Tensor], filler: int) -> torch.Tensor:
        return torch.stack([F.pad(v, (0, length - len(v)), value=filler) for v in values])

    input_ids = padded([ids for ids, _ in rows], tokenizer.pad_token_id)
    inputs = {
        "input_ids": input_ids,
        "attention_mask": padded([torch.ones_like(ids) for ids, _ in rows], 0),
        "image_grid_thw": torch.tensor([[1, height // 14, width // 14]] * sum(len(clip.times_s) for clip in clips)),
        "mm_token_type_ids": (input_ids == vlm.model.config.image_token_id).long(),
    }
    return inputs, padded([labels for _, labels in rows], -100)


def pretrain(
    texts: Iterable[str], frames: FrameConfig, config: PretrainConfig, seed: int
) -> tuple[VideoModel, History]:
    """The stand-in base, from nothing: tokenizer, vision stage, dense stage. Returns it and its loss history.

    `texts` are further texts that the tokenizer should know. Deterministic for a seed on one machine.
    """
    clips = draw_clips(config.scenes, frames, seed)
    vlm = build([*plain_texts(clips[:300], seed), *texts], seed)
    return vlm, {"vision": train_vision(vlm, clips, config, seed), "language": train_language(vlm, clips, config, seed)}


def base_model(profile: Profile, texts: Iterable[str], seed: int, folder: Path) -> tuple[str, History]:
    """Where the profile's base model is, and how it was trained if that happened here.

    A profile that names a model gets that name back and no history. Else the stand-in is pretrained into `folder`,
    once: a finished one is found again.
    """
    if profile.base is not None:
        return profile.base, {}
    if not (folder / HISTORY).exists():
        vlm, history = pretrain(texts, profile.frames, profile.pretrain, seed)
        save(vlm, folder)
        artifacts.write_json(folder / HISTORY, history)
    return str(folder), artifacts.read_json(folder / HISTORY)
