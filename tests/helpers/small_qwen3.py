"""A Qwen3-VL with few weights and random values, for tests of both families."""

from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, set_seed
from trl.chat_template_utils import qwen3_vl_chat_template

from o3v import models
from o3v.models.families import QWEN3_VL
from o3v.models.qwen_speedups import FrameImageProcessor


def small_qwen3(tokenizer):
    """The model with the tokens of `tokenizer`, whose chat template is replaced by Qwen3-VL's."""
    tokenizer.chat_template = qwen3_vl_chat_template
    names = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    image, video, start, end = tokenizer.convert_tokens_to_ids(list(names))
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    text = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "head_dim": 32, "vocab_size": len(tokenizer), "rope_parameters": rope}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64}
    vision |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 64, "initializer_range": 0.1}
    text["initializer_range"] = 0.1
    tokens = {"image_token_id": image, "video_token_id": video, "vision_start_token_id": start}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, vision_end_token_id=end, **tokens)
    set_seed(0)
    model = Qwen3VLForConditionalGeneration._from_config(config)
    sizes = {"shortest_edge": 64 * 64, "longest_edge": 256 * 256}
    images = FrameImageProcessor(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3, size=sizes)
    processor = models.FrameProcessor(images, tokenizer, qwen3_vl_chat_template, "qwen3_vl")
    return models.VideoModel(model, processor, QWEN3_VL)
