"""Writes events to a log file or to standard output, a line each.

One write call for each event, so a process that is killed leaves whole lines but at most the last,
and an event that was accepted is in the file. Not here: when the file is rotated (`files`) and
which old ones are kept (`rotation`).

Source: audit specification sections 6.2 to 6.6; upstream ``plugin/pkg/audit/log/backend.go``.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from kubewitness.backends.clock import Clock
from kubewitness.backends.config import LogConfig
from kubewitness.backends.failures import Failures, Reason
from kubewitness.backends.files import MEGABYTE, LineFile, RotatedFile
from kubewitness.backends.rotation import Cleaner
from kubewitness.backends.standard_output import STANDARD_OUTPUT, StandardOutput
from kubewitness.backends.write_lock import WriteLock
from kubewitness.codec import TwoLineWriter, encode, encode_legacy
from kubewitness.errors import EncodeError
from kubewitness.event import Event
from kubewitness.metrics import AuditMetrics

_STANDARD_OUTPUT = "-"
_GRACE = 1.0

_log = logging.getLogger("kubewitness.backends")


class LogBackend:
    """Appends events to a file, in the format that is configured.

    Args:
        config: The file, its format, its rotation.
        metrics: Where bytes and failures are counted.
        clock: For the names and ages of rotated files.
        megabyte: The unit of `LogConfig.maxsize`, for tests that cannot fill a real one.

    Raises:
        OSError: The file, or a directory on the way to it, cannot be made.
        ValueError: The format is none of json, legacy and two-line.
    """

    def __init__(
        self, config: LogConfig, *, metrics: AuditMetrics, clock: Clock, megabyte: int = MEGABYTE
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = Failures("log", backend="log", metrics=metrics, clock=clock)
        self._encode = _encoder(config.format)
        self._file = _file(config, metrics=metrics, clock=clock, megabyte=megabyte)
        self._has_ended = False
        self._is_reopen_due = False

    def __repr__(self) -> str:
        return "log"

    @property
    def waits(self) -> bool:
        """False: a write takes microseconds."""
        return False

    def process_events(self, events: Sequence[Event]) -> bool:
        """Write each event; False if one of them could not be written. The others are."""
        well = True
        for event in events:
            well &= self._write(event)
        return well

    def run(self) -> None:
        """Do nothing: the file is there already."""

    def reopen(self) -> None:
        """Go on in a new file if this one was moved; what fails shows at the next write again.

        A signal handler may call this, also one that interrupts a write: that is not waited for.
        """
        if not self._lock.acquire(blocking=False):
            self._is_reopen_due = True
            return
        try:
            self._file.reopen()
        except OSError as error:
            _log.warning("the audit log cannot be opened anew: %s", _sentence(error))
        finally:
            self._lock.release()

    def after_fork(self) -> None:
        """Renew the lock; the file is shared with the parent, each writes whole lines."""
        self._lock = threading.Lock()
        self._failures.after_fork()
        self._file.after_fork()

    def shutdown(self, deadline: float) -> None:
        """Close the file; a clean-up under way may go on until the deadline."""
        self._has_ended = True
        left = max(_GRACE, deadline - self._clock.monotonic())
        if self._lock.acquire(timeout=min(left, threading.TIMEOUT_MAX)):
            try:
                self._close()
            finally:
                self._lock.release()
        else:
            self._failures.count(1, Reason.DEADLINE, "a write to the audit log hangs")
        self._file.settle(max(0.0, deadline - self._clock.monotonic()))
        self._failures.sum_up()

    def _close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._failures.count(self._file.owed, Reason.WRITE_FAILED, _sentence(error))

    def _write(self, event: Event) -> bool:
        reason, told = Reason.SHUT_DOWN, "the log backend has been shut down"
        try:
            line = self._encode(event)
            with self._lock:
                is_open = not self._has_ended
                if is_open:
                    self._file.write(line)
            if self._is_reopen_due:  # a signal came while the lock was held
                self._is_reopen_due = False
                self.reopen()
            if is_open:
                return True
        except EncodeError as error:
            reason, told = Reason.UNENCODABLE, str(error)
        except OSError as error:
            reason, told = Reason.WRITE_FAILED, _sentence(error)
        self._failures((event,), reason, told)
        return False


def _encoder(log_format: str) -> Callable[[Event], bytes]:
    if log_format == "json":
        return encode
    if log_format == "legacy":
        return _typed(encode_legacy)
    if log_format == "two-line":
        return _typed(_TwoLines())
    raise ValueError(f'unknown log format "{log_format}", write json, legacy or two-line')


def _typed(encode: Callable[[Event], bytes]) -> Callable[[Event], bytes]:
    """Return an encoder of text that refuses events whose fields are of wrong types."""

    def encode_typed(event: Event) -> bytes:
        try:
            return encode(event)
        except (TypeError, ValueError, AttributeError) as error:  # made by hand
            raise EncodeError(f"an event with a field of a wrong type: {error}") from None

    return encode_typed


class _TwoLines:
    """Encodes for several threads at once, for the writer remembers the requests it has seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writer = TwoLineWriter()

    def __call__(self, event: Event) -> bytes:
        with self._lock:
            return self._writer.encode(event)


def _file(config: LogConfig, *, metrics: AuditMetrics, clock: Clock, megabyte: int) -> LineFile:
    if config.path == _STANDARD_OUTPUT:
        lock = WriteLock.of_output(STANDARD_OUTPUT, clock=clock) if config.shared else None
        return StandardOutput(metrics=metrics, lock=lock)
    path, is_rotated = Path(config.path), config.maxsize > 0
    cleaner = Cleaner(
        path,
        max_backups=config.maxbackup if is_rotated else 0,
        max_age=config.maxage if is_rotated else 0,
        is_compressing=config.compress and is_rotated,
        clock=clock,
        is_shared=config.shared,
    )
    return RotatedFile(
        path,
        max_bytes=config.maxsize * megabyte,
        cleaner=cleaner,
        metrics=metrics,
        clock=clock,
        lock=WriteLock.of_file(path, clock=clock) if config.shared else None,
    )


def _sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
