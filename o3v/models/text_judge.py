"""A local chat model without vision that replies to short prompts, for judging answers (`evaluation.judges`)."""

from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from o3v.http_json import Reply


def load_chat(name: str, max_new_tokens: int = 8) -> Callable[[str], Reply]:
    """Loads a chat model, for example Qwen/Qwen2.5-72B-Instruct (V-STAR's judge). Replies greedily, one at a time."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    device = "auto" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(name, dtype="auto", device_map=device).eval()

    def ask(prompt: str) -> Reply:
        messages = [{"role": "user", "content": prompt}]
        options = {"add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
        inputs = tokenizer.apply_chat_template(messages, **options).to(model.device)
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        new = tokens[0, inputs["input_ids"].shape[1] :]
        return Reply(tokenizer.decode(new, skip_special_tokens=True), inputs["input_ids"].shape[1], len(new))

    return ask
