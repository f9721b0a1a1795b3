"""What rotated log files are called, and which of them are removed or compressed.

Names, order and rules are lumberjack's 2.2.1, so that tools for kube-apiserver's logs find what
they expect: ``audit.log`` becomes ``audit-2026-11-24T00-37-23.869.log``, in UTC. Not here: when a
file is rotated (`files`).

Better than lumberjack: the name of a file that is there is never given again (two rotations in one
millisecond overwrite a file there), a gzip is whole before it has its name, and what fails while
cleaning up is logged.

Source: audit specification section 6.7; upstream ``gopkg.in/natefinch/lumberjack.v2``.
"""

import errno
import fcntl
import gzip
import logging
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from kubewitness.backends.clock import Clock
from kubewitness.backends.write_lock import lock_file

_log = logging.getLogger("kubewitness.backends")

_MILLISECOND = 1_000_000
_DAY = 86_400 * 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Go takes an hour of one digit, and a comma for the point.
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d?)-(\d\d)-(\d\d)[.,](\d{3})", re.ASCII)
_GZIP = ".gz"
_TOKEN = re.compile(r"[0-9a-f]{16}", re.ASCII)
_PACKING = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC


class Backup(NamedTuple):
    """A rotated file.

    Attributes:
        time: When it was rotated, by its name; Unix time in nanoseconds.
        path: Where it is.
    """

    time: int
    path: Path

    @property
    def is_compressed(self) -> bool:
        """Whether it is the compressed form of the file."""
        return self.path.name.endswith(_GZIP)

    @property
    def plain_name(self) -> str:
        """Its name without the ending of compression."""
        return self.path.name.removesuffix(_GZIP)


def backup_path(path: Path, now: int) -> Path:
    """Return what a log is renamed to: the first free name of now and the milliseconds after it."""
    while True:
        moment = _EPOCH + timedelta(milliseconds=now // _MILLISECOND)
        text = moment.strftime("%Y-%m-%dT%H-%M-%S.") + f"{moment.microsecond // 1000:03}"
        stem, extension = _split(path)
        candidate = path.with_name(f"{stem}-{text}{extension}")
        if not (os.path.lexists(candidate) or os.path.lexists(f"{candidate}{_GZIP}")):
            return candidate
        now += _MILLISECOND


def backups_of(path: Path) -> list[Backup]:
    """Return the rotated files of a log, the newest first; whatever has another name is no part."""
    stem, extension = _split(path)
    found = []
    for entry in os.scandir(path.parent):
        time = _time_of(entry.name, f"{stem}-", extension)
        if time is not None and not entry.is_dir(follow_symlinks=False):
            found.append(Backup(time, Path(entry.path)))
    return sorted(found, key=lambda backup: (backup.time, backup.path.name), reverse=True)


def surplus(
    backups: Sequence[Backup], *, max_backups: int, max_age: int, now: int
) -> Iterator[Backup]:
    """Yield the rotated files that are too many or too old.

    Args:
        backups: The newest first.
        max_backups: How many are kept; a file and its compressed form are one. 0 keeps all.
        max_age: Days; 0 keeps all.
        now: Unix time in nanoseconds.
    """
    names: set[str] = set()
    for backup in backups:
        names.add(backup.plain_name)
        is_too_much = 0 < max_backups < len(names)
        if is_too_much or (max_age > 0 and backup.time < now - max_age * _DAY):
            yield backup


def compress(path: Path) -> None:
    """Replace a file by its gzip, with the same mode and owner.

    The gzip has a name of its own until it is whole: whoever dies or finds the disk full on the way
    leaves the file as it was.

    Raises:
        OSError: That failed; the file is still there then.
    """
    target = path.with_name(path.name + _GZIP)
    packed = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        _pack(path, packed)
        if target.is_file():  # somebody died while writing it; its mode stays, as with lumberjack
            packed.chmod(stat.S_IMODE(target.stat().st_mode))
        packed.rename(target)
    except OSError:
        packed.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)


def _pack(path: Path, target: Path) -> None:
    """Make the gzip of a file, which fails if the file grows meanwhile."""
    with path.open("rb") as source:
        state = os.fstat(source.fileno())
        # Made with its mode: nobody may open it before it has one.
        packing = os.open(target, _PACKING, stat.S_IMODE(state.st_mode))
        with os.fdopen(packing, "wb") as raw:
            os.fchown(raw.fileno(), state.st_uid, state.st_gid)
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                shutil.copyfileobj(source, packed)
        if os.fstat(source.fileno()).st_size != source.tell():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def remnants_of(path: Path) -> list[Path]:
    """Return the unfinished gzips beside a log; if nobody compresses now, their makers died."""
    stem, extension = _split(path)
    found = []
    for entry in os.scandir(path.parent):
        name, _, token = entry.name.rpartition(".")
        is_ours = name.startswith(".") and name.endswith(_GZIP) and _TOKEN.fullmatch(token)
        if is_ours and _time_of(name[1:], f"{stem}-", extension) is not None:
            found.append(Path(entry.path))
    return found


class Cleaner:
    """Removes and compresses rotated files, in a thread of its own.

    Args:
        path: The log.
        max_backups: As `surplus`.
        max_age: As `surplus`.
        is_compressing: Whether rotated files are compressed.
        clock: Tells how old they are.
        is_shared: Whether other processes clean up, too: then they do so one after the other.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_backups: int,
        max_age: int,
        is_compressing: bool,
        clock: Clock,
        is_shared: bool = False,
    ) -> None:
        self._path = path
        self._max_backups = max_backups
        self._max_age = max_age
        self._is_compressing = is_compressing
        self._clock = clock
        self._is_shared = is_shared
        self._lock = -1
        self._changed = threading.Condition()
        self._is_due = False
        self._worker: threading.Thread | None = None

    def start(self) -> None:
        """Clean up soon; while that is under way, once more after it."""
        if not (self._max_backups or self._max_age or self._is_compressing):
            return
        with self._changed:
            self._is_due = True
            if self._worker is None:
                self._begin()

    def _begin(self) -> None:
        worker = threading.Thread(target=self._work, name="audit-log", daemon=True)
        try:
            worker.start()
        except RuntimeError as error:  # the next rotation, or the next process, does it
            if "interpreter shutdown" not in str(error):
                _log.warning("cannot clean up beside %s: %s", self._path, error)
        else:
            self._worker = worker

    def after_fork(self) -> None:
        """Forget the parent's thread, which is not here to end what it began."""
        self._changed = threading.Condition()
        self._worker = None
        self._leave()

    def wait(self, timeout: float) -> None:
        """Wait until nothing is left to be done, at most some seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._worker is None, timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._is_due:
                    self._worker = None
                    self._changed.notify_all()
                    return
                self._is_due = False
            self._clean()

    def _clean(self) -> None:
        """Clean up, as the only one of all processes that do."""
        try:
            if self._is_shared:
                self._lock = lock_file(self._path, "cleaning")
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._sweep()
        except OSError as error:
            _log.warning("cannot clean up beside %s: %s", self._path, error.strerror)
        finally:
            self._leave(fcntl.LOCK_UN)

    def _leave(self, operation: int | None = None) -> None:
        """Close the lock; unlock it, too, for a child forked meanwhile may have it open."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            if operation is not None:
                fcntl.flock(lock, operation)
            os.close(lock)

    def _sweep(self) -> None:
        backups = backups_of(self._path)
        limits = {"max_backups": self._max_backups, "max_age": self._max_age}
        removed = list(surplus(backups, **limits, now=self._clock.now()))
        for path in (*remnants_of(self._path), *(backup.path for backup in removed)):
            self._try(path, "removed", lambda path: path.unlink(missing_ok=True))
        for backup in backups:
            if self._is_compressing and backup not in removed and not backup.is_compressed:
                self._try(backup.path, "compressed", compress)

    def _try(self, path: Path, done: str, action: Callable[[Path], None]) -> None:
        try:
            action(path)
        except OSError as error:
            _log.warning("%s cannot be %s: %s", path, done, error.strerror)


def _split(path: Path) -> tuple[str, str]:
    """Return a name before and from its last dot."""
    stem, dot, extension = path.name.rpartition(".")
    return (stem, dot + extension) if dot else (path.name, "")


def _time_of(name: str, prefix: str, extension: str) -> int | None:
    """Return the time in the name of a rotated file; None for any other name."""
    for ending in (extension, extension + _GZIP):
        if name.startswith(prefix) and name.endswith(ending):
            match = _TIME.fullmatch(name[len(prefix) : len(name) - len(ending)])
            if match is not None:
                return _nanoseconds(match)
    return None


def _nanoseconds(match: re.Match[str]) -> int | None:
    *parts, millisecond = map(int, match.groups())
    try:
        since = datetime(*parts, tzinfo=UTC) - _EPOCH  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    seconds = since.days * 86_400 + since.seconds
    return (seconds * 1000 + millisecond) * _MILLISECOND
