"""An API server that does as little as can be done: what stands behind the proxy in its figures.

    python bench/upstream.py [file with certificate and key]

Prints its port. GET answers a ConfigMap of 2048 bytes, GET with `watch=true` one event and then
nothing more, GET /bytes/N answers N bytes; POST and PUT are read to their end and thrown away.
"""

import asyncio
import ssl
import sys
import time
from email.utils import formatdate
from typing import cast

import uvloop

PIECE = bytes(256 * 1024)
BODY_LENGTH = 2048
_BACKLOG = 1024
_END = b"\r\n\r\n"
_LONGEST_LINE = 64 * 1024


class Streaming(asyncio.BufferedProtocol):
    """A connection that can send any number of bytes without keeping them in memory.

    All connections read into one buffer: with TLS, uvloop would map and unmap 256 KiB of memory for
    every read of a plain `asyncio.Protocol`.
    """

    transport: asyncio.Transport
    _unsent = 0
    _paused = False
    _buffer = memoryview(bytearray(256 * 1024))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._unsent = 0

    def stream(self, count: int) -> None:
        self._unsent = count
        self._send()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()

    def _send(self) -> None:
        while self._unsent and not self._paused:
            count = min(self._unsent, len(PIECE))
            self._unsent -= count
            self.transport.write(PIECE if count == len(PIECE) else PIECE[:count])


class Answers:
    """The bytes of the answers; their date is of this second."""

    def __init__(self) -> None:
        self.get = self.watch = self.done = b""
        start = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"bench",'
        start += b'"namespace":"default","resourceVersion":"1"},"data":{"text":"'
        self._config_map = start + b"x" * (BODY_LENGTH - len(start) - 3) + b'"}}'

    async def keep_the_date(self) -> None:
        while True:
            self._make()
            await asyncio.sleep(1 - time.time() % 1)

    def _make(self) -> None:
        self.get = self.head(BODY_LENGTH) + self._config_map
        self.done = self.head(2) + b"{}"
        event = b'{"type":"ADDED","object":' + self._config_map + b"}\n"
        self.watch = self._head(b"Transfer-Encoding: chunked")
        self.watch += b"%x\r\n%b\r\n" % (len(event), event)

    def head(self, length: int) -> bytes:
        return self._head(b"Content-Length: %d" % length)

    @staticmethod
    def _head(framing: bytes) -> bytes:
        return (
            b"HTTP/1.1 200 OK\r\nCache-Control: no-cache, private\r\n"
            b"Content-Type: application/json\r\nDate: %b\r\n%b\r\n\r\n"
            % (formatdate(usegmt=True).encode(), framing)
        )


class ChunkedBody:
    """Finds the end of a body in chunks, and keeps nothing of it."""

    def __init__(self) -> None:
        self._line = b""
        self._left = 0
        self._is_last = False

    def rest(self, data: bytes) -> bytes | None:
        """Return what follows the body, or None while it goes on."""
        while True:
            if len(data) <= self._left:
                self._left -= len(data)
                return None
            data, self._left = self._line + data[self._left :], 0
            line, newline, rest = data.partition(b"\r\n")
            if not newline:
                if len(line) > _LONGEST_LINE:
                    raise ValueError("a chunk's size is longer than any number")
                self._line = data
                return None
            self._line, data = b"", rest
            if self._is_last:
                if not line:
                    return data
            else:
                size = int(line.partition(b";")[0], 16)
                self._is_last = not size
                self._left = size + 2 if size else 0


class ApiServer(Streaming):
    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._begun = b""
        self._body = 0
        self._chunks: ChunkedBody | None = None

    def data_received(self, data: bytes) -> None:
        while data:
            if self._body or self._chunks:
                data = self._discard(data)
                continue
            if self._begun:
                data, self._begun = self._begun + data, b""
            end = data.find(_END)
            if end < 0:
                self._begun = data
                return
            if data.startswith(b"GET "):
                self._get(data[4 : data.index(b" ", 4)])
            else:
                self._begin(data[:end])
            data = data[end + 4 :]

    def _get(self, target: bytes) -> None:
        if target.startswith(b"/bytes/"):
            count = int(target[7:])
            self.transport.write(self._answers.head(count))
            self.stream(count)
        elif b"watch=true" in target:
            self.transport.write(self._answers.watch)
        else:
            self.transport.write(self._answers.get)

    def _begin(self, head: bytes) -> None:
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name == b"content-length":
                self._body = int(value)
            elif name == b"transfer-encoding":
                self._chunks = ChunkedBody()
        if not self._body and not self._chunks:
            self.transport.write(self._answers.done)

    def _discard(self, data: bytes) -> bytes:
        if self._chunks:
            rest = self._chunks.rest(data)
            if rest is None:
                return b""
            self._chunks = None
        else:
            taken = min(self._body, len(data))
            self._body -= taken
            if self._body:
                return b""
            rest = data[taken:]
        self.transport.write(self._answers.done)
        return rest


async def serve(certificate: list[str]) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    answers = Answers()
    dating = asyncio.create_task(answers.keep_the_date())
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: ApiServer(answers), "127.0.0.1", 0, ssl=context, backlog=_BACKLOG
    )
    await asyncio.sleep(0)  # the answers get their first date
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.gather(dating, server.serve_forever())


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1:]))
