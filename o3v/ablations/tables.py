"""The tables of the ablations: which cells stand in each, the reference, and the paper's numbers beside them.

Numbers of the paper are those of Open-o3 Video, arXiv:2510.20579, in per cent (mLGM × 100). Its VideoMME stands beside
our general questions, its *what* beside our accuracy. This module does not know records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TableRow:
    """One row. `paper` are the paper's numbers by metric. `column` is the series of a cell that has several."""

    cell: str
    label: str
    paper: Mapping[str, float] = field(default_factory=dict)
    column: str = ""


@dataclass(frozen=True)
class Table:
    """A table. The row `reference` is what all others are compared with; `metrics` are shown, in order.

    The metrics `judged` decide what the table shows. `note` says where it departs from the paper.
    """

    name: str
    title: str
    reference: str
    rows: tuple[TableRow, ...]
    metrics: tuple[str, ...] = ("mam", "mlgm", "accuracy", "m_tiou", "m_viou", "reward")
    judged: tuple[str, ...] = ("mam", "reward")
    note: str = ""

    def reference_row(self) -> TableRow:
        """The row that the others are compared with."""
        return next(row for row in self.rows if row.label == self.reference)


def _paper(mam: float, mlgm: float, **others: float) -> dict[str, float]:
    return {"mam": mam, "mlgm": mlgm, **others}


_OURS = _paper(33.7, 46.6)
_FULL = TableRow("sft_gspo", "SFT + GSPO", _OURS)
_OWN = TableRow("sft_gspo", "SFT + GSPO")
_WITH_GENERAL = ("mam", "mlgm", "accuracy", "m_tiou", "m_viou", "general")

TABLES: tuple[Table, ...] = (
    Table(
        "table 3",
        "training strategy",
        "SFT + GSPO",
        (
            TableRow("base", "base", _paper(19.3, 22.4)),
            TableRow("sft", "SFT", _paper(28.5, 37.1)),
            TableRow("longer_sft", "SFT + longer SFT"),
            TableRow("format_only", "format only"),
            TableRow("gspo_alone", "GSPO alone", _paper(30.4, 40.7)),
            TableRow("sft_grpo", "SFT + GRPO", _paper(32.8, 45.3)),
            _FULL,
        ),
        note="GSPO alone starts from SFT on reasoning and answers of other questions (format only), because the base "
        "never writes the format. The longer SFT goes on from the cold start for about as many minutes as GSPO takes.",
    ),
    Table(
        "table 4",
        "spatio-temporal data",
        "with VideoEspresso and own",
        (
            TableRow("data_none", "without spatio-temporal rows", _paper(28.3, 36.2)),
            TableRow("data_espresso", "with VideoEspresso", _paper(31.1, 43.6)),
            TableRow("data_all", "with VideoEspresso and own", _OURS),
        ),
        note="SFT of 100 steps, then GSPO. Here as in STGR, the own rows are in SFT and those of VideoEspresso in RL.",
    ),
    Table(
        "table 5",
        "reward: adaptive temporal proximity and gating",
        "both",
        (
            TableRow("sigma_4", "without adaptive proximity (σ = 4 s)", _paper(33.0, 45.2)),
            TableRow("no_gating", "without gating", _paper(32.3, 44.9)),
            TableRow("sft_gspo", "both", _OURS),
        ),
    ),
    Table(
        "table 6",
        "evidence removed at inference",
        "random frames removed",
        (
            TableRow("removal", "all frames", {"right": 68.7}, "before"),
            TableRow("removal", "claimed frames removed", {"right": 66.0}, "claimed frames removed"),
            TableRow("removal", "random frames removed", {"right": 68.0}, "random frames removed"),
        ),
        metrics=("right",),
        judged=("right",),
        note="Share of right answers to what. The paper removes frames of 64 on VideoMME; here there are 12.",
    ),
    Table(
        "table 7",
        "share of general questions in SFT",
        "half",
        (
            TableRow("general_none", "none", _paper(33.4, float("nan"), general=60.7)),
            TableRow("sft_small", "half", _paper(33.7, 46.6, general=63.6)),
            TableRow("general_more", "three quarters", _paper(31.7, float("nan"), general=63.6)),
        ),
        metrics=_WITH_GENERAL,
        judged=("mam", "general"),
        note="SFT of 100 steps without GSPO, with the same number of rows: more general rows are fewer of the others. "
        "The paper adds 0, 15k and 30k rows to the others.",
    ),
    Table(
        "table 8",
        "σ of temporal proximity",
        "adaptive",
        (
            TableRow("sigma_1", "σ = 1 s", _paper(32.6, 44.5)),
            TableRow("sigma_4", "σ = 4 s", _paper(33.0, 45.2)),
            TableRow("sft_gspo", "adaptive", _OURS),
        ),
    ),
    Table(
        "table 9",
        "reasoning without evidence",
        "with evidence",
        (
            TableRow("text_only", "text only", {"accuracy": 58.6, "mlgm": 41.0, "general": 62.3}),
            TableRow("sft_small", "with evidence", {"accuracy": 61.0, "mlgm": 46.6, "general": 63.6}),
        ),
        metrics=_WITH_GENERAL,
        judged=("accuracy", "general"),
        note="SFT of 100 steps without GSPO. Without evidence our model cannot answer where, as this answer is read "
        "from its claims: its mAM and mLGM show this and nothing else.",
    ),
    Table(
        "table 13",
        "voting over 8 responses",
        "by majority",
        (
            TableRow("voting", "single response", {"right": 52.3}, "single"),
            TableRow("voting", "by majority", {"right": 53.1}, "majority"),
            TableRow("voting", "by confidence", {"right": 54.1}, "confidence"),
        ),
        metrics=("right",),
        judged=("right",),
        note="Share of right answers to what; the paper's numbers are those of VideoMMMU.",
    ),
    Table(
        "reading",
        "the gate and the reward of paper and code",
        "SFT + GSPO",
        (
            TableRow("gate_code", "gate of the code: one-sided, 1 s"),
            TableRow("gate_1s", "two-sided gate of 1 s (VisionCoach)"),
            TableRow("reward_code", "whole reward of the code"),
            _OWN,
        ),
    ),
    Table(
        "policy",
        "how the policy is updated",
        "SFT + GSPO",
        (
            TableRow("on_policy", "on-policy: one update per sampling"),
            TableRow("used_twice", "each answer used twice"),
            TableRow("epsilon_0.2", "ε = 0.2"),
            TableRow("epsilon_paper", "ε = 3e-4, 4e-4"),
            TableRow("gspo_paper", "GSPO paper: ε = 3e-4, 4e-4, four minibatches"),
            TableRow("gspo_code", "public code: on-policy, β = 0.04, top-k 50"),
            TableRow("sft_grpo", "GRPO: token ratios"),
            TableRow("ema_scale", "moving scale of each task (EMA-GRPO)"),
            TableRow("gdpo", "terms normalised, then summed (GDPO)"),
            _OWN,
        ),
        note="The same number of updates. Only answers that are used twice need half of the sampling.",
    ),
    Table(
        "terms",
        "further terms of the reward",
        "SFT + GSPO",
        (
            TableRow("recall", "recall of the annotated evidence (ours)"),
            TableRow("span_distance", "distance of spans (TimeLens2)"),
            TableRow("names_soft", "names must match: soft (VisionCoach)"),
            TableRow("names_required", "names must match: required (VisionCoach)"),
            TableRow("matched", "mean over matched claims (VisionCoach)"),
            _OWN,
        ),
    ),
)
