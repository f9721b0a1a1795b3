"""Keeps events and batches below a size that the receiver can take.

An event that is too large loses what was recorded of its request and response, and says so in an
annotation; one that is still too large is dropped. Unlike upstream's, the annotation is in the
copy that is handed on, never in an event that other backends see.

Source: audit specification section 9; upstream ``plugin/pkg/audit/truncate/truncate.go``.
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from kubewitness.backends.backend import Backend
from kubewitness.backends.clock import Clock
from kubewitness.backends.config import TruncateConfig
from kubewitness.backends.failures import Failures, Reason
from kubewitness.codec import encode
from kubewitness.errors import EncodeError
from kubewitness.event import NO_OBJECT, Event, Level
from kubewitness.metrics import AuditMetrics

TRUNCATED = "audit.k8s.io/truncated"
"""The annotation of an event that lost its objects; its value is ``true``."""

_HAVE_OBJECTS = (Level.REQUEST, Level.REQUEST_RESPONSE)


class TruncateBackend:
    """Hands on events of a bounded size, in batches of a bounded size.

    Args:
        delegate: Gets the batches.
        config: The two bounds; sizes are those of the JSON lines.
        backend: The name of the end in the metrics: ``log`` or ``webhook``.
        metrics: Where truncated and dropped events are counted.
        clock: For the reports of failures.
    """

    def __init__(
        self,
        delegate: Backend,
        config: TruncateConfig,
        *,
        backend: str,
        metrics: AuditMetrics,
        clock: Clock,
    ) -> None:
        self._delegate = delegate
        self._config = config
        self._truncated = metrics.truncated.labels(backend)
        self._failures = Failures("truncate", backend=backend, metrics=metrics, clock=clock)

    def __repr__(self) -> str:
        return f"truncate<{self._delegate!r}>"

    @property
    def waits(self) -> bool:
        """Whether the wrapped backend may wait for the network."""
        return self._delegate.waits

    def process_events(self, events: Sequence[Event]) -> bool:
        """Hand on what fits; an event that does not fit is reported, and is no failed call."""
        too_large: list[Event] = []
        unencodable: list[Event] = []
        batches = self._batches(events, too_large, unencodable)
        answers = [self._delegate.process_events(batch) for batch in batches]
        self._failures(too_large, Reason.TOO_LARGE, "event is too large even after truncating")
        self._failures(unencodable, Reason.UNENCODABLE, "event has no JSON form")
        return all(answers)

    def run(self) -> None:
        """Start the wrapped backend."""
        self._delegate.run()

    def reopen(self) -> None:
        """Have the wrapped backend open its files anew."""
        self._delegate.reopen()

    def after_fork(self) -> None:
        """Have the wrapped backend start afresh."""
        self._failures.after_fork()
        self._delegate.after_fork()

    def shutdown(self, deadline: float) -> None:
        """End the wrapped backend."""
        self._delegate.shutdown(deadline)
        self._failures.sum_up()

    def _batches(
        self, events: Sequence[Event], too_large: list[Event], unencodable: list[Event]
    ) -> Iterator[list[Event]]:
        batch: list[Event] = []
        total = 0
        for event in events:
            try:
                fitted, size = self._fit(event)
            except EncodeError:
                unencodable.append(event)
                continue
            if size > self._config.max_event_size:
                too_large.append(event)
                continue
            if batch and total + size > self._config.max_batch_size:
                yield batch
                batch, total = [], 0
            batch.append(fitted)
            total += size
        if batch:
            yield batch

    def _fit(self, event: Event) -> tuple[Event, int]:
        """Return the event, without its objects if it is too large with them, and its size."""
        size = len(encode(event))
        if size <= self._config.max_event_size or event.level not in _HAVE_OBJECTS:
            return event, size
        self._truncated.inc()
        trimmed = replace(
            event,
            request_object=NO_OBJECT,
            response_object=NO_OBJECT,
            annotations={**event.annotations, TRUNCATED: "true"},
        )
        return trimmed, len(encode(trimmed))
