"""A connection that has become something else: websocket, SPDY, whatever both ends agreed on.

Bytes go both ways as they come, with bounded memory: an end that does not take them stops the
other one. When one end closes, what it sent still arrives, then the other end is closed, too.
"""

import asyncio
from collections import deque

from aiohttp.abc import AbstractStreamWriter

_MOST_WAITING = 256 * 1024


class Pipe:
    """One direction; aiohttp's connections feed it as they would feed a websocket's reader.

    Args:
        source: The end that bytes come from; stopped while too many of them wait.
        sink: The end that they go to.
        writer: Writes to the sink, and knows when it is full.
    """

    def __init__(
        self, source: asyncio.Transport, sink: asyncio.Transport, writer: AbstractStreamWriter
    ) -> None:
        self._source = source
        self._sink = sink
        self._writer = writer
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._has_ended = False
        self._is_stopped = False
        self._changed = asyncio.Event()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes; the answer is what a reader says that wants more."""
        self._waiting.append(bytes(data))
        self._size += len(data)
        if self._size > _MOST_WAITING and not self._is_stopped:
            self._is_stopped = True
            self._source.pause_reading()
        self._changed.set()
        return False, b""

    def feed_eof(self) -> None:
        """Note that no more will come."""
        self._has_ended = True
        self._changed.set()

    def is_eof(self) -> bool:
        """Tell whether no more will come."""
        return self._has_ended

    def set_exception(self, error: BaseException, cause: object = None) -> None:  # noqa: ARG002
        """Note that no more will come, because of a fault."""
        self.feed_eof()

    async def run(self) -> None:
        """Pass bytes on until there are no more."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._waiting and not self._sink.is_closing():
                self._pass_on()
                await self._writer.drain()
            if self._sink.is_closing() or (self._has_ended and not self._waiting):
                return
            if self._is_stopped:
                self._is_stopped = False
                self._source.resume_reading()

    def flush(self) -> None:
        """Pass on what is here already, without waiting."""
        while self._waiting and not self._sink.is_closing():
            self._pass_on()

    def _pass_on(self) -> None:
        data = self._waiting.popleft()
        self._size -= len(data)
        self._sink.write(data)


async def run_both(one: Pipe, other: Pipe) -> None:
    """Pass bytes in both directions until one of them ends."""
    directions = [asyncio.ensure_future(pipe.run()) for pipe in (one, other)]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        one.flush()
        other.flush()
