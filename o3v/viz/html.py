"""The Jinja2 environment for all HTML of the package.

Every value is escaped, unless its template says `|safe`; data for JavaScript goes through `|tojson`. Templates are
Python strings in the modules that use them, so that the code fingerprint covers them.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, StrictUndefined, Template

from o3v.viz.boxes import ALARM, GREY, INK, PALETTE, ink_on, short_name

ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
ENVIRONMENT.globals |= {"ALARM": ALARM, "GREY": GREY, "INK": INK, "PALETTE": PALETTE}
ENVIRONMENT.filters |= {"ink_on": ink_on, "short_name": short_name}


@cache
def _compiled(template: str) -> Template:
    return ENVIRONMENT.from_string(template)


def render(template: str, **values: object) -> str:
    """Fills in a template. Characters that UTF-8 cannot encode (lone surrogates) become question marks.

    >>> render('<b title="{{ name }}">', name='"<i>"')
    '<b title="&#34;&lt;i&gt;&#34;">'
    """
    return _compiled(template).render(values).encode("utf-8", "replace").decode()


def escape(text: str) -> str:
    """Escapes a text for an HTML element or a quoted attribute."""
    return render("{{ text }}", text=text)
