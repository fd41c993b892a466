"""Parses an HTML snippet as a browser would: its tags with their attributes, and its text."""

from __future__ import annotations

from html.parser import HTMLParser


class Reader(HTMLParser):
    """`tags` are (name, attributes) in order, `text` is all text between tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        """The attributes of every element with this name."""
        return [attributes for tag, attributes in self.tags if tag == name]
