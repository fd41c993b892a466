"""Words of a text in any script: the tokens that ROUGE (in the paper's reading) and the exact judge compare."""

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
