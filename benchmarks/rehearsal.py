"""Runs all notebooks with twins of the real models on a fabricated data root, and prints time and memory.

The profile `rehearsal` has small frames; `--profile rehearsal-full` has frames and prompts of the real size. The twins
stay in `runs/twins/`.
"""

import argparse
import json
from pathlib import Path

from o3v.config import REPOSITORY
from o3v.models import FAMILIES
from o3v.runner import driver
from o3v.runner.plan import plan_run
from o3v.tinybase.twins import make_twin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="rehearsal", choices=["rehearsal", "rehearsal-full"])
    parser.add_argument("--family", choices=FAMILIES, help="one family only")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "runs", help="folder of the runs")
    options = parser.parse_args()
    for family in [options.family] if options.family else FAMILIES:
        base = REPOSITORY / "runs" / "twins" / family
        base = base if base.is_dir() else make_twin(base, family)
        plan = plan_run(options.profile, 0, options.out, overrides={"base": str(base)})
        failed = driver.run(plan, timeout_s=3600)
        stages = json.loads((plan.run_dir / "manifest.json").read_text(encoding="utf-8"))["stages"]
        seconds = sum(stage.get("duration_s") or 0 for stage in stages.values())
        memory_mb = max(stage.get("peak_memory_mb") or 0 for stage in stages.values())
        print(f"{family}: {failed or 'done'}, {seconds:.0f} s, {memory_mb:,.0f} MB, {plan.run_dir}")


if __name__ == "__main__":
    main()
