"""Video-language models: load, prepare, generate."""

from o3v.models.vlm import (
    VISION_TOKENS,
    FrameProcessor,
    VideoModel,
    batches,
    encode,
    generate,
    load,
    response_opening,
    save,
)
