"""Time as an argument: backends are given a clock, and tests one that they turn by hand."""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What a backend knows of time."""

    def now(self) -> int:
        """Return Unix time in nanoseconds, for names and ages."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards, for waiting."""

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait until the condition, which the caller holds, is notified or the time is over.

        May return early, as conditions do: look again at what is waited for.

        Args:
            condition: Released while waiting.
            timeout: Seconds; None waits for the condition only.
        """


class SystemClock:
    """The machine's own clocks."""

    now = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait on the condition, at most `timeout` seconds (and 292 years)."""
        condition.wait(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
