"""DDP, FSDP2 and DeepSpeed ZeRO in two CPU processes against one process, on the tiny base: no GPU needed.

accelerate refuses DeepSpeed and FSDP on CPUs, so the engines are called directly. For each engine: the gradient of SFT
and of GSPO (same rollouts), generation of different lengths with gathered weights, the best checkpoint, and a step
after saving and loading. ZeRO needs DeepSpeed, in an environment of its own. Exits with 1 if something differs.

    torchrun --standalone --nproc_per_node 2 benchmarks/engines.py ddp fsdp2
    torchrun --standalone --nproc_per_node 2 benchmarks/engines.py zero2 zero3
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.checkpoint import state_dict as dcp
from torch.nn.parallel import DistributedDataParallel

from o3v import models
from o3v.config import find_base, load_profile
from o3v.models import group_rows, prefix_cache
from o3v.prompts import plain_prompt
from o3v.training import callbacks, objective, sharding

ENGINES = ("ddp", "fsdp2", "zero2", "zero3")
MASK = torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
ZERO_STAGES = {"zero2": 2, "zero3": 3}
TOLERANCE, RATE = 1e-5, 1e-4


def prompts_of(vlm, rank):
    rng = np.random.default_rng(rank)
    frames = list(rng.integers(0, 256, (2 + rank, 56, 56, 3), dtype=np.uint8))
    prompt = plain_prompt(frames, tuple(map(float, range(len(frames)))), 9.0, "What is it?")
    return dict(models.encode(vlm.processor, [prompt] * 2)), torch.from_numpy(rng.integers(30, 300, MASK.shape))


def sft_loss(call, vlm, rank):
    """Mean over the tokens of both processes: other numbers of tokens in each, as the trainer counts them."""
    inputs, ids = prompts_of(vlm, rank)
    given, tokens = inputs["input_ids"], 4 + 3 * rank
    labels = torch.full_like(given, -100)
    labels[:, -tokens:] = ids[0, 0]
    logits = call(**inputs).logits[:, :-1].float()
    summed = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    return 2 * summed / (2 * (4 + 7))  # the mean over two processes is the loss of all 22 tokens


def gspo_loss(call, vlm, rank):
    inputs, ids = prompts_of(vlm, rank)
    rows = group_rows.pack(vlm.model, inputs, ids, MASK)
    values, _ = call(**rows.inputs, scored_labels=rows.labels, temperature=1.0)
    logp = rows.unpack(values, MASK.shape[1])
    old = logp.detach() + torch.tensor([[0.1], [-0.1]])
    return objective.gspo_loss(logp, old, MASK, torch.tensor([1.0, -0.5]), 0.2)


LOSSES = {"SFT": sft_loss, "GSPO": gspo_loss}


def load():
    vlm = models.load(find_base(load_profile("tiny").base))
    group_rows.add_scoring(vlm.model)
    vlm.model.train()
    return vlm


class Engine:
    """One engine with the same few calls as the others."""

    def __init__(self, name, model):
        self.name, self.model = name, model
        if name == "ddp":
            self.call = DistributedDataParallel(model)
        elif name == "fsdp2":
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import fully_shard

            mesh = init_device_mesh("cpu", (2,))
            for layer in (*model.model.language_model.layers, *model.model.visual.blocks):
                fully_shard(layer, mesh=mesh)
            self.call = fully_shard(model, mesh=mesh)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
        if name.startswith("zero"):
            import deepspeed

            zero = {"stage": ZERO_STAGES[name], "stage3_param_persistence_threshold": 0}
            config = {"train_micro_batch_size_per_gpu": 2, "zero_optimization": zero}
            config |= {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
            self.call, *_ = deepspeed.initialize(model=model, optimizer=self.optimizer, config=config)

    def backward(self, loss):
        if self.name.startswith("zero"):
            self.call.backward(loss)
        else:
            loss.backward()

    def gradients(self):
        if self.name.startswith("zero"):
            from deepspeed.utils import safe_get_full_grad

            found = {name: safe_get_full_grad(p) for name, p in self.model.named_parameters()}
        else:
            found = {name: p.grad for name, p in self.model.named_parameters()}
        return {n: g.full_tensor() if hasattr(g, "full_tensor") else g for n, g in found.items() if g is not None}

    def step(self):
        if self.name.startswith("zero"):
            self.call.step()
        else:
            self.optimizer.step()
            self.optimizer.zero_grad()

    def save(self, folder):
        if self.name.startswith("zero"):
            self.call.save_checkpoint(folder)
        else:
            model, optimizer = dcp.get_state_dict(self.model, self.optimizer, options=FULL)
            if dist.get_rank() == 0:
                torch.save((model, optimizer), Path(folder) / "state.pt")
        dist.barrier()

    def load(self, folder):
        if self.name.startswith("zero"):
            self.call.load_checkpoint(folder)
            return
        model, optimizer = torch.load(Path(folder) / "state.pt")
        dcp.set_state_dict(self.model, self.optimizer, model_state_dict=model, optim_state_dict=optimizer, options=FULL)


FULL = dcp.StateDictOptions(full_state_dict=True, cpu_offload=True)


def expected_gradients(loss):
    vlm = load()
    for rank in range(2):
        (loss(vlm.model, vlm, rank) / 2).backward()
    return {name: p.grad for name, p in vlm.model.named_parameters() if p.grad is not None}


def gradient_difference(name, loss):
    """Largest difference to the gradient of one process, in units of its largest entry or of 1."""
    expected, vlm = expected_gradients(loss), load()
    engine = Engine(name, vlm.model)
    engine.backward(loss(engine.call, vlm, dist.get_rank()))
    found = engine.gradients()
    assert found.keys() >= expected.keys()
    largest = max(value.abs().max().item() for value in expected.values())
    assert largest > 1e-2
    return max((found[n] - expected[n]).abs().max().item() for n in expected) / max(1.0, largest)


def generated(vlm, rank, length):
    inputs, _ = prompts_of(vlm, rank)
    options = models.vlm.decoding_options(length)
    return prefix_cache.generate(vlm.model, **inputs, **options)[:, inputs["input_ids"].shape[1] :]


def trainer_of(engine):
    """What `sharding.whole_weights` needs of a trainer."""
    state = SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=ZERO_STAGES.get(engine.name, 0)))
    unwrapped = SimpleNamespace(unwrap_model=lambda model: getattr(model, "module", model), state=state)
    return SimpleNamespace(
        model=engine.model,
        model_wrapped=engine.call,
        accelerator=unwrapped,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
    )


def whole_differs(name, folder):
    """Names of what goes wrong with gathered weights: generation of other lengths in each process, best checkpoint."""
    rank, alone, vlm = dist.get_rank(), load(), load()
    original = {n: p.detach().clone() for n, p in alone.model.named_parameters()}
    engine, wrong, answers = Engine(name, vlm.model), [], []
    expected = generated(alone, rank, 4 + 4 * rank)

    def score():
        answers.append(generated(vlm, rank, 4 + 4 * rank))
        return 1.0

    keep = callbacks.KeepBest(score, lambda: sharding.whole_weights(trainer_of(engine)))
    keep.on_save(SimpleNamespace(output_dir=folder), SimpleNamespace(global_step=1), None, model=engine.model)
    dist.barrier()
    wrong += [] if torch.equal(answers[0], expected) else ["generation"]
    kept = callbacks.read_best(Path(folder))["weights"]
    same = kept.keys() == original.keys() and all(torch.equal(kept[n], original[n]) for n in original)
    wrong += [] if same else ["best checkpoint"]
    engine.backward(sft_loss(engine.call, vlm, rank))  # training goes on
    return wrong


def resumed_difference(name, folder):
    """Largest difference of the weights after two steps, without and with saving and loading between them."""
    ends, saved = [], False
    for resumed in (False, True):
        vlm = load()
        engine = Engine(name, vlm.model)
        if resumed:
            engine.load(folder)
        for _ in range(1 if resumed else 2):
            engine.backward(sft_loss(engine.call, vlm, dist.get_rank()))
            engine.step()
            if not resumed and not saved:
                engine.save(folder)
                saved = True
        ends.append(sharding.whole_state(engine.model))
    return max((ends[0][n] - ends[1][n]).abs().max().item() for n in ends[0])


def main():
    names = sys.argv[1:] or ["ddp", "fsdp2"]
    if set(names) - set(ENGINES):
        sys.exit(f"engines are {', '.join(ENGINES)}")
    if any(name.startswith("zero") for name in names):
        import deepspeed

        deepspeed.init_distributed("gloo")
    else:
        dist.init_process_group("gloo")
    failed = False
    for name in names:
        folders = [tempfile.mkdtemp() if dist.get_rank() == 0 else "" for _ in range(2)]
        dist.broadcast_object_list(folders)
        differences = {kind: gradient_difference(name, loss) for kind, loss in LOSSES.items()}
        wrong, resumed = whole_differs(name, folders[0]), resumed_difference(name, folders[1])
        wrong += [kind for kind, difference in differences.items() if not difference < TOLERANCE]
        wrong += ["resuming"] if resumed else []
        failed |= bool(wrong)
        if dist.get_rank() == 0:
            numbers = "  ".join(f"{kind} gradient {difference:.1e}" for kind, difference in differences.items())
            print(f"{name:6}{numbers}  resumed {resumed:.1e}  wrong: {', '.join(wrong) or 'nothing'}", flush=True)
    dist.barrier()
    os._exit(int(failed))  # DeepSpeed's threads may not end


if __name__ == "__main__":
    main()
