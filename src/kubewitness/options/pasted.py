"""Arguments as people paste them: lines of a manifest, or of a shell script.

Not here: what the arguments mean (`arguments`). This never changes an argument that a program could
be given in earnest: no flag starts with ``- `` or with a quote.
"""

import shlex
from collections.abc import Iterator

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from kubewitness.documents import compose
from kubewitness.errors import DocumentError

_QUOTES = ("'", '"')


def cleaned(argument: str) -> str:
    """Return an argument without the list mark and the quotes of a line of YAML around it."""
    text = argument.strip()
    if not (text.startswith(("- ", *_QUOTES)) and "-" in text):
        return argument
    text = text.removeprefix("- ").strip().removesuffix(" \\").strip().removesuffix(",")
    if text[:1] in _QUOTES and text[-1:] == text[:1]:
        text = text[1:-1]
    return text


def read_pasted(text: str) -> list[str]:
    """Return the arguments in a text: a manifest (YAML or JSON), some of its lines, or a command.

    Of a manifest these are the items of all its lists.
    """
    items = _items(text)
    if items and not any(" - -" in item for item in items):
        return items
    joined = text.replace("\\\r\n", " ").replace("\\\n", " ")
    return [word for line in joined.splitlines() for word in _words(line)]


def _words(line: str) -> list[str]:
    """Return the arguments of a line that may be cut from a manifest or a script."""
    items = _items(line)
    if items:
        return items
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # a quote without its other half
        return line.split()


def _items(text: str) -> list[str]:
    try:
        root = compose(text.encode("utf-8", "replace"), "-")
    except DocumentError:
        return []
    return [item for item in _list_items(root) if item != "--"] if root is not None else []


def _list_items(root: Node) -> Iterator[str]:
    """Yield the text of every item of every list, from top to bottom."""
    waiting: list[tuple[Node, bool]] = [(root, False)]
    while waiting:
        node, is_item = waiting.pop()
        if isinstance(node, ScalarNode):
            if is_item:
                yield str(node.value)
        elif isinstance(node, SequenceNode):
            waiting += [(item, True) for item in reversed(node.value)]
        elif isinstance(node, MappingNode):
            waiting += [(value, False) for _, value in reversed(node.value)]
