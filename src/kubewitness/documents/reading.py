"""The tree of nodes to plain values, with every mistake of form at its line and column.

Which keys a mapping may have, and what is in them, it is told (`Shape`); what the values may be is
for the room whose file it is.

Source: audit specification section 2.2.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from yaml.nodes import Node, SequenceNode

from kubewitness.documents.scalars import Kind, boolean_of, is_merge, kind_of, place
from kubewitness.documents.wording import closest, quoted, shown
from kubewitness.errors import Problem

Decode = Callable[["Reading", Node, str], Any]
"""Makes the value of a field from its node; it is given the field's path. None means "not set"."""


class Shape(NamedTuple):
    """The keys of one kind of mapping.

    Attributes:
        elsewhere: Other mappings whose keys are often put here by mistake, and where they belong.
        example: What to write where something else was found in place of the mapping.
    """

    fields: Mapping[str, Decode]
    elsewhere: tuple[tuple[Mapping[str, Decode], str], ...] = ()
    example: str = ""


def string(reading: "Reading", node: Node, path: str) -> str | None:
    """Decode a string."""
    plain = kind_of(node) in (Kind.NUMBER, Kind.BOOLEAN)
    hint = f"; write {quoted(node.value)} in quotes if a string is meant" if plain else ""
    return str(node.value) if reading.expect(node, path, Kind.STRING, hint) else None


def boolean(reading: "Reading", node: Node, path: str) -> bool | None:
    """Decode a boolean."""
    hint = "; write true or false, without quotes"
    return boolean_of(node) if reading.expect(node, path, Kind.BOOLEAN, hint) else None


def strings(reading: "Reading", node: Node, path: str) -> list[str] | None:
    """Decode a list of strings; nothing in place of a string is the empty string."""
    found = _items(reading, node, path, string)
    return None if found is None else [item or "" for item in found]


def mappings(
    reading: "Reading", node: Node, path: str, shape: Shape
) -> list[dict[str, Any]] | None:
    """Decode a list of mappings; nothing in place of a mapping is the empty mapping."""
    found = _items(reading, node, path, lambda r, n, p: r.mapping(n, p, shape))
    return None if found is None else [item or {} for item in found]


def _items(reading: "Reading", node: Node, path: str, decode: Decode) -> list[Any] | None:
    """Decode a list. Something else in its place counts as a list of one while judging the rest."""
    hint = _hint_for_list(node, of_strings=decode is string)
    if reading.expect(node, path, Kind.LIST, hint):
        return [decode(reading, item, f"{path}[{index}]") for index, item in enumerate(node.value)]
    return None if kind_of(node) is Kind.NULL else [None]


def _hint_for_list(node: Node, *, of_strings: bool) -> str:
    kind = kind_of(node)
    if of_strings and kind is Kind.STRING:
        return f"; write [{quoted(node.value)}]"  # in quotes: "", "*" and "yes" need them
    if not of_strings and kind is Kind.MAPPING:
        return "; make it the one item of a list"
    return ""


def string_map(reading: "Reading", node: Node, path: str) -> None:
    """Check a mapping of strings whose keys are free; it is not kept."""
    if reading.expect(node, path, Kind.MAPPING):
        for name, setting in reading.settings(node, path).items():
            string(reading, setting.value, _join(path, name))


def ignored(reading: "Reading", node: Node, path: str) -> None:
    """Take no notice of a field."""


class Setting(NamedTuple):
    """One pair of a mapping; `merged` when it comes from another one by way of ``<<``."""

    key: Node
    value: Node
    merged: bool


class Reading:
    """One pass over the node tree: gathers places and problems while it builds plain values."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.wrong: list[Problem] = []
        self.dropped: list[Problem] = []
        self.places: dict[str, tuple[int, int]] = {"": (1, 1)}
        self._refused: set[str] = set()

    def problem(self, path: str, message: str) -> Problem:
        """Make a problem at a field, or at the nearest field around it that is in the file."""
        known = path
        while known not in self.places:
            known = _around(known)
        return Problem(self.source, *self.places[known], path, message)

    def refuse(self, node: Node, path: str, message: str) -> None:
        """Report a node that is not what its field needs."""
        self._refused.add(path)
        self.wrong.append(Problem(self.source, *place(node), path, message))

    def is_refused(self, path: str) -> bool:
        """Tell whether a field, or one around it, was refused: its value is not worth judging."""
        while path not in self._refused and path:
            path = _around(path)
        return path in self._refused

    def expect(self, node: Node, path: str, kind: Kind, hint: str = "") -> bool:
        """Note a node's place; say whether it is of a kind, and refuse it if it is another."""
        self.places[path] = place(node)
        found = kind_of(node)
        if found not in (kind, Kind.NULL):
            self.refuse(node, path, f"expected {kind}, found {_named(node, found)}{hint}")
        return found is kind

    def mapping(self, node: Node, path: str, shape: Shape) -> dict[str, Any]:
        """Decode a mapping; unknown and duplicate keys are noted as dropped."""
        hint = f"; an example: {shape.example}" if shape.example else ""
        if not self.expect(node, path, Kind.MAPPING, hint):
            return {}
        values: dict[str, Any] = {}
        for name, setting in self.settings(node, path).items():
            if name in shape.fields:
                values[name] = shape.fields[name](self, setting.value, _join(path, name))
            else:
                self._drop(setting.key, _join(path, name), _unknown(name, shape))
        return {name: value for name, value in values.items() if value is not None}

    def settings(self, node: Node, path: str) -> dict[str, Setting]:
        """Return the pairs of a mapping that count, by key: the last one of each.

        The API server merges where the ``<<`` stands, so only keys below it can override what it
        brings. That YAML itself lets a mapping's own keys win wherever they stand is why a merge
        over such a key is reported.
        """
        found: dict[str, Setting] = {}
        for key, value in node.value:
            if is_merge(key):
                self._merge(key, value, path, found)
            elif (name := self._name(key, path)) is not None:
                self._note_duplicate(key, _join(path, name), found.get(name))
                found[name] = Setting(key, value, merged=False)
        return found

    def _merge(self, key: Node, value: Node, path: str, found: dict[str, Setting]) -> None:
        merged = value.value if isinstance(value, SequenceNode) else [value]
        for node in reversed(merged):  # the first one listed wins
            if kind_of(node) is not Kind.MAPPING:
                self.refuse(node, path, f'"<<" needs a mapping, found {kind_of(node)}')
                continue
            for name, setting in self.settings(node, path).items():
                if name in found and not found[name].merged:
                    line, _ = place(found[name].key)
                    message = f'"<<" sets {quoted(name)} of line {line} anew; put "<<" before it'
                    self._drop(key, _join(path, name), message)
                found[name] = setting._replace(merged=True)

    def _name(self, key: Node, path: str) -> str | None:
        kind = kind_of(key)
        if kind in (Kind.NULL, Kind.LIST, Kind.MAPPING):
            self.refuse(key, path, f"a key must be a string, found {kind}")
            return None
        return str(key.value)

    def _note_duplicate(self, key: Node, path: str, earlier: Setting | None) -> None:
        if earlier is not None and not earlier.merged:
            line, _ = place(earlier.key)
            self._drop(key, path, f"duplicate key {quoted(key.value)}, already set in line {line}")

    def _drop(self, node: Node, path: str, message: str) -> None:
        self.dropped.append(Problem(self.source, *place(node), path, message))


def _join(path: str, name: str) -> str:
    return f"{path}.{shown(name)}" if path else shown(name)


def _around(path: str) -> str:
    return path[: max(path.rfind("."), path.rfind("["), 0)]


def _named(node: Node, kind: Kind) -> str:
    return str(kind) if kind in (Kind.LIST, Kind.MAPPING) else f"{kind} ({shown(node.value)})"


def _unknown(name: str, shape: Shape) -> str:
    for fields, where in shape.elsewhere:
        if name in fields:
            return f"unknown key {quoted(name)}; it belongs {where}"
    if meant := closest(name, shape.fields):
        return f"unknown key {quoted(name)}, did you mean {quoted(meant)}?"
    for fields, where in shape.elsewhere:
        if meant := closest(name, fields):
            return f"unknown key {quoted(name)}; {quoted(meant)} belongs {where}"
    return f"unknown key {quoted(name)}; known here: {', '.join(shape.fields)}"
