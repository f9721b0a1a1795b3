"""A backend that keeps what it is given, and fails or hangs on demand: for tests of wrappers."""

import threading
from collections.abc import Sequence

from clocks import SOON
from kubewitness.event import Event, Level, Stage


def event(number: int, **fields: object) -> Event:
    """Return an event that is told from others by its id."""
    return Event(
        level=Level.METADATA,
        audit_id=str(number),
        stage=Stage.RESPONSE_COMPLETE,
        request_received_timestamp="2026-11-24T00:24:42.201657Z",
        stage_timestamp="2026-11-24T00:24:42.201657Z",
        **fields,  # type: ignore[arg-type]
    )


def events(*numbers: int) -> list[Event]:
    return [event(number) for number in numbers]


class CollectingBackend:
    """Keeps batches; `gate` closed, it hangs; `answer` is what it says of a batch."""

    def __init__(self, *, answer: bool = True, name: str = "collecting") -> None:
        self.answer = answer
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[str]] = []
        self.received: list[Event] = []
        self.calls: list[str] = []
        self.deadline = 0.0
        self.most_at_once = 0
        self.waits = False
        self._name = name
        self._at_once = 0
        self._changed = threading.Condition()

    def __repr__(self) -> str:
        return self._name

    def process_events(self, events: Sequence[Event]) -> bool:
        with self._changed:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.calls.append("process_events")
            self._changed.notify_all()
        assert self.gate.wait(SOON)
        with self._changed:
            self._at_once -= 1
            self.batches.append([each.audit_id for each in events])
            self.received.extend(events)
            self._changed.notify_all()
        return self.answer

    def run(self) -> None:
        self.calls.append("run")

    def reopen(self) -> None:
        self.calls.append("reopen")

    def after_fork(self) -> None:
        self.calls.append("after_fork")

    def shutdown(self, deadline: float) -> None:
        self.calls.append("shutdown")
        self.deadline = deadline

    def until_at_once(self, count: int) -> None:
        """Wait until so many calls hang."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._at_once >= count, SOON)

    def until_batches(self, count: int) -> None:
        """Wait until so many batches are there."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.batches) >= count, SOON)
