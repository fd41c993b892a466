"""A local chat model as a judge: replies, tokens, and the same reply every time."""

import pytest
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from o3v.config import REPOSITORY
from o3v.evaluation.judges import ModelJudge, judge_rows
from o3v.models.text_judge import load_chat

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %} answer{% endif %}"


@pytest.fixture
def folder(tmp_path):
    """A random language model of a few thousand weights with the tiny base's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(REPOSITORY / "data/o3v-tiny-base")
    tokenizer.chat_template = TEMPLATE
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=1, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises((OSError, ValueError)):
        load_chat(str(tmp_path))


def test_a_local_model_judges(folder):
    ask = load_chat(str(folder), max_new_tokens=2)
    reply = ask("the red car")
    assert reply == ask("the red car") and reply.tokens_in > 3 and 1 <= reply.tokens_out <= 2
    report = judge_rows([{"question": "a", "answer": "b", "answer_vqa": "c"}], ModelJudge("local", ask))
    assert (report.asked, report.failed, len(report.scores)) == (1, 0, 1) and report.tokens_out <= 2
