"""Sessions in pods: exec, attach and port-forward, over WebSocket or SPDY.

There is no shell: without ``stdin`` the command line comes back on stdout, with it what is sent in.
Then the error channel says Success. A forwarded port gives back every byte.

Over WebSocket the first byte of a message is its channel, and in v5 channel 255 closes another.
Source: upstream ``apimachinery/pkg/util/remotecommand/constants.go``.
"""

import asyncio
from collections.abc import AsyncIterator

from kubewitness.testing.spdy import Arrived, Opened, Session
from kubewitness.testing.status import StatusError, encoded
from kubewitness.testing.websocket import WebSocket, accept
from kubewitness.testing.wire import Exchange, Head

STDIN, STDOUT, ERROR, CLOSE = 0, 1, 3, 255
"""Channels of a WebSocket session (2 is stderr)."""

SUCCESS = encoded({"metadata": {}, "status": "Success"})

_V4, _V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
_FORWARD = "portforward.k8s.io"
_TUNNELLED = f"SPDY/3.1+{_FORWARD}"


async def serve(exchange: Exchange, subresource: str) -> None:
    """Change protocols, and hold the session to its end.

    Raises:
        StatusError: 400: the client wants no upgrade, or none that is known.
    """
    forwards = subresource == "portforward"
    if exchange.head.upgrade == "websocket":
        socket = accept(exchange, [_TUNNELLED] if forwards else [_V5, _V4])
        session = _tunnelled(socket)
        await (_forward(session) if forwards else _talk(socket, exchange.head))
    elif exchange.head.upgrade == "spdy/3.1":
        version = _FORWARD if forwards else _V4
        exchange.switch("SPDY/3.1", ("X-Stream-Protocol-Version", version))
        session = _plain(exchange)
        await (_forward(session) if forwards else _command(session, exchange.head))
    else:
        raise StatusError(400, "Upgrade request required")


def output_of(head: Head) -> bytes:
    """Return what a command without stdin prints: itself."""
    return " ".join(head.query.get("command", ["attached"])).encode() + b"\n"


def _wants(head: Head, stream: str) -> bool:
    return head.parameter(stream) in {"true", "1"}


async def _talk(socket: WebSocket, head: Head) -> None:
    """Exec or attach over WebSocket."""
    if _wants(head, "stdin"):
        async for data in _typed(socket):
            await socket.send(bytes([STDOUT]) + data)
    else:
        await socket.send(bytes([STDOUT]) + output_of(head))
    await socket.send(bytes([ERROR]) + SUCCESS)
    await socket.close()


async def _typed(socket: WebSocket) -> AsyncIterator[bytes]:
    """Yield what comes on stdin until it is closed."""
    async for message in socket.messages():
        if message[:2] == bytes([CLOSE, STDIN]) and socket.protocol == _V5:
            return
        if message[:1] == bytes([STDIN]):
            yield message[1:]


async def _command(session: Session, head: Head) -> None:
    """Exec or attach over SPDY."""
    expected = 1 + sum(_wants(head, each) for each in ("stdin", "stdout", "stderr"))
    streams: dict[str, int] = {}
    async for event in session.events():
        if isinstance(event, Opened):
            streams[event.headers.get("streamtype", "")] = event.stream
            if len(streams) == expected and "stdin" not in streams:
                await _end(session, streams, output_of(head))
        elif event.stream == streams.get("stdin"):
            await _echo(session, streams, event)


async def _echo(session: Session, streams: dict[str, int], event: Arrived) -> None:
    if event.last:
        await _end(session, streams, event.data)
    elif event.data and "stdout" in streams:
        await session.send(streams["stdout"], event.data)


async def _end(session: Session, streams: dict[str, int], output: bytes) -> None:
    """Send the last output and the result, and end our half of every stream."""
    if "stdout" in streams:
        await session.send(streams["stdout"], output, last=True)
    if "stderr" in streams:
        await session.send(streams["stderr"], b"", last=True)
    if "error" in streams:
        await session.send(streams["error"], SUCCESS, last=True)


async def _forward(session: Session) -> None:
    """Give back every byte of every connection through a forwarded port."""
    errors: dict[str, int] = {}
    requests: dict[int, str] = {}
    async for event in session.events():
        if isinstance(event, Opened):
            request = event.headers.get("requestid", "")
            if event.headers.get("streamtype") == "data":
                requests[event.stream] = request
            else:
                errors[request] = event.stream
        elif event.stream in requests:
            await session.send(event.stream, event.data, last=event.last)
            if event.last:
                await session.send(errors.pop(requests[event.stream]), b"", last=True)


def _plain(exchange: Exchange) -> Session:
    """Return a session over the connection itself."""
    writer = exchange.connection.writer

    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return Session(exchange.connection.reader.readexactly, write)


def _tunnelled(socket: WebSocket) -> Session:
    """Return a session over the messages of a WebSocket."""
    messages, kept = socket.messages(), bytearray()

    async def read(size: int) -> bytes:
        while len(kept) < size:
            message = await anext(messages, None)
            if message is None:
                raise asyncio.IncompleteReadError(bytes(kept), size)
            kept.extend(message)
        data = bytes(kept[:size])
        del kept[:size]
        return data

    return Session(read, socket.send)
