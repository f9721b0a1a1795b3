"""The bytes of a YAML or JSON file to a tree of nodes, each with its line and column.

PyYAML reads YAML's syntax, `json_nodes` JSON's; what a node then is, `scalars` says. Whatever the
bytes are, reading them takes time and memory in proportion to their number: YAML's aliases, which
can make a small file mean an endless document, are weighed while the tree is made.

Source: audit specification section 2.2.
"""

import base64
import re
from typing import NamedTuple, NoReturn

import yaml
from yaml.composer import ComposerError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from kubewitness.documents import json_nodes
from kubewitness.documents.scalars import BINARY_TAG, PLAIN, STRING_TAG, TAG
from kubewitness.documents.wording import shown
from kubewitness.errors import DocumentError, Problem

_DEEPEST = 50
"""Levels a document may have; a policy needs six, and PyYAML needs Python's stack for each."""

_FREE_NODES = 100_000
_MOST_REPEATED = 10
"""Aliases may make a document this many times larger than it is written, or `_FREE_NODES` large."""

_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # as YAML defines it
)
_SURROGATE = re.compile("[\ud800-\udfff]")


def compose(data: bytes, source: str) -> Node | None:
    """Read the first document of a file.

    Returns:
        The root node, or None for a file without content. Later documents are ignored.

    Raises:
        DocumentError: The text is neither YAML nor JSON, with the position of the fault.
    """
    text = _text(data, source)
    if text.lstrip().startswith("{"):
        return _compose_json(text, source)
    if (found := _UNPRINTABLE.search(text)) is not None:
        message = f"not YAML: it may not hold the character U+{ord(found[0]):04X}"
        _fail(source, _position(text[: found.start()]), message)
    return _compose_yaml(text, source)


def _text(data: bytes, source: str) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, "ignore")
        message = f"not text in {encoding.removesuffix('-sig').upper()}: {error.reason}"
        _fail(source, _position(before), message)


def _compose_json(text: str, source: str) -> Node:
    try:
        return json_nodes.read(text)
    except json_nodes.NotJSONError as fault:
        message = f'not JSON, as which a text that starts with "{{" is read: {fault}'
        _fail(source, _position(text[: fault.index]), message)


def _compose_yaml(text: str, source: str) -> Node | None:
    composer = _Composer(text)
    try:
        return composer.get_node() if composer.check_node() else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or composer.get_mark()
        _fail(source, (mark.line + 1, mark.column + 1), f"not YAML: {shown(error.problem or '')}")
    except (ValueError, OverflowError):  # chr() and int() of what PyYAML does not check itself
        message = "not YAML: an escape or a version that is out of range"
        _fail(source, (composer.line + 1, composer.column + 1), message)


class _Weight(NamedTuple):
    """How large a node is when its aliases are written out: nodes in all, and levels."""

    nodes: int
    levels: int


class _Composer(yaml.SafeLoader):
    """PyYAML's reader of one document, with limits, and without its opinion on plain scalars."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._weights: dict[Node, _Weight] = {}
        self._level = 0

    def resolve(  # PyYAML calls it by position
        self,
        kind: type[Node],
        value: str,  # noqa: ARG002
        implicit: tuple[bool, bool],
    ) -> str:
        if kind is ScalarNode:
            return PLAIN if implicit[0] else STRING_TAG
        return TAG + ("seq" if kind is SequenceNode else "map")

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        is_alias = isinstance(event, yaml.AliasEvent)
        if not is_alias:
            self.anchors.pop(event.anchor, None)  # YAML lets a name be used again
        self._level += 1
        self._check_levels(self._level, event.start_mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        if is_alias and node not in self._weights:
            _refuse("an alias within what it stands for", event.start_mark)
        if isinstance(node, ScalarNode):
            _check_scalar(node)
        if node is not None and not is_alias:
            self._weights[node] = self._weigh(node)
        return node

    def _weigh(self, node: Node) -> _Weight:
        children = [self._weights[child] for child in _children(node)]
        nodes = 1 + sum(child.nodes for child in children)
        levels = 1 + max((child.levels for child in children), default=0)
        self._check_levels(levels, node.start_mark)
        if nodes > max(_FREE_NODES, _MOST_REPEATED * len(self._weights)):
            _refuse("its aliases stand for too much text", node.start_mark)
        return _Weight(nodes, levels)

    def _check_levels(self, levels: int, mark: yaml.Mark) -> None:
        if levels > _DEEPEST:
            _refuse(f"nested more than {_DEEPEST} levels deep", mark)


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, SequenceNode) else []


def _check_scalar(node: ScalarNode) -> None:
    """Decode ``!!binary``, and refuse the escapes of which Go's reader makes no character."""
    if node.tag == BINARY_TAG:
        try:
            data = base64.b64decode("".join(node.value.split()), validate=True)
        except ValueError:
            _refuse("!!binary text that is not base64", node.start_mark)
        node.value = data.decode("utf-8", "replace")
    elif not node.value.isascii() and _SURROGATE.search(node.value):
        _refuse(r'half a character as an escape; write it whole, as "\U0001F600"', node.start_mark)


def _refuse(message: str, mark: yaml.Mark) -> NoReturn:
    raise ComposerError(None, None, message, mark) from None


def _position(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


def _fail(source: str, position: tuple[int, int], message: str) -> NoReturn:
    raise DocumentError((Problem(source, *position, "", message),)) from None
