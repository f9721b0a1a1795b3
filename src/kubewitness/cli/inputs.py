"""What the arguments name: policies, and files, directories or standard input full of events."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from kubewitness.cli.output import Reporter, fail
from kubewitness.codec import EventReader, Format, read_events
from kubewitness.errors import PolicyError, Problem
from kubewitness.policy import Policy, bundled_policies, load_policy

STANDARD_INPUT = "-"


def open_policy(name: str, *, lenient: bool = False) -> Policy:
    """Load the policy of a file, or the bundled one of that name; end the command if it is bad."""
    try:
        data = _policy_bytes(name)
        return load_policy(data, click.format_filename(name), lenient=lenient)
    except PolicyError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        sys.exit(1)


def _policy_bytes(name: str) -> bytes:
    try:
        return policy_bytes(name)
    except FileNotFoundError:
        known = ", ".join(each.name for each in bundled_policies())
        fail(f"{click.format_filename(name)}: no such file, and no bundled policy ({known})")
    except OSError as error:
        fail(f"{click.format_filename(name)}: {error.strerror}")


def policy_bytes(name: str) -> bytes:
    """Return the text of a policy: a file, ``-`` for standard input, or a bundled one's name.

    Raises:
        OSError: It cannot be read.
    """
    if name == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    if not Path(name).is_file():
        for bundled in bundled_policies():
            if bundled.name == name:
                return bundled.data
    return Path(name).read_bytes()


def read_inputs(
    names: Sequence[str],
    *,
    reporter: Reporter,
    accept: Format = Format.AUTO,
    before_read: Callable[[], None] = lambda: None,
) -> Iterator[tuple[str, EventReader]]:
    """Yield the name and a reader of each input named; of none for standard input.

    A directory stands for the files in it and below, in the order of their names, which for a
    rotated log is the order of its events. What cannot be opened is reported.

    Args:
        names: Files, directories, ``-``.
        reporter: Told of everything that is no event.
        accept: Which formats to read.
        before_read: Called each time before more input is waited for.
    """
    with ExitStack() as stack:
        progress = _progress(stack)
        for name, stream, size in _open_all(names or [STANDARD_INPUT], reporter):
            task = progress.add_task(escape(name), total=size) if progress else None

            def advance(count: int, task: object = task) -> None:
                if progress is not None:
                    progress.advance(task, count)  # type: ignore[arg-type]

            def failed(error: OSError, name: str = name) -> None:
                reporter(Problem(name, 0, 0, "", f"cannot be read on: {error.strerror}"))

            with stream:
                watched = cast("BinaryIO", _WatchedStream(stream, before_read, advance, failed))
                yield name, read_events(watched, name, on_problem=reporter, accept=accept)


def _open_all(
    names: Sequence[str], reporter: Reporter
) -> Iterator[tuple[str, BinaryIO, int | None]]:
    for name in names:
        if name == STANDARD_INPUT:
            yield name, sys.stdin.buffer, None
            continue
        for path in _files(name, reporter):
            try:
                stream = path.open("rb")
                size = path.stat().st_size
            except OSError as error:
                reporter(
                    Problem(click.format_filename(path), 0, 0, "", error.strerror or str(error))
                )
            else:
                yield click.format_filename(path), stream, size


def _files(name: str, reporter: Reporter) -> list[Path]:
    if not name:
        fail("an empty file name (an unset variable?)")
    if not Path(name).is_dir():
        return [Path(name)]
    files: list[Path] = []

    def refused(error: OSError) -> None:
        place = click.format_filename(error.filename or name)
        reporter(Problem(place, 0, 0, "", error.strerror or str(error)))

    for folder, _, names in os.walk(name, onerror=refused):
        paths = (Path(folder, each) for each in names)
        files += [path for path in paths if path.is_file() or not path.exists()]
    if not files:
        reporter(Problem(click.format_filename(name), 0, 0, "", "is a directory without files"))
    return sorted(files)


def _progress(stack: ExitStack) -> Progress | None:
    """Show progress when somebody watches, and the output does not go to the same terminal."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        return None
    return stack.enter_context(Progress(console=Console(stderr=True), transient=True))


class _WatchedStream:
    """A binary stream that gives what there is, so that a live log is not held back."""

    def __init__(
        self,
        stream: BinaryIO,
        before_read: Callable[[], None],
        advance: Callable[[int], None],
        failed: Callable[[OSError], None],
    ) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._before_read = before_read
        self._advance = advance
        self._failed = failed

    def read(self, size: int = -1) -> bytes:
        self._before_read()
        try:
            data: bytes = self._read(size)
        except OSError as error:
            self._failed(error)
            return b""
        self._advance(len(data))
        return data
