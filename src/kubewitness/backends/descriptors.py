"""What a log asks of the operating system: to open, write, read back and look; no rules here."""

import errno
import os
import select
import stat
from contextlib import suppress
from pathlib import Path

_FLAGS = os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def opened(path: Path, mode: int) -> int:
    """Open a file for appending, and for reading back what was appended if that is allowed.

    A pipe (``/dev/stdout`` may be one) is for writing only: with a reader of our own it would fill
    up and hang us, instead of telling us that its reader has gone.
    """
    state = state_of(path)
    if state is None or stat.S_ISREG(state.st_mode):
        with suppress(PermissionError):
            return os.open(path, _FLAGS | os.O_RDWR, mode)
    return os.open(path, _FLAGS | os.O_WRONLY, mode)


def read_from(descriptor: int, start: int) -> bytes:
    """Return what is in an open file from a place on; nothing if it may not be read."""
    try:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, size - start, start) if start < size else b""
    except OSError:
        return b""


def write_all(descriptor: int, data: bytes, written: int = 0) -> tuple[int, OSError | None]:
    """Write everything from a place on; return how far that went, and why it went no further."""
    while written < len(data):
        try:
            written += os.write(descriptor, data[written:])
        except BlockingIOError:  # somebody made our standard output non-blocking
            select.select((), (descriptor,), ())
        except OSError as error:
            return written, error
    return written, None


def state_of(path: Path) -> os.stat_result | None:
    """Return what is known of a file; None if there is none."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def size_at(path: Path) -> int:
    """Return the size of a file; 0 if there is none."""
    state = state_of(path)
    return 0 if state is None else state.st_size


def ends_torn(path: Path) -> bool:
    """Return whether a file ends within a line: somebody died while writing it."""
    try:
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # not to be read, or empty meanwhile
        return False


def make_directories(path: Path, mode: int) -> None:
    """Make a directory and those above it, all with this mode, as Go's ``MkdirAll`` does."""
    if path.is_dir():
        return
    make_directories(path.parent, mode)
    try:
        path.mkdir(mode=mode, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
