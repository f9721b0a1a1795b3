"""The flags, made by walking the fields of `AuditOptions`: names, kinds, defaults and help.

Not here: reading a command line (`arguments`) and everything else that names a flag.

Source: audit specification section 12; upstream ``pkg/server/options/audit.go``.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_type_hints

from kubewitness.backends import Seconds
from kubewitness.options.kinds import Kind, Value, show_value
from kubewitness.options.model import AuditOptions

PREFIX = "audit"
VARIABLE_PREFIX = "KUBEWITNESS_AUDIT_"

_OURS = frozenset((("log", "shared"), ("webhook", "max_in_flight"), ("shutdown_timeout",)))
_KINDS = {
    str: Kind.STRING,
    bool: Kind.BOOL,
    int: Kind.INT,
    float: Kind.FLOAT32,
    Seconds: Kind.DURATION,
}
_INT64 = frozenset(("max_event_size", "max_batch_size"))
"""Fields that upstream declares with this width; pflag reads its plain int in 64 bits, too."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag.

    Attributes:
        name: Without the dashes; also its key in a configuration file.
        path: The names of the fields that lead to its value in `AuditOptions`.
        kind: What its value is.
        default: Its value when nothing sets it.
        help: What it is for, in a sentence or two.
        ours: Whether kube-apiserver does not have it.
    """

    name: str
    path: tuple[str, ...]
    kind: Kind
    default: Value
    help: str
    ours: bool

    @property
    def old_name(self) -> str:
        """What it was called before, and may still be on a command line; mostly empty."""
        return next((old for old, name in RENAMED.items() if name == self.name), "")

    @property
    def argument(self) -> str:
        """Its name on a command line."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return VARIABLE_PREFIX + self.name.removeprefix(f"{PREFIX}-").replace("-", "_").upper()

    def value(self, options: AuditOptions) -> Value:
        """Return its value in some options."""
        found: Value = functools.reduce(getattr, self.path, options)  # type: ignore[assignment]
        return found

    def shown(self, value: object) -> str:
        """Return a value as one would write it after ``=``."""
        return show_value(self.kind, value)


def with_values(options: AuditOptions, values: Mapping[str, Value]) -> AuditOptions:
    """Return the options with other values, given by the names of their flags."""
    by_path = {FLAG_OF[name].path: value for name, value in values.items()}
    changed: AuditOptions = _replaced(options, by_path)
    return changed


def _replaced(settings: Any, values: Mapping[tuple[str, ...], Value]) -> Any:
    changes: dict[str, Any] = {}
    for name in dict.fromkeys(path[0] for path in values):
        below = {path[1:]: value for path, value in values.items() if path[0] == name}
        changes[name] = below[()] if () in below else _replaced(getattr(settings, name), below)
    return replace(settings, **changes)


def _walk(settings: Any, path: tuple[str, ...] = ()) -> Iterator[Flag]:
    hints = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        value, here = getattr(settings, field.name), (*path, field.name)
        if is_dataclass(value):
            yield from _walk(value, here)
        else:
            yield _flag(here, hints[field.name], value)


def _flag(path: tuple[str, ...], annotation: Any, default: Value) -> Flag:
    kind = Kind.INT64 if path[-1] in _INT64 else _KINDS[annotation.__origin__]
    (text,) = annotation.__metadata__
    name = "-".join((PREFIX, *path)).replace("_", "-")
    return Flag(name=name, path=path, kind=kind, default=default, help=text, ours=path in _OURS)


FLAGS: tuple[Flag, ...] = tuple(_walk(AuditOptions()))
"""All of them, in the order of the fields; `RENAMED` has the names of old."""

FLAG_OF: Mapping[str, Flag] = {flag.name: flag for flag in FLAGS}

RENAMED: Mapping[str, str] = {
    "audit-webhook-batch-initial-backoff": "audit-webhook-initial-backoff"
}
"""Old names, which kube-apiserver still reads, and today's; command lines only."""
