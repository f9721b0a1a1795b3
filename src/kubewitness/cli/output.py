"""Printing: lines for people, JSON for programs, problems to standard error."""

import json
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

import click
import msgspec
from rich.console import Console

from kubewitness.errors import Problem, printable

EXIT_CODES = "Exit codes: 0 fine, 1 problems found, 2 wrong usage."

_FLUSH_AT = 256 * 1024


def output_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-o text|json`` to a command."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="For people or for programs.",
    )(function)


def lenient_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--lenient`` to a command that loads a policy."""
    text = "Accept unknown and duplicate keys, as upstream does."
    return click.option("--lenient", is_flag=True, help=text)(function)


def console() -> Console:
    """Return where people's output goes; colours only on a terminal, lines never wrapped."""
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """Print a value as indented JSON; bytes that were no text appear as escapes."""
    text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, indent=2)
    click.echo(text.encode("utf-8", "backslashreplace"))


def fail(message: str) -> NoReturn:
    """End the command: its arguments cannot be used."""
    raise click.UsageError(message)


class Reporter:
    """Prints problems to standard error as they come, and remembers that there were some.

    Of one source the first `MOST_SHOWN` are printed and the others counted: a file of the wrong
    kind has a problem in every line.
    """

    MOST_SHOWN = 100

    def __init__(self) -> None:
        self.count = 0
        self._source = ""
        self._of_source = 0

    def __call__(self, problem: Problem) -> None:
        """Report one problem."""
        self.count += 1
        if problem.source != self._source:
            self._sum_up()
            self._source, self._of_source = problem.source, 0
        self._of_source += 1
        if self._of_source <= self.MOST_SHOWN:
            click.echo(str(problem), err=True)

    def _sum_up(self) -> None:
        more = self._of_source - self.MOST_SHOWN
        if more > 0:
            click.echo(f"{printable(self._source)}: {more} more problems", err=True)

    def exit(self) -> NoReturn:
        """End the command with 1 if anything was reported, else with 0."""
        self._sum_up()
        sys.exit(1 if self.count else 0)


class LineWriter:
    """Gathers finished lines and writes them in large pieces."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines: list[bytes] = []
        self._size = 0

    def write(self, line: bytes) -> None:
        """Take a line, newline included."""
        self._lines.append(line)
        self._size += len(line)
        if self._size > _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Hand on what was gathered, all the way."""
        if self._lines:
            self._stream.write(b"".join(self._lines))
            self._lines = []
            self._size = 0
        self._stream.flush()
