"""The commands `o3v verify`, `compare`, `publish`, `ship` and `mirror`. They call the package and print its results."""

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

from o3v.cli import FOLDER, add_parser, table_text
from o3v.files import refuse_overwriting, write_text
from o3v.review.compare import SECTIONS, compare_runs, comparison_page
from o3v.review.mirror import write_mirrors
from o3v.review.shipping import ship
from o3v.review.site import publish
from o3v.review.verify import verify
from o3v.runner.paths import display_path
from o3v.runner.plan import NOTEBOOKS
from o3v.runner.shipped import DATA

log = logging.getLogger("o3v.review")
ALWAYS = ("parameters", "metrics")  # sections that are printed in full


def add_commands(commands: Any) -> None:
    """Adds the commands of this module to the subcommands of a parser."""
    summary = "recompute the numbers of a run or a published site from its own files, and check all hashes"
    add = add_parser(commands, "verify", verify_folder, summary)
    add("folder", **FOLDER, help="folder of a run or of a published site")
    add("--site", **FOLDER, help="site that must show this run (default: docs/tour, if it does)")
    add("--readme", type=Path, metavar="FILE", help="file whose result table must show this run (default: README.md)")

    add = add_parser(commands, "compare", compare, "print two runs side by side; ≠ marks what differs")
    add("run_a", type=Path, metavar="RUN_A", help="folder of a run")
    add("run_b", type=Path, metavar="RUN_B", help="folder of another run")
    add("--out", dest="page", type=Path, metavar="FILE", help="also write an HTML page with every entry")

    add = add_parser(commands, "publish", publish_run, "write a static site of a run: results, pages, numbers")
    add("run_dir", type=Path, metavar="RUN", help="folder of a finished run")
    add("--out", dest="site", **FOLDER, default=Path("docs/tour"), help="folder of the site (default: docs/tour)")

    add = add_parser(commands, "mirror", mirror, "write the notebooks as Python texts, for diffs")
    add("--notebooks", **FOLDER, default=NOTEBOOKS, help="folder of the notebooks (default: those of this repository)")

    add = add_parser(commands, "ship", ship_run, "write models and a few rows of a run to data/, for notebooks alone")
    add("run_dir", type=Path, metavar="RUN", help="folder of a finished run of the profile tiny")
    add("--data", **FOLDER, default=DATA, help="folder of the shipped folders (default: data)")


def verify_folder(options: Namespace) -> int:
    """Prints what does not hold. Returns 1 if there is something."""
    checks = verify(options.folder, options.site, options.readme)
    failed = [check for check in checks if check.problems]
    for check in failed:
        for problem in check.problems:
            log.info("%s: %s", check.name, problem)
    for check in checks:
        if check.skipped:
            log.info("not checked: %s: %s", check.name, check.skipped)
    log.info("%s: %d of %d checks hold", options.folder, len(checks) - len(failed), len(checks))
    return int(bool(failed))


def compare(options: Namespace) -> int:
    """Prints parameters and metrics in full, of the other sections what differs. Differences are no error."""
    run_a, run_b = options.run_a, options.run_b
    if options.page:
        refuse_overwriting(options.page, run_a, run_b)
    lines = compare_runs(run_a, run_b)
    name_a, name_b = (run_a.resolve().name, run_b.resolve().name)
    if name_a == name_b:
        name_a, name_b = str(run_a), str(run_b)
    for section in SECTIONS:
        entries = [line for line in lines if line.section == section]
        shown = [line for line in entries if line.differs or section in ALWAYS]
        log.info("%s: %d of %d differ", section, sum(line.differs for line in entries), len(entries))
        rows = [{section: e.entry, name_a: e.shown[0], name_b: e.shown[1], "≠": "≠" * e.differs} for e in shown]
        if rows:
            log.info("%s\n", table_text(rows))
    if options.page:
        write_text(options.page, comparison_page(lines, name_a, name_b))
        log.info("%s", options.page)
    return 0


def publish_run(options: Namespace) -> int:
    """Writes the site and prints the size of its files."""
    sizes = publish(options.run_dir, options.site)
    log.info("%s", table_text([{"file": name, "kB": round(size / 1000)} for name, size in sizes.items()]))
    log.info("%s: %.1f MB", display_path(options.site.absolute()), sum(sizes.values()) / 1e6)
    return 0


def mirror(options: Namespace) -> int:
    """Writes the texts of the notebooks and prints those that changed."""
    changed = write_mirrors(options.notebooks)
    for path in changed:
        log.info("%s", display_path(path.absolute()))
    log.info("%d texts changed", len(changed))
    return 0


def ship_run(options: Namespace) -> int:
    """Writes the shipped part of a run and prints its sizes."""
    sizes = ship(options.run_dir, options.data)
    log.info("%s", table_text([{"folder": name, "kB": round(size / 1000)} for name, size in sizes.items()]))
    return 0
