"""A lock for each line, taken by all processes that write to one log.

A file beside the log, which only the log's owner can open: whoever can open a file can lock it, so
a directory or a log that others may read would let them stop us. The file is never removed, for a
lock on a file that is gone excludes nobody.

What is no regular file (a pipe, a terminal) is locked itself, by opening it anew: a descriptor that
was inherited has its locks in common with those who inherited it, too. What cannot be opened anew
(a socket, a pipe of another user) has a lock file by its number, in the runtime directory.

Nobody waits for ever: who has the lock may have been stopped in the middle of a line. After a
second without it the line is written all the same, and the log says so.
"""

import errno
import fcntl
import logging
import os
import select
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from kubewitness.backends.clock import Clock

PATIENCE = 1.0

_TURNS = 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.000_05, 0.001
_LITTLE_PATIENCE = 1 / 200
_LOCK_FILE = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_ANEW = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_PRIVATE = 0o600
_EXCLUSIVE = fcntl.LOCK_EX | fcntl.LOCK_NB

_log = logging.getLogger("kubewitness.backends")


class WriteLock:
    """Held within ``with``, which says whether it is; threads need a lock of their own.

    It is opened when it is needed, and by each process for itself.

    Args:
        opening: Opens what is locked.
        name: What is locked, for the log.
        clock: Waits.
        patience: Seconds after which the lock is done without. Only those count in which the output
            takes bytes: while a pipe is full its holder waits, as we would.
        output: Where the lines go, if that is not what is locked.
    """

    def __init__(
        self,
        opening: Callable[[], int],
        *,
        name: str,
        clock: Clock,
        patience: float = PATIENCE,
        output: int | None = None,
    ) -> None:
        self._opening = opening
        self._name = name
        self._clock = clock
        self._patience = patience
        self._output = output
        self._descriptor = -1
        self._is_renewing = False
        self._is_without = False
        self._never = threading.Condition()

    @classmethod
    def of_file(cls, path: Path, *, clock: Clock, patience: float = PATIENCE) -> "WriteLock":
        """Return the lock of the log at a path."""
        return cls(lambda: _opened_for(path), name=str(path), clock=clock, patience=patience)

    @classmethod
    def of_output(cls, descriptor: int, *, clock: Clock, patience: float = PATIENCE) -> "WriteLock":
        """Return the lock of a descriptor that was inherited."""
        return cls(
            lambda: _anew(Path(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)),
            name="standard output",
            clock=clock,
            patience=patience,
            output=descriptor,
        )

    def open(self) -> None:
        """Open it now, to see that this can be done.

        Raises:
            OSError: It cannot.
        """
        self._descriptor = self._opening()

    def __enter__(self) -> bool:
        if self._is_renewing:
            self.close()
        try:
            if self._descriptor < 0:
                self.open()
            fcntl.flock(self._descriptor, _EXCLUSIVE)
        except BlockingIOError:
            return self._wait()
        except OSError as error:
            self._do_without(f"{error.filename or self._name}: {error.strerror}")
            return False
        self._is_without = False
        return True

    def __exit__(self, *_: object) -> None:
        if not self._is_without:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def renew(self) -> None:
        """Open it anew at the next line: the log has been moved, perhaps its directory with it."""
        self._is_renewing = True

    def after_fork(self) -> None:
        """Take the lock apart from the parent's, which a child inherits."""
        self._never = threading.Condition()
        self.close()

    def close(self) -> None:
        """Give up what is locked."""
        descriptor, self._descriptor = self._descriptor, -1
        self._is_renewing = False
        if descriptor >= 0:
            os.close(descriptor)

    def _wait(self) -> bool:
        """Try again until the patience is over, which is short once it has been."""
        patience = self._patience * (_LITTLE_PATIENCE if self._is_without else 1)
        for _ in range(_TURNS):  # who writes a line gives it back within microseconds
            os.sched_yield()
            if self._take():
                self._is_without = False
                return True
        since, pause = self._clock.monotonic(), _FIRST_PAUSE
        while not self._is_free_after(pause):
            if not self._takes_bytes():
                since = self._clock.monotonic()
            elif self._clock.monotonic() - since >= patience:
                self._do_without("another process does not give it back")
                return False
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._is_without = False
        return True

    def _is_free_after(self, pause: float) -> bool:
        with self._never:
            self._clock.wait(self._never, pause)
        return self._take()

    def _take(self) -> bool:
        try:
            fcntl.flock(self._descriptor, _EXCLUSIVE)
        except OSError:
            return False
        return True

    def _takes_bytes(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor if self._output is None else self._output, select.POLLOUT)
        return bool(poll.poll(0))

    def _do_without(self, why: str) -> None:
        if not self._is_without:
            told = "%s: lines are written without the lock, and nothing is rotated: %s"
            _log.warning(told, self._name, why)
        self._is_without = True


def lock_file(path: Path, ending: str) -> int:
    """Open a lock file beside a log, which is made if there is none.

    Raises:
        OSError: That cannot be done, or another user's is there.
    """
    return os.open(path.with_name(f".{path.name}.{ending}"), _LOCK_FILE, _PRIVATE)


def _opened_for(path: Path) -> int:
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):  # moved; it will be made anew
        return lock_file(path, "lock")
    return lock_file(path, "lock") if stat.S_ISREG(state.st_mode) else _anew(path, state)


def _anew(path: Path, state: os.stat_result) -> int:
    """Open what is at a path for its lock, or else a lock file by its number."""
    try:
        return os.open(path, _ANEW)
    except OSError:
        place = _runtime_directory() / f"{state.st_dev:x}-{state.st_ino:x}"
        return lock_file(place, "lock")


def _runtime_directory() -> Path:
    """Return a directory that is ours alone, and the same for all processes that we run."""
    places = (os.environ.get(each, "") for each in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"))
    place = next(filter(None, places), tempfile.gettempdir())
    directory = Path(place.split(":")[0], f"kubewitness-{os.geteuid()}")
    directory.mkdir(mode=_PRIVATE | stat.S_IXUSR, exist_ok=True)
    state = directory.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "it is not ours alone", str(directory))
    return directory
