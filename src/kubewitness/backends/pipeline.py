"""The whole way out: a policy, the backends behind it, and their counters.

What makes events (middleware, proxy, your own server) holds one of these. `options` builds it.
"""

import atexit
import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from kubewitness.backends.backend import Backend
from kubewitness.backends.clock import Clock
from kubewitness.event import Event
from kubewitness.metrics import AuditMetrics
from kubewitness.policy import Policy


class Statistics(NamedTuple):
    """A snapshot of a pipeline.

    Attributes:
        events: How many it was given.
        waiting: How many wait in the buffer of ``log`` or ``webhook``.
        dropped: How many were not delivered, by backend and reason.
    """

    events: int
    waiting: Mapping[str, int]
    dropped: Mapping[tuple[str, str], int]


class Pipeline:
    """Takes events and delivers them; used as a context manager, it starts and ends itself.

    A program that ends without `shutdown` still delivers what is pending. In a forked child it
    starts afresh: what was pending at the fork is delivered by the parent.

    Attributes:
        policy: What is recorded; None when none was given, which for a server means nothing.
        backend: Where events go; ``repr()`` of the pipeline prints its composition.
        metrics: The counters of everything in it.

    Args:
        policy: The policy.
        backend: The backend; None when there is no place for events to go.
        metrics: The counters that the backends were built with.
        clock: The clock that the backends were built with.
        shutdown_timeout: Seconds that `shutdown` takes at most unless told otherwise.
    """

    def __init__(
        self,
        policy: Policy | None,
        backend: Backend | None,
        *,
        metrics: AuditMetrics,
        clock: Clock,
        shutdown_timeout: float,
    ) -> None:
        self.policy = policy
        self.backend = backend
        self.metrics = metrics
        self._clock = clock
        self._shutdown_timeout = shutdown_timeout
        self._lock = threading.Lock()
        self._has_ended = False

    def __repr__(self) -> str:
        return "nowhere" if self.backend is None else repr(self.backend)

    def __enter__(self) -> Self:
        self.run()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    @property
    def waits(self) -> bool:
        """Whether `process_events` may wait for the network: call it from a thread then."""
        return self.backend is not None and self.backend.waits

    def process_events(self, events: Sequence[Event]) -> bool:
        """Deliver events, in the way that the backends' modes say. May be called by any thread.

        Returns:
            False when a request must not be served because its first event was not stored
            (mode ``blocking-strict``), or when the pipeline has been shut down.
        """
        self.metrics.events.inc(len(events))
        return self.backend is None or self.backend.process_events(events)

    def run(self) -> None:
        """Start the backends.

        Raises:
            OSError: One of them cannot work.
            ExceptionGroup: Several, or one of several; holds their OSErrors.
        """
        _running.add(self)
        if self.backend is not None:
            self.backend.run()

    def reopen(self) -> None:
        """Open the log file anew; what a handler of SIGHUP calls: logrotate has moved it."""
        if self.backend is not None:
            self.backend.reopen()

    def shutdown(self, timeout: float | None = None) -> None:
        """Deliver what is pending, and end. What could not be delivered is logged and counted.

        This waits, so it is nothing for a signal handler: let that end what makes the events.

        Args:
            timeout: Seconds; the pipeline's own `shutdown_timeout` when None.
        """
        with self._lock:  # who comes second waits, and finds nothing left to do
            if self._has_ended:
                return
            self._has_ended = True
            if self.backend is not None:
                seconds = self._shutdown_timeout if timeout is None else timeout
                self.backend.shutdown(self._clock.monotonic() + seconds)
            _running.discard(self)

    def after_fork(self) -> None:
        """Start afresh in a child process; called by itself after a fork."""
        self._lock = threading.Lock()
        if self.backend is not None:
            self.backend.after_fork()

    def statistics(self) -> Statistics:
        """Return how many events were taken, wait, and were dropped, at this moment."""
        sums = self.metrics.sums
        return Statistics(
            events=int(sum(sums(self.metrics.events).values())),
            waiting={end: int(value) for (end,), value in sums(self.metrics.queue_length).items()},
            dropped={
                (end, reason): int(value)
                for (end, reason), value in sums(self.metrics.dropped).items()
            },
        )


_running: set[Pipeline] = set()


def _shut_down_all() -> None:
    for pipeline in tuple(_running):
        pipeline.shutdown()


def _start_afresh() -> None:
    for pipeline in tuple(_running):
        pipeline.after_fork()


# The usual hook comes too late: name resolution, and in Python 3.12 any new thread, fails there.
getattr(threading, "_register_atexit", atexit.register)(_shut_down_all)
os.register_at_fork(after_in_child=_start_afresh)
