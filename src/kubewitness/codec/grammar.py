r"""The grammar of JSON (RFC 8259), checked without recursion.

The fast readers refuse two things that Go accepts and a client can put into a recorded object at
will: nesting deeper than Python's recursion limit, and a lone ``\ud800``. An event must not be
lost for that, so the patient ways of `decode` and `encode` judge such documents by this module.
"""

import re

from kubewitness.errors import DecodeError

_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
        (?P<string>"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+")
      | (?P<scalar>-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?(?![0-9])|true|false|null)
      | (?P<open>[\[{])
      | (?P<close>[\]}])
      | (?P<comma>,)
      | (?P<colon>:)
    )""",
    re.VERBOSE,
)
_TIGHT = re.compile(r'"(?:[^"\\]++|\\.)*+"|[^ \t\r\n"]++', re.DOTALL)

# What may come next, and what each token leads to. Inside an object a string is first a key.
_VALUE = frozenset(("string", "scalar", "open"))
_FIRST_IN_ARRAY = _VALUE | {"close"}
_FIRST_IN_OBJECT = frozenset(("string", "close"))
_KEY = frozenset(("string",))
_COLON = frozenset(("colon",))
_AFTER_VALUE = frozenset(("comma", "close"))


def end_of_value(text: str, start: int) -> int:
    """Return where the JSON value that starts at a position (blanks allowed) ends.

    Raises:
        DecodeError: There is no complete value there.
    """
    open_brackets: list[str] = []
    expected, at = _VALUE, start
    while True:
        token = _TOKEN.match(text, at)
        if token is None or token.lastgroup not in expected:
            raise DecodeError(f"not JSON: {surprise(text, at)}")
        kind, at = token.lastgroup, token.end()
        if kind == "open":
            open_brackets.append(text[at - 1])
            expected = _FIRST_IN_OBJECT if text[at - 1] == "{" else _FIRST_IN_ARRAY
        elif kind == "comma":
            expected = _KEY if open_brackets[-1] == "{" else _VALUE
        elif kind == "colon":
            expected = _VALUE
        elif kind == "string" and expected in (_KEY, _FIRST_IN_OBJECT):
            expected = _COLON
        else:
            if kind == "close" and _PAIRS[text[at - 1]] != open_brackets.pop():
                raise DecodeError(f"not JSON: {surprise(text, at - 1)}")
            if not open_brackets:
                return at
            expected = _AFTER_VALUE


_PAIRS = {"}": "{", "]": "["}


def tighten(text: str) -> str:
    """Return a valid JSON document without the blanks between its tokens."""
    return "".join(_TIGHT.findall(text))


def surprise(text: str, at: int) -> str:
    """Say what stands at a position where something else is needed."""
    rest = text[at : at + 200].lstrip(" \t\r\n")[:12]
    if not rest:
        return "the text ends in the middle"
    return f"unexpected {rest!r} (character {at})"
