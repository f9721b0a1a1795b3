"""The whole way out: a policy, the backends behind it, and their counters.

What makes events (middleware, proxy, your own server) holds one of these. `options` builds it.
"""

import atexit
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self
from weakref import WeakSet

from kubewitness.backends.backend import Backend
from kubewitness.backends.clock import Clock
from kubewitness.event import Event
from kubewitness.metrics import AuditMetrics
from kubewitness.policy import Policy

_log = logging.getLogger("kubewitness.backends")


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

    A program that ends without `shutdown` still delivers what is pending. Build it in the process
    that uses it: threads do not outlive a fork, so in a child process it refuses events, and says
    so.

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
        atexit.register(self.shutdown)
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
        with self._lock:
            has_ended, self._has_ended = self._has_ended, True
        if has_ended:
            return
        atexit.unregister(self.shutdown)
        if self.backend is not None:
            seconds = self._shutdown_timeout if timeout is None else timeout
            self.backend.shutdown(self._clock.monotonic() + seconds)

    def _refuse(self) -> None:
        """Take no part in a child process, whose copies of threads and locks are dead."""
        self._has_ended = True
        self._lock = threading.Lock()
        if self.backend is not None:
            self.backend = _Refusing(self.backend)

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


class _Refusing:
    """What stands in a child process for the backends of its parent.

    It keeps them alive: they share sockets with the parent, which nobody here must close.
    """

    waits = False

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __repr__(self) -> str:
        return "nowhere"

    def process_events(self, events: Sequence[Event]) -> bool:
        _log.error(
            "%d audit events are lost: the pipeline was started before the process forked; "
            "build and start it in the child",
            len(events),
        )
        return False

    def run(self) -> None:
        pass

    def reopen(self) -> None:
        pass

    def shutdown(self, deadline: float) -> None:
        pass


_running: WeakSet[Pipeline] = WeakSet()


def _refuse_all() -> None:
    for pipeline in tuple(_running):
        pipeline._refuse()  # noqa: SLF001 - it is this module's


os.register_at_fork(after_in_child=_refuse_all)
