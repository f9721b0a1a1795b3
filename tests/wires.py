"""HTTP byte by byte: a client of a proxy, and an API server that says what a test tells it.

`served` runs a proxy and checks what must be left behind: no task, no connection, no socket.
"""

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from msgspec import Raw

import proxies
from clocks import SOON, until
from kubewitness.event import Event, Stage
from kubewitness.testing import Authority, FakeAPIServer

AUTHORITY = Authority()
ABORTED = "kubewitness.io/aborted"


def sockets() -> int:
    """Return how many sockets this process has open."""
    count = 0
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += os.readlink(each).startswith("socket:")  # noqa: PTH115  # it is no path
    return count


class Message(NamedTuple):
    """A request or an answer: its first line, header lines, body, and whether that has an end."""

    start: str
    headers: list[tuple[str, str]]
    body: bytes
    is_whole: bool = True

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One end of a connection, for as long as the context lasts."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.settimeout(SOON)
        self._kept = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *data: bytes) -> None:
        self.socket.sendall(b"".join(data))

    def reset(self) -> None:
        """Tear the connection down: the peer gets an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def ask(self, target: str, method: str = "GET", body: bytes = b"", **headers: str) -> Message:
        """Send a request, and read the answer."""
        self.send(request(target, method, body, **headers))
        return self.answer(method)

    def answer(self, method: str = "GET") -> Message:
        """Read an answer to its end."""
        head = self.head()
        if method == "HEAD" or head.status in (101, 204, 304) or not head.is_whole:
            return head
        return self._with_body(head, is_answer=True)

    def request(self) -> Message:
        """Read a request to its end."""
        return self._with_body(self.head(), is_answer=False)

    def head(self) -> Message:
        """Read the head of a request or an answer; not whole if the connection ends within it."""
        while b"\r\n\r\n" not in self._kept:
            if not self._more():
                return Message("CLOSED 0", [], self._kept, is_whole=False)
        text, _, self._kept = self._kept.partition(b"\r\n\r\n")
        start, *lines = text.decode("utf-8", "surrogateescape").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        return Message(start, [(name, value.strip()) for name, _, value in pairs], b"")

    def chunk(self) -> bytes:
        """Read the next chunk of a body; empty when there are no more."""
        size = int(self._line(), 16)
        data = self.exactly(size)
        assert self._line() == b""
        return data

    def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        data = self._up_to(size)
        assert len(data) == size, "the connection ended before"
        return data

    def to_end(self) -> bytes:
        """Read until the peer closes."""
        while self._more():
            pass
        data, self._kept = self._kept, b""
        return data

    def _with_body(self, head: Message, *, is_answer: bool) -> Message:
        if "chunked" in head.header("Transfer-Encoding"):
            return self._chunked(head)
        if lengths := head.header("Content-Length"):
            body = self._up_to(int(lengths[0]))
            return head._replace(body=body, is_whole=len(body) == int(lengths[0]))
        return head._replace(body=self.to_end()) if is_answer else head

    def _chunked(self, head: Message) -> Message:
        pieces = []
        try:
            while piece := self.chunk():
                pieces.append(piece)
        except (AssertionError, ValueError):
            return head._replace(body=b"".join(pieces), is_whole=False)
        return head._replace(body=b"".join(pieces))

    def _up_to(self, size: int) -> bytes:
        pieces, missing = [self._kept[:size]], size - len(self._kept[:size])
        self._kept = self._kept[size:]
        while missing:
            piece = self._received(min(missing, 1 << 20))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _line(self) -> bytes:
        while b"\r\n" not in self._kept and self._more():
            pass
        line, _, self._kept = self._kept.partition(b"\r\n")
        return line

    def _more(self) -> bool:
        piece = self._received(1 << 16)
        self._kept += piece
        return bool(piece)

    def _received(self, size: int) -> bytes:
        try:
            data = self.socket.recv(size)
        except TimeoutError:
            raise AssertionError("nothing came in time") from None
        except OSError:
            data = b""
        if not data:
            self.socket.close()  # as clients do
        return data


def request(target: str, method: str = "GET", body: bytes = b"", **headers: str) -> bytes:
    """Return a request; names of headers have ``_`` for ``-``."""
    lines = [f"{method} {target} HTTP/1.1", "Host: proxy"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def client(running: proxies.RunningProxy, *, user: str = "") -> Wire:
    """Connect to a proxy, as a user with a certificate or as nobody."""
    plain = socket.create_connection(("127.0.0.1", running.port), SOON)
    context = running.user(user) if user else running.client_context()
    try:
        return Wire(context.wrap_socket(plain, server_hostname="127.0.0.1"))
    except OSError:
        plain.close()
        raise


class Scripted:
    """An API server over plain TCP: what a connection gets, a test's own function says."""

    def __init__(self, script: Callable[[Wire], None]) -> None:
        self._script = script
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0
        self.faults: list[BaseException] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._wires: list[Wire] = []

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(SOON)
        self._listening.close()
        for wire in self._wires:
            with contextlib.suppress(OSError):
                wire.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SOON)
            assert not thread.is_alive()
        if self.faults and error is None:
            raise self.faults[0]

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            wire = Wire(connected)
            self._wires.append(wire)
            thread = threading.Thread(target=self._serve, args=(wire,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, wire: Wire) -> None:
        with wire:
            try:
                self._script(wire)
            except OSError:
                pass  # the proxy went away
            except BaseException as error:  # the test's own thread raises it
                self.faults.append(error)


class _Faults(logging.Handler):
    """Keeps what is logged as an error: exceptions that nobody expected."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(logging.Formatter().format(record))


@contextlib.contextmanager
def _nothing_left() -> Iterator[None]:
    """Check that no socket is left, and that no exception got lost."""
    before, faults = sockets(), _Faults()
    logging.getLogger().addHandler(faults)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(faults)
    until(lambda: sockets() <= before)
    assert faults.said == []


@contextlib.contextmanager
def served(place: Path, **settings: Any) -> Iterator[proxies.RunningProxy]:
    """Run a proxy in front of a fake API server; nothing is open afterwards."""
    with _nothing_left(), FakeAPIServer(authority=AUTHORITY) as server:
        with proxies.proxy(server, place, **settings) as running:
            yield running
        server.until(lambda: server.open_connections == 0)


@contextlib.contextmanager
def scripted(
    place: Path, script: Callable[[Wire], None], **settings: Any
) -> Iterator[proxies.RunningProxy]:
    """Run a proxy in front of a script; nothing is open afterwards."""
    server = FakeAPIServer(authority=AUTHORITY)
    with _nothing_left(), Scripted(script) as upstream:
        kubeconfig = server.write_kubeconfig(
            place / "scripted.kubeconfig", identity="token", server=upstream.url
        )
        with proxies.proxy(server, place, kubeconfig=kubeconfig, **settings) as running:
            yield running


def last(running: proxies.RunningProxy, count: int = 2) -> Event:
    """Return the last of so many events, which is all there are."""
    events = running.events(count)
    assert len(events) == count, [event.stage for event in events]
    return events[-1]


def stages(running: proxies.RunningProxy, count: int) -> list[Stage | str]:
    return [event.stage for event in running.events(count)]


def policy(level: str) -> str:
    return f"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: {level}\n"


def recorded(document: Raw) -> Any:
    """Return what an event holds of a body."""
    return json.loads(bytes(document))
