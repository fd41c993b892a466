"""The untrained tiny model: Qwen2.5-VL's classes, processor and chat template with 2.9 million random parameters.

Its tokenizer is trained on given texts and has some 1,200 tokens, which keeps sequences short. The evidence tags are
ordinary tokens of it. Not part of the paper.
"""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, set_seed
from trl.chat_template_utils import qwen2_5_vl_chat_template

from o3v import evidence, toyworld
from o3v.models.families import QWEN2_5_VL
from o3v.models.qwen_speedups import FrameImageProcessor, apply_speedups
from o3v.models.vlm import FrameProcessor, VideoModel, forbid_vision_tokens

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
VISION = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
# The name of an object, the number of a frame and a time under twelve seconds are one token each, so that one attention
# step can find them again. A word includes the space before it and, before a number, the space after it. Other numbers
# are split into pairs of digits; a tenth (".5") is one token.
PIECES = Regex(
    rf" ?(?:{'|'.join(toyworld.COLORS)}) (?:{'|'.join(toyworld.KINDS)})(?![a-z])"
    r"| ?[Ff]rame \d{1,2}(?!\d)| ?[A-Za-z]+(?: (?=\d))?|(?<![\d.])(?:\d|1[01])\.\d(?!\d)"
    r"|\.\d|\d{1,2}| ?[^A-Za-z0-9\s]+(?: (?=\d|$))?|\s+"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 1536) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer with Qwen's special tokens. It encodes and restores any text.

    The evidence tags are ordinary tokens, not special ones, so that decoding keeps them.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(PIECES, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL, *VISION],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = [" ".join(f"{n:02d} {n} .{n % 10}" for n in range(100))] * 20
    numbers += [" ".join(f"{n // 10}.{n % 10}" for n in range(120))] * 50
    bpe.train_from_iterator([*numbers, *texts], trainer)
    bpe.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in evidence.TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", padding_side="left"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIAL[1:], *VISION]})
    tokenizer.chat_template = qwen2_5_vl_chat_template
    return tokenizer


def build(texts: Iterable[str], seed: int) -> VideoModel:
    """Builds the tiny model with random weights, and its tokenizer from `texts`."""
    tokenizer = train_tokenizer(texts)
    token_id = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "initializer_range": 0.07,  # 1/√192; at the usual 0.02 so small a model learns far more slowly
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [8, 8, 8]},
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": token_id("<|im_end|>"),
            "pad_token_id": token_id("<|endoftext|>"),
        },
        vision_config={
            "depth": 3,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "out_hidden_size": 192,
            "fullatt_block_indexes": [0, 1, 2],
        },
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    set_seed(seed)
    model = apply_speedups(Qwen2_5_VLForConditionalGeneration._from_config(config))
    model.generation_config.eos_token_id = token_id("<|im_end|>")
    model.generation_config.pad_token_id = token_id("<|endoftext|>")
    forbid_vision_tokens(model, tokenizer)
    images = FrameImageProcessor(size={"shortest_edge": 28 * 28, "longest_edge": 128 * 28 * 28})
    return VideoModel(model, FrameProcessor(images, tokenizer, tokenizer.chat_template), QWEN2_5_VL)
