"""The sources of STGR: their names in the files, folders below `videos/`, numbers of rows, and the paper's filters.

A row gives the path of its medium relative to the folder of its source. Names are spelled as in the files
("videor1_free_from"); one with `*` stands for all names that begin like it. Folders: public code, commit 1eb6eca.
Numbers: figure 2 of the paper. This module does not open files.
"""

from dataclasses import dataclass
from functools import cache

from o3v.schema import Task

GROUNDING = tuple(f"STR_{name}" for name in ("activitynet", "coin", "didemo", "queryd", "qvhighlight"))


@dataclass(frozen=True)
class Source:
    """One source of STGR.

    `label` is its name in the paper, `names` those in the files, `sft` and `rl` its rows in the paper in thousands.
    `folder` and `key_frames` are below `videos/`. `max_span_share`, `max_action_share` and `max_reasoning_chars` are
    limits of rows, `video_s` of their videos; `drawn` is the number of rows drawn at random from the source for SFT
    and for RL. None: no such filter.
    """

    label: str
    names: tuple[str, ...]
    task: Task
    sft: float
    rl: float
    folder: str
    key_frames: str = ""
    max_span_share: float | None = None
    max_action_share: float | None = None
    max_reasoning_chars: int | None = None
    video_s: tuple[float, float] | None = None
    drawn: int | None = None

    def fits(self, name: str) -> bool:
        """Whether a source name of the files is this source.

        >>> source_of("TVG_coldstart", "sft").label, source_of("TVG_coldstart", "rl").label
        ('TVG-Coldstart', 'TVG-RL')
        """
        return any(name == own or (own.endswith("*") and name.startswith(own[:-1])) for own in self.names)


_LIMITS = {"max_action_share": 0.5, "video_s": (10.0, 180.0)}
_OF_SPANS = {"max_span_share": 0.7, "max_reasoning_chars": 6_000}

SOURCES: tuple[Source, ...] = (
    Source("TVG-Coldstart", ("TVG_*",), Task.TEMPORAL, 4.1, 0, "tvg_r1", **_OF_SPANS),
    Source("Time-R1", ("timerft",), Task.TEMPORAL, 0, 2.3, "timerft", **_OF_SPANS),
    Source("TVG-RL", ("TVG_*",), Task.TEMPORAL_MCQ, 0, 2.9, "tvg_r1", **_LIMITS, drawn=2_904),
    Source("TreeVGR-SFT", ("TreeVGR",), Task.SPATIAL, 5, 0, "treevgr", drawn=5_000),
    Source("VisCoT/GQA", ("gqa",), Task.SPATIAL, 0, 5, "gqa", drawn=5_000),
    Source(
        "own, temporal grounding",
        GROUNDING,
        Task.SPATIO_TEMPORAL,
        3.9,
        3.9,
        "stgr/temporal_grounding/videos",
        "stgr/temporal_grounding/kfs",
        **_LIMITS,
    ),
    Source("own, PLM-Rdcap", ("STR_plm_rdcap",), Task.SPATIO_TEMPORAL, 2, 2, "stgr/plm/videos", "stgr/plm/kfs"),
    Source(
        "VideoEspresso",
        ("videoespresso_train_video",),
        Task.SPATIO_TEMPORAL,
        0,
        5,
        "videoespresso/videos",
        "videoespresso/kfs",
    ),
    Source("Video-R1, MCQ", ("videor1_mcq",), Task.MCQ, 13, 13, "videor1", drawn=13_000),
    Source("Video-R1, free-form", ("videor1_free_from",), Task.FREE_FORM, 2, 2, "videor1", drawn=2_000),
)


@cache
def source_of(name: str, split: str) -> Source | None:
    """The source of this name in a split (`sft` or `rl`); None for other names, as those of the synthetic world."""
    fitting = [source for source in SOURCES if source.fits(name)]
    return next((source for source in fitting if getattr(source, split)), fitting[0] if fitting else None)
