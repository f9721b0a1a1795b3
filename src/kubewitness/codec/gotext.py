r"""Go's quoted strings (``%q``) and lists of them, as the legacy text logs hold them.

Python and Go agree on which characters are printable: the categories L, M, N, P, S and the blank.
They may disagree about characters younger than their Unicode tables (Python 3.11: Unicode 14);
such a character may be escaped here and not there. `unquote` reads both spellings.

Go strings are bytes. A byte that is no UTF-8 is a lone surrogate U+DC80..U+DCFF in a str here, as
Python's ``surrogateescape`` makes it, and is written ``\xNN``. What is *not* here: Go's octal
escapes and raw strings, which ``%q`` never writes.

Source: audit specification section 6.3; Go's ``strconv``.
"""

import re
from collections.abc import Iterable

_SHORT = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    '"': r"\"",
    "\\": r"\\",
}
_CHARACTERS = {escape[1]: character for character, escape in _SHORT.items()}
_SUSPECT = re.compile(r"[^ !#-\[\]-~]")  # all but the ASCII that stands for itself
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([abfnrtv\"\\]))|[\\\"]"
)
_QUOTED = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"(?:,(?=")|\Z)', re.DOTALL)


def quote(text: str) -> str:
    r"""Return the text as Go's ``%q`` prints it, with its quotes.

    A lone surrogate that stands for no byte prints as ``\ufffd``.
    """
    if not text.isprintable():
        return f'"{_SUSPECT.sub(_escape, text)}"'
    if '"' in text or "\\" in text:
        text = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{text}"'


def unquote(body: str) -> str:
    r"""Return the text of a quoted string, given what stands between its quotes.

    ``\x80`` to ``\xff`` become the surrogates that ``surrogateescape`` turns back into bytes.

    Raises:
        ValueError: A backslash starts no escape that Go writes, or a quote has no backslash.
    """
    plain = body.replace(r"\"", '"')
    # Most bodies hold no other escape: then every quote that is left lost one backslash.
    if "\\" not in plain and plain.count('"') == len(body) - len(plain):
        return plain
    return _ESCAPE.sub(_unescape, body)


def quote_list(items: Iterable[str]) -> str:
    """Return the items, each quoted, joined by commas: ``"a","b"``; empty for no items."""
    return ",".join(map(quote, items))


def split_list(text: str) -> tuple[str, ...]:
    """Return the items of what `quote_list` made.

    Raises:
        ValueError: The text is not such a list.
    """
    if not text:
        return ()
    items = text[1:-1].split('","')
    # No escape, and no quote but the ones around the items: the split is the answer.
    if "\\" not in text and text.count('"') == 2 * len(items) and text[0] == text[-1] == '"':
        return tuple(items)
    return _scan_list(text)


def _scan_list(text: str) -> tuple[str, ...]:
    items: list[str] = []
    end = 0
    while item := _QUOTED.match(text, end):
        items.append(unquote(item[1]))
        end = item.end()
    if end != len(text):
        raise ValueError(f"{text[end : end + 32]!r} is not part of a list of quoted strings")
    return tuple(items)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if short := _SHORT.get(character):
        return short
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return rf"\x{code - 0xDC00:02x}"
    if 0xD800 <= code <= 0xDFFF:
        return r"\ufffd"
    if code < 0x20 or code == 0x7F:
        return rf"\x{code:02x}"
    return rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}"


def _unescape(match: re.Match[str]) -> str:
    byte, short_code, long_code, letter = match.groups("")
    if letter:
        return _CHARACTERS[letter]
    if byte:
        value = int(byte, 16)
        return chr(value if value < 0x80 else 0xDC00 + value)
    code = int(short_code or long_code or "110000", 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        around = match.string[max(0, match.start() - 16) : match.start() + 10]
        raise ValueError(f"bad escape or bare quote near {around!r}")
    return chr(code)
