"""Makes the data root of a profile when no real one is given."""

import logging
from pathlib import Path

from o3v.config import DataConfig
from o3v.toyworld.dataset import make_dataset
from o3v.toyworld.official_root import write_root
from o3v.toyworld.tasks import annotated_rows

log = logging.getLogger(__name__)

BROKEN_SHARE = 0.03  # of the rows of a fabricated root


def make_root(data: DataConfig, folder: Path, seed: int) -> Path:
    """Writes the root that `data.made` names to `folder`, as large as the profile says, and returns it.

    The synthetic world leaves out the SFT rows that the annotation pipeline makes. Raises ValueError if the profile
    makes no data.
    """
    if data.made == "world":
        num_annotated = annotated_rows(data.sft_rows)
        items = data.eval_items + data.dev_items
        counts = {"sft": data.sft_rows - num_annotated, "rl": data.rl_rows, "eval": items}
        summary = make_dataset(folder, counts, seed, rl_shares=data.rl_shares)
        scenes, minutes = sum(summary.scenes.values()), summary.video_s / 60
        log.info("%d videos, %.0f minutes, rendered in %.0f s", scenes, minutes, summary.elapsed_s)
    elif data.made == "official":
        items = data.eval_items + data.dev_items
        write_root(folder, max(data.sft_rows, data.rl_rows), BROKEN_SHARE, seed, items)
    else:
        raise ValueError(
            "this profile trains on real data: give the folder of the STGR download, `-p data_root=FOLDER` or the "
            "variable O3V_DATA, and that of V-STAR, `-p vstar_root=FOLDER`"
        )
    return folder
