"""Tests of model shapes: the shipped configurations against published counts, folders, and the hub cache."""

import json

import pytest

from o3v.config import find_base, load_profile
from o3v.planning import shapes


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return tmp_path / "hf/hub"


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "gpt2"}', '{"model_type": "no_such_model"}'])
def test_a_folder_without_a_video_language_model_is_refused(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is not one of a video-language model"):
        shapes.model_shape(str(tmp_path))


def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(no_cache):
    with pytest.raises(ValueError, match=r"Qwen/Qwen9-VL: no folder .* Qwen/Qwen2\.5-VL-7B-Instruct"):
        shapes.model_shape("Qwen/Qwen9-VL")


@pytest.mark.parametrize("name", shapes.KNOWN)
def test_shipped_configurations_have_the_published_number_of_parameters(name, no_cache):
    assert shapes.model_shape(name).parameters == shapes.KNOWN[name].parameters == shapes.parameters_of(name)


def test_sizes_of_the_7b(no_cache):
    shape = shapes.model_shape("Qwen/Qwen2.5-VL-7B-Instruct")
    assert shape.parameters == 8_292_166_656
    assert (shape.query_width, shape.key_width, shape.grid_px, shape.vision_gated) == (3584, 512, 28, True)
    assert shapes.model_shape("Qwen/Qwen3-VL-8B-Instruct").grid_px == 32


def test_a_folder_has_the_shape_of_the_model_in_it_and_lora_the_size_that_peft_makes():
    from peft import get_peft_model

    from o3v import models
    from o3v.training.trainer import lora_config

    base = load_profile("tiny").base
    model = models.load(find_base(base)).model
    shape = shapes.model_shape(base)
    assert shape == shapes.shape_of(model)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert get_peft_model(model, lora_config(4)).get_nb_trainable_parameters()[0] == 4 * shape.lora_width


def test_a_model_is_found_in_the_cache_of_the_hub_and_its_missing_shards_are_named(no_cache):
    name = "Qwen/Qwen2.5-VL-3B-Instruct"
    assert shapes.find_model(name) is None
    snapshot = no_cache / "models--Qwen--Qwen2.5-VL-3B-Instruct/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert shapes.find_model(name) == snapshot
    assert shapes.missing_weights(snapshot) == ["model.safetensors"]
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "model-1.safetensors").touch()
    assert shapes.missing_weights(snapshot) == ["model-2.safetensors"]
    (snapshot / "model.safetensors.index.json").write_text("[]")
    assert shapes.missing_weights(snapshot) == ["model.safetensors.index.json"]
