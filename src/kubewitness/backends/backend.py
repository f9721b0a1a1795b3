"""What every backend can do, and the few types that all of them share."""

from collections.abc import Sequence
from typing import NewType, Protocol

from kubewitness.event import Event

Seconds = NewType("Seconds", float)
"""A span of time in a configuration; flags spell it as a Go duration, ``1m30s``."""


class Backend(Protocol):
    """Takes events and brings them somewhere.

    Backends compose by wrapping; ``repr()`` prints the composition as upstream does, for example
    ``union[ignoreErrors<log>,buffered<webhook>]``. All methods may be called by any thread.

    Source: audit specification section 6.1; upstream ``pkg/audit/types.go``.
    """

    @property
    def waits(self) -> bool:
        """Whether `process_events` may wait for the network: a server's event loop must not."""

    def process_events(self, events: Sequence[Event]) -> bool:
        """Take events. Events never change, so they may be kept.

        Returns:
            Whether all is well. False for the first event of a request means that the request must
            not be served (`recorder.failed_store`). Failures are never raised.
        """

    def run(self) -> None:
        """Start whatever works in the background; called once, before the first request.

        Raises:
            OSError: It cannot work.
        """

    def reopen(self) -> None:
        """Open files anew, because somebody rotated them; may be called by a signal handler."""

    def after_fork(self) -> None:
        """Start afresh in a child process, where threads are gone and locks may be held for ever.

        What is pending is the parent's to deliver.
        """

    def shutdown(self, deadline: float) -> None:
        """Deliver what is pending, and end; what is not delivered by the deadline is reported.

        Args:
            deadline: On the monotonic clock, in seconds.
        """
