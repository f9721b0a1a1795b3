r"""A JSON document to the same tree of nodes as a YAML one.

YAML's reader would almost do, but JSON allows what YAML does not (tabs, characters written as two
``\u`` escapes, keys of any length), so JSON has a reader of its own: msgspec judges the text, and
a scan that may then rely on it keeps the positions.
"""

import json
import re

import msgspec
from yaml import MappingNode, Mark, Node, ScalarNode, SequenceNode

from kubewitness.documents.scalars import PLAIN, STRING_TAG, TAG

_TOKEN = re.compile(
    r"""(?P<string>"[^"\\]*(?:\\.[^"\\]*)*")|(?P<mark>[{}\[\]])|(?P<word>[^\s"{}\[\],:]+)"""
)
_BYTE = re.compile(r" \(byte (\d+)\)")


class NotJSONError(ValueError):
    """The text is not JSON. `index` is the place of the fault in the text."""

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


def read(text: str) -> Node:
    """Return the root node of a JSON document.

    Raises:
        NotJSONError: The text is not JSON, or nested too deeply.
    """
    data = text.encode()
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        found = _BYTE.search(str(error))
        before = data[: int(found[1])] if found else data
        deep = isinstance(error, RecursionError)
        fault = "nested too deeply" if deep else _BYTE.sub("", str(error))
        message = fault.removeprefix("JSON is malformed: ")
        raise NotJSONError(message, len(before.decode("utf-8", "ignore"))) from None
    return _Builder(text).root()


class _Builder:
    """Puts the tokens of a valid document together, without recursion.

    Of a valid document commas and colons need not be looked at: what stands between two brackets
    are the items of a list, or by turns the keys and values of a mapping.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._line = 0
        self._line_start = 0
        self._scanned = 0

    def root(self) -> Node:
        outermost: list[Node] = []
        enclosing: list[tuple[Mark, list[Node]]] = []
        children = outermost
        for token in _TOKEN.finditer(self._text):
            mark = self._mark(token.start())
            if token[0] in "{[":
                enclosing.append((mark, children))
                children = []
            elif token[0] in "}]":
                start, outer = enclosing.pop()
                outer.append(_collection(token[0], children, start))
                children = outer
            else:
                children.append(_scalar(token, mark))
        return outermost[0]

    def _mark(self, index: int) -> Mark:
        """Return a place further on in the text than the last one."""
        newlines = self._text.count("\n", self._scanned, index)
        if newlines:
            self._line += newlines
            self._line_start = self._text.rfind("\n", 0, index) + 1
        self._scanned = index
        return Mark("", index, self._line, index - self._line_start, None, 0)


def _collection(bracket: str, children: list[Node], mark: Mark) -> Node:
    if bracket == "]":
        return SequenceNode(TAG + "seq", children, mark, mark)
    pairs = list(zip(children[::2], children[1::2], strict=True))
    return MappingNode(TAG + "map", pairs, mark, mark)


def _scalar(token: re.Match[str], mark: Mark) -> ScalarNode:
    if token["string"]:
        return ScalarNode(STRING_TAG, json.loads(token[0]), mark, mark)
    return ScalarNode(PLAIN, token[0], mark, mark)
