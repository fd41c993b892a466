"""Texts in any script: the tokens that ROUGE (in the paper's reading) and the exact judge compare, and safe display."""

import os
import re
import unicodedata

# scripts without spaces between words, which are compared by character: Thai, Lao, Burmese, Khmer, Japanese, Chinese
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_MARKS = "".join(chr(code) for code in range(0x300, 0x3100) if unicodedata.category(chr(code)).startswith("M"))
_TOKEN = re.compile(
    rf"(?:(?![{_UNSPACED}])[^\W_][{_MARKS}]*|(?<=\d)[.:,](?=\d))+|(?:(?![{_MARKS}])[{_UNSPACED}])[{_MARKS}]*"
)


def tokens(text: str) -> list[str]:
    """Tokens in lower case and Unicode's composed form (NFC).

    A number is one token with its decimals, a clock time with its colons. Scripts without spaces are split into
    characters, each with its marks.

    >>> tokens("The café, at 10:30"), tokens("2.5 m"), tokens("红色的车")
    (['the', 'café', 'at', '10:30'], ['2.5', 'm'], ['红', '色', '的', '车'])
    """
    return _TOKEN.findall(unicodedata.normalize("NFC", text).casefold())


# what acts on a terminal or page instead of being shown: controls (not tab, new line), bidirectional marks, halves of
# surrogate pairs, invisible tags
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_USER_IN_URL = re.compile(r"(?<=://)[^\s/?#@\"'\\<>,]*@")
_SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
MIN_SECRET_CHARS = 8  # shorter values of such variables ("none", "1") occur in other texts


def printable(text: str) -> str:
    r"""The text with escape codes in place of characters that change a terminal or page instead of being shown.

    >>> printable("a\x1b[31m\u202eb")
    'a\\x1b[31m\\u202eb'
    """
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def redact(text: str) -> str:
    """The text without secrets: values of environment variables named like a key, and users in URLs, become `***`.

    >>> redact("see https://me:secret@host/v1")
    'see https://***@host/v1'
    """
    secrets = {v for name, v in os.environ.items() if _SECRET_NAME.search(name) and len(v) >= MIN_SECRET_CHARS}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _USER_IN_URL.sub("***@", text)
