"""The run of a seed, whose data and cold start all cells of the seed share. This module does not know models."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from o3v import files, schema
from o3v.evaluation.vstar_items import read_items
from o3v.schema import Example, Row

ROW_FILES, COLD_WEIGHTS = ("sft.jsonl", "rl.jsonl", "eval.jsonl"), "checkpoint/model.safetensors"


@dataclass(frozen=True)
class SharedRun:
    """The run of a seed, `RUNS/<profile>-<seed>`, whose notebooks 01 and 02 all cells of the seed share."""

    folder: Path

    def path(self, relative: str) -> Path:
        """A file of the run. Raises FileNotFoundError, which names the command that makes it."""
        path = self.folder / relative
        if not path.exists():
            profile, _, seed = self.folder.name.rpartition("-")
            number = relative[:2]
            raise FileNotFoundError(f"{path} is missing: o3v run --profile {profile} --seed {seed} --only {number}")
        return path

    @cached_property
    def roots(self) -> dict[str, Path]:
        """The folders of media, `data` and `vstar`."""
        listed = self.folder / "01_data_pipeline/data.media.json"
        if not listed.exists():  # runs before the list existed
            return dict.fromkeys(("data", "vstar"), self.path("01_data_pipeline/world"))
        folders = files.read_json(listed)["folders"]
        return {name: self.folder / folder for name, folder in folders.items()}

    def examples(self, split: str) -> list[Example]:
        """The rows of `sft` or `rl`."""
        return list(schema.read_examples(self.path(f"01_data_pipeline/{split}.jsonl")))

    def items(self) -> list[Row]:
        """V-STAR's items."""
        return read_items(self.path("01_data_pipeline/eval.jsonl"))

    def inputs(self) -> dict[str, str]:
        """The sha256 of the files of rows and of the weights of the cold start."""
        hashes = {name: files.hash_file(self.path(f"01_data_pipeline/{name}")) for name in ROW_FILES}
        return hashes | {COLD_WEIGHTS: files.hash_file(self.path(f"02_sft/{COLD_WEIGHTS}"))}
