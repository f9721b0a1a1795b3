"""Where a setting came from, so that whatever is said about it points there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kubewitness.errors import Problem
from kubewitness.options.flags import Flag
from kubewitness.options.kinds import Value, parse_value


class Origin(NamedTuple):
    """A place: ``--audit-log-path``, ``$KUBEWITNESS_AUDIT_LOG_PATH``, or a key in a file.

    Attributes:
        source: The flag, the variable or the file.
        line: In a file, 1-based; else 0.
        column: In a file, 1-based; else 0.
        field: In a file, the key.
    """

    source: str
    line: int = 0
    column: int = 0
    field: str = ""

    def problem(self, message: str) -> Problem:
        """Return a problem that is here."""
        return Problem(self.source, self.line, self.column, self.field, message)


class Setting(NamedTuple):
    """A value that something sets a flag to."""

    flag: Flag
    value: Value
    origin: Origin


@dataclass(frozen=True)
class Gathered:
    """What a source of settings holds; filled while it is read.

    Attributes:
        settings: In their order there; of several for one setting the last one counts.
        problems: Everything that keeps the source from being used.
        warnings: What is odd.
        refused: Names of the flags whose value is a problem.
        ignored: Arguments that are not about auditing.
    """

    settings: list[Setting] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    ignored: list[str] = field(default_factory=list)

    def take(self, flag: Flag, text: str, origin: Origin) -> None:
        """Keep the value of a flag, or the problem that its text is."""
        try:
            self.settings.append(Setting(flag, parse_value(flag.kind, text), origin))
        except ValueError as error:
            self.refuse(flag, origin, str(error))

    def refuse(self, flag: Flag, origin: Origin, message: str) -> None:
        """Note that a flag has no usable value."""
        self.refused.add(flag.name)
        self.problems.append(origin.problem(message))


def origin_of(flag: Flag, origins: Mapping[str, Origin]) -> Origin:
    """Return where a flag's value is from; of a default, the flag that would change it."""
    return origins.get(flag.name, Origin(flag.argument))
