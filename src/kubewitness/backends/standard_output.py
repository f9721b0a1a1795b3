"""The process's standard output as a place for lines: nothing is rotated, nothing opened anew."""

from kubewitness.backends.descriptors import write_all
from kubewitness.backends.write_lock import WriteLock
from kubewitness.metrics import AuditMetrics

STANDARD_OUTPUT = 1


class StandardOutput:
    """A descriptor that was there before us, and stays after us.

    Args:
        metrics: Where bytes are counted.
        descriptor: Another one than that of the standard output, for tests.
        lock: Taken for each line if other processes write there, too: a pipe takes a line of more
            than 4096 bytes in pieces, and those of others come in between.
    """

    owed = 0

    def __init__(
        self,
        *,
        metrics: AuditMetrics,
        descriptor: int = STANDARD_OUTPUT,
        lock: WriteLock | None = None,
    ) -> None:
        self._metrics = metrics
        self._descriptor = descriptor
        self._lock = lock
        self._is_torn = False

    def write(self, line: bytes) -> None:
        """Append a line; a torn one before it is ended first."""
        if self._lock is None:
            self._write(line, is_torn=self._is_torn)
            return
        with self._lock as is_held:  # who has the lock instead may be in the middle of a line
            self._write(line, is_torn=self._is_torn or not is_held)

    def _write(self, line: bytes, *, is_torn: bool) -> None:
        written, error = write_all(self._descriptor, b"\n" + line if is_torn else line)
        if error is not None:
            self._is_torn = self._is_torn or written > 0
            raise error
        self._is_torn = False
        self._metrics.bytes_written.inc(written)

    def reopen(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Leave it open: it is not ours."""
        if self._lock is not None:
            self._lock.close()

    def after_fork(self) -> None:
        """Go on: it is shared with the parent as it is, and written to under a lock of our own."""
        if self._lock is not None:
            self._lock.after_fork()

    def settle(self, timeout: float) -> None:
        """Do nothing: there is no background."""
