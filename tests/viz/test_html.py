"""No text can change the structure of a page: every value is escaped."""

import pytest
from helpers.html_reader import Reader
from helpers.viewing import boxes, claim, frames
from jinja2 import UndefinedError

from o3v.evidence import parse_response
from o3v.viz import trace
from o3v.viz.response_html import Mark, escape, render, token_strip

PAYLOADS = [
    "<script>alert('x')</script>\"&",
    "</script><script>alert(1)</script>",
    "</title></style></textarea>",
    "</span></div></figure>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "x onmouseover=alert(1)",
    "<!-- x",
    "--> x",
    "]]> x",
    "<",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "{{ 7 * 7 }}",
    "{% raw %} x",
    "{0} {name}",
    "`${alert(1)}`",
    "\u2028alert(1)\u2029",
]


def page_with(text: str) -> str:
    """A page in which every text that a caller can choose is `text`."""
    response = f"<think>{claim(text, '[1,1,9,9]', 0.5)} {text} <t>1,5</t></think>{text}<answer>{text}</answer>"
    shown = trace.ShownResponse(parse_response(response), {text: 1.0, "total": 1.0}, text)
    parts = [
        trace.rollouts_html(frames(2), [shown] * 3, text, {0.5: {text: [(1, 1, 9, 9)]}}),
        trace.trace_html(frames(2), shown, text),
        trace.html_player(frames(2), boxes(2, text), [[text]] * 2, [Mark(text, 0.5, "#000000")]),
        token_strip([text], [1]),
    ]
    return trace.html_page("".join(parts), text)


def structure(page: str) -> set[tuple[str, ...]]:
    return {(tag, *attributes) for tag, attributes in Reader(page).tags}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_adds_an_element_or_an_attribute(payload):
    page, harmless = page_with(payload), page_with("<b>")  # a tag, because tags are shown in small letters
    assert structure(page) <= structure(harmless)
    assert page.count("<script>") == harmless.count("<script>") == page.count("</script>")
    assert payload in Reader(page).text


@pytest.mark.parametrize("text", [*PAYLOADS, "", "\u540d\u524d", "a\nb"])
def test_escaped_text_reads_back_in_an_element_and_in_an_attribute(text):
    read = Reader(f'<b title="{escape(text)}">{escape(text)}</b>')
    assert read.tags == [("b", {"title": text})] and read.text == text


def test_lone_surrogates_become_question_marks():
    assert escape("a\ud800b") == "a?b"
    page_with("a\ud800b").encode()


def test_a_missing_value_is_an_error():
    with pytest.raises(UndefinedError, match="name"):
        render("<b>{{ name }}</b>")
