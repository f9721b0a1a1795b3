"""Mode ``batch``: events are taken at once, and delivered later and in batches by a thread.

The life of the thread::

    collect a batch ─► wait for a token ─► wait for a free sender ─► send ─► collect …
          │ shutdown
          └─► send what was collected ─► close the buffer ─► send the rest, in full batches ─► end

Taking an event never waits: when the buffer is full, it is dropped, counted and named. A batch is
collected when it is full, or `max_wait` after the collecting began (not after its first event).

Upstream sends every batch of a webhook in a thread of its own and does not count them; while the
webhook is away they pile up until the API server is out of memory. Here at most `in_flight` are
sent at once, and then the buffer fills.

Source: audit specification section 7; upstream ``plugin/pkg/audit/buffered/buffered.go``.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence

from kubewitness.backends.backend import Backend
from kubewitness.backends.clock import Clock
from kubewitness.backends.config import BatchConfig
from kubewitness.backends.failures import Failures, Reason
from kubewitness.backends.throttle import TokenBucket
from kubewitness.event import Event
from kubewitness.metrics import AuditMetrics

_GRACE = 1.0
_TOO_LATE = "the time to shut down was over before their turn"

_log = logging.getLogger("kubewitness.backends")


class BufferedBackend:
    """Takes events without waiting, and hands them to another backend in batches.

    Events that come before `run` wait in the buffer; those that come after the end are refused.

    Args:
        delegate: Gets the batches.
        config: The sizes of buffer and batches, and the rate of batches.
        backend: The name of the end in the metrics: ``log`` or ``webhook``.
        in_flight: Batches that are sent at once at most, each in a thread of its own; 0 sends one
            after the other.
        metrics: Where queue length and dropped events are counted.
        clock: Tells when a batch is due.
    """

    def __init__(
        self,
        delegate: Backend,
        config: BatchConfig,
        *,
        backend: str,
        metrics: AuditMetrics,
        clock: Clock,
        in_flight: int = 0,
    ) -> None:
        self._delegate = delegate
        self._config = config
        self._clock = clock
        self._most_in_flight = in_flight
        self._failures = Failures("buffered", backend=backend, metrics=metrics, clock=clock)
        # Without a wait there is nothing to wait for but the first event.
        self._enough = config.max_size if config.max_wait > 0 else 1
        self._bucket = TokenBucket(config.throttle_qps, config.throttle_burst, clock.monotonic())
        self._condition = threading.Condition(threading.Lock())
        self._queue: deque[Event] = deque()
        self._collecting = False
        self._closed = False
        self._in_hand: list[Event] = []
        self._in_flight = 0
        self._deadline: float | None = None
        self._worker: threading.Thread | None = None
        metrics.queue_capacity.labels(backend).set(config.buffer_size)
        metrics.queue_length.labels(backend).set_function(lambda: len(self._queue))
        metrics.in_flight.labels(backend).set_function(lambda: self._in_flight)

    def __repr__(self) -> str:
        return f"buffered<{self._delegate!r}>"

    @property
    def waits(self) -> bool:
        """False: the thread waits, not the caller."""
        return False

    def process_events(self, events: Sequence[Event]) -> bool:
        """Take the events that there is room for; False only after the end."""
        with self._condition:
            closed = self._closed
            room = 0 if closed else self._config.buffer_size - len(self._queue)
            self._queue.extend(events if room >= len(events) else events[:room])
            if self._collecting and len(self._queue) >= self._enough:
                self._condition.notify()
        if closed:
            self._failures(events, Reason.SHUT_DOWN, "audit backend shut down")
        elif room < len(events):
            self._failures(events[room:], Reason.BUFFER_FULL, "audit buffer queue blocked")
        return not closed

    def run(self) -> None:
        """Start the delegate and the thread that delivers."""
        self._delegate.run()
        self._start()

    def _start(self) -> None:
        self._worker = threading.Thread(target=self._work, name="audit-batches", daemon=True)
        self._worker.start()

    def reopen(self) -> None:
        """Have the wrapped backend open its files anew."""
        self._delegate.reopen()

    def after_fork(self) -> None:
        """Start a thread of our own, with an empty buffer: the parent delivers what it has."""
        self._condition = threading.Condition(threading.Lock())
        self._queue.clear()
        self._in_flight = 0
        self._in_hand = []
        self._failures.after_fork()
        self._delegate.after_fork()
        if self._worker is not None and not self._closed:
            self._start()

    def shutdown(self, deadline: float) -> None:
        """Deliver what the buffer holds, then end the wrapped backend.

        What is still there at the deadline is dropped, counted and named.
        """
        with self._condition:
            self._deadline = deadline
            self._condition.notify_all()
        if self._worker is None:
            self._work()
        else:  # it keeps the deadline itself, but for a write that hangs in the operating system
            left = max(0.0, deadline - self._clock.monotonic())
            self._worker.join(min(left + _GRACE, threading.TIMEOUT_MAX))
            self._abandon()
        self._delegate.shutdown(deadline)
        self._failures.sum_up()

    def _abandon(self) -> None:
        """Drop what a thread that hangs did not get to."""
        with self._condition:
            self._closed = True
            left = [*self._in_hand[1:], *self._queue]  # the first one is the delegate's to report
            self._queue.clear()
        self._failures(left, Reason.DEADLINE, _TOO_LATE)

    def _work(self) -> None:
        while self._deadline is None:
            self._send(self._collect())
        with self._condition:
            self._closed = True
        while batch := self._take():
            self._send(batch)
        with self._condition:
            while self._in_flight and not self._is_late():
                self._clock.wait(self._condition, self._until(self._deadline))

    def _collect(self) -> list[Event]:
        """Wait until a batch is full or due, or for the end; it may be empty."""
        with self._condition:
            due = self._clock.monotonic() + self._config.max_wait if self._enough > 1 else None
            self._collecting = True
            while len(self._queue) < self._enough and self._deadline is None:
                if due is not None and self._clock.monotonic() >= due:
                    break
                self._clock.wait(self._condition, self._until(due))
            self._collecting = False
        return self._take()

    def _take(self) -> list[Event]:
        with self._condition:
            count = min(len(self._queue), self._config.max_size)
            return [self._queue.popleft() for _ in range(count)]

    def _send(self, batch: list[Event]) -> None:
        if not batch:
            return
        self._wait_for_token()
        if not self._wait_for_sender():
            self._failures(batch, Reason.DEADLINE, _TOO_LATE)
        elif not (self._most_in_flight and self._send_aside(batch)):
            self._in_hand = batch
            self._deliver(batch)
            self._in_hand = []

    def _send_aside(self, batch: list[Event]) -> bool:
        """Send a batch in a thread of its own; False if the machine has none left."""
        try:
            threading.Thread(target=self._deliver, args=(batch,), daemon=True).start()
        except RuntimeError:
            return False
        return True

    def _wait_for_token(self) -> None:
        if not self._config.throttle_enable:
            return
        now = self._clock.monotonic()
        due = now + self._bucket.reserve(now)
        with self._condition:
            while self._clock.monotonic() < due and not self._is_late():
                self._clock.wait(self._condition, self._until(due, self._deadline))

    def _wait_for_sender(self) -> bool:
        """Wait until a batch may be sent, and count it; False when it is too late for that."""
        with self._condition:
            while self._in_flight >= max(self._most_in_flight, 1) and not self._is_late():
                self._clock.wait(self._condition, self._until(self._deadline))
            if self._is_late():
                return False
            self._in_flight += 1
            return True

    def _deliver(self, batch: list[Event]) -> None:
        try:
            self._delegate.process_events(batch)
        except Exception as error:  # the thread must outlive a bug, or nothing more is delivered
            _log.exception("%r failed", self._delegate)
            self._failures(batch, Reason.BUG, repr(error))
        finally:
            with self._condition:
                self._in_flight -= 1
                self._condition.notify_all()

    def _is_late(self) -> bool:
        return self._deadline is not None and self._clock.monotonic() >= self._deadline

    def _until(self, *moments: float | None) -> float | None:
        """Return the seconds until the first of some moments; None for "whenever notified"."""
        known = [moment for moment in moments if moment is not None]
        return max(0.0, min(known) - self._clock.monotonic()) if known else None
