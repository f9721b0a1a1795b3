"""Remembers what it is costly to ask, for a bounded time, and asks once for many who wait.

However many ask for different things, only so many questions are under way at once, and one that
nobody waits for any more is given up.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_Answer = TypeVar("_Answer")


_MOST_AT_ONCE = 64


class _Question(Generic[_Answer]):
    """A question under way."""

    def __init__(self, task: "asyncio.Task[_Answer]") -> None:
        self.task = task
        self.waiting = 0
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen by nobody


class Memory(Generic[_Answer]):
    """Answers by key.

    Args:
        seconds: How long an answer is remembered, by the answer.
        limit: How many are remembered at most; the oldest go first. Answers that say no (are false)
            are counted by themselves, so that any number of them leaves the others alone.
        now: Seconds on a clock that never goes back.
    """

    def __init__(
        self,
        seconds: Callable[[_Answer], float],
        *,
        limit: int = 4096,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._limit = limit
        self._now = now
        self._known: dict[bytes, tuple[float, _Answer]] = {}
        self._denied: dict[bytes, tuple[float, _Answer]] = {}
        self._asking: dict[bytes, _Question[_Answer]] = {}
        self._turns = asyncio.Semaphore(_MOST_AT_ONCE)

    def __len__(self) -> int:
        return len(self._known) + len(self._denied)

    async def get(self, key: bytes, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return the remembered answer, or ask; who comes meanwhile waits for the same answer.

        Whatever asking raises goes to all who wait, and is not remembered.
        """
        found = self._known.get(key) or self._denied.get(key)
        if found is not None and self._now() < found[0]:
            return found[1]
        question = self._asking.get(key)
        if question is None:
            question = _Question(asyncio.ensure_future(self._ask(key, ask)))
            self._asking[key] = question
        question.waiting += 1
        try:
            return await asyncio.shield(question.task)  # who goes away does not stop the others
        finally:
            question.waiting -= 1
            if not question.waiting:
                question.task.cancel()
                if self._asking.get(key) is question:
                    del self._asking[key]

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        async with self._turns:
            answer = await ask()
        self._remember(key, answer)
        return answer

    def _remember(self, key: bytes, answer: _Answer) -> None:
        self._known.pop(key, None)
        self._denied.pop(key, None)
        kept = self._known if answer else self._denied
        while len(kept) >= self._limit:
            del kept[next(iter(kept))]
        kept[key] = (self._now() + self._seconds(answer), answer)
