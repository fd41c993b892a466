"""Reads what a page or an executed notebook shows: its tables, its text, its images.

Nothing is executed. Text is compared with its white space collapsed, because HTML does not keep it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any

Table = tuple[tuple[str, ...], ...]  # rows of cells, the header first

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_SILENT = ("script", "style")


class PageReader(HTMLParser):
    """`tables` are those of the page, `images` the sources of its images, `text` all text but scripts and styles.

    `printed` are the texts in `<pre>`: what cells printed, and their code. `links` are the addresses of links, scripts,
    styles and images.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[Table] = []
        self.images: set[str] = set()
        self.printed: list[str] = []
        self.links: list[str] = []
        self._text: list[str] = []
        self._open: list[list[list[str]]] = []
        self._silent = self._pre = 0
        self.feed(page)
        self.close()

    @property
    def text(self) -> str:
        """All text of the page with single spaces."""
        return collapse("".join(self._text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens tables, rows and cells; collects images and links."""
        values = dict(attrs)
        self.links += [value for name in ("href", "src") if (value := values.get(name))]
        if tag == "img":
            self.images.add(values.get("src") or "")
        elif tag == "pre":
            self._pre += 1
            self.printed.append("")
        elif tag == "table":
            self._open.append([])
        elif tag == "tr" and self._open:
            self._open[-1].append([])
        elif tag in ("td", "th") and self._open and self._open[-1]:
            self._open[-1][-1].append("")
        self._silent += tag in _SILENT
        self._text.append(" " if tag in ("td", "th", "tr", "p", "div", "li", "br", "pre", "h1", "h2", "h3") else "")

    def handle_endtag(self, tag: str) -> None:
        """Closes tables."""
        self._silent -= tag in _SILENT
        self._pre -= tag == "pre" and self._pre > 0
        if tag == "table" and self._open:
            rows = self._open.pop()
            self.tables.append(tuple(tuple(collapse(cell) for cell in row) for row in rows))

    def handle_data(self, data: str) -> None:
        """Adds text to the page and to the open cell."""
        if self._silent:
            return
        self._text.append(data)
        if self._pre:
            self.printed[-1] += data
        if self._open and self._open[-1] and self._open[-1][-1]:
            self._open[-1][-1][-1] += data


def collapse(text: str) -> str:
    """The text without escape codes for colours, its white space as single spaces.

    >>> collapse(" a\\n  b ")
    'a b'
    """
    return " ".join(_ANSI.sub("", text).split())


def outputs(book: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (kind, content) of each shown output of an executed notebook: `html`, `image` (base64) or `text`."""
    for cell in book["cells"]:
        for output in cell.get("outputs", []):
            data = {
                kind: "".join(value) for kind, value in output.get("data", {}).items() if kind != "application/json"
            }
            if "text/html" in data:
                yield "html", data["text/html"]
            elif image := data.get("image/png") or data.get("image/jpeg"):
                yield "image", "".join(image.split())
            elif any(kind.startswith("image/") for kind in data):
                continue
            elif text := data.get("text/plain") or "".join(output.get("text", "")):
                yield "text", text


def hidden_differences(book: Mapping[str, Any], page: str, images: bool = True) -> list[str]:
    """What an executed notebook shows and its HTML page does not: tables, printed texts, images. One line each.

    Without `images` only tables and texts are compared, for a page whose images were compressed again.
    """
    reader, problems = PageReader(page), []
    text, shown = reader.text, "\n".join(reader.images)
    for kind, content in outputs(book):
        if kind == "image" and images and content not in shown:
            problems.append("an image of the notebook is not in the page")
        elif kind == "text" and collapse(content) not in text:
            problems.append(f"a printed text of the notebook is not in the page: {collapse(content)[:60]!r}")
        elif kind == "html":
            missing = [table for table in PageReader(content).tables if table not in reader.tables]
            problems += [
                f"a table of the notebook is not in the page: {' '.join(table[0])[:60]!r}" for table in missing
            ]
    return problems


def read_book(text: str) -> dict[str, Any]:
    """Reads an executed notebook. Raises ValueError if it is none."""
    book = json.loads(text)
    if not isinstance(book, dict) or not isinstance(book.get("cells"), list):
        raise ValueError("it is not a notebook")
    return book


def find_table(tables: list[Table], rows: set[str], columns: set[str]) -> dict[str, dict[str, str]] | None:
    """The first table that has all these row labels and column names, as row → column → text; None without one."""
    for table in tables:
        header = list(table[0]) if table else []
        named = {row[0]: dict(zip(header[1:], row[1:], strict=False)) for row in table[1:] if row}
        if rows <= named.keys() and columns <= set(header):
            return named
    return None


def shows(text: str, value: object) -> bool:
    """Returns whether a cell shows a value: a number up to the digits that the cell has, any other value as its text.

    An interval in brackets, and a star, may follow a number.

    >>> shows("0.45", 0.4499), shows("0.46 (0.1–0.9)*", 0.4599), shows("rose", "rose"), shows("–", None)
    (True, True, True, True)
    >>> shows("0.46", 0.4499)
    False
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text == ("–" if value is None else str(value)) or (value is None and text in ("NaN", "None"))
    text = text.partition(" (")[0]
    try:
        shown = float(text.replace("−", "-").replace("%", "e-2"))
    except ValueError:
        return False
    decimals = len(text.rstrip("%").partition(".")[2]) + 2 * text.endswith("%")
    return abs(shown - value) <= 0.5 * 10.0**-decimals + 1e-9
