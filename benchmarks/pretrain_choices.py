"""Short trials of how to pretrain the tiny base: the table of `appendix_tiny_base`.

Each trial starts from the same seed and runs a fixed number of steps; read its rows by loss at equal steps and by
time. A quarter of an hour on two cores.

    python benchmarks/pretrain_choices.py
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from o3v.config import load_profile
from o3v.geometry import box_iou
from o3v.tinybase import architecture, pretrain
from o3v.tinybase.clips import Clip, draw_clips
from o3v.tinybase.detection_head import Detector, cells, patches

MUON = (0.75, 1.5, 3.0, 6.0)  # its rate in units of AdamW's


def start(drawn: list[Clip], seed: int):
    vlm = architecture.build(pretrain.texts(drawn[: pretrain.TOKENIZER_CLIPS], seed), seed)
    tower, embeddings = vlm.model.model.visual, vlm.model.get_input_embeddings()
    head = Detector(tower.config.out_hidden_size, vlm.processor.tokenizer, max(drawn[0].size_wh))
    return vlm, {"tower": tower, "head": head, "embeddings": embeddings}


def detected(modules: dict, held_out: list[Clip]) -> str:
    """What the head finds on held-out frames."""
    images = np.concatenate([clip.images for clip in held_out])
    targets = torch.stack([cells(b, clip.size_wh, clip.place) for clip in held_out for b in clip.boxes_px])
    with torch.no_grad():
        tokens = modules["tower"](*patches(images)).pooler_output.view(*targets.shape[:2], -1)
        there, said = modules["head"].read(tokens, modules["embeddings"].weight)
    known = targets[..., 0] >= 0
    right = (said == targets)[known].float().mean(0)
    found, true = (boxes[known][:, 2:6].tolist() for boxes in (said, targets))
    iou = np.mean([box_iou(a, b) for a, b in zip(found, true, strict=True)])
    return f"there {there[known].float().mean():.2f}, kind {right[1]:.2f}, box IoU {iou:.2f}"


def last(rows: pretrain.Rows, key: str, count: int) -> float:
    return float(np.mean([row[key] for row in rows if key in row][-count:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--clips", type=int, default=2000)
    options = parser.parse_args()
    profile = load_profile("tiny")
    drawn = draw_clips(options.clips, profile.frames, 0)
    held_out = draw_clips(100, profile.frames, 0, "eval")
    steps = dict.fromkeys(pretrain.STAGES, options.steps)
    for muon in MUON:
        config, name = replace(profile.pretrain, steps=steps), f"Muon {muon} × AdamW"
        run, pretrain.MUON = pretrain.Run(profile.frames, config, 0), dict.fromkeys(pretrain.STAGES, muon)
        vlm, modules = start(drawn, 0)
        with tempfile.TemporaryDirectory() as folder:
            loss = pretrain._vision_loss(vlm, modules["head"], drawn, config)
            rows = pretrain.run_stage("vision", modules, None, lambda loss=loss: loss, run, Path(folder))
            print(f"vision, {name}: loss {last(rows, 'loss', 10):.2f}, {detected(modules, held_out)}", flush=True)
            loss = pretrain._language_loss(vlm, drawn, config, "pictures")
            tower = modules["tower"]
            language = {"model": vlm.model.train()}
            rows = pretrain.run_stage("pictures", language, tower, lambda loss=loss: loss, run, Path(folder))
        print(f"pictures, {name}: loss {last(rows, 'picture', 30):.2f}, {rows[-1]['elapsed_s']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
