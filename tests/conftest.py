"""Fixtures: a small synthetic data set on disk, and a small untrained model, the twin."""

import copy

import pytest


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A data root with a few videos and rows of every split."""
    from o3v.data.root import add_rows
    from o3v.toyworld import scripted_annotator
    from o3v.toyworld.dataset import make_dataset

    root = tmp_path_factory.mktemp("world")
    make_dataset(root, {"sft": 12, "rl": 12, "eval": 2}, seed=7, workers=1, progress=False)
    items = list(scripted_annotator.items("sft", 7, 3))  # as notebook 01: annotated rows complete the split
    scripted_annotator.render_videos(items, root, workers=1)
    add_rows(root, "annotated", map(scripted_annotator.true_example, items))
    return root


@pytest.fixture(scope="session")
def sft_examples(world):
    from o3v.data.root import read_split

    return read_split(world, "sft")


@pytest.fixture(scope="session")
def rl_examples(world):
    from o3v.data.root import read_split

    return read_split(world, "rl")


@pytest.fixture(scope="session")
def vstar_items(world):
    """The items of the world's V-STAR file, with the paths of their videos."""
    from o3v.data.root import locate_items, vstar_file
    from o3v.evaluation.vstar_items import read_items

    return locate_items(world, read_items(vstar_file(world)))


@pytest.fixture(scope="session")
def _twin(sft_examples):
    from o3v import prompts
    from o3v.tinybase import architecture

    texts = [text for e in sft_examples for text in (e.question, e.reasoning_process, e.answer)]
    return architecture.build([*prompts.SYSTEM_PROMPTS.values(), *texts], seed=0)


@pytest.fixture
def twin(_twin):
    """The tiny twin, fresh for each test."""
    return copy.deepcopy(_twin)
