"""Makes the HTML page of an executed notebook: one file, nothing from the web, readable on a phone.

Formulas between dollar signs become MathML, which browsers draw themselves. Links to files of the repository, written
as seen from the notebook, lead to the same files from the page. Images get the heading above them as a description.
Departs from nbconvert's own template, which loads MathJax, require.js and mermaid from the web.
"""

import base64
import mimetypes
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from o3v.config import REPOSITORY

NO_ALT = 'alt="No description has been provided for this image"'  # of nbconvert
PAGE_CSS = """
:root{--jp-mirror-editor-keyword-color:#00609C;--jp-mirror-editor-comment-color:#5A6A62;
--jp-mirror-editor-string-color:#A33A00;--jp-mirror-editor-number-color:#06704A;--jp-mirror-editor-operator-color:#6B3FA0;
--jp-mirror-editor-variable-color:#222222;--jp-mirror-editor-error-color:#B00020;
--jp-mirror-editor-punctuation-color:#222222;--jp-cell-editor-background:#F6F6F4}
*{box-sizing:border-box}
body{margin:0;background:#FFFFFF;color:#222222;font:16px/1.55 system-ui,sans-serif}
main{max-width:920px;margin:0 auto;padding:8px 16px 48px}
nav{max-width:920px;margin:0 auto;padding:10px 16px;border-bottom:1px solid #DDDDDD}
a{color:#0060A8}.anchor-link,.jp-InputPrompt,.jp-OutputPrompt,.jp-Collapser{display:none}
h1,h2,h3{line-height:1.25;margin:1.4em 0 .5em}
code,pre{font:13px/1.45 ui-monospace,monospace}p code,li code,td code{font-size:.88em;overflow-wrap:anywhere}
pre{margin:0;overflow-x:auto}.highlight,.jp-RenderedText{padding:8px 12px;border-radius:6px;margin:.5em 0}
.highlight{background:#F6F6F4;border:1px solid #E4E4E0}.jp-RenderedText pre{white-space:pre-wrap;overflow-wrap:anywhere}
.jp-OutputArea-output{max-width:100%;overflow-x:auto}img,svg{max-width:100%;height:auto}
table{border-collapse:collapse;margin:.6em 0;font-size:14px;display:block;overflow-x:auto;border:0}
th,td{padding:4px 10px;border:0;border-bottom:1px solid #E2E2E2;text-align:right;vertical-align:top}
th:first-child,td:first-child,.jp-RenderedMarkdown th,.jp-RenderedMarkdown td{text-align:left}
.text th,.text td{text-align:left}math{font-size:1.08em}summary,button,input{font:inherit}
"""
_TEMPLATE = """\
{%- extends 'base.html.j2' -%}
{%- block header -%}
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ resources.metadata.name }}</title>
<style>{{ resources.page_css }}</style>
{%- for css in resources.inlining.css %}<style>{{ css }}</style>{% endfor -%}
</head><body>{{ resources.page_top }}<main>
{%- endblock header -%}
{%- block footer -%}</main></body></html>{%- endblock footer -%}"""


def render_page(book: Any, name: str, folder: Path, page_folder: Path, top: str = "") -> str:
    """Returns the HTML page of an executed notebook.

    Args:
        book: the notebook (nbformat 4).
        name: title of the page.
        folder: folder of the notebook's source, where its links and images start. Absolute.
        page_folder: folder that the page is written to. Absolute.
        top: HTML above the notebook, such as links to other pages.
    """
    resources = {
        "metadata": {"name": name, "path": str(folder), "page_folder": str(page_folder)},
        "page_css": PAGE_CSS,
        "page_top": top,
    }
    page, _ = _exporter().from_notebook_node(book, resources)
    headings = iter(image_headings(book))
    return re.sub(re.escape(NO_ALT), lambda _: f'alt="{next(headings, "figure")}"', page)


@cache
def _exporter() -> Any:
    from jinja2 import DictLoader, pass_context
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        page_folder = ""

        def inline_math(self, body: str) -> str:
            return mathml(body, "inline")

        def block_math(self, body: str) -> str:
            return mathml(body, "block")

        def link(self, text: str, url: str, title: str | None = None) -> str:
            return super().link(text, moved_link(url, Path(self.path), Path(self.page_folder)), title)

        def _src_to_base64(self, src: str) -> str | None:  # nbconvert embeds only files below the notebook's folder
            return embedded(Path(self.path), src)

    class Exporter(HTMLExporter):
        @pass_context
        def markdown2html(self, context: Any, source: str) -> str:
            metadata = context.get("resources", {}).get("metadata", {})
            attachments = context.get("cell", {}).get("attachments", {})
            options = {"embed_images": True, "path": metadata.get("path", ""), "exclude_anchor_links": True}
            renderer = Renderer(escape=False, attachments=attachments, **options)
            renderer.page_folder = metadata.get("page_folder", "")
            return MarkdownWithMath(renderer=renderer).render(source)

    loader = DictLoader({"o3v_page.html.j2": _TEMPLATE})
    return Exporter(embed_images=True, extra_loaders=[loader], template_file="o3v_page.html.j2")


def mathml(latex: str, display: str) -> str:
    """A formula as MathML. Raises ValueError with the formula if it is not readable LaTeX."""
    from latex2mathml.converter import convert

    try:
        formula = convert(latex, display=display)
    except Exception as error:  # latex2mathml has some twenty error classes without a common base
        raise ValueError(f"not a readable formula: {latex!r:.200}: {error!r}") from None
    if "\\" in formula or latex.count("{") != latex.count("}"):  # it shows unknown commands and open braces as text
        raise ValueError(f"not a readable formula: {latex!r:.200}: an unknown command or an open brace")
    return formula


def moved_link(url: str, folder: Path, page_folder: Path) -> str:
    """A link written for a file in `folder`, for a page in `page_folder`. Web addresses and anchors stay.

    A link to a numbered notebook in `folder` leads to its page. Other links change only inside the repository.
    """
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return url
    target = Path(os.path.normpath(folder / parts.path))
    if target.parent == folder and re.match(r"\d\d[a-z]?_.*\.ipynb$", target.name):
        return urlunsplit(parts._replace(path=target.with_suffix(".html").name))
    if not (target.is_relative_to(REPOSITORY) and page_folder.is_relative_to(REPOSITORY)):
        return url
    return urlunsplit(parts._replace(path=Path(os.path.relpath(target, page_folder)).as_posix()))


def embedded(folder: Path, source: str) -> str | None:
    """An image file of the repository as a data address; None for any other source."""
    path = Path(os.path.normpath(folder / source))
    if urlsplit(source).scheme or not path.is_file() or not path.is_relative_to(REPOSITORY):
        return None
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def image_headings(book: Mapping[str, Any]) -> Iterator[str]:
    """Yields for each image output of a notebook the last heading above it, without markup."""
    heading = ""
    for cell in book["cells"]:
        if cell["cell_type"] == "markdown":
            found = re.findall(r"^#+ (.+)$", "".join(cell["source"]), re.MULTILINE)
            heading = found[-1] if found else heading
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "text/html" not in data and any(kind.startswith("image/") for kind in data):
                yield "figure: " + re.sub(r'[*`$"<>&\\]', "", heading)
