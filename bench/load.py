"""Asks a server over and over, and measures how long each answer takes: the load on the proxy.

    python bench/load.py https://127.0.0.1:PORT --ca ca.crt --client client.pem [mode]

    --connections 16 --seconds 5     each connection asks again once it is answered
    --rate 500                       so many a second, whether answered or not
    --watches 1000                   as many open watches, until standard input ends
    --download /bytes/1000000        one body, thrown away
    --upload 1000000                 one body of so many bytes

Prints one line of JSON (with --watches a line `ready` before it). An answer that is not 200, or
comes without Content-Length, or not at all, is an error.
"""

import argparse
import asyncio
import json
import re
import resource
import signal
import ssl
import statistics
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar
from urllib.parse import urlsplit

import uvloop

from upstream import Streaming

PATH = "/api/v1/namespaces/default/configmaps/bench"
WATCH = "/api/v1/namespaces/default/configmaps?watch=true"
_UPLOAD = "/api/v1/namespaces/default/configmaps"
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OPENED_AT_ONCE = 16
_OPEN_FILES = 20_000

AnyProtocol = TypeVar("AnyProtocol", bound=asyncio.BaseProtocol)


class Connection(Streaming):
    """Asks one request at a time; a body is counted and thrown away."""

    def __init__(self, ended: Callable[["Connection"], None]) -> None:
        self._ended = ended
        self._begun = b""
        self._left = 0
        self.since = 0.0
        self.is_waiting = False
        self.is_lost = False
        self.is_good = False
        self.received = 0

    def ask(self, request: bytes, since: float) -> None:
        self.since = since
        self.is_waiting = True
        self.transport.write(request)

    def buffer_updated(self, nbytes: int) -> None:
        if self._left > nbytes:
            self._left -= nbytes
        else:
            super().buffer_updated(nbytes)

    def data_received(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            if self._begun:
                data, self._begun = self._begun + data, b""
            end = data.find(_END)
            if end < 0:
                self._begun = data
                return
            length = _LENGTH.search(data, 0, end)
            self.is_good = length is not None and data.startswith(b"HTTP/1.1 200 ")
            self.received = int(length[1]) if length else 0
            self._left = self.received - (len(data) - end - 4)
        if self._left <= 0:
            if self._left:  # more than one answer, or a body of unknown length
                self.is_good, self._left = False, 0
                self.transport.abort()
            self.is_waiting = False
            self._ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.is_lost = True
        self.is_good = False
        if self.is_waiting:
            self.is_waiting = False
            self._ended(self)


class Load:
    """Requests over some connections, of which those begun after the warm-up are measured."""

    def __init__(self, request: bytes, warm_up: float, seconds: float) -> None:
        self.request = request
        self.took: list[float] = []
        self.errors = self.total = 0
        self.over = asyncio.Event()
        self._warm_up, self._seconds = warm_up, seconds
        self._measured_from = self._until = 0.0

    def ended(self, connection: Connection) -> None:
        now = time.perf_counter()
        self.total += 1
        if not connection.is_good:
            self.errors += 1
        elif connection.since >= self._measured_from:
            self.took.append(now - connection.since)
        self._next(connection, now)

    async def run(self, connections: list[Connection]) -> dict[str, float]:
        now = time.perf_counter()
        self._measured_from = now + self._warm_up
        self._until = self._measured_from + self._seconds
        self._start(connections, now)
        await self.over.wait()
        seconds = time.perf_counter() - self._measured_from
        quantiles = statistics.quantiles(self.took, n=100) if len(self.took) > 1 else [0.0] * 99
        return {
            "requests": len(self.took),
            "seconds": seconds,
            "rate": len(self.took) / seconds,
            "p50_ms": quantiles[49] * 1e3,
            "p99_ms": quantiles[98] * 1e3,
            "errors": self.errors,
            "total": self.total,
        }

    def _start(self, connections: list[Connection], now: float) -> None:
        raise NotImplementedError

    def _next(self, connection: Connection, now: float) -> None:
        raise NotImplementedError


class ClosedLoop(Load):
    """Each connection asks again once it is answered."""

    _asking = 0

    def _start(self, connections: list[Connection], now: float) -> None:
        self._asking = len(connections)
        for connection in connections:
            connection.ask(self.request, now)

    def _next(self, connection: Connection, now: float) -> None:
        if now < self._until and not connection.is_lost:
            connection.ask(self.request, now)
            return
        self._asking -= 1
        if not self._asking:
            self.over.set()


class OpenLoop(Load):
    """Requests are due at fixed times, and latency counts from then: queueing is part of it."""

    def __init__(self, request: bytes, warm_up: float, seconds: float, rate: float) -> None:
        super().__init__(request, warm_up, seconds)
        self._rate = rate
        self._idle: deque[Connection] = deque()
        self._queue: deque[float] = deque()
        self._asking = 0

    def _start(self, connections: list[Connection], now: float) -> None:
        self._idle.extend(connections)
        self._due = self._schedule(now)
        self._next_due: float | None = next(self._due)
        # The loop's own timers know milliseconds only.
        asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, self._tick)
        self._tick()

    def _schedule(self, start: float) -> Iterator[float]:
        for number in range(round((self._warm_up + self._seconds) * self._rate)):
            yield start + number / self._rate

    def _tick(self) -> None:
        while self._next_due is not None and self._next_due <= time.perf_counter():
            self._ask(self._next_due)
            self._next_due = next(self._due, None)
        if self._next_due is None:
            self._finish()
        else:
            left = self._next_due - time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, max(left, 1e-5))

    def _ask(self, due: float) -> None:
        while self._idle:
            connection = self._idle.popleft()
            if not connection.is_lost:
                self._asking += 1
                connection.ask(self.request, due)
                return
        if self._asking:
            self._queue.append(due)
        else:  # every connection is lost
            self.errors += 1
            self.total += 1

    def _next(self, connection: Connection, now: float) -> None:  # noqa: ARG002
        self._asking -= 1
        if not connection.is_lost:
            self._idle.append(connection)
        while self._queue and (self._idle or not self._asking):
            self._ask(self._queue.popleft())
        self._finish()

    def _finish(self) -> None:
        if self._next_due is None and not self._queue and not self._asking:
            self.over.set()


class Watch(Streaming):
    """A request whose answer does not end."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._begun = b""
        self.is_lost = False
        self.first_event: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.first_event.done():
            return
        self._begun += data
        head, _, body = self._begun.partition(_END)
        if b"}\n" in body:
            self._begun = b""
            if head.startswith(b"HTTP/1.1 200 "):
                self.first_event.set_result(None)
            else:
                self.first_event.set_exception(ConnectionError(head.decode()))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.is_lost = True
        if not self.first_event.done():
            self.first_event.set_exception(exc or ConnectionResetError(self._begun.decode()))


class Server:
    """Where the requests go."""

    def __init__(self, url: str, ca: str | None, client: str | None) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.host, self.port = parts.hostname, parts.port
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._context = ssl.create_default_context(cafile=ca)
            if client:
                self._context.load_cert_chain(client)

    def request(self, path: str, method: str = "GET", *lines: str) -> bytes:
        head = (
            f"{method} {path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "User-Agent: bench/v1",
            "Accept: application/json",
            *lines,
        )
        return "\r\n".join(head).encode() + _END

    async def connect(self, protocol: Callable[[], AnyProtocol]) -> AnyProtocol:
        loop = asyncio.get_running_loop()
        _, connected = await loop.create_connection(
            protocol, self.host, self.port, ssl=self._context
        )
        return connected

    async def connect_all(
        self, protocol: Callable[[], AnyProtocol], count: int
    ) -> list[AnyProtocol]:
        few = asyncio.Semaphore(_OPENED_AT_ONCE)

        async def connect() -> AnyProtocol:
            async with few:
                return await self.connect(protocol)

        async with asyncio.TaskGroup() as group:
            connecting = [group.create_task(connect()) for _ in range(count)]
        return [each.result() for each in connecting]


async def ask(server: Server, arguments: argparse.Namespace) -> dict[str, float]:
    timing = (server.request(arguments.path), arguments.warm_up, arguments.seconds)
    load = OpenLoop(*timing, arguments.rate) if arguments.rate else ClosedLoop(*timing)
    connections = await server.connect_all(lambda: Connection(load.ended), arguments.connections)
    return await load.run(connections)


async def watch(server: Server, arguments: argparse.Namespace) -> dict[str, float]:
    request = server.request(WATCH)
    watches = await server.connect_all(lambda: Watch(request), arguments.watches)
    await asyncio.gather(*(each.first_event for each in watches))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    return {"watches": len(watches), "lost": sum(each.is_lost for each in watches)}


async def download(server: Server, arguments: argparse.Namespace) -> dict[str, float]:
    received, seconds = await _once(server, server.request(arguments.download))
    return {"bytes": received, "seconds": seconds}


async def upload(server: Server, arguments: argparse.Namespace) -> dict[str, float]:
    count = arguments.upload
    lines = ("Content-Type: application/json", f"Content-Length: {count}")
    _, seconds = await _once(server, server.request(_UPLOAD, "POST", *lines), body=count)
    return {"bytes": count, "seconds": seconds}


async def _once(server: Server, request: bytes, body: int = 0) -> tuple[int, float]:
    over = asyncio.Event()
    connection = await server.connect(lambda: Connection(lambda _: over.set()))
    start = time.perf_counter()
    connection.ask(request, start)
    connection.stream(body)
    await over.wait()
    if not connection.is_good:
        raise ConnectionError("no good answer")
    return connection.received, time.perf_counter() - start


def allow_open_files() -> None:
    """Let this process and its children have a socket for every watch."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", help="https://127.0.0.1:PORT")
    parser.add_argument("--ca", help="file with the authority that the server is trusted by")
    parser.add_argument("--client", help="file with a client's certificate and key")
    parser.add_argument("--path", default=PATH)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--warm-up", type=float, default=1)
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--rate", type=float, help="requests a second")
    modes.add_argument("--watches", type=int, metavar="COUNT")
    modes.add_argument("--download", metavar="PATH")
    modes.add_argument("--upload", type=int, metavar="BYTES")
    arguments = parser.parse_args()
    allow_open_files()
    mode: Callable[[Server, argparse.Namespace], Awaitable[dict[str, float]]] = ask
    if arguments.watches:
        mode = watch
    elif arguments.download:
        mode = download
    elif arguments.upload is not None:
        mode = upload
    server = Server(arguments.url, arguments.ca, arguments.client)

    async def run() -> dict[str, float]:
        return await mode(server, arguments)

    print(json.dumps(uvloop.run(run())), flush=True)


if __name__ == "__main__":
    main()
