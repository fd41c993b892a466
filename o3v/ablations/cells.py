"""The cells of the ablations: what each changes, and from which model it starts.

A cell is one model or one experiment with a model. It starts from the base, from the cold start that the run of its
seed has made (notebook 02), or from the model of another cell. It then trains with SFT or GSPO, or only answers.
Every cell that trains has a reference with the same start and the same number of steps (`tables`).

Sizes of `tiny`: GSPO takes 40 updates, where notebook 03 takes 120. A SFT of the data tables takes 100 steps of 8 rows
instead of an epoch. All models answer the same 100 held-out questions, and V-STAR's questions on 60 videos. The cold
start itself has the size of `tiny`. This module does not know models.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from o3v.config import Profile
from o3v.rewards.config import RewardConfig

BASE, COLD_START = "base model", "cold start"  # names that no cell has
NO_GATE_S = 1e6  # longer than any video


@dataclass(frozen=True)
class Sizes:
    """Sizes of the cells of a profile."""

    sft_steps: int  # of the SFT of the data tables
    longer_steps: int  # of SFT that take the time of the GSPO updates
    gspo_steps: int
    questions: int  # held-out questions of the RL split
    items: int  # V-STAR videos
    general: int  # held-out general questions, for cells whose model never saw all SFT rows
    voted: int  # questions with several responses
    votes: int  # responses to each of them
    save_steps: int  # a killed cell goes on from the last multiple


SIZES: Mapping[str, Sizes] = {
    "tiny": Sizes(100, 120, 40, questions=100, items=60, general=64, voted=30, votes=8, save_steps=20),
    "smoke": Sizes(2, 2, 4, questions=4, items=2, general=2, voted=2, votes=2, save_steps=2),
}


@dataclass(frozen=True)
class Cell:
    """One cell. `start` is BASE, COLD_START or the name of another cell.

    `train` is "" (answers only), "gspo", or the field of Sizes with the steps of a SFT. `rows` selects its training
    rows (`rows.SELECTIONS`). `changes` are fields of the settings, `gspo.NAME` or `reward.NAME`; `reading` is the
    reward that they change. `measure` is "scores", "removal" or "voting".
    """

    name: str
    start: str
    train: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    rows: str = "all"
    reading: str = "paper"
    measure: str = "scores"


def _rl(name: str, start: str = COLD_START, rows: str = "all", reading: str = "paper", **changes: Any) -> Cell:
    """A cell that trains with GSPO. A change is given as gspo__NAME or reward__NAME."""
    dotted = {key.replace("__", ".", 1): value for key, value in changes.items()}
    return Cell(name, start, "gspo", dotted, rows, reading)


_CELLS = (
    # training strategy (table 3)
    Cell("sft", COLD_START),
    _rl("sft_gspo"),
    Cell("longer_sft", COLD_START, "longer_steps"),
    _rl("sft_grpo", gspo__importance_sampling="token"),
    Cell("format_only", BASE, "sft_steps", rows="other_targets"),
    _rl("gspo_alone", "format_only"),
    # reward (tables 5 and 8), inference (tables 6 and 13)
    _rl("no_gating", reward__gate_s=NO_GATE_S),
    _rl("sigma_4", reward__sigma_start_s=4.0, reward__sigma_end_s=4.0),
    _rl("sigma_1", reward__sigma_start_s=1.0, reward__sigma_end_s=1.0),
    _rl("recall", reward__recall_weight=1.0),
    Cell("removal", "sft_gspo", measure="removal"),
    Cell("voting", "sft_gspo", measure="voting"),
    # data (table 4), general questions (table 7), text only (table 9)
    Cell("sft_small", BASE, "sft_steps"),
    Cell("sft_without_own", BASE, "sft_steps", rows="without_own"),
    Cell("text_only", BASE, "sft_steps", rows="text_only"),
    Cell("general_none", BASE, "sft_steps", rows="general_none"),
    Cell("general_more", BASE, "sft_steps", rows="general_more"),
    _rl("data_all", "sft_small"),
    _rl("data_espresso", "sft_without_own"),
    _rl("data_none", "sft_without_own", rows="without_espresso"),
    # how GSPO is run
    _rl("on_policy", gspo__steps_per_generation=1),
    _rl("used_twice", gspo__num_iterations=2),
    _rl("epsilon_0.2", gspo__epsilon=0.2),
    _rl("epsilon_paper", gspo__epsilon=3e-4, gspo__epsilon_high=4e-4),
    _rl("gspo_paper", gspo__steps_per_generation=4, gspo__epsilon=3e-4, gspo__epsilon_high=4e-4),
    _rl("gspo_code", gspo__steps_per_generation=1, gspo__epsilon=0.2, gspo__beta=0.04, gspo__top_k=50),
    _rl("ema_scale", gspo__reward_scale="task"),
    _rl("gdpo", gspo__reward_aggregation="normalize_then_sum"),
    # other readings of the reward
    _rl("reward_code", reading="official"),
    _rl("gate_code", reward__gate="one_sided", reward__gate_s=1.0),
    _rl("gate_1s", reward__gate_s=1.0),
    _rl("names_soft", reward__names="soft"),
    _rl("names_required", reward__names="required"),
    _rl("span_distance", reward__span_distance_weight=1.0),
    _rl("matched", reward__spatial_mean="matched"),
    Cell("base", BASE),
)
CELLS: Mapping[str, Cell] = {cell.name: cell for cell in _CELLS}  # in the order in which they run


def chosen_cells(names: Iterable[str] = ()) -> list[Cell]:
    """The cells of these names, default all, and those that they start from, in the order in which they run.

    Raises ValueError for an unknown name, which lists the known ones.
    """
    wanted = set(names) or set(CELLS)
    if unknown := sorted(wanted - CELLS.keys()):
        raise ValueError(f"no such cell: {', '.join(unknown)}; known are {', '.join(CELLS)}")
    while more := {CELLS[name].start for name in wanted} & CELLS.keys() - wanted:
        wanted |= more
    return [cell for cell in CELLS.values() if cell.name in wanted]


def is_start(cell: Cell) -> bool:
    """Whether other cells start from the model of this one, so that it is kept."""
    return any(other.start == cell.name for other in CELLS.values())


def from_base(cell: Cell) -> bool:
    """Whether the model of a cell comes from the base without the cold start of notebook 02."""
    while cell.start in CELLS:
        cell = CELLS[cell.start]
    return cell.start == BASE


def sizes_of(profile: str) -> Sizes:
    """The sizes of a profile. Raises ValueError for a profile without sizes."""
    if profile not in SIZES:
        raise ValueError(f"the ablations have no sizes for profile {profile!r}; they run with {', '.join(SIZES)}")
    return SIZES[profile]


def steps_of(cell: Cell, sizes: Sizes) -> int:
    """The training steps of a cell, 0 for one that only answers."""
    return getattr(sizes, "gspo_steps" if cell.train == "gspo" else cell.train) if cell.train else 0


def facts_of(cell: Cell, profile: str) -> dict[str, Any]:
    """What decides a cell, as recorded: its fields, the profile, and those sizes that matter to it."""
    sizes = sizes_of(profile)
    numbers = {"questions": sizes.questions, "items": sizes.items} if cell.measure == "scores" else {}
    if cell.measure == "scores" and from_base(cell):
        numbers["general"] = sizes.general
    if cell.measure == "voting":
        numbers |= {"voted": sizes.voted, "votes": sizes.votes}
    if cell.measure == "removal":
        numbers["items"] = sizes.items
    own = {**asdict(cell), "changes": dict(cell.changes)}
    return {**own, "profile": profile, "steps": steps_of(cell, sizes), **numbers}


def settings_of(cell: Cell, profile: Profile) -> tuple[Profile, RewardConfig]:
    """The settings and the training reward of a cell, in one process.

    Raises TypeError for a change of a field that does not exist.
    """
    sizes = sizes_of(profile.name)
    changes: dict[str, dict[str, Any]] = {"gspo": {}, "reward": {}}
    for name, value in cell.changes.items():
        part, _, own = name.partition(".")
        changes[part][own] = value
    alone = replace(profile.gspo, max_steps=sizes.gspo_steps, save_steps=sizes.save_steps, num_processes=1)
    gspo = replace(alone, **changes["gspo"])
    sft = replace(profile.sft, epochs=1.0, save_steps=2 * sizes.save_steps, num_processes=1)
    inference = replace(profile.inference, vote_sizes=(sizes.votes,), num_voted=sizes.voted, num_workers=1)
    reward = {"paper": RewardConfig.paper, "official": RewardConfig.official}[cell.reading]()
    return replace(profile, gspo=gspo, sft=sft, inference=inference), replace(reward, **changes["reward"])
