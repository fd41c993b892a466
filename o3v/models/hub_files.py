"""The processor files of a checkpoint in the hub's layout, with the classes of transformers.

With them `AutoProcessor`, vLLM and lmms-eval read a checkpoint as it is. Our own classes (frame cache, no video part)
are an addition of `models.load` and appear in no file. This module does not know weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from o3v import files

IMAGE_FILE, VIDEO_FILE = "preprocessor_config.json", "video_preprocessor_config.json"
COPIED = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std", "resample", "rescale_factor")
SWITCHES = ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb")


@dataclass(frozen=True)
class StockClasses:
    """Classes of transformers that process the inputs of one family, and how its video processor samples (hub)."""

    processor: str
    image: str
    video: str
    video_min_pixels: int  # of a frame (Qwen2.5-VL) or of a whole video (Qwen3-VL)
    video_max_pixels: int


STOCK = {
    "qwen2_5_vl": StockClasses(
        "Qwen2_5_VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor", 3_136, 12_845_056
    ),
    "qwen3_vl": StockClasses("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor", 4_096, 25_165_824),
}


def write_processor(processor: Any, model_type: str, folder: Path | str) -> list[str]:
    """Writes tokenizer, chat template, image and video processor as stock files. Returns their paths.

    Args:
        processor: has `tokenizer`, `image_processor` and `chat_template`.
        model_type: key of STOCK. Raises KeyError for another one.
        folder: of the checkpoint; made if it is missing.
    """
    stock, folder = STOCK[model_type], Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    processor.tokenizer._set_processor_class(stock.processor)
    paths = list(processor.tokenizer.save_pretrained(folder))
    (folder / "processor_config.json").unlink(missing_ok=True)  # of an older checkpoint; it would be read first
    for name, config in ((IMAGE_FILE, image_config), (VIDEO_FILE, video_config)):
        files.write_json(folder / name, config(processor.image_processor, stock))
        paths.append(str(folder / name))
    return paths


def image_config(images: Any, stock: StockClasses) -> dict[str, Any]:
    """The image processor's file. `min_pixels` and `max_pixels` repeat the size for readers of the older layout."""
    config = {key: value for key, value in images.to_dict().items() if key in (*COPIED, *SWITCHES)}
    low, high = images.size["shortest_edge"], images.size["longest_edge"]
    size = {"size": {"shortest_edge": low, "longest_edge": high}, "min_pixels": low, "max_pixels": high}
    return config | size | {"image_processor_type": stock.image, "processor_class": stock.processor}


def video_config(images: Any, stock: StockClasses) -> dict[str, Any]:
    """The video processor's file: the patches of the image processor, and the family's sizes and sampling."""
    config = {key: value for key, value in images.to_dict().items() if key in (*COPIED, *SWITCHES)}
    size = {"shortest_edge": stock.video_min_pixels, "longest_edge": stock.video_max_pixels}
    sampling = {"size": size, "fps": 2, "min_frames": 4, "max_frames": 768}
    return config | sampling | {"video_processor_type": stock.video, "processor_class": stock.processor}
