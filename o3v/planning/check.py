"""Checks before anything of a run starts: model, data, GPU, its memory, disk. All that is missing, in one message.

Opens no media, downloads nothing, and imports torch only for a profile that needs a GPU. The profiles of the synthetic
world cost a few milliseconds.
"""

import importlib.util
import os
import shutil
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener, urlopen

from o3v.config import Profile
from o3v.http_json import check_endpoint
from o3v.planning import parity, work
from o3v.planning.budget import Budget, ways_to_fit
from o3v.planning.memory import GB, USABLE
from o3v.planning.shapes import KNOWN, find_model, missing_weights, model_shape, parameters_of

STGR_FILES, JSON_FOLDERS = ("STGR-SFT.json", "STGR-RL.json"), ("json_data", "")
VSTAR_FILE = "V_STaR_test.json"
HUB_WAIT_S = 4.0
SMALL_RUN = 1.5 * GB  # of disk; a run of `tiny` has 0.6 GB
MAX_GPUS = 32  # of one machine or a few, to propose


WITH_MODEL = frozenset({"02", "03", "04", "05"})  # notebooks
ALL = ("01", *WITH_MODEL)
START_OF_GSPO = "02_sft/checkpoint"  # in the folder of a run
SMALL_MODEL = 500_000_000  # parameters; a CPU trains a smaller one for tests of the path


def needs_real_data(profile: Profile) -> bool:
    """True for the profiles with real data and a large model; those of the synthetic world need neither."""
    return profile.pretrain is None and not profile.name.startswith("rehearsal")


def missing_for(
    profile: Profile,
    run_dir: Path,
    numbers: Collection[str] = ALL,
    *,
    base: str = "",
    data_root: str = "",
    vstar_root: str = "",
) -> list[str]:
    """Everything that a run lacks, each with what to do; an empty list: it can start.

    Args:
        profile: sizes and settings, with the overrides of the run.
        run_dir: folder of the run; what it holds already counts as free disk.
        numbers: of the notebooks to run. 01 reads the data root; those after it need model, GPU and disk.
        base: folder or hub name of the base model; empty: the profile's.
        data_root: folder in the layout of the STGR download; empty: none is given.
        vstar_root: folder with V-STAR's test file; empty: `data_root`.
    """
    base, real, messages = base or profile.base, needs_real_data(profile), []
    with_model = not WITH_MODEL.isdisjoint(numbers)
    if with_model:
        messages += _missing_model(base, real)
    if real and "01" in numbers:
        messages += _missing_data(data_root, vstar_root or data_root)
    if real and with_model and not 0 < parameters_of(base) < SMALL_MODEL:
        messages += _missing_gpu(profile, base)
    if "03" in numbers and profile.gspo.rollout_server:
        messages += _missing_rollouts(profile.gspo.rollout_server, run_dir / START_OF_GSPO, "02" in numbers)
    return messages + list(_missing_disk(profile, base, run_dir, real and with_model))


def _missing_model(base: str, may_load: bool) -> Iterator[str]:
    folder = find_model(base)
    if folder is not None:
        if absent := missing_weights(folder):
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            yield f"model {base}: {folder} lacks {absent[0]}{more}; finish its download"
        return
    local = base.startswith((".", "/", "~")) or base.count("/") != 1 or not may_load
    problem = "" if local else _hub_problem(base)
    if problem:
        yield (
            f"model {base}: no folder with config.json, not in the local hub cache, and {problem}; download it where "
            "there is a network (hf download NAME --local-dir DIR) and name the folder with -p base=DIR"
        )
    elif local:
        made = "python benchmarks/rehearsal.py makes a rehearsal's model; " if not may_load else ""
        yield f"model {base}: no folder with config.json; {made}name another folder with -p base=DIR"


def _hub_problem(base: str) -> str:
    """Why the hub cannot give a model, or an empty text. Waits at most HUB_WAIT_S, also for a slow name server."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    from transformers.utils.hub import constants

    found = ["the hub does not answer (no network?)"]

    def ask() -> None:
        request = Request(f"{constants.ENDPOINT}/{base}/resolve/main/config.json", method="HEAD")
        try:
            urlopen(request, timeout=HUB_WAIT_S).close()
            found[0] = ""
        except HTTPError as error:
            found[0] = f"the hub refuses it (HTTP {error.code}: a wrong name, or a log-in is needed)"
        except (URLError, OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_WAIT_S)
    return found[0]


def _missing_rollouts(url: str, start: Path, made_first: bool) -> Iterator[str]:
    """Problems of a rollout server; `made_first`: this run makes the checkpoint that GSPO starts from, at `start`."""
    try:
        address = f"{check_endpoint(url)}/health"
        build_opener(ProxyHandler({})).open(address, timeout=HUB_WAIT_S).close()  # it is ours: no proxy
    except ValueError as error:
        yield f"rollouts: rollout_server {url!r:.80}: {error}"
    except OSError as error:
        yield f"rollouts: no vLLM server answers at {address} ({error}); docs/full.md has the command that starts it"
    if not made_first and start.is_dir():
        try:
            parity.require_parity(start)
        except (parity.NoParity, OSError) as error:
            yield f"rollouts: {error}"


def _missing_data(data_root: str, vstar_root: str) -> Iterator[str]:
    root = Path(data_root).expanduser()
    if not data_root:
        yield (
            "data: no data root; give the folder of the STGR download, which holds json_data/ and videos/, with "
            "-p data_root=DIR or in O3V_DATA (o3v check-data DIR shows what is in it)"
        )
    else:
        absent = [n for n in STGR_FILES if not any((root / folder / n).is_file() for folder in JSON_FOLDERS)]
        if absent:
            reason = f"has no json_data/{' and no json_data/'.join(absent)}" if root.is_dir() else "is not a folder"
            yield f"data: data_root {data_root} {reason}; give the folder that holds json_data/ and videos/"
    if vstar_root and not any(Path(vstar_root).expanduser().glob(p) for p in (VSTAR_FILE, f"*/{VSTAR_FILE}")):
        yield f"data: no {VSTAR_FILE} in {vstar_root} or its folders; give its folder with -p vstar_root=DIR"
    elif not vstar_root:
        yield f"data: no V-STAR; give the folder of {VSTAR_FILE} and its videos with -p vstar_root=DIR"


def gpu_memories() -> tuple[list[int], str]:
    """Memory of each GPU that torch can use, in bytes, and why there is none."""
    import torch

    if torch.cuda.is_available():
        return [torch.cuda.get_device_properties(n).total_memory for n in range(torch.cuda.device_count())], ""
    if torch.version.cuda is None and torch.version.hip is None:
        return [], f"torch {torch.__version__} is a build without GPUs; install a CUDA build where there is a GPU"
    return [], f"torch {torch.__version__} finds no GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES"


def _missing_gpu(profile: Profile, base: str) -> Iterator[str]:
    memories, reason = gpu_memories()
    if not memories:
        yield (
            f"GPU: profile {profile.name} needs one, and {reason}; `o3v plan --profile {profile.name}` shows how much "
            "memory; without a GPU use --profile tiny"
        )
    elif find_model(base) is not None or base in KNOWN:
        gpus = max(len(memories) if n is None else n for n in (profile.sft.num_processes, profile.gspo.num_processes))
        if gpus > len(memories):
            there = len(memories)
            yield f"GPU: {gpus} processes train, one on each GPU, and {there} are there; set -p num_processes={there}"
        yield from _missing_packages(profile, gpus)
        yield from memory_problem(Budget(profile, model_shape(base), min(gpus, len(memories)), min(memories)))


def _missing_packages(profile: Profile, gpus: int) -> Iterator[str]:
    configs = (profile.sft, profile.gspo)
    wanted = {"deepspeed"} if gpus > 1 and any(c.engine.startswith("zero") for c in configs) else set()
    wanted |= {"bitsandbytes"} if any(c.optimizer == "adamw_8bit" for c in configs) else set()
    for name in sorted(wanted):
        if not importlib.util.find_spec(name):
            yield f"package {name}: it is not installed; pip install 'o3v[gpu]'"


def memory_problem(budget: Budget, max_gpus: int = MAX_GPUS) -> list[str]:
    """One message if a profile does not fit its GPUs, with the knobs that would make it fit; else none.

    `max_gpus` is the largest number of GPUs to propose.
    """
    peaks = budget.too_large()
    if not peaks:
        return []
    needs = ", ".join(f"{stage} {peak / GB:.1f} GB" for stage, peak in peaks.items())
    number = f"{budget.gpus} GPUs" if budget.gpus > 1 else "one GPU"
    ways = "; or ".join(ways_to_fit(budget, max_gpus)) or "nothing that this plan knows; take GPUs with more memory"
    have = f"{budget.gpu_memory / GB:.1f} GB, of which {USABLE:.0%} can be filled"
    return [f"GPU memory: on {number} {needs}; there are {have}. What would make it fit: {ways}"]


def _missing_disk(profile: Profile, base: str, run_dir: Path, real: bool) -> Iterator[str]:
    needed, used = SMALL_RUN, 0
    if real:
        sizes = work.model_disk_bytes(profile, parameters_of(base))
        needed += sizes["trained models"] + sizes["checkpoints"]
        used = sum(path.stat().st_size for path in run_dir.rglob("*") if path.is_file())
    there = next(path for path in (run_dir, *run_dir.parents) if path.exists())
    free = shutil.disk_usage(there).free + used
    if free < needed:
        yield (
            f"disk: the run needs about {needed / GB:.1f} GB in {there}, {free / GB:.1f} GB are free; "
            "free some, or choose another --out"
        )
