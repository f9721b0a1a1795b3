"""Several backends as one: each gets every event, whatever becomes of it in the others.

Source: audit specification section 10; upstream ``pkg/audit/union.go``.
"""

import threading
from collections.abc import Sequence

from kubewitness.backends.backend import Backend
from kubewitness.event import Event


class UnionBackend:
    """Hands events to every backend in order; well only if all of them are.

    Args:
        backends: At least one. They are called in this order.
    """

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = tuple(backends)
        self._rest = self._backends[1:]

    def __repr__(self) -> str:
        return f"union[{','.join(map(repr, self._backends))}]"

    @property
    def waits(self) -> bool:
        """Whether any of them may wait for the network."""
        return any(backend.waits for backend in self._backends)

    def process_events(self, events: Sequence[Event]) -> bool:
        """Hand the events to all, also after one that failed."""
        answers = [backend.process_events(events) for backend in self._backends]
        return all(answers)

    def run(self) -> None:
        """Start all, also after one that does not start.

        Raises:
            ExceptionGroup: With the OSError of each that did not start.
        """
        failed = []
        for backend in self._backends:
            try:
                backend.run()
            except OSError as error:
                failed.append(error)
        if failed:
            raise ExceptionGroup("failed to run the audit backend", failed)

    def reopen(self) -> None:
        """Have all of them open their files anew."""
        for backend in self._backends:
            backend.reopen()

    def after_fork(self) -> None:
        """Have all of them start afresh."""
        for backend in self._backends:
            backend.after_fork()

    def shutdown(self, deadline: float) -> None:
        """End all of them at once, so that one that hangs does not use up the others' time."""
        others = [threading.Thread(target=each.shutdown, args=(deadline,)) for each in self._rest]
        for thread in others:
            try:
                thread.start()
            except RuntimeError:  # no thread left: then one after the other
                thread.run()
        self._backends[0].shutdown(deadline)
        for thread in others:
            if thread.is_alive():
                thread.join()
