"""Video-language models: load, prepare, generate."""

from o3v.models.families import FAMILIES, Family, family_of
from o3v.models.vlm import (
    VISION_TOKENS,
    FrameProcessor,
    VideoModel,
    batches,
    connect,
    decoding_options,
    encode,
    generate,
    load,
    response_opening,
    save,
)
