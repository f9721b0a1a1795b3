"""What the fake server does on purpose, for tests of clients and proxies.

A behaviour is asked for by path (``/fake/status/500``), or on any path by ``?fake=``
(``/api/v1/namespaces/a/pods/x?fake=status/500``), so that a resource request can have it.
Parameters are read from the query in both cases.

| behaviour | what happens |
|---|---|
| `echo` | 200; the request as JSON: method, target, headers, body, size, sha256 |
| `status/NNN` | that code, with a Status |
| `bytes/N` | N bytes of a pattern, with Content-Length; ``chunked=true``: chunked |
| `sink` | 200; size and sha256 of the request's body as JSON |
| `slow` | nothing is answered until ``server.release`` is set |
| `slow?after=head` | the answer's head, then it waits; the body after the release |
| `slow?after=body` | half of the body, then it waits; the rest after the release |
| `reset?after=accept` | RST as soon as the request's head is here (also without ``after``) |
| `reset?after=head` | the answer's head, then RST |
| `reset?after=body` | half of the answer's body, then RST |
| `close` | the connection is closed in good order, without an answer |
| `close?after=head` | the answer's head with a Content-Length, then closed |
| `close?after=body` | half of the answer's body, then closed; ``chunked=true``: no last chunk |
| `gzip` | a ConfigMap, ``Content-Encoding: gzip`` |
| `protobuf` | a body that starts with ``k8s`` and NUL, as ``application/vnd.kubernetes.protobuf`` |
| `garbage` | something that is not HTTP, then closed |
| `tunnel` | with ``Upgrade: fake-tunnel``: 101, then every byte comes back |
| `tunnel?close=first` | 101, the line ``bye``, then the server closes |

A tunnel whose client sends EOF gives back what is left, and closes. In TLS either side's EOF ends
both directions, as Python's own TLS has no half-closed connections.
"""

import gzip
from collections.abc import Awaitable, Callable
from itertools import repeat

from kubewitness.testing.received import Received
from kubewitness.testing.release import Release
from kubewitness.testing.status import StatusError, encoded, status
from kubewitness.testing.wire import CHUNK, Exchange, Head

PATTERN = b"0123456789abcdef" * (CHUNK // 16)
"""What `bytes/N` repeats."""

CONFIG_MAP = {
    "kind": "ConfigMap",
    "apiVersion": "v1",
    "metadata": {"name": "fake", "namespace": "default", "uid": "0", "resourceVersion": "1"},
    "data": {"answer": "42"},
}
"""What `gzip` answers."""

PROTOBUF = b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\0\x1a\0\x22\0"
"""What `protobuf` answers."""

_BODY = b"half of it, and the other half.\n"
_TEXT = ("Content-Type", "text/plain")

Behaviour = Callable[[Exchange, Received, str], Awaitable[None]]


def behaviour_of(head: Head) -> str:
    """Return the behaviour that a request asks for, like ``status/500``; ``""`` for none."""
    if head.path.startswith("/fake/"):
        return head.path.removeprefix("/fake/")
    return head.parameter("fake")


def answers_early(head: Head) -> bool:
    """Say whether a behaviour does not wait for the request's body."""
    return behaviour_of(head) == "reset" and head.parameter("after", "accept") == "accept"


class Behaviours:
    """The table above; `release` ends the waits."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._table: dict[str, Behaviour] = {
            "echo": _echo,
            "status": _status,
            "bytes": _bytes,
            "sink": _sink,
            "slow": self._slow,
            "reset": _reset,
            "close": _close,
            "gzip": _gzip,
            "protobuf": _protobuf,
            "garbage": _garbage,
            "tunnel": _tunnel,
        }

    async def perform(self, exchange: Exchange, request: Received) -> bool:
        """Do what the request asks for; False when it asks for no behaviour."""
        name, _, argument = behaviour_of(exchange.head).partition("/")
        if name not in self._table:
            return False
        await self._table[name](exchange, request, argument)
        return True

    async def _slow(self, exchange: Exchange, _: Received, __: str) -> None:
        after = exchange.head.parameter("after")
        if after:
            exchange.send_head(200, _framing(exchange, len(_BODY)))
            await exchange.send(_half(after))
        if not await exchange.connection.until(self._release.wait()):
            return
        if not after:
            exchange.send_head(200, _framing(exchange, len(_BODY)))
        await exchange.send(_BODY.removeprefix(_half(after)))
        await exchange.finish()


async def _echo(exchange: Exchange, request: Received, _: str) -> None:
    document = {
        "method": request.method,
        "target": request.target,
        "headers": request.headers,
        "body": request.body.decode("utf-8", "replace"),
        "size": request.size,
        "sha256": request.sha256,
    }
    await exchange.answer(200, encoded(document))


async def _status(exchange: Exchange, _: Received, code: str) -> None:
    if not (code.isdigit() and 200 <= int(code) <= 599):
        raise StatusError(400, f"not a status code: {code!r}")
    await exchange.answer(int(code), encoded(status(int(code), f"this is a fake {code}")))


async def _bytes(exchange: Exchange, _: Received, count: str) -> None:
    if not count.isdigit():
        raise StatusError(400, f"not a number of bytes: {count!r}")
    exchange.send_head(200, _framing(exchange, int(count)))
    whole, rest = divmod(int(count), len(PATTERN))
    for block in repeat(PATTERN, whole):
        await exchange.send(block)
    await exchange.send(PATTERN[:rest])
    await exchange.finish()


async def _sink(exchange: Exchange, request: Received, _: str) -> None:
    await exchange.answer(200, encoded({"size": request.size, "sha256": request.sha256}))


async def _reset(exchange: Exchange, _: Received, __: str) -> None:
    await _begin(exchange)
    exchange.connection.reset()


async def _close(exchange: Exchange, _: Received, __: str) -> None:
    await _begin(exchange)


async def _begin(exchange: Exchange) -> None:
    """Send as much of an answer as ``after`` says."""
    after = exchange.head.parameter("after", "accept")
    if after != "accept":
        exchange.send_head(200, _framing(exchange, len(_BODY)))
        await exchange.send(_half(after))


async def _gzip(exchange: Exchange, _: Received, __: str) -> None:
    body = gzip.compress(encoded(CONFIG_MAP), mtime=0)
    await exchange.answer(200, body, "application/json", "Content-Encoding: gzip")


async def _protobuf(exchange: Exchange, _: Received, __: str) -> None:
    await exchange.answer(200, PROTOBUF, "application/vnd.kubernetes.protobuf")


async def _garbage(exchange: Exchange, _: Received, __: str) -> None:
    exchange.connection.writer.write(b"\x00\x01 this is not HTTP\r\n\r\n")
    await exchange.connection.writer.drain()


async def _tunnel(exchange: Exchange, _: Received, __: str) -> None:
    if exchange.head.upgrade != "fake-tunnel":
        raise StatusError(400, "Upgrade request required")
    exchange.switch("fake-tunnel")
    writer = exchange.connection.writer
    if exchange.head.parameter("close") == "first":
        writer.write(b"bye\n")
        return
    while data := await exchange.connection.reader.read(CHUNK):
        writer.write(data)
        await writer.drain()


def _half(after: str) -> bytes:
    return _BODY[: len(_BODY) // 2] if after == "body" else b""


def _framing(exchange: Exchange, size: int) -> list[tuple[str, str]]:
    if exchange.head.parameter("chunked") == "true":
        return [*exchange.common, _TEXT, ("Transfer-Encoding", "chunked")]
    return [*exchange.common, _TEXT, ("Content-Length", str(size))]
