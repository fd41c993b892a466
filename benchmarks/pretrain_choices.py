"""Short trials of Muon's learning rate in pretraining: rows of the tables in `appendix_tiny_base`.

Each trial starts from the same seed and runs the same number of steps. Prints the loss, the time, and for the vision
stage the quality of detection on held-out frames. Takes a quarter of an hour on two cores.

    python benchmarks/pretrain_choices.py
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from o3v.config import load_profile
from o3v.geometry import box_iou
from o3v.tinybase import architecture, pretrain
from o3v.tinybase.batches import tokenizer_texts
from o3v.tinybase.clips import Clip, draw_clips
from o3v.tinybase.detection_head import EMPTY, cell_targets, patches

MUON = (0.75, 1.5, 3.0, 6.0)  # its learning rate in units of AdamW's


def detection_quality(modules: dict, held_out: list[Clip]) -> str:
    """How well the head detects the objects of held-out frames."""
    images = np.concatenate([clip.images for clip in held_out])
    targets = torch.stack([cell_targets(b, clip.size_wh, clip.place) for clip in held_out for b in clip.boxes_px])
    with torch.no_grad():
        tokens = modules["tower"](*patches(images)).pooler_output.view(*targets.shape[:2], -1)
        is_object, attributes = modules["head"].predict(tokens, modules["embeddings"].weight)
    labelled = targets[..., 0] != EMPTY
    accuracy = (attributes == targets)[labelled].float().mean(0)
    predicted, true = (boxes[labelled][:, 2:6].tolist() for boxes in (attributes, targets))
    iou = np.mean([box_iou(a, b) for a, b in zip(predicted, true, strict=True)])
    return f"there {is_object[labelled].float().mean():.2f}, kind {accuracy[1]:.2f}, box IoU {iou:.2f}"


def mean_of_last(rows: pretrain.History, key: str, count: int) -> float:
    return float(np.mean([row[key] for row in rows if key in row][-count:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--clips", type=int, default=2000)
    options = parser.parse_args()
    profile = load_profile("tiny")
    clips = draw_clips(options.clips, profile.frames, 0)
    held_out = draw_clips(100, profile.frames, 0, "eval")
    config = replace(profile.pretrain, steps=dict.fromkeys(pretrain.STAGES, options.steps))
    for muon in MUON:
        pretrain.MUON = dict.fromkeys(pretrain.STAGES, muon)
        vlm = architecture.build(tokenizer_texts(clips[: pretrain.TOKENIZER_CLIPS], 0), 0)
        modules = pretrain.vision_modules(vlm, max(clips[0].size_wh))
        with tempfile.TemporaryDirectory() as folder:
            run = pretrain.Run(profile.frames, config, 0, Path(folder))
            loss = pretrain.vision_loss(vlm, modules["head"], clips, config)
            rows = pretrain.run_stage("vision", modules, lambda loss=loss: loss, run)
            loss_value, quality = mean_of_last(rows, "loss", 10), detection_quality(modules, held_out)
            print(f"vision, Muon {muon} × AdamW: loss {loss_value:.2f}, {quality}", flush=True)
            loss = pretrain.language_loss(vlm, clips, config, "pictures")
            language = {"model": vlm.model.train()}
            rows = pretrain.run_stage("pictures", language, lambda loss=loss: loss, run, frozen=modules["tower"])
        loss_value, elapsed_s = mean_of_last(rows, "picture", 30), rows[-1]["elapsed_s"]
        print(f"pictures, Muon {muon} × AdamW: loss {loss_value:.2f}, {elapsed_s:.0f} s", flush=True)


if __name__ == "__main__":
    main()
