"""Two runs side by side: parameters, code, packages, machine, data hashes and metrics, with what differs marked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from o3v.files import read_json
from o3v.review.html import render
from o3v.runner.page import PAGE_CSS
from o3v.runner.plan import read_manifest
from o3v.runner.stage import RESULTS

SECTIONS = ("parameters", "code", "machine", "packages", "data", "metrics")
DIGEST_CHARS = 12  # of a hash that is shown
_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ a }} and {{ b }}</title><style>{{ css|safe }}</style></head><body><main>
<h1>{{ a }} and {{ b }}</h1>
<p>≠ and red mark what differs. A dash means that a run does not have the entry.</p>
{% for section, rows in sections %}
<h2>{{ section }}: {{ rows|selectattr("differs")|list|length }} of {{ rows|length }} differ</h2>
<div style="overflow-x:auto"><table>
<tr><th></th><th>entry</th><th>{{ a }}</th><th>{{ b }}</th><th>change</th></tr>
{% for row in rows %}
<tr{% if row.differs %} style="color:{{ ALARM }};font-weight:600"{% endif %}><td>{{ "≠" if row.differs else "" }}</td>
<td>{{ row.entry }}</td><td>{{ row.shown[0] }}</td><td>{{ row.shown[1] }}</td><td>{{ row.change }}</td></tr>
{% endfor %}</table></div>
{% endfor %}</main></body></html>
"""


class Line(NamedTuple):
    """One entry of both runs. `a` and `b` are None where a run does not have it."""

    section: str
    entry: str
    a: Any
    b: Any

    @property
    def differs(self) -> bool:
        """Whether the runs differ in this entry."""
        return self.a != self.b

    @property
    def change(self) -> str:
        """b − a for numbers that differ, with its sign."""
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (self.a, self.b))
        return f"{self.b - self.a:+.4g}" if numbers and self.differs else ""

    @property
    def shown(self) -> tuple[str, str]:
        """Both values as short text."""
        return _short(self.a), _short(self.b)


def compare_runs(run_a: Path, run_b: Path) -> list[Line]:
    """Every entry of both runs, section by section. Raises ValueError if one has no readable manifest."""
    facts = [_facts(run_dir) for run_dir in (run_a, run_b)]
    lines = []
    for section in SECTIONS:
        first, second = (flatten(fact[section]) for fact in facts)
        lines += [Line(section, key, first.get(key), second.get(key)) for key in sorted(first.keys() | second.keys())]
    return lines


def _facts(run_dir: Path) -> dict[str, dict[str, Any]]:
    """What is compared of a run, by section."""
    manifest = read_manifest(run_dir)
    stages = manifest["stages"]
    data = {f"{name}/{path}": digest for name, s in stages.items() for path, digest in s.get("outputs", {}).items()}
    # an input from outside of the run would stand here only
    data |= {path: digest for s in stages.values() for path, digest in s.get("inputs", {}).items() if path not in data}
    metrics = {name: read_json(file) for name in stages if (file := run_dir / name / RESULTS).exists()}
    models = run_dir / "05_evaluation/metrics.json"
    return {
        "parameters": {
            **{name: manifest.get(name) for name in ("profile", "seed")},
            **{name: stage.get("parameters", {}) for name, stage in stages.items()},
        },
        "code": {
            "o3v": manifest.get("o3v"),
            "git": manifest.get("git") or {},
            "notebook, modules and parameters": {name: stage.get("key") for name, stage in stages.items()},
        },
        "machine": {"python": manifest.get("python"), **(manifest.get("machine") or {})},
        "packages": manifest.get("packages") or {},
        "data": data,
        "metrics": metrics | ({"05_evaluation": read_json(models)} if models.exists() else {}),
    }


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Nested mappings as one, with keys joined by " / ".

    >>> flatten({"a": {"b": 1}, "c": []})
    {'a / b': 1, 'c': '[]'}
    """
    if not isinstance(value, Mapping):
        return {name: value if isinstance(value, int | float | str | None) else str(value)}
    parts = [flatten(inner, f"{name} / {key}" if name else str(key)) for key, inner in value.items()]
    return {key: inner for part in parts for key, inner in part.items()}


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "–" if value is None else str(value)
    digest = len(text) >= 40 and all(c in "0123456789abcdef" for c in text)
    return text[:DIGEST_CHARS] if digest else text


def comparison_page(lines: list[Line], name_a: str, name_b: str) -> str:
    """The comparison as an HTML page: every entry, those that differ in red and with the sign ≠."""
    sections = [(name, [line for line in lines if line.section == name]) for name in SECTIONS]
    return render(_PAGE, a=name_a, b=name_b, css=PAGE_CSS, sections=[pair for pair in sections if pair[1]])
