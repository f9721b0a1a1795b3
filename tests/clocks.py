"""Clocks that tests turn by hand, so that hours pass in milliseconds."""

import threading
import time
from collections.abc import Callable

SOON = 10.0
"""Real seconds after which a test that waits for a thread fails; never waited for in full."""


class HandClock:
    """Stands still until `advance`; whoever waits on it is woken when their time has come.

    With `jumping`, a wait with a timeout takes no time at all: the clock goes on by it at once.
    """

    def __init__(self, *, start: int = 1_764_000_000_000_000_000, jumping: bool = False) -> None:
        self.jumping = jumping
        self.waits: list[float] = []
        self._start = start
        self._elapsed = 0.0
        self._waiting: dict[int, tuple[threading.Condition, float | None]] = {}
        self._changed = threading.Condition()

    def now(self) -> int:
        return self._start + round(self._elapsed * 1e9)

    def monotonic(self) -> float:
        return self._elapsed

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        if timeout is not None:
            self.waits.append(timeout)
            if timeout <= 0:
                return
            if self.jumping:
                self._elapsed += timeout
                return
        due = None if timeout is None else self._elapsed + timeout
        with self._changed:
            self._waiting[threading.get_ident()] = (condition, due)
            self._changed.notify_all()
        condition.wait(SOON)
        with self._changed:
            self._waiting.pop(threading.get_ident(), None)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake those whose wait is over."""
        with self._changed:
            self._elapsed += seconds
            over = [
                thread
                for thread, (_, due) in self._waiting.items()
                if due is not None and due <= self._elapsed
            ]
            woken = [self._waiting.pop(thread)[0] for thread in over]
        for condition in woken:
            with condition:
                condition.notify_all()

    def turn_to(self, now: int) -> None:
        """Set Unix time, in nanoseconds; no other time passes by that."""
        self._start = now - round(self._elapsed * 1e9)

    def until_waiting(self, *, timed: bool = False, count: int = 1) -> None:
        """Wait, in real time, until so many threads wait on this clock."""
        give_up = time.monotonic() + SOON
        with self._changed:
            while count > sum(due is not None or not timed for _, due in self._waiting.values()):
                assert time.monotonic() < give_up, f"fewer than {count} threads wait on the clock"
                self._changed.wait(0.1)


def until(is_so: Callable[[], bool], seconds: float = 2 * SOON) -> None:
    """Wait, in real time, until something is true that nobody tells of, as of other processes."""
    give_up, pause = time.monotonic() + seconds, threading.Event()
    while not is_so():
        assert time.monotonic() < give_up, "it did not become true"
        pause.wait(0.01)
