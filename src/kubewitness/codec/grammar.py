r"""The grammar of JSON (RFC 8259), followed without recursion and without building values.

Two uses. The fast readers refuse two things that Go accepts and a client can put into a recorded
object at will: nesting deeper than Python's recursion limit, and a lone ``\ud800``. An event must
not be lost for that, so the patient ways of `decode` and `encode` let `check` judge such documents.
And `framing` must know where a value ends in text that is damaged or not all there yet: `follow`
reads the way down to that place token by token, and jumps over all that is complete beside it.

Not here: values. Everything is told as positions in bytes, and the bytes stay as they are.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import Raw

from kubewitness.errors import DecodeError

# Possessive throughout, so that hostile text costs one pass.
_BLANKS = rb"[ \t\r\n]*+"
STRING = rb'"[^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+"'
_WORD = rb"[-+.0-9A-Za-z]++(?!\Z)"  # at the very end of the text, a number may still go on
_EXACT_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_EXACT_WORD = (
    rb"(?:-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|true|false|null)(?![-+.\w])"
)


def _container(levels: int) -> bytes:
    """Return the pattern of a container: values with something between them, in brackets."""
    value = container = rb"(?:%s|%s)" % (STRING, _WORD)
    for _ in range(levels):
        separator = rb"%s(?:[,:]%s(?![\]}])|(?=[\]}]))" % (_BLANKS, _BLANKS)
        container = rb"[\[{]%s(?:%s%s)*+[\]}]" % (_BLANKS, value, separator)
        value = rb"(?:%s|%s|%s)" % (STRING, _WORD, container)
    return container


def _tokens(string: bytes, value: bytes) -> re.Pattern[bytes]:
    return re.compile(
        rb"[ \t\r\n]*+(?:(?P<string>%s)|(?P<value>%s)|(?P<object>\{)|(?P<array>\[)"
        rb"|(?P<end_object>\})|(?P<end_array>\])|(?P<comma>,)|(?P<colon>:))" % (string, value)
    )


_CONTAINER = _container(16)  # a recorded Deployment needs 14; deeper values only take longer
VALUE = rb"(?:%s|%s|%s)" % (STRING, _WORD, _CONTAINER)
"""The pattern of a complete value by the loose grammar."""

_LOOSE = _tokens(STRING, rb"%s|%s" % (_WORD, _CONTAINER))
_EXACT = _tokens(_EXACT_STRING, _EXACT_WORD)
_BEGUN = re.compile(
    rb'[ \t\r\n]*+(?:"[^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+\\?|[-+.0-9A-Za-z]*+)'
)
_LOOSE_VALUE = re.compile(VALUE)
_NAME = re.compile(rb"[ \t\r\n,]*+(%s)[ \t\r\n]*+:[ \t\r\n]*+" % STRING)
_ELEMENT = re.compile(rb"[ \t\r\n,]*+(?=[^ \t\r\n,\]])")
_REST = re.compile(_BLANKS)
_TIGHT = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[^ \t\r\n"]++', re.DOTALL)

# What may come next, and what each token leads to. Inside an object a string is first a name.
_VALUE = frozenset(("string", "value", "object", "array"))
_FIRST = {"object": frozenset(("string", "end_object")), "array": _VALUE | {"end_array"}}
_NEXT = {"object": frozenset(("string",)), "array": _VALUE}
_AFTER = {
    "object": frozenset(("comma", "end_object")),
    "array": frozenset(("comma", "end_array")),
    "": frozenset[str](),
}
_BEFORE_NAME = (_FIRST["object"], _NEXT["object"])
_COLON = frozenset(("colon",))
_LOOSE_FIRST = _VALUE | {"end_object", "end_array"}
_LOOSE_AFTER = frozenset(("comma", "colon", "end_object", "end_array"))
_DEEPEST = 1_000_000  # what this module remembers is bounded; Go stops at 10,000


class Reach(NamedTuple):
    """How far a value could be followed.

    Attributes:
        end: Where it ends; 0 when the text does not hold all of it.
        broken: Whether the text goes on in a way that no value can.
        at: The end of the last token that fits.
        last: The start of the last token, or of the value that it completes. When the text is
            broken, something else may have begun there.
    """

    end: int
    broken: bool
    at: int
    last: int


def follow(text: bytes, start: int, stop: int, *, inside: str = "", exact: bool = False) -> Reach:
    """Follow the value that starts at a position, blanks allowed.

    The loose grammar does not tell the two brackets, nor comma and colon, nor names and values
    apart. So it can be one pattern, which jumps over what is complete, and whether a value is
    broken does not depend on how much of it was jumped over.

    Args:
        text: It holds the value, or a part of it.
        start: Where the value starts.
        stop: Where the text ends.
        inside: ``object`` to start behind a member of an object, and to look for the object's end.
        exact: Go by JSON's own grammar, token by token.
    """
    tokens, successors = (_EXACT, _exact_successors) if exact else (_LOOSE, _loose_successors)
    path, starts = ["", inside] if inside else [""], [start]
    expected = successors("end_object", _VALUE, inside) or _VALUE
    at = last = start
    while (token := tokens.match(text, at, stop)) and (kind := token.lastgroup) in expected:
        last, at = token.start(kind), token.end()
        if kind in _FIRST:
            path.append(kind)
            starts.append(last)
            if len(path) > _DEEPEST:
                break
        elif kind.startswith("end"):
            path.pop()
            last = starts.pop()
        expected = successors(kind, expected, path[-1])
        if not expected:
            return Reach(at, broken=False, at=at, last=last)
    return Reach(0, _BEGUN.fullmatch(text, at, stop) is None, at, last)


def _exact_successors(kind: str, expected: frozenset[str], container: str) -> frozenset[str]:
    """Return what may follow a token; nothing once the value is complete."""
    if kind in _FIRST:
        return _FIRST[kind]
    if kind == "comma":
        return _NEXT[container]
    if kind == "colon":
        return _VALUE
    if kind == "string" and expected in _BEFORE_NAME:
        return _COLON
    return _AFTER[container]


def _loose_successors(kind: str, _: frozenset[str], container: str) -> frozenset[str]:
    if kind in _FIRST:
        return _LOOSE_FIRST
    if kind in ("comma", "colon"):
        return _VALUE
    return _LOOSE_AFTER if container else _AFTER[""]


def check(document: bytes) -> None:
    """Make sure that bytes are one JSON document, blanks around it allowed.

    Raises:
        DecodeError: They are not; the text says where.
    """
    try:
        msgspec.json.decode(document, type=Raw)
    except (msgspec.DecodeError, RecursionError):
        reach = follow(document, 0, len(document), exact=True)
        if not reach.end:
            raise DecodeError(f"not JSON: {surprise(document, reach.at)}") from None
        if not _REST.fullmatch(document, reach.end):
            raise DecodeError("not JSON: something follows the document") from None


def members(document: bytes, start: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the members of an object in a document that was checked: quoted name, start, end."""
    at = start + 1
    while name := _NAME.match(document, at):
        at = _end_of_value(document, name.end())
        yield name[1], name.end(), at


def elements(document: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield where the elements of an array in a document that was checked start and end."""
    at = start + 1
    while element := _ELEMENT.match(document, at):
        at = _end_of_value(document, element.end())
        yield element.end(), at


def _end_of_value(document: bytes, start: int) -> int:
    found = _LOOSE_VALUE.match(document, start)
    return found.end() if found else follow(document, start, len(document)).end


def tighten(document: bytes) -> bytes:
    """Return a valid JSON document without the blanks between its tokens."""
    return b"".join(_TIGHT.findall(document))


def surprise(text: bytes, at: int) -> str:
    """Say what stands at a position where something else is needed."""
    rest = text[at : at + 200].lstrip(b" \t\r\n")
    return f"unexpected {excerpt(rest, length=12)} (byte {at})" if rest else "the text ends early"


def excerpt(text: bytes, *, length: int = 40) -> str:
    """Return the start of a text for a message, safe to print."""
    start = text[: length + 1].lstrip()
    shown = ascii(start[:length].decode("utf-8", "replace"))
    return f"{shown[:-1]}…{shown[-1]}" if len(start) > length else shown
