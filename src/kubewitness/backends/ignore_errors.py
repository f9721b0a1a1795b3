"""Mode ``blocking``: the request waits for its events to be delivered, and goes on in any case.

The wrapped backend has counted and reported what failed; only the answer to the caller changes.

Source: audit specification section 6.1; upstream ``pkg/server/options/audit.go``.
"""

from collections.abc import Sequence

from kubewitness.backends.backend import Backend
from kubewitness.event import Event


class IgnoreErrorsBackend:
    """Says that all is well, whatever the wrapped backend says."""

    def __init__(self, delegate: Backend) -> None:
        self._delegate = delegate

    def __repr__(self) -> str:
        return f"ignoreErrors<{self._delegate!r}>"

    @property
    def waits(self) -> bool:
        """Whether the wrapped backend may wait for the network."""
        return self._delegate.waits

    def process_events(self, events: Sequence[Event]) -> bool:
        """Hand the events on, and return True."""
        self._delegate.process_events(events)
        return True

    def run(self) -> None:
        """Start the wrapped backend."""
        self._delegate.run()

    def reopen(self) -> None:
        """Have the wrapped backend open its files anew."""
        self._delegate.reopen()

    def after_fork(self) -> None:
        """Have the wrapped backend start afresh."""
        self._delegate.after_fork()

    def shutdown(self, deadline: float) -> None:
        """End the wrapped backend."""
        self._delegate.shutdown(deadline)
