"""Fills in HTML templates; every value is escaped unless the template says `|safe`. As `viz`, but below it."""

from functools import cache

from jinja2 import Environment, StrictUndefined

from o3v.text import printable

ALARM = "#B00020"  # the red of `viz.boxes`, readable on white
ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
ENVIRONMENT.globals["ALARM"] = ALARM
_compiled = cache(ENVIRONMENT.from_string)


def render(template: str, **values: object) -> str:
    """Fills in a template. Control characters become their escape codes.

    >>> render('<b title="{{ name }}">', name='"<i>"')
    '<b title="&#34;&lt;i&gt;&#34;">'
    """
    return printable(_compiled(template).render(values))
