"""A saved checkpoint is read by the stock classes of transformers, with the tokens and pixels of our processor."""

import importlib.util

import numpy as np
import pytest
import torch
from helpers.small_qwen3 import small_qwen3
from PIL import Image
from transformers import AutoProcessor, FeatureExtractionMixin, ProcessorMixin
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from o3v import files, models
from o3v.config import find_base, load_profile
from o3v.models import hub_files
from o3v.models.qwen_speedups import FrameImageProcessor
from o3v.prompts import plain_prompt

FRAMES = list(np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8))


@pytest.fixture
def stock(monkeypatch):
    """`AutoProcessor`. Video processors need torchvision: without it, the settings in their file stand in."""
    if importlib.util.find_spec("torchvision") is None:

        def settings(folder, **kwargs):
            return FeatureExtractionMixin(**files.read_json(folder / hub_files.VIDEO_FILE))

        monkeypatch.setattr(AutoVideoProcessor, "from_pretrained", settings)
        monkeypatch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *arguments: None)
    return AutoProcessor


def check_equal(vlm, theirs):
    prompt = plain_prompt(FRAMES, (0.0, 1.0, 2.0), 3.0, "Where is the red cup?")
    ours = models.encode(vlm.processor, [prompt])
    text = theirs.apply_chat_template(prompt.messages, tokenize=False, add_generation_prompt=True)
    found = theirs(images=[[Image.fromarray(frame) for frame in FRAMES]], text=[text], return_tensors="pt")
    assert ours.keys() == found.keys() and found["image_grid_thw"].shape == (3, 3)
    for name in ("input_ids", "attention_mask", "mm_token_type_ids", "image_grid_thw"):
        assert torch.equal(ours[name], found[name]), name
    pixels = 0.01  # resizing by torchvision rounds differently from that by Pillow
    torch.testing.assert_close(ours["pixel_values"], found["pixel_values"], rtol=0, atol=pixels)


def test_a_family_without_stock_classes_is_refused(twin, tmp_path):
    with pytest.raises(KeyError, match="llava"):
        hub_files.write_processor(twin.processor, "llava", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_base_is_read_by_auto_processor(stock):
    folder = find_base(load_profile("tiny").base)
    theirs = stock.from_pretrained(folder)
    assert type(theirs).__name__ == "Qwen2_5_VLProcessor"
    check_equal(models.load(folder), theirs)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_a_checkpoint_is_read_by_auto_processor_and_by_us(twin, tmp_path, stock, family):
    vlm = twin if family == "qwen2_5_vl" else small_qwen3(twin.processor.tokenizer)
    (tmp_path / "processor_config.json").write_text("{}", encoding="utf-8")  # of an older checkpoint in this folder
    models.save(vlm, tmp_path)
    theirs, patch = stock.from_pretrained(tmp_path), vlm.processor.image_processor.patch_size
    assert type(theirs).__name__ == hub_files.STOCK[family].processor
    assert theirs.video_processor.patch_size == patch and theirs.video_processor.merge_size == 2
    assert type(theirs.image_processor).__name__.removesuffix("Pil") == "Qwen2VLImageProcessor"
    check_equal(vlm, theirs)
    again = models.load(tmp_path).processor
    assert type(again.image_processor) is FrameImageProcessor
    assert again.image_processor.to_dict() == vlm.processor.image_processor.to_dict()
    names = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*.json")]
    assert not any("FrameImageProcessor" in text or "FrameProcessor" in text for text in names)
