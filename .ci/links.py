"""Checks the links of README, docs, notebooks and the published pages.

    python .ci/links.py             links to files of the repository must lead to one (a test does the same)
    python .ci/links.py --external  also asks each address of the web once; needs the network (`make links`)

Exits with 1 if a link is broken. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GLOBS = ("*.md", "docs/**/*.md", "docs/**/*.html", "data/**/*.md", "lmms_eval_tasks/**/*.md", "notebooks/**/*.ipynb")
MARKDOWN = re.compile(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|(?:href|src)=\"([^\"]+)\"")
BARE = re.compile(r"https?://[^\s)>\]\"'`|]+")
EXAMPLES = ("localhost", "127.0.0.1", "example.com", "example.org")  # addresses that texts use as examples
TIMEOUT_S = 20.0


class _Links(HTMLParser):
    """Collects links, images and anchors of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps addresses and ids."""
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.append(value)
            elif value and name in ("id", "name"):
                self.anchors.add(value)


def files(root: Path) -> list[Path]:
    """The texts whose links are checked."""
    found = {path for glob in GLOBS for path in root.glob(glob)}
    return sorted(path for path in found if ".ipynb_checkpoints" not in path.parts)


def markdown_of(path: Path) -> str:
    """The Markdown of a text or notebook, without blocks of code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def links_of(path: Path) -> list[str]:
    """All addresses in a file, those of the repository and of the web."""
    if path.suffix == ".html":
        return _Links(path.read_text(encoding="utf-8")).links
    text = re.sub(r"`[^`\n]*`", "", markdown_of(path))
    return [a or b for a, b in MARKDOWN.findall(text)] + BARE.findall(text)


def anchors_of(path: Path) -> set[str]:
    """The anchors of a file: headings as a forge names them, and explicit ones."""
    if path.suffix == ".html":
        return _Links(path.read_text(encoding="utf-8")).anchors
    text = markdown_of(path)
    slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def broken_links(root: Path) -> Iterator[str]:
    """Yields one line for each link to a file, or to a heading, that does not exist."""
    for path in files(root):
        for url in dict.fromkeys(links_of(path)):
            if re.match(r"[a-z+]+:|//", url):
                continue
            name, _, anchor = url.partition("#")
            target = (path.parent / name).resolve() if name else path
            where = f"{path.relative_to(root).as_posix()}: {url}"
            if not target.exists():
                yield f"{where}: there is no such file"
            elif not target.is_relative_to(root):
                yield f"{where}: leads out of the repository"
            elif anchor and target.suffix in (".md", ".html") and anchor not in anchors_of(target):
                yield f"{where}: there is no such heading"


def external_links(root: Path) -> dict[str, list[str]]:
    """Addresses of the web with the files that name them."""
    found: dict[str, list[str]] = {}
    for path in files(root):
        for url in links_of(path):
            url = url.rstrip(".,;:").partition("#")[0]
            if url.startswith(("http://", "https://")) and not any(name in url for name in EXAMPLES):
                names = found.setdefault(url, [])
                names += [name] if (name := path.relative_to(root).as_posix()) not in names else []
    return found


def problem_of(url: str) -> str:
    """Why an address cannot be read; "" if it can. A page that refuses programs (403, 405, 429) counts as there."""
    request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return ""
    except urllib.error.HTTPError as error:
        return "" if error.code in (403, 405, 429) else f"HTTP {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def unreachable(urls: Iterable[str], ask: Callable[[str], str] = problem_of) -> dict[str, str]:
    """The addresses that cannot be read, with the reason."""
    urls = list(urls)
    with ThreadPoolExecutor(8) as pool:
        return {url: reason for url, reason in zip(urls, pool.map(ask, urls), strict=True) if reason}


def main() -> int:
    """Prints broken links."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--external", action="store_true", help="also ask each address of the web")
    options, lines = parser.parse_args(), list(broken_links(ROOT))
    if options.external:
        named = external_links(ROOT)
        failed = unreachable(named)
        lines += [f"{', '.join(named[url])}: {url}: {reason}" for url, reason in failed.items()]
        print(f"{len(named)} addresses of the web, {len(failed)} cannot be read")
    print("\n".join(lines) or f"all links of {len(files(ROOT))} files lead to files of the repository")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
