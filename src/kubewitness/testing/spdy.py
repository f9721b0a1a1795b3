"""SPDY/3.1 as a server, as far as Kubernetes uses it: streams of bytes over an upgraded connection.

The client opens streams with SYN_STREAM, whose headers say what each is for; data flows both ways
until a side ends its half with FIN. What we receive is acknowledged with WINDOW_UPDATE at once;
the windows of the client are not watched, as its library does not, either.

Source: the SPDY protocol, draft 3.1.
"""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple

FIN = 1

_SYN_STREAM, _SYN_REPLY = 1, 2
_PING, _GOAWAY, _WINDOW_UPDATE = 6, 7, 9
_CONTROL = 0x8003 << 16
_STREAM_ID = 0x7FFFFFFF

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language"
    " accept-ranges age allow authorization cache-control connection content-base content-encoding"
    " content-language content-length content-location content-md5 content-range content-type date"
    " etag expect expires from host if-match if-modified-since if-none-match if-range"
    " if-unmodified-since last-modified location max-forwards pragma proxy-authenticate"
    " proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
    " user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url"
    " public set-cookie keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00"
    " Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(
        struct.pack(">I", len(word)) + word.replace("_", " ").encode() for word in _WORDS.split(" ")
    )
    + _TAIL.encode()
)
"""The protocol's constant: what both sides' header compression starts from."""


class Opened(NamedTuple):
    """The client has opened a stream."""

    stream: int
    headers: Mapping[str, str]


class Arrived(NamedTuple):
    """Bytes have come on a stream; `last` when no more will."""

    stream: int
    data: bytes
    last: bool


class Session:
    """One SPDY connection.

    Args:
        read: Returns exactly so many bytes; raises `asyncio.IncompleteReadError` at the end.
        write: Sends bytes.
    """

    def __init__(
        self, read: Callable[[int], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self._read = read
        self._write = write
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    async def events(self) -> AsyncIterator[Opened | Arrived]:
        """Yield what the client does, until it goes away or says GOAWAY."""
        try:
            while True:
                first, second = struct.unpack(">II", await self._read(8))
                flags, payload = second >> 24, await self._read(second & 0xFFFFFF)
                if not first >> 31:
                    yield await self._data(first, flags, payload)
                elif first == _CONTROL | _SYN_STREAM:
                    yield await self._opened(payload)
                elif first == _CONTROL | _PING:
                    await self._control(_PING, payload)
                elif first == _CONTROL | _GOAWAY:
                    return
        except (asyncio.IncompleteReadError, OSError):
            return

    async def send(self, stream: int, data: bytes, *, last: bool = False) -> None:
        """Send bytes on a stream; with `last`, end our half of it."""
        await self._write(struct.pack(">II", stream, (FIN if last else 0) << 24 | len(data)) + data)

    async def _data(self, stream: int, flags: int, data: bytes) -> Arrived:
        if data:
            await self._control(_WINDOW_UPDATE, struct.pack(">II", stream, len(data)))
        return Arrived(stream, data, bool(flags & FIN))

    async def _opened(self, payload: bytes) -> Opened:
        stream = int.from_bytes(payload[:4], "big") & _STREAM_ID
        headers = parsed(self._inflate.decompress(payload[10:]))
        block = self._deflate.compress(struct.pack(">I", 0))
        block += self._deflate.flush(zlib.Z_SYNC_FLUSH)
        await self._control(_SYN_REPLY, struct.pack(">I", stream) + block)
        return Opened(stream, headers)

    async def _control(self, kind: int, payload: bytes) -> None:
        await self._write(struct.pack(">II", _CONTROL | kind, len(payload)) + payload)


def parsed(block: bytes) -> dict[str, str]:
    """Return the names and values of an inflated header block."""
    position, texts = 4, []
    while position < len(block):
        size = int.from_bytes(block[position : position + 4], "big")
        texts.append(block[position + 4 : position + 4 + size].decode("utf-8", "replace"))
        position += 4 + size
    return dict(zip(texts[::2], texts[1::2], strict=False))
