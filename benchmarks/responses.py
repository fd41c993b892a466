"""Wall time of eight responses from one shared prefill, compared with one response and with eight separate calls.

All responses have the same length.

    python benchmarks/responses.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from o3v import inference, models
from o3v.config import find_base, load_profile
from o3v.data.root import locate_items, vstar_file
from o3v.evaluation.vstar_items import read_items
from o3v.prompts import PromptBuilder
from o3v.toyworld.dataset import make_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--turns", type=int, default=7)
    options = parser.parse_args()
    profile = load_profile("tiny")
    vlm = models.load(find_base(profile.base))
    longest = vlm.model.generation_config.min_new_tokens = profile.inference.max_new_tokens
    with tempfile.TemporaryDirectory() as folder:
        make_dataset(folder, {"eval": 1}, progress=False)
        items = locate_items(folder, read_items(vstar_file(folder)))
        prompt = inference.vstar_questions(items, PromptBuilder(Path(folder), profile.frames, vlm.box_space))[0].make()

    def seconds(calls: int, repeats: int) -> float:
        start_s = time.perf_counter()
        for call in range(calls):
            models.generate(vlm, [prompt], longest, temperature=1.0, seed=call, repeats=repeats)
        return time.perf_counter() - start_s

    seconds(1, options.count)
    rows = [
        (seconds(1, 1), seconds(1, options.count), seconds(options.count, 1)) for _ in range(options.turns)
    ]  # in turns, so that other load slows all of them equally
    one, together, apart = np.array(rows).T
    print(f"one response {np.median(one):.2f} s, {options.count} together {np.median(together):.2f} s", end=", ")
    print(f"{options.count} calls {np.median(apart):.2f} s (medians of {options.turns} turns, {longest} tokens each)")
    print(f"together / one: {np.median(together / one):.2f}, together / calls: {np.median(together / apart):.2f}")


if __name__ == "__main__":
    main()
