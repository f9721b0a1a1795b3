"""What is said and counted when events do not get where they should.

Every event that a backend fails to pass on is counted, by the reason. What is written to the
process's own log is bounded: of one reason at most one report a minute, which names the first
events and says how many more there were since the last one. Upstream reports each failure, so a
full disk fills the other disk, too.

Source: audit specification section 6.5; upstream ``pkg/audit/metrics.go`` (HandlePluginError).
"""

import logging
import threading
from collections.abc import Sequence
from enum import StrEnum

from kubewitness.backends.clock import Clock
from kubewitness.codec import encode_legacy
from kubewitness.errors import printable
from kubewitness.event import Event
from kubewitness.metrics import AuditMetrics

REPORT_EVERY = 60.0
"""Seconds between two reports of one reason."""

MOST_NAMED = 20
"""Events that one report names; all are counted."""

_log = logging.getLogger("kubewitness.backends")


class Reason(StrEnum):
    """Why an event was not delivered: the label ``reason`` of the metric of dropped events."""

    BUFFER_FULL = "buffer_full"
    SHUT_DOWN = "shut_down"
    DEADLINE = "deadline"
    NOT_ACCEPTED = "not_accepted"
    WRITE_FAILED = "write_failed"
    TOO_LARGE = "too_large"
    UNENCODABLE = "unencodable"
    BUG = "bug"


class Failures:
    """Counts and reports the failures of one backend.

    Args:
        plugin: Upstream's name of what failed: ``log``, ``webhook``, ``buffered``, ``truncate``.
        backend: The end that the events did not reach: ``log`` or ``webhook``.
        metrics: Where they are counted.
        clock: Tells when the next report is due.
    """

    def __init__(self, plugin: str, *, backend: str, metrics: AuditMetrics, clock: Clock) -> None:
        self._plugin = plugin
        self._backend = backend
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._reported: dict[Reason, float] = {}
        self._unreported: dict[Reason, int] = {}

    def __call__(self, events: Sequence[Event], reason: Reason, error: str) -> None:
        """Take note of events that were not passed on.

        Args:
            events: Which ones.
            reason: Why, for the metrics.
            error: Why, as a sentence.
        """
        if not events:
            return
        self._metrics.errors.labels(self._plugin).inc(len(events))
        self._metrics.dropped.labels(self._backend, reason).inc(len(events))
        with self._lock:
            now = self._clock.monotonic()
            if now - self._reported.get(reason, -REPORT_EVERY) < REPORT_EVERY:
                self._unreported[reason] = self._unreported.get(reason, 0) + len(events)
                return
            self._reported[reason] = now
            more = self._unreported.pop(reason, 0)
        _log.error("%s", self._report(events, error) + self._since(more, reason))

    def count(self, number: int, reason: Reason, error: str) -> None:
        """Take note of events that are not known any more, but by their number."""
        if number:
            self._metrics.errors.labels(self._plugin).inc(number)
            self._metrics.dropped.labels(self._backend, reason).inc(number)
            _log.error("audit plugin '%s': %d events are lost: %s", self._plugin, number, error)

    def after_fork(self) -> None:
        """Renew the lock, which a thread of the parent may have held."""
        self._lock = threading.Lock()

    def sum_up(self) -> None:
        """Report what was counted since the last reports; called when a backend ends."""
        with self._lock:
            unreported, self._unreported = self._unreported, {}
        for reason, more in unreported.items():
            _log.error("audit plugin '%s': %s", self._plugin, self._since(more, reason).strip())

    def _report(self, events: Sequence[Event], error: str) -> str:
        named = events[:MOST_NAMED]
        unnamed = len(events) - len(named)
        return (
            f"Error in audit plugin '{self._plugin}' affecting {len(events)} audit events: "
            f"{printable(error)}\nImpacted events:\n{''.join(map(_line, named))}"
            + (f"and {unnamed} more\n" if unnamed else "")
        )

    def _since(self, more: int, reason: Reason) -> str:
        if not more:
            return ""
        return f"{more} events more were lost since the last report ({reason})\n"


def _line(event: Event) -> str:
    try:
        return encode_legacy(event).decode()
    except Exception:
        audit_id, stage = printable(str(event.audit_id)), printable(str(event.stage))
        return f'AUDIT: id="{audit_id}" stage="{stage}"\n'
