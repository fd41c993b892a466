"""Ways to be paid without evidence: their signs in a response, and completions forged to show what each would pay.

Whether a reward can be hacked is found by looking: `search` goes through rollouts, `forge` makes the cheats for one
annotated row. Ours; the paper has no such table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from o3v.evidence import Response, format_claim, format_response, parse_response
from o3v.geometry import Box, Size, rescale_box
from o3v.schema import Example

SIGNS: Mapping[str, Callable[[Response], bool]] = {
    "one box for all": lambda r: len({c.time_s for c in r.claims}) > 1 and len({c.boxes for c in r.claims}) == 1,
    "one moment again and again": lambda r: len(r.times_s) > 1 and len(set(r.times_s)) == 1,
    "the same claim twice": lambda r: len({(c.name, c.boxes, c.time_s) for c in r.claims}) < len(r.claims),
    "nothing thought": lambda r: bool(r.answer) and not (r.think or "").strip(),
    "more than six moments": lambda r: len(r.times_s) > 6,
}


def search(rollouts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What shows each sign among rollouts (rows with `completion` and `total`): count, share, mean pay, the best paid.

    The last row is all rollouts.
    """
    rows = [(parse_response(row["completion"]), row) for row in rollouts]
    signs = {**SIGNS, "(all rollouts)": lambda response: True}
    table = []
    for name, shows in signs.items():
        found = [row for response, row in rows if shows(response)]
        table.append(
            {
                "sign": name,
                "count": len(found),
                "share": len(found) / len(rows) if rows else 0.0,
                "mean total": sum(row["total"] for row in found) / len(found) if found else float("nan"),
                "best paid": max(found, key=lambda row: row["total"])["completion"] if found else "",
            }
        )
    return table


def forge(example: Example, space_wh: Size) -> dict[str, str]:
    """Completions for a row with key frames, all with the right answer: honest first, then the cheats.

    Boxes are in units of `space_wh`. Raises ValueError for a row without boxes.
    """
    seen = [
        (name, rescale_box(box, (1, 1), space_wh), frame.time_s)
        for frame in example.key_frames
        for name, boxes in frame.items.items()
        for box in boxes
    ]
    if not seen:
        raise ValueError(f"row {example.id!r} has no boxes to cheat with")
    name, box, time_s = seen[0]
    whole = (0.0, 0.0, *map(float, space_wh))
    claims: dict[str, list[tuple[str, Box, float]]] = {
        "honest": seen,
        "only the first claim": seen[:1],
        "the first claim three times": seen[:1] * 3,
        "one box for all": [(n, box, t) for n, _, t in seen],
        "the whole frame": [(n, whole, t) for n, _, t in seen],
        "another name": [("thing", b, t) for _, b, t in seen],
        "two seconds late": [(n, b, t + 2) for n, b, t in seen],
        "a claim every half second": [(name, box, k / 2) for k in range(2 * int(time_s + 3))],
    }
    told = {
        kind: " ".join(f"I see {format_claim(n, [tuple(map(round, b))], round(t, 1))}." for n, b, t in made)
        for kind, made in claims.items()
    }
    return {kind: format_response(text, example.answer) for kind, text in {**told, "nothing thought": ""}.items()}
