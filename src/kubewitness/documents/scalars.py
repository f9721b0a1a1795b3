"""What a node of the tree is: the scalar rules of the Go library that Kubernetes reads YAML with.

They are YAML 1.1's, but not as PyYAML has them: ``y`` and ``on`` are booleans, dates and
``12:30:45`` stay strings (``yaml_scalars`` in the test data holds them all).

Source: audit specification section 2.2.
"""

import re
from enum import StrEnum

from yaml.nodes import MappingNode, Node, SequenceNode

PLAIN = "plain"
"""The tag of a scalar that is neither quoted nor tagged, whose text decides what it is."""

TAG = "tag:yaml.org,2002:"
STRING_TAG = TAG + "str"
BINARY_TAG = TAG + "binary"

_NUMBER_TAGS = (TAG + "int", TAG + "float")
_MERGE_TAGS = (PLAIN, TAG + "merge")
_BOOLEANS = frozenset(
    form
    for word in ("y", "n", "yes", "no", "on", "off", "true", "false")
    for form in (word, word.capitalize(), word.upper())
)
_TRUE = frozenset(("y", "yes", "on", "true"))
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_NUMBER = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+"
    r"|(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)


class Kind(StrEnum):
    """What a node is to Kubernetes' decoder, in the words of our messages."""

    NULL = "nothing"
    STRING = "a string"
    NUMBER = "a number"
    BOOLEAN = "a boolean"
    LIST = "a list"
    MAPPING = "a mapping"


def place(node: Node) -> tuple[int, int]:
    """Return the 1-based line and column where a node starts."""
    mark = node.start_mark
    return mark.line + 1, mark.column + 1


def kind_of(node: Node) -> Kind:
    """Say what a node is, by YAML 1.1 as Kubernetes reads it."""
    if isinstance(node, SequenceNode):
        return Kind.LIST
    if isinstance(node, MappingNode):
        return Kind.MAPPING
    return _scalar_kind(node.tag, node.value)


def boolean_of(node: Node) -> bool:
    """Return the value of a boolean node."""
    return str(node.value).lower() in _TRUE


def is_merge(key: Node) -> bool:
    """Tell YAML's merge key, a plain ``<<``, from a key that merely looks like it."""
    return key.value == "<<" and key.tag in _MERGE_TAGS


def _scalar_kind(tag: str, value: str) -> Kind:
    if tag == PLAIN:
        return _plain_kind(value)
    if tag in _NUMBER_TAGS:
        return Kind.NUMBER
    if tag == TAG + "bool" and value in _BOOLEANS:
        return Kind.BOOLEAN
    if tag == TAG + "null" and value in _NULLS:
        return Kind.NULL
    return Kind.STRING


def _plain_kind(value: str) -> Kind:
    if value in _NULLS:
        return Kind.NULL
    if value in _BOOLEANS:
        return Kind.BOOLEAN
    if value[0] in "+-.0123456789" and _NUMBER.fullmatch(value.replace("_", "")):
        return Kind.NUMBER
    return Kind.STRING
