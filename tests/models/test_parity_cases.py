"""The cases that another engine repeats, and the script that vLLM's Python runs, with a module in place of vLLM."""

import json
import sys

import pytest
import torch
from helpers.world import builder_of

from o3v import files, models
from o3v.models import parity_cases
from o3v.planning import parity

# Answers as transformers did, from the file beside it: what is tested is the exchange, not an engine.
ENGINE = """
import json, os
from types import SimpleNamespace as Bag

__version__ = "0.fake"

def SamplingParams(**settings):
    assert settings["temperature"] == 0 and all(v == -100 for v in settings["logit_bias"].values())
    return settings

class LLM:
    def __init__(self, model, **settings):
        if os.path.exists(os.path.join(model, "broken")):
            raise RuntimeError("no such architecture")
        self.cases = json.load(open(model + ".parity/cases.json"))["cases"]
        self.llm_engine = Bag(model_config=self)

    def generate(self, prompts, sampling, use_tqdm):
        done = []
        for prompt, case in zip(prompts, self.cases, strict=True):
            assert prompt["prompt"] == case["text"]
            self.sizes = [image.size for image in prompt["multi_modal_data"]["image"]]
            steps = [{t: Bag(logprob=p)} for t, p in zip(case["tokens"], case["logprobs"], strict=True)]
            output = Bag(token_ids=case["tokens"], logprobs=steps)
            done.append(Bag(prompt_token_ids=case["input_ids"], outputs=[output]))
        return done
"""
PROCESSOR = """
import numpy as np
from types import SimpleNamespace as Bag

def cached_processor_from_config(config):
    def grids(images, return_tensors):
        return {"image_grid_thw": np.array([[1, image.height // 14, image.width // 14] for image in images])}

    return Bag(image_processor=grids)
"""


@pytest.fixture
def python(tmp_path):
    """An interpreter whose `vllm` is the module above."""
    package = tmp_path / "site" / "vllm"
    (package / "transformers_utils").mkdir(parents=True)
    (package / "__init__.py").write_text(ENGINE, encoding="utf-8")
    (package / "transformers_utils/__init__.py").touch()
    (package / "transformers_utils/processor.py").write_text(PROCESSOR, encoding="utf-8")
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "site"} exec {sys.executable} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return script


@pytest.fixture
def prompts(world, rl_examples):
    builder = builder_of(world)
    return [builder.for_example(example, training=True) for example in rl_examples[:5]]


@pytest.fixture
def model(twin, tmp_path):
    models.save(twin, tmp_path / "model")
    return tmp_path / "model"


def test_prompts_without_images_and_folders_without_weights_are_refused(twin, prompts, model, tmp_path):
    folder = parity.folder_of(model)
    with pytest.raises(ValueError, match="prompts, each with images"):
        parity_cases.write_cases(twin, model, [], folder, 4)
    with pytest.raises(FileNotFoundError, match="no folder with a model's weights"):
        parity_cases.write_cases(twin, tmp_path / "nowhere", prompts, folder, 4)
    assert not folder.exists()


def test_the_cases_hold_what_the_model_says(twin, prompts, model):
    folder = parity.folder_of(model)
    parity_cases.write_cases(twin, model, prompts[:2], folder, 5)
    cases = files.read_json(folder / parity.CASES)["cases"]
    for case, prompt in zip(cases, prompts, strict=False):
        inputs = models.encode(twin.processor, [prompt])
        assert case["input_ids"] == inputs["input_ids"][0].tolist()
        assert case["image_grids"] == inputs["image_grid_thw"].tolist()
        assert len(case["images"]) == len(prompt.images) == len(case["image_grids"])
        assert 0 < len(case["tokens"]) <= 5 and len(case["margins"]) == len(case["tokens"])
        whole = torch.tensor([case["input_ids"] + case["tokens"]])
        kinds = (whole == twin.model.config.image_token_id).int()
        images = {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}
        with torch.no_grad():
            logits = twin.model(input_ids=whole, mm_token_type_ids=kinds, **images).logits[0]
        log_p = logits[len(case["input_ids"]) - 1 : -1].log_softmax(-1)
        found = [log_p[n, token].item() for n, token in enumerate(case["tokens"])]
        assert case["logprobs"] == pytest.approx(found, abs=1e-4)
        assert min(case["margins"]) >= 0


def test_the_exchange_from_end_to_end(twin, prompts, model, python):
    folder = parity.folder_of(model)
    parity_cases.write_cases(twin, model, prompts, folder, 3)
    parity_cases.run_vllm(python, folder)
    record = parity.compare(folder)
    assert record["passed"] and record["engine"] == "vllm 0.fake" and record["cases"] == 5
    assert parity.require_parity(model)["passed"]
    parity_cases.write_cases(twin, model, prompts, folder, 3)  # begins anew: no answers, no verdict
    assert not (folder / parity.ENGINE).exists() and not (folder / parity.RECORD).exists()


def test_a_failing_engine_leaves_its_words_and_no_answers(twin, prompts, model, python):
    folder = parity.folder_of(model)
    parity_cases.write_cases(twin, model, prompts[:1], folder, 2)
    with pytest.raises(FileNotFoundError, match=r"no Python of vLLM at .*nowhere; `make vllm`"):
        parity_cases.run_vllm(folder / "nowhere", folder)
    (folder / parity.ENGINE).write_text(json.dumps("old"), encoding="utf-8")
    (model / "broken").touch()
    with pytest.raises(OSError, match=r"exit code 1: RuntimeError: no such architecture .*vllm\.log"):
        parity_cases.run_vllm(python, folder)
    assert not (folder / parity.ENGINE).exists()
