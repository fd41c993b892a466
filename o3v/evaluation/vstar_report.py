"""One report of V-STAR predictions: metrics with intervals, findings, what the protocol changes, baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from o3v.evaluation.vstar import EVIDENCE_LEVELS, PROTOCOLS, ScoredItems, score_each
from o3v.evaluation.vstar_baselines import SHAPES, baseline_predictions
from o3v.evaluation.vstar_intervals import CEILING_NOTE, HEADLINE, Difference, Interval, compare, intervals
from o3v.evaluation.vstar_items import has_size
from o3v.evaluation.vstar_predictions import Predictions
from o3v.schema import Row

Report = dict[str, Any]


def vstar_report(predictions: Predictions, protocol: str = "strict", seed: int = 0) -> Report:
    """Everything that is to be said about predictions, as JSON values. Raises the errors of `vstar.score_each`.

    "overall", "by_duration" and "by_domain" hold each metric with value, low, high, items, at_ceiling
    (`vstar_intervals`); "protocols" the headline metrics by protocol; "baselines" those of `vstar_baselines`, if all
    rows hold the size of their video.
    """
    scored = {name: score_each(predictions.rows, name) for name in PROTOCOLS}
    mine = scored[protocol]
    report: Report = {
        "protocol": protocol,
        "items": len(mine.scores),
        "answered": sum(score.answered for score in mine.scores),
        "findings": {kind: {"number": len(f), "cases": f} for kind, f in predictions.findings.items() if f},
        "overall": _as_json(intervals(mine, seed=seed)),
        "by_duration": _groups(mine, mine.durations, seed),
        "by_domain": _groups(mine, mine.domains, seed),
        "protocols": {name: _headline(intervals(each, seed=seed)) for name, each in scored.items()},
        "baselines": {},
    }
    if all(map(has_size, predictions.rows)):
        for name in SHAPES:
            rows = baseline_predictions(predictions.rows, name, seed)
            report["baselines"][name] = _headline(intervals(score_each(rows, protocol), seed=seed))
    report["notes"] = [CEILING_NOTE] if any(value["at_ceiling"] for value in report["overall"].values()) else []
    return report


def _groups(scored: ScoredItems, labels: Sequence[str], seed: int) -> dict[str, Any]:
    """Metrics by label; items that do not count are left out, as the public scorer does in groups."""
    chosen = {
        name: [label == name and counts for label, counts in zip(labels, scored.counted, strict=True)]
        for name in sorted(set(labels))
    }
    return {name: _as_json(intervals(scored, mine, seed)) for name, mine in chosen.items()}


def _as_json(found: Mapping[str, Interval | Difference]) -> dict[str, Any]:
    return {name: asdict(value) for name, value in found.items()}


def _headline(found: Mapping[str, Interval]) -> dict[str, Any]:
    return _as_json({name: found[name] for name in HEADLINE})


def interval_text(value: Mapping[str, Any]) -> str:
    """A metric with its interval. A star marks an mLGM at its ceiling.

    >>> interval_text({"value": 0.5, "low": 0.25, "high": 0.75, "at_ceiling": False})
    '0.500 (0.250–0.750)'
    """
    return f"{value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f}){'*' if value['at_ceiling'] else ''}"


def interval_row(values: Mapping[str, Mapping[str, Any]], names: Sequence[str] = HEADLINE) -> dict[str, object]:
    """A table's row: n, and each metric with its interval as text."""
    if not values:
        return {"n": 0, **dict.fromkeys(names)}
    return {"n": values[names[0]]["items"], **{name: interval_text(values[name]) for name in names}}


def report_tables(report: Report) -> dict[str, list[Row]]:
    """The report as tables, by title."""
    protocol = report["protocol"]
    main = [{"items": "all", **interval_row(report["overall"])}]
    for group in ("by_duration", "by_domain"):
        main += [{"items": name, **interval_row(values)} for name, values in report[group].items()]
    both = [{"protocol": name, **interval_row(values)} for name, values in report["protocols"].items()]
    first, second = (report["protocols"][name] for name in PROTOCOLS)
    changes = {name: f"{second[name]['value'] - first[name]['value']:+.4f}" for name in HEADLINE}
    both.append({"protocol": "difference", "n": "", **changes})
    chains = {f"chain {chain}": f".{chain}" for chain in (1, 2)}
    levels = [
        {"level": name} | {title: interval_text(report["overall"][name + end]) for title, end in chains.items()}
        for name in EVIDENCE_LEVELS
    ]
    tables = {f"V-STAR, protocol {protocol}, 95% intervals": main, "What the protocol changes": both}
    tables["Right for the shown reason (VideoZeroBench's levels)"] = levels
    if report["baselines"]:
        rows = [{"baseline": name, **interval_row(values)} for name, values in report["baselines"].items()]
        tables["Baselines without a model (exact judge)"] = rows
    if report["findings"]:
        tables["Findings"] = finding_rows(report["findings"])
    return tables


def finding_rows(findings: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Findings as a table: kind, number and the first case."""
    return [
        {"finding": kind, "number": found["number"], "first": found["cases"][0][:80]}
        for kind, found in findings.items()
    ]


def comparison_report(before: Predictions, after: Predictions, protocol: str = "strict", seed: int = 0) -> Report:
    """Paired differences of two models on the same items, and the headline metrics in which the second is worse."""
    found = compare(score_each(before.rows, protocol), score_each(after.rows, protocol), seed)
    worse = [name for name in HEADLINE if found[name].verdict == "worse"]
    return {"protocol": protocol, "differences": _as_json(found), "worse": worse}


def comparison_rows(report: Report) -> list[Row]:
    """The differences of a comparison as a table; of V-STAR's many metrics the headline ones."""
    found = report["differences"]
    return [
        {
            "metric": name,
            "n": found[name]["items"],
            "A": found[name]["before"],
            "B": found[name]["after"],
            "change": f"{found[name]['change']:+.3f} ({found[name]['low']:+.3f} to {found[name]['high']:+.3f})",
            "verdict": found[name]["verdict"],
        }
        for name in (HEADLINE if set(HEADLINE) <= set(found) else found)
    ]
