"""A profile on given GPUs: its memory, work and disk together, and what would make it fit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from o3v.config import Profile
from o3v.planning import work
from o3v.planning.memory import Engine, fits, memory_parts, offloaded_bytes
from o3v.planning.shapes import KNOWN, ModelShape, model_shape
from o3v.planning.work import Assumptions, StageWork

LORA_RANK = 16  # of the proposal
MORE_GPUS = (2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Budget:
    """A profile, its base model and the GPUs for it. `engine` None: `engines` chooses."""

    profile: Profile
    shape: ModelShape
    gpus: int
    gpu_memory: float  # bytes
    engine: Engine | None = None

    def engines(self) -> dict[str, Engine]:
        """The engine of each training stage: the profile's, as the launcher takes it; one GPU needs none."""
        if self.engine is not None:
            return {"sft": self.engine, "gspo": self.engine}
        alone = self.gpus == 1
        return {stage: "ddp" if alone else getattr(self.profile, stage).engine for stage in ("sft", "gspo")}

    def memory(self) -> dict[str, dict[str, float]]:
        """Bytes of one GPU by stage and part (`memory.memory_parts`)."""
        parts = {
            stage: memory_parts(self.shape, work.training_setup(self.profile, self.shape, stage, engine, self.gpus))
            for stage, engine in self.engines().items()
        }
        return {**parts, "answers": memory_parts(self.shape, work.answering_setup(self.profile, self.shape))}

    def main_memory(self) -> float:
        """Bytes of masters and optimizer in main memory: of the stage with the most."""
        setups = (
            work.training_setup(self.profile, self.shape, stage, engine, self.gpus)
            for stage, engine in self.engines().items()
        )
        return max(offloaded_bytes(self.shape, setup) for setup in setups)

    def too_large(self) -> dict[str, float]:
        """The stages that do not fit a GPU, with their peak in bytes."""
        return {name: parts["peak"] for name, parts in self.memory().items() if not fits(parts, self.gpu_memory)}

    def works(self, assumed: Assumptions) -> list[StageWork]:
        """The work of each stage."""
        training = [make(self.profile, self.shape, self.gpus, assumed) for make in (work.sft_work, work.gspo_work)]
        return [*training, work.answering_work(self.profile, self.shape, assumed)]

    def disk(self) -> dict[str, float]:
        """Bytes on disk by part, without the videos."""
        models = work.model_disk_bytes(self.profile, self.shape.parameters, self.shape.lora_width)
        return {**models, "frame cache": work.frame_cache_bytes(self.profile, self.shape)}


def ways_to_fit(budget: Budget, max_gpus: int = MORE_GPUS[-1]) -> list[str]:
    """Changes that each make a profile fit its GPUs; if none does, several together; if those do not, an empty list.

    Each change is planned anew, so that only changes that are enough are named. Of more GPUs, up to `max_gpus`, the
    smallest number is named, of smaller models the largest.
    """
    engines: tuple[Engine, ...] = ("zero2", "zero3", "fsdp2") if budget.gpus > 1 else ()
    changes = {f"--engine {name}": partial(replace, engine=name) for name in engines} | SETTINGS
    if budget.gpus > 1:
        changes["--engine zero3_offload (profile full-offload)"] = partial(replace, engine="zero3_offload")
    ways = [text for text, change in changes.items() if _helps(budget, change)]
    more = [n for n in MORE_GPUS if budget.gpus < n <= max_gpus]
    ways += [f"{n} GPUs" for n in more if _helps(budget, partial(replace, gpus=n))][:1]
    together, texts = budget, []
    for text, change in (SETTINGS | _smaller_models(budget)).items():
        if not ways and change(together) != together:
            together, texts = change(together), [*texts, text]
            ways = [] if together.too_large() else [" and ".join(texts)]
    return ways


def _helps(budget: Budget, change: Callable[[Budget], Budget]) -> bool:
    changed = change(budget)
    return changed != budget and not changed.too_large()


def _smaller_models(budget: Budget) -> dict[str, Callable[[Budget], Budget]]:
    names = sorted(KNOWN, key=lambda name: -KNOWN[name].parameters)
    smaller = [name for name in names if KNOWN[name].parameters < 0.9 * budget.shape.parameters]
    return {f"base {name}": partial(replace, shape=model_shape(name)) for name in smaller}


def _both(budget: Budget, **settings: int | str) -> Budget:
    profile = budget.profile
    return _profile(budget, sft=replace(profile.sft, **settings), gspo=replace(profile.gspo, **settings))


def _profile(budget: Budget, **parts: object) -> Budget:
    return replace(budget, profile=replace(budget.profile, **parts))


# Settings that save memory, in the order in which they are tried together.
SETTINGS: Mapping[str, Callable[[Budget], Budget]] = {
    f"LoRA (o3v run -p lora_rank={LORA_RANK})": lambda b: _both(b, lora_rank=b.profile.gspo.lora_rank or LORA_RANK),
    "per_device_batch_size=1 for SFT and GSPO": lambda b: _both(b, per_device_batch_size=1),
    "optimizer adamw_8bit": lambda b: (
        b if "zero3_offload" in b.engines().values() else _both(b, optimizer="adamw_8bit")
    ),
    "beta=0 (no reference model)": lambda b: _profile(b, gspo=replace(b.profile.gspo, beta=0.0)),
    "inference batch_size=1": lambda b: _profile(b, inference=replace(b.profile.inference, batch_size=1)),
    "prompts_per_step=2 for GSPO": lambda b: _profile(b, gspo=replace(b.profile.gspo, prompts_per_step=2)),
    "frames of at most 50,176 pixels": lambda b: _profile(
        b, frames=replace(b.profile.frames, max_pixels=min(b.profile.frames.max_pixels, 50_176))
    ),
}
