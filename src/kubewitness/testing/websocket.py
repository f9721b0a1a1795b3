"""WebSocket (RFC 6455) as a server: the handshake, and messages of bytes."""

import asyncio
import base64
import hashlib
import struct
from collections.abc import AsyncIterator, Sequence

from kubewitness.testing.status import StatusError
from kubewitness.testing.wire import Exchange, WireError

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE, _PING, _PONG = 2, 8, 9, 10
_FIN, _MASKED = 0x80, 0x80


class WebSocket:
    """The server's side of one connection.

    Attributes:
        protocol: The sub-protocol that both sides speak.
    """

    def __init__(self, exchange: Exchange, protocol: str) -> None:
        self.protocol = protocol
        self._reader = exchange.connection.reader
        self._writer = exchange.connection.writer

    async def send(self, data: bytes) -> None:
        """Send one binary message."""
        await self._frame(_BINARY, data)

    async def close(self, code: int = 1000) -> None:
        """Say goodbye, and wait for the other side's."""
        await self._frame(_CLOSE, struct.pack(">H", code))
        async for _ in self.messages():
            pass

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield messages, whole, until the client ends the connection."""
        message = b""
        try:
            while True:
                first, data = await self._receive()
                operation = first & 0x0F
                if operation == _CLOSE:
                    await self._frame(_CLOSE, data[:2])
                    return
                if operation == _PING:
                    await self._frame(_PONG, data)
                elif operation != _PONG:
                    message += data
                    if first & _FIN:
                        yield message
                        message = b""
        except (asyncio.IncompleteReadError, OSError):
            return

    async def _receive(self) -> tuple[int, bytes]:
        first, second = await self._reader.readexactly(2)
        if not second & _MASKED:
            raise WireError("a frame of a client is not masked")
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
        mask = await self._reader.readexactly(4)
        return first, _unmasked(await self._reader.readexactly(size), mask)

    async def _frame(self, operation: int, data: bytes) -> None:
        size = len(data)
        if size < 126:
            head = struct.pack(">BB", _FIN | operation, size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", _FIN | operation, 126, size)
        else:
            head = struct.pack(">BBQ", _FIN | operation, 127, size)
        self._writer.write(head + data)
        await self._writer.drain()


def accept(exchange: Exchange, protocols: Sequence[str]) -> WebSocket:
    """Answer the handshake with the first of our protocols that the client speaks, too.

    Raises:
        StatusError: 400: there is none.
    """
    head = exchange.head
    offered = ",".join(v for k, v in head.headers if k.lower() == "sec-websocket-protocol")
    theirs = {each.strip() for each in offered.split(",")}
    common = [each for each in protocols if each in theirs]
    if not common:
        raise StatusError(400, f"no sub-protocol is known of {offered!r}")
    key = head.first("Sec-WebSocket-Key").encode()
    answer = base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest()).decode()
    lines = (("Sec-WebSocket-Accept", answer), ("Sec-WebSocket-Protocol", common[0]))
    exchange.switch("websocket", *lines)
    return WebSocket(exchange, common[0])


def _unmasked(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(data, "big") ^ key).to_bytes(size, "big")
