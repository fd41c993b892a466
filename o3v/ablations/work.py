"""Runs one cell: trains its model, answers the held-out questions, and writes the scores of every item.

Unfinished work lies in `OUT/work/NAME-SEED/`: checkpoints, and each batch of answers. A killed cell goes on from there.
The reward of held-out questions is the paper's for every cell, at the end of its schedule, whatever it trained with.
"""

import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from o3v import files, inference, models, training
from o3v.ablations import cells, rows, store
from o3v.ablations.cells import Cell
from o3v.ablations.shared_run import SharedRun
from o3v.code_digest import code_digest
from o3v.config import Profile, find_base, load_profile
from o3v.evaluation import vstar
from o3v.geometry import fit_size
from o3v.inference import faithfulness, voting
from o3v.models import crop_judge
from o3v.prompts import PromptBuilder
from o3v.rewards.config import RewardConfig
from o3v.rewards.grounded import TERMS
from o3v.schema import Example, Row
from o3v.training import gspo, sft
from o3v.training.trainer import TrainingRun

log = logging.getLogger("o3v.ablate")

WORK = "work"
DIGITS = 4  # of the numbers in a record
CURVES = ("loss", "reward", "terms/total_at_start", "kl", "clip_ratio/region_mean")  # by step, where they exist


class CellWork:
    """One cell of one seed: its settings, its rows, its folder."""

    def __init__(self, cell: Cell, seed: int, runs: Path, out: Path, profile: str = "tiny") -> None:
        self.cell, self.seed, self.out = cell, seed, out
        self.profile: Profile = load_profile(profile)
        self.settings, self.reward = cells.settings_of(cell, self.profile)
        self.sizes = cells.sizes_of(profile)
        self.run = SharedRun(runs / f"{profile}-{seed}")
        self.folder = out / WORK / f"{cell.name}-{seed}"

    def start(self) -> Path | str:
        """The model that the cell starts from. Raises FileNotFoundError, which names the cell to run before."""
        if self.cell.start == cells.BASE:
            return find_base(self.profile.base)
        if self.cell.start == cells.COLD_START:
            return self.run.path("02_sft/checkpoint")
        path = self.out / WORK / f"{self.cell.start}-{self.seed}" / "checkpoint"
        if not path.exists():
            raise FileNotFoundError(
                f"{self.cell.name} starts from the model of {self.cell.start}, seed {self.seed}, which is not in "
                f"{path}; remove {store.cell_path(self.out, self.cell.start, self.seed)}, and the cell runs again"
            )
        return path

    def builder(self, vlm: models.VideoModel, root: str = "data") -> PromptBuilder:
        """Prompts for the model from the run's rows."""
        return vlm.prompt_builder(self.run.roots[root], self.settings.frames)

    def sft_rows(self) -> tuple[list[Example], list[Example]]:
        """Rows of SFT, and held-out general questions, which no row shares a video with."""
        return rows.heldout_general(self.run.examples("sft"), self.sizes.general)

    def rl_rows(self) -> tuple[Sequence[Example], Sequence[Example]]:
        """Questions for GSPO, and held-out ones, as in notebook 03."""
        return gspo.split_heldout(self.run.examples("rl"), self.profile.gspo.num_heldout)

    def trained(self) -> models.VideoModel:
        """The model of the cell, trained unless its checkpoint is there. The curve lies beside the checkpoint."""
        checkpoint, curve = self.folder / "checkpoint", self.folder / "curve.json"
        if not self.cell.train:
            return models.load(self.start())
        if curve.exists():
            return models.load(checkpoint)
        vlm = models.load(self.start())
        trainer = self._gspo(vlm) if self.cell.train == "gspo" else self._sft(vlm)
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        log_rows = training.train(trainer)
        seconds = {"training": time.perf_counter() - begun_s, "training_cpu": time.process_time() - begun_cpu_s}
        vlm = training.merge_adapters(trainer, vlm)
        models.save(vlm, checkpoint)
        found = {
            name: [_rounded(row.get(name)) for row in log_rows] for name in CURVES if name in (log_rows or [{}])[0]
        }
        files.write_json(curve, {"curve": found, "seconds": seconds, "steps": len(log_rows)})
        return vlm

    def _sft(self, vlm: models.VideoModel) -> sft.SftTrainer:
        count = cells.steps_of(self.cell, self.sizes) * self.settings.sft.effective_batch_size
        examples = self.sft_rows()[0] if cells.from_base(self.cell) else self.run.examples("sft")
        drawn = rows.training_rows(examples, self.cell.rows, count, self.seed)
        if len(drawn) < count:
            raise ValueError(
                f"{self.cell.name} needs {count} rows of SFT and finds {len(drawn)} in {self.run.folder}; "
                "make the run with more `sft_rows`, or lower the steps in ablations/cells.py"
            )
        run = TrainingRun(self.folder / "trainer", self.seed)
        return sft.make_trainer(vlm, drawn, self.builder(vlm), self.settings.sft, run)

    def _gspo(self, vlm: models.VideoModel) -> gspo.GspoTrainer:
        examples = rows.SELECTIONS[self.cell.rows](self.rl_rows()[0])
        run = TrainingRun(self.folder / "trainer", self.seed)
        return gspo.make_trainer(vlm, examples, self.builder(vlm), self.settings.gspo, run, self.reward)

    def scores(self, vlm: models.VideoModel) -> dict[str, Any]:
        """The scores by item: held-out questions, V-STAR's items, and general questions where they are held out."""
        place = (self.settings.inference, RewardConfig.paper(), self.folder / "answers")
        heldout = self.rl_rows()[1][: self.sizes.questions]
        scored = inference.score_examples(vlm, heldout, self.builder(vlm), *place, "questions")
        found: dict[str, Any] = {"questions": _columns(scored, ("total", *TERMS))}
        found["questions"]["task"] = [row["task"] for row in scored]
        if cells.from_base(self.cell):
            general = inference.score_examples(vlm, self.sft_rows()[1], self.builder(vlm), *place, "general")
            found["general"] = _columns(general, ("ans_acc",))
        items = self.run.items()[: self.sizes.items]
        questions = inference.vstar_questions(items, self.builder(vlm, "vstar"))
        answers = inference.answer(vlm, questions, self.settings.inference, self.folder / "answers", "vstar")
        scored_items = [vstar.score_item(item, "strict") for item in inference.read_vstar_answers(items, answers)]
        found["vstar"] = {
            "judge": [score.judge for score in scored_items],
            "tiou": [[_rounded(v) for v in score.tiou] for score in scored_items],
            "viou": [[_rounded(v) for v in score.viou] for score in scored_items],
        }
        return found

    def what_questions(self, vlm: models.VideoModel) -> tuple[list[inference.Question], list[str], Row]:
        """V-STAR's *what* questions, their right answers, and the first item."""
        items = self.run.items()[: self.sizes.items]
        what = [q for q in inference.vstar_questions(items, self.builder(vlm, "vstar")) if q.key.endswith("/what")]
        return what, [item["answer"] for item in items], items[0]

    def removal(self, vlm: models.VideoModel) -> dict[str, Any]:
        """Whether answers are right without and with each change of their evidence (`inference.faithfulness`)."""
        what, truths, _ = self.what_questions(vlm)
        trials = faithfulness.run_trials(vlm, [q.make() for q in what], truths, self.settings.inference, self.seed)
        found: dict[str, Any] = {}
        for trial in trials:
            own = found.setdefault(trial.change, {"question": [], "before": [], "after": [], "changed": []})
            own["question"].append(trial.question)
            own["before"].append(int(voting.is_right(trial.before, trial.truth)))
            own["after"].append(int(voting.is_right(trial.after, trial.truth)))
            own["changed"].append(int(not voting.is_right(trial.after, trial.before)))
        return {"removal": found}

    def voting(self, vlm: models.VideoModel) -> dict[str, Any]:
        """Accuracy of single responses and of both votes, by question."""
        what, truths, item = self.what_questions(vlm)
        what, config = what[: self.sizes.voted], self.settings.inference
        crop_wh = fit_size((item["width"], item["height"]), self.settings.frames.max_pixels)
        judge = crop_judge.CropJudge(vlm, crop_wh if self.settings.pretrain else None)
        pools = voting.sample_pools(vlm, what, config, judge.ask, self.folder / "pools", self.seed)
        by_question = [
            voting.accuracy([pool], [truth], config.vote_sizes)[0] for pool, truth in zip(pools, truths, strict=False)
        ]
        return {"voting": _columns(by_question, ("single", "majority", "confidence"))}


def run_cell(cell: Cell, seed: int, runs: Path, out: Path, profile: str = "tiny") -> store.Record:
    """Runs a cell unless it is finished, and returns its record.

    Args:
        cell: the cell.
        seed: seed of its run and of its training.
        runs: folder of the runs, with `<profile>-<seed>`.
        out: folder of the cells.
        profile: one with sizes (`cells.SIZES`).

    Raises ValueError if the finished cell has other settings or inputs, FileNotFoundError for a missing start, and
    BlockingIOError if another process runs this cell.
    """
    work = CellWork(cell, seed, runs, out, profile)
    known, facts, inputs = store.read_cell(out, cell.name, seed), cells.facts_of(cell, profile), work.run.inputs()
    if known and known["status"] == "finished":
        _check_same(known, facts, inputs, store.cell_path(out, cell.name, seed))
        return known
    with files.locked(work.folder, 0.0, "o3v ablate"):
        return _run(work, {"cell": cell.name, "seed": seed, "settings": facts, "inputs": inputs})


def _check_same(known: store.Record, facts: Mapping[str, Any], inputs: Mapping[str, str], path: Path) -> None:
    wanted = {"settings": store.plain(facts), "inputs": store.plain(inputs)}
    if different := [name for name, value in wanted.items() if known[name] != value]:
        raise ValueError(f"{path} was made with other {' and '.join(different)}; move it away or choose another --out")


def _run(work: CellWork, record: store.Record) -> store.Record:
    stamp, facts = work.folder / "facts.json", {**record, "code": code_digest(sys.modules[__name__])}
    if stamp.exists() and files.read_json(stamp)["facts"] != store.plain(facts):
        log.warning("%s: settings, inputs or code have changed; its unfinished work is removed", work.folder.name)
        for path in work.folder.glob("[!.]*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    starts = 1 + (files.read_json(stamp)["starts"] if stamp.exists() else 0)  # of this work
    files.write_json(stamp, {"facts": facts, "starts": starts})
    record = {**facts, "starts": starts, "status": "started"}
    store.write_cell(work.out, record)
    try:
        return _finish(work, record)
    except Exception as error:
        store.write_cell(work.out, {**record, "status": "failed", "error": f"{type(error).__name__}: {error!s:.300}"})
        raise


def _finish(work: CellWork, record: store.Record) -> store.Record:
    vlm = work.trained()
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    scores = {"scores": work.scores, "removal": work.removal, "voting": work.voting}[work.cell.measure](vlm)
    answers_s, answers_cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
    curve_file = work.folder / "curve.json"
    trained = files.read_json(curve_file) if curve_file.exists() else {"curve": {}, "seconds": {}, "steps": 0}
    training = {"training": 0.0, "training_cpu": 0.0, **trained["seconds"]}
    both = {"all": answers_s + training["training"], "cpu": answers_cpu_s + training["training_cpu"]}
    seconds = {name: round(value, 1) for name, value in {**training, **both}.items()}
    machine = {"cores": os.cpu_count(), "processor": _processor()}
    finished = {"scores": scores, "curve": trained["curve"], "steps": trained["steps"], "seconds": seconds}
    finished = {**record, **finished, "machine": machine, "status": "finished"}
    store.write_cell(work.out, finished)
    for name in ("trainer", *(() if cells.is_start(work.cell) else ("checkpoint",))):
        shutil.rmtree(work.folder / name, ignore_errors=True)
    return finished


def _processor() -> str:
    """The name of the processor, "" where the system does not tell it."""
    try:
        with files.open_text("/proc/cpuinfo") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return ""


def _columns(scored: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of a table with rounded numbers; a column without a number is left out."""
    columns = {name: [_rounded(row.get(name)) for row in scored] for name in names}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS)
