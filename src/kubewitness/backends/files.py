"""The file that lines are appended to: rotated by size, and watched, for others move it too.

When a file is rotated is lumberjack's rule, to the byte: before the first write when the file
would reach its size, before later ones when it would exceed it. What lumberjack does not do:

- *Somebody moves or removes the file* (logrotate). After a write, but at most once a millisecond,
  the path is compared with the open file; if it leads elsewhere, it is opened anew. What went into
  a file that is removed since the last look is read back and written again, so none is lost by
  that; lines in a file that was only renamed are in good hands.
- *A write ends half-way* (full disk). What was written of the line is taken back. Where that cannot
  be, as on a pipe, the next line starts with a line break, so the torn one costs only itself.

Not thread-safe: the backend has a lock.

Source: audit specification sections 6.6 and 6.7.
"""

import errno
import logging
import os
import stat
from pathlib import Path
from typing import NoReturn, Protocol

from kubewitness.backends.clock import Clock
from kubewitness.backends.descriptors import (
    ends_torn,
    make_directories,
    opened,
    read_from,
    size_at,
    state_of,
    write_all,
)
from kubewitness.backends.rotation import Cleaner, backup_path
from kubewitness.backends.write_lock import WriteLock
from kubewitness.metrics import AuditMetrics

MEGABYTE = 1024 * 1024

_PRIVATE = 0o600
_CHECK_EVERY = 0.001
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_log = logging.getLogger("kubewitness.backends")


class LineFile(Protocol):
    """Where lines go."""

    @property
    def owed(self) -> int:
        """How many lines went into a file that is no more, and are in no other yet."""

    def write(self, line: bytes) -> None:
        """Append a line, newline included.

        Raises:
            OSError: It could not be written; the next one may be tried.
        """

    def reopen(self) -> None:
        """See whether the file has been moved, and go on in a new one then."""

    def close(self) -> None:
        """Write no more.

        Raises:
            OSError: A line that was written before is lost.
        """

    def after_fork(self) -> None:
        """Start afresh in a child process."""

    def settle(self, timeout: float) -> None:
        """Wait for what runs in the background, at most some seconds; any thread may call it."""


class RotatedFile:
    """A file at a path.

    Args:
        path: Where it is; it and its directories are made at once if they are missing.
        max_bytes: At this size it is rotated; 0 never rotates it.
        cleaner: Told after the first opening and after every rotation.
        metrics: Where bytes, rotations and reopenings are counted.
        clock: For the names of rotated files.
        lock: If other processes write to it and rotate it, too, the lock that they all take: each
            write is then done under it, in the file that is at the path at that moment. A line that
            cannot have the lock in time is appended without, and rotates nothing.

    Raises:
        OSError: The file cannot be made or opened.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        cleaner: Cleaner,
        metrics: AuditMetrics,
        clock: Clock,
        lock: WriteLock | None = None,
    ) -> None:
        self._path = path
        self._max_bytes = self._limit = max_bytes
        self._cleaner = cleaner
        self._metrics = metrics
        self._clock = clock
        self._descriptor = -1
        self._identity = (0, 0)
        self._size = 0
        self._is_torn = False
        self._is_alone = True
        self._sure = 0
        self._uncounted = 0
        self._owed = b""
        self._checked_at = clock.monotonic()
        make_directories(path.parent, 0o700)
        os.close(opened(path, _PRIVATE))
        self._lock = lock
        if lock is not None:
            lock.open()

    @property
    def owed(self) -> int:
        """How many lines went into a file that was removed, and wait to be written again."""
        return self._owed.count(b"\n")

    def write(self, line: bytes) -> None:
        """Append a line, after rotating the file if it is time."""
        if self._lock is None:
            self._write(line)
            return
        with self._lock as is_held:
            self._limit = self._max_bytes if is_held else 0
            self._is_alone = is_held
            if self._descriptor >= 0:
                self._check()
            self._write(line)
            if is_held:
                self._keep()

    def _keep(self) -> None:
        """Be sure of what is in a file that has a name: another process removes it only packed."""
        if os.fstat(self._descriptor).st_nlink:
            self._sure = self._size

    def _write(self, line: bytes) -> None:
        if self._descriptor < 0 or 0 < self._limit < self._size + len(line):
            self._make_room(len(line))
        self._append(line)
        if self._clock.monotonic() - self._checked_at >= _CHECK_EVERY:
            self._check()

    def reopen(self) -> None:
        """Look where the path leads now, without waiting for the next write."""
        if self._descriptor >= 0:
            self._check()

    def close(self) -> None:
        """Close the file, after a last look at where it is."""
        try:
            self.reopen()
        finally:
            self._close()
            if self._lock is not None:
                self._lock.close()

    def after_fork(self) -> None:
        """Clean up by a thread of our own; the open file is shared with the parent."""
        self._cleaner.after_fork()
        if self._lock is not None:
            self._lock.after_fork()

    def settle(self, timeout: float) -> None:
        """Let the clean-up end, if it does within some seconds."""
        self._cleaner.wait(timeout)

    def _make_room(self, length: int) -> None:
        """Open the file if it is not open, and rotate it if this many bytes are too much."""
        if 0 < self._limit < length:
            message = f"write length {length} exceeds maximum file size {self._limit}"
            raise OSError(errno.EFBIG, message)
        if self._descriptor < 0:
            self._open_first(length)
            return
        self._check()  # it is renamed only if it is still ours
        if self._size + length > self._limit:
            self._rotate()

    def _open_first(self, length: int) -> None:
        """Open what is at the path, but rotate it first if this line would fill it."""
        make_directories(self._path.parent, 0o755)
        if self._limit and size_at(self._path) + length >= self._limit:
            self._rotate()
        else:
            self._open_old()
            self._cleaner.start()
        self._pay()

    def _open_old(self) -> None:
        """Open what is at the path; what does not open is moved out of the way, if we may rotate.

        That is lumberjack's way: a file whose mode was changed costs no event.
        """
        try:
            self._open()
        except OSError:
            if not self._limit:
                raise
            self._rotate()

    def _open(self, model: os.stat_result | None = None) -> None:
        """Open the file; if it has to be made, with the mode and owner of another one."""
        mode = _PRIVATE if model is None else stat.S_IMODE(model.st_mode)
        descriptor = opened(self._path, mode)
        if model is not None:
            self._give(descriptor, model)
        state = os.fstat(descriptor)
        self._descriptor = descriptor
        self._identity = (state.st_dev, state.st_ino)
        self._size = self._sure = state.st_size
        self._is_torn = state.st_size > 0 and ends_torn(self._path)

    def _give(self, descriptor: int, model: os.stat_result) -> None:
        """Give a file to the owner of another one; an event is not lost over that."""
        try:
            os.fchown(descriptor, model.st_uid, model.st_gid)
        except OSError as error:
            _log.warning("%s cannot get its owner back: %s", self._path, error.strerror)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _rotate(self) -> None:
        """Give the file its final name, and go on in a new one of the same mode and owner."""
        self._close()
        state = state_of(self._path)
        if state is not None:
            self._path.rename(backup_path(self._path, self._clock.now()))
            self._metrics.rotations.inc()
        self._open(state)
        self._cleaner.start()

    def _append(self, line: bytes) -> None:
        if self._is_torn:
            line = b"\n" + line
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            self._fail(0, error)
        if written < len(line):
            written, fault = write_all(self._descriptor, line, written)
            if fault is not None:
                self._fail(written, fault)
        self._size += written
        self._uncounted += written
        self._is_torn = False

    def _fail(self, written: int, error: OSError) -> NoReturn:
        """Raise the error of a write that ended half-way, with the half taken back if possible."""
        if written and not self._take_back(written):
            self._size += written
            self._is_torn = True
        if error.errno not in _FULL:  # the file may be at fault: the next write opens it anew
            self._close()
        raise error

    def _take_back(self, count: int) -> bool:
        """Remove the bytes just written, unless somebody else writes here, too."""
        if not self._is_alone:
            return False
        try:
            state = os.fstat(self._descriptor)
            if not stat.S_ISREG(state.st_mode) or state.st_size != self._size + count:
                return False
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            return False
        return True

    def _check(self) -> None:
        """See that the open file is the one at the path; if not, go on in that one."""
        self._checked_at = self._clock.monotonic()
        self._metrics.bytes_written.inc(self._uncounted)
        self._uncounted = 0
        try:
            state = state_of(self._path)
        except OSError:  # not to be seen: as long as the open file takes lines, it gets them
            return
        if state is not None and (state.st_dev, state.st_ino) == self._identity:
            self._size = self._sure = state.st_size  # somebody may have emptied it
        else:
            self._follow()

    def _follow(self) -> None:
        """Leave the open file for the one at the path, which is made if there is none."""
        left = self._descriptor
        state = os.fstat(left)
        if state.st_nlink == 0 and self._sure < self._size:
            self._owed += read_from(left, self._sure)
            self._sure = self._size
        try:
            make_directories(self._path.parent, 0o755)
            self._open(state if state_of(self._path) is None else None)
        except OSError:
            if state.st_nlink:  # a file that was only renamed keeps what it gets
                return
            self._close()
            raise
        os.close(left)
        if self._lock is not None:
            self._lock.renew()
        self._metrics.reopened.inc()
        self._pay()

    def _pay(self) -> None:
        """Write again what went into a file that was removed."""
        if self._owed:
            self._append(self._owed)
            self._owed = b""
