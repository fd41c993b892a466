"""Tiny: the 2.9M-parameter base model that stands in for Qwen2.5-VL, and how it was pretrained."""
