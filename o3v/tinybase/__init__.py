"""Tiny: the 2.9M-parameter base model that replaces Qwen2.5-VL on a laptop, and how it was pretrained."""
