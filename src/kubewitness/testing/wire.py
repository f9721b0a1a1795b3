"""HTTP/1.1 as the fake server speaks it: requests read and answers written byte by byte.

No HTTP library stands between a test and the wire: request targets and header lines are kept as
they came, answers have exactly the headers they are given, and any protocol can be upgraded to.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs

LONGEST_HEAD = 1 << 20
CHUNK = 1 << 16

Lines = Sequence[tuple[str, str]]


class WireError(Exception):
    """What came is not HTTP/1.1; the connection is answered 400 and closed."""


class Head(NamedTuple):
    """The head of a request, as it came."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]

    def first(self, name: str) -> str:
        """Return the first value of a header, ``""`` when there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def has(self, name: str, token: str) -> bool:
        """Say whether a header with a list of tokens holds this one, in any case."""
        values = ",".join(value for key, value in self.headers if key.lower() == name.lower())
        return token.lower() in [each.strip().lower() for each in values.split(",")]

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, list[str]]:
        """The parameters of the query, decoded."""
        return parse_qs(self.target.partition("?")[2], keep_blank_values=True)

    def parameter(self, name: str, default: str = "") -> str:
        """Return the first value of a parameter of the query."""
        return self.query.get(name, [default])[0]

    @property
    def upgrade(self) -> str:
        """The protocol that the client wants to change to, in lower case; ``""`` for none."""
        return self.first("Upgrade").lower() if self.has("Connection", "upgrade") else ""


class Connection(asyncio.StreamReaderProtocol):
    """One connection, with its streams. `gone` is set when the peer has sent its last byte."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.reader = asyncio.StreamReader(limit=LONGEST_HEAD)
        self.writer: asyncio.StreamWriter
        super().__init__(self.reader)

    async def establish(
        self, plain: socket.socket, context: ssl.SSLContext | None, goodbye: float
    ) -> None:
        """Begin to speak over an accepted socket.

        Args:
            plain: The socket; it is closed with the connection.
            context: TLS; None for none.
            goodbye: Seconds that the peer has to answer the end of TLS.

        Raises:
            OSError: The peer and we do not come to terms in TLS.
        """
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(
            lambda: self,
            plain,
            ssl=context,
            ssl_shutdown_timeout=goodbye if context else None,
        )
        self.writer = asyncio.StreamWriter(transport, self, self.reader, loop)

    def eof_received(self) -> bool | None:
        """Remember that nothing more will come."""
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """Remember that the connection has ended."""
        self.gone.set()
        super().connection_lost(error)

    def reset(self) -> None:
        """Tear the connection down: the peer gets an RST."""
        plain = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until(self, event: Awaitable[object]) -> bool:
        """Wait for something; False when the peer went away before it."""
        waiting = {asyncio.ensure_future(event), asyncio.ensure_future(self.gone.wait())}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.wait(waiting)
        return not self.gone.is_set()


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read the head of the next request; None when the client has closed in good order.

    Raises:
        WireError: It is not HTTP/1.1.
    """
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise WireError("the connection ended within a head") from None
        return None
    except asyncio.LimitOverrunError:
        raise WireError("the head is too long") from None
    start, *lines = data.decode("utf-8", "surrogateescape").removesuffix("\r\n\r\n").split("\r\n")
    words = start.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise WireError(f"not the first line of a request: {start!r}")
    return Head(words[0], words[1], words[2], [_header_line(line) for line in lines])


def _header_line(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise WireError(f"not a header line: {line!r}")
    return name, value.strip(" \t")


class Exchange:
    """One request and its answer.

    Attributes:
        head: The request's head.
        connection: The connection it came over.
        started: The answer's head has been sent.
        reusable: The connection can carry another request after this one.
    """

    def __init__(self, head: Head, connection: Connection) -> None:
        self.head = head
        self.connection = connection
        self.started = False
        self.common: Lines = ()
        """Header lines of every answer that does not come from a transcript."""
        self._chunked = False
        self._bodiless = head.method == "HEAD"
        self._read = False
        self._finished = False
        self._last = head.has("Connection", "close") or head.version == "HTTP/1.0"

    @property
    def reusable(self) -> bool:
        """The request was read and answered to its end, and nobody wants to close."""
        return self._read and self._finished and not self._last

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the request's body in pieces; call it once.

        Raises:
            WireError: It is not framed as HTTP/1.1 wants it.
            asyncio.IncompleteReadError: The client went away.
        """
        if self.head.has("Expect", "100-continue"):
            self.connection.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.head.has("Transfer-Encoding", "chunked"):
            pieces = _chunks(self.connection.reader)
        else:
            pieces = _exactly(
                self.connection.reader, _length(self.head.first("Content-Length") or "0")
            )
        async for piece in pieces:
            yield piece
        self._read = True

    def send_head(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send the head of the answer with exactly these header lines.

        ``Transfer-Encoding: chunked`` among them makes the body chunked; otherwise a body needs a
        ``Content-Length``, or the end of the connection ends it.
        """
        lines = list(headers)
        names = {name.lower(): value.lower() for name, value in lines}
        self.started = True
        self._chunked = names.get("transfer-encoding") == "chunked"
        self._bodiless |= status in {101, 204, 304}
        framed = self._chunked or self._bodiless or "content-length" in names
        self._last |= names.get("connection") == "close" or not framed
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
        text = "".join(f"{name}: {value}\r\n" for name, value in lines)
        data = f"HTTP/1.1 {status} {phrase}\r\n{text}\r\n".encode("utf-8", "surrogateescape")
        self.connection.writer.write(data)

    async def send(self, data: bytes) -> None:
        """Send a piece of the answer's body, and wait while the client is slow."""
        if data and not self._bodiless:
            framed = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
            self.connection.writer.write(framed)
        await self.connection.writer.drain()

    async def finish(self) -> None:
        """End the answer."""
        if self._chunked and not self._bodiless:
            self.connection.writer.write(b"0\r\n\r\n")
        self._finished = True
        await self.connection.writer.drain()

    async def answer(
        self, status: int, body: bytes, content_type: str = "application/json", *more: str
    ) -> None:
        """Give a whole answer; `more` are further header lines, as ``Name: value``."""
        further = [(name, value.strip()) for name, _, value in (x.partition(":") for x in more)]
        headers = [*self.common, ("Content-Type", content_type), *further]
        self.send_head(status, [*headers, ("Content-Length", str(len(body)))])
        await self.send(body)
        await self.finish()

    def switch(self, protocol: str, *headers: tuple[str, str]) -> None:
        """Answer 101: from here on the connection speaks another protocol."""
        self.send_head(101, [("Upgrade", protocol), ("Connection", "Upgrade"), *headers])
        self._last = True


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    left = size
    while left:
        data = await reader.read(min(left, CHUNK))
        if not data:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(data)
        yield data


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := _length(
        (await _line(reader)).partition(b";")[0].strip().decode("latin-1"), "0123456789abcdef"
    ):
        async for data in _exactly(reader, size):
            yield data
        if await _line(reader):
            raise WireError("a chunk is longer than it says")
    while await _line(reader):
        pass  # trailers


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n"))[:-2]
    except asyncio.LimitOverrunError:
        raise WireError("a line of a chunked body is too long") from None


def _length(text: str, digits: str = "0123456789") -> int:
    """Return the number that a text in this many digits stands for."""
    if not text or set(text.lower()) - set(digits):
        raise WireError(f"not a length: {text!r}")
    return int(text, len(digits))
