"""Writes and reads tables of Markdown texts. Does not know what they are about."""

from collections.abc import Iterator, Sequence

from o3v.review.page_reader import Table

_BAR = "\0"  # stands for an escaped | while a line is split


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its header, in lines of Markdown. A `|` in a cell is escaped.

    >>> markdown_table(["", "n"], [["a|b", "1"]]).splitlines()
    ['|  | n |', '|---|---|', '| a\\\\|b | 1 |']
    """
    lines = [[" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows]
    texts = ["| " + " | ".join(line) + " |" for line in [list(header), *lines]]
    return "\n".join([texts[0], "|" + "---|" * len(header), *texts[1:]])


def markdown_tables(text: str) -> Iterator[Table]:
    """Yields the tables of a Markdown text: rows of cells, the header first, without the line of dashes.

    >>> list(markdown_tables(markdown_table(["", "n"], [["a|b", "1"]])))
    [(('', 'n'), ('a|b', '1'))]
    """
    rows: list[tuple[str, ...]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = line.strip().removeprefix("|").removesuffix("|").replace("\\|", _BAR).split("|")
            rows.append(tuple(cell.strip().replace(_BAR, "|") for cell in cells))
        elif rows:
            yield (rows[0], *rows[2:])
            rows = []
