"""Remembers what it is costly to ask, for a bounded time, and asks once for many who wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_Answer = TypeVar("_Answer")


class Memory(Generic[_Answer]):
    """Answers by key.

    Args:
        seconds: How long an answer is remembered, by the answer.
        limit: How many are remembered at most; the oldest go first.
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
        self._asking: dict[bytes, asyncio.Task[_Answer]] = {}

    def __len__(self) -> int:
        return len(self._known)

    async def get(self, key: bytes, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return the remembered answer, or ask; who comes meanwhile waits for the same answer.

        Whatever asking raises goes to all who wait, and is not remembered.
        """
        found = self._known.get(key)
        if found is not None and self._now() < found[0]:
            return found[1]
        task = self._asking.get(key)
        if task is None:
            task = asyncio.ensure_future(self._ask(key, ask))
            self._asking[key] = task
        return await asyncio.shield(task)  # one who goes away does not stop the others

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        try:
            answer = await ask()
            self._remember(key, answer)
            return answer
        finally:
            del self._asking[key]

    def _remember(self, key: bytes, answer: _Answer) -> None:
        self._known.pop(key, None)
        while len(self._known) >= self._limit:
            del self._known[next(iter(self._known))]
        self._known[key] = (self._now() + self._seconds(answer), answer)
