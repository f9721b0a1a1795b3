"""What the arguments name: policies, and files, directories or standard input full of events."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

import click
from rich.console import Console
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
    bundled = {policy.name: policy.data for policy in bundled_policies()}
    if name == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    if name in bundled and not Path(name).is_file():
        return bundled[name]
    try:
        return Path(name).read_bytes()
    except FileNotFoundError:
        fail(f"{name}: no such file, and no bundled policy (these are: {', '.join(bundled)})")
    except OSError as error:
        fail(f"{name}: {error.strerror}")


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
            task = progress.add_task(name, total=size) if progress else None

            def advance(count: int, task: object = task) -> None:
                if progress is not None:
                    progress.advance(task, count)  # type: ignore[arg-type]

            with stream:
                watched = cast("BinaryIO", _WatchedStream(stream, before_read, advance))
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
    path = Path(name)
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        reporter(Problem(click.format_filename(name), 0, 0, "", "is a directory without files"))
    return files


def _progress(stack: ExitStack) -> Progress | None:
    """Show progress when somebody watches, and the output does not go to the same terminal."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        return None
    return stack.enter_context(Progress(console=Console(stderr=True), transient=True))


class _WatchedStream:
    """A binary stream that gives what there is, so that a live log is not held back."""

    def __init__(
        self, stream: BinaryIO, before_read: Callable[[], None], advance: Callable[[int], None]
    ) -> None:
        self._read = getattr(stream, "read1", stream.read)
        self._before_read = before_read
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        self._before_read()
        data: bytes = self._read(size)
        self._advance(len(data))
        return data
