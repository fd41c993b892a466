"""Samples per second of our pretraining loop and of the plain Hugging Face Trainer, on the same questions.

A sample is one question about one video with its answer. The Trainer gets one row per sample (frames, question and
answer), through the processor, in bf16 like ours. Both train the language model over a frozen vision tower. The two
alternate, so that other load on the machine slows both.

    python benchmarks/pretrain_speed.py
"""

import argparse
import copy
import tempfile
import time

import numpy as np
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Trainer, TrainingArguments
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from o3v import prompts
from o3v.config import find_base, load_profile
from o3v.models.vlm import FrameProcessor, load
from o3v.tinybase import pretrain
from o3v.tinybase.batches import Batch, draw_batch
from o3v.tinybase.clips import draw_clips
from o3v.tinybase.detection_head import patches
from o3v.tinybase.optimization import PARTS, Optimizer, backward, shared_cores
from o3v.tinybase.shared_prefix import PLAIN, Packer, answer_loss

VIDEOS = 8  # per batch
PER_DEVICE_BATCH_SIZE = 16  # rows of the Trainer in one forward pass


def split_videos(batch: Batch) -> list[np.ndarray]:
    """The frames of each video of a batch."""
    return np.split(batch.images, np.cumsum([len(times_s) for times_s, _ in batch.videos])[:-1])


def make_samples(batches: list[Batch]) -> list[dict]:
    """One sample per question of the batches: conversation, images and answer."""
    samples = []
    for batch in batches:
        for frames, video, row in zip(split_videos(batch), batch.videos, batch.qa_pairs, strict=True):
            images = [Image.fromarray(frame) for frame in frames]
            for qa in row:
                messages = prompts.plain_prompt(frames, *video, qa.question).messages
                samples.append({"messages": messages, "images": images, "answer": qa.answer})
    return samples


def collator(processor: FrameProcessor):
    """Makes model inputs of samples. Only the tokens of the answers are labelled."""
    tokenizer = processor.tokenizer

    def collate(samples: list[dict]) -> dict[str, torch.Tensor]:
        messages = [sample["messages"] for sample in samples]
        starts = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        answers = [sample["answer"] + "<|im_end|>" for sample in samples]
        texts = [start + answer for start, answer in zip(starts, answers, strict=True)]
        images = [sample["images"] for sample in samples]
        inputs = dict(processor(images=images, text=texts, padding=True, padding_side="left", return_tensors="pt"))
        labels = inputs["input_ids"].clone()
        for row, ids in enumerate(tokenizer(answers)["input_ids"]):
            labels[row, : -len(ids)] = -100
        return inputs | {"labels": labels}

    return collate


def time_trainer(model, processor: FrameProcessor, samples: list[dict]) -> float:
    """Seconds that the Trainer needs for all samples, with about as many updates as ours."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=PER_DEVICE_BATCH_SIZE,
            gradient_accumulation_steps=max(1, len(samples) // PER_DEVICE_BATCH_SIZE // 3),
            num_train_epochs=1,
            learning_rate=1e-5,
            bf16=True,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(model, arguments, train_dataset=samples, data_collator=collator(processor))
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def time_ours(vlm, batches: list[Batch], size_wh: tuple[int, int]) -> float:
    """Seconds that our loop needs for the same questions, packed."""
    tower, packer = vlm.model.model.visual, Packer(vlm, size_wh)
    vlm.model.model.language_model.set_attn_implementation(PLAIN)
    trained = {n: p for n, p in vlm.model.named_parameters() if p.requires_grad}
    optimizer = Optimizer(trained, 1e-5, pretrain.MUON["films"])

    started = time.perf_counter()
    with shared_cores() as pool:
        for batch in batches:
            parts = split_batch(batch)

            def loss(step: int, rng: np.random.Generator, parts=parts):
                part = parts.pop()
                packed = packer.pack(part.videos, part.qa_pairs)
                with torch.no_grad():
                    image_tokens = tower(*patches(part.images)).pooler_output
                return answer_loss(vlm, packed, image_tokens)[0], {}

            backward(loss, optimizer.parameters, 0, (0,), pool)
            optimizer.step(1.0)
    return time.perf_counter() - started


def split_batch(batch: Batch) -> list[Batch]:
    """The videos of a batch in as many parts as pretraining computes at once."""
    images, size = split_videos(batch), len(batch.videos) // PARTS
    parts = [slice(start, start + size) for start in range(0, len(images), size)]
    return [Batch(np.concatenate(images[part]), batch.videos[part], batch.qa_pairs[part]) for part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, default=3, help="batches of 8 videos per turn")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    frames, folder = load_profile("tiny").frames, find_base(load_profile("tiny").base)
    clips = draw_clips(64, frames, seed=0, workers=1, progress=False)
    rng = np.random.default_rng(0)
    batches = [draw_batch("film", clips, VIDEOS, rng) for _ in range(options.batches)]
    samples = make_samples(batches)

    ours = load(folder)
    plain = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    images = Qwen2VLImageProcessorPil(size=dict(ours.processor.image_processor.size))
    processor = FrameProcessor(images, ours.processor.tokenizer, ours.processor.tokenizer.chat_template)
    for model in (ours.model.train(), plain):
        model.model.visual.requires_grad_(False)

    ratios = []
    for turn in range(options.turns + 1):
        theirs_s = time_trainer(copy.deepcopy(plain), processor, samples)
        ours_s = time_ours(ours, batches, clips[0].size_wh)
        if turn:  # the first turn is a warm-up
            ratios.append(theirs_s / ours_s)
            rates = f"Trainer {len(samples) / theirs_s:6.1f}  ours {len(samples) / ours_s:6.1f} samples/s"
            print(f"{rates}  {ratios[-1]:.1f} times")
    print(f"median of {options.turns} turns: {np.median(ratios):.1f} times the Trainer's samples per second")


if __name__ == "__main__":
    main()
