"""Streams of events in any form the project knows, told apart record by record.

`read_events` takes bytes from a file or a pipe and gives events: JSON lines, concatenated or
indented JSON, arrays, EventLists and Lists, the legacy text formats, each of them also gzipped,
after a byte-order mark, or in UTF-16. Memory does not grow with the input. What is no event goes
to `on_problem` with its line, and reading goes on.

Not here: opening files (the caller gives a binary stream), and judging what an event says.
"""

import codecs
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from itertools import chain
from typing import BinaryIO

from kubewitness.codec.decode import decode, decode_all
from kubewitness.codec.encode import EVENT_HEAD
from kubewitness.codec.framing import DEFAULT_LIMIT, Frame, cut_line, excerpt, frame_records
from kubewitness.codec.legacy import Dialect, LegacyReader
from kubewitness.errors import DecodeError, Problem, printable
from kubewitness.event import Event

_CHUNK = 1024 * 1024
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31
_GZIP_PIECE = 16 * 1024
_SHORTEST_START = 4
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LOOKED_AT = 1024
_LONGEST_MESSAGE = 300


class Format(StrEnum):
    """Which records a reader accepts."""

    AUTO = "auto"
    JSON = "json"
    LEGACY = "legacy"


class EventReader:
    """The events of one stream, one by one.

    Args:
        stream: Where the bytes come from.
        source: The stream's name in problems.
        on_problem: Called for each piece that is no event; reading goes on after it.
        accept: Which records are read; what is of another format is a problem.
        limit: The longest record in bytes.

    Attributes:
        dialect: The text dialect of the event given last; None if it was JSON.
        line: The line where the record of the event given last starts.
    """

    def __init__(
        self,
        stream: BinaryIO,
        source: str,
        *,
        on_problem: Callable[[Problem], None],
        accept: Format = Format.AUTO,
        limit: int = DEFAULT_LIMIT,
    ) -> None:
        self.dialect: Dialect | None = None
        self.line = 0
        self._stream = stream
        self._source = source
        self._on_problem = on_problem
        self._accept = accept
        self._limit = limit
        self._legacy = LegacyReader()
        self._is_cut_short = False
        self._is_unreadable = False

    def __iter__(self) -> Iterator[Event]:
        for frame in frame_records(self._text(), limit=self._limit):
            self.line = frame.line
            if frame.fault:
                self._report(frame.line, frame.fault)
            elif frame.data[:1] in (b"{", b"["):
                yield from self._json(frame)
            else:
                yield from self._text_line(frame)
        if self.line == 0 and not self._is_unreadable:
            self._report(0, "holds no events")

    def _report(self, line: int, message: str) -> None:
        message = printable(message)
        if len(message) > _LONGEST_MESSAGE:
            message = message[:_LONGEST_MESSAGE] + "…"
        if line and self._is_cut_short:
            return  # the end of damaged gzip data left a piece of a record: said already
        self._is_unreadable = self._is_unreadable or line == 0
        self._on_problem(Problem(self._source, line, 0, "", message))

    def _json(self, frame: Frame) -> Iterator[Event]:
        if self._accept is Format.LEGACY:
            self._report(frame.line, "JSON, where only legacy text is to be read")
            return
        self.dialect = None
        faults: list[DecodeError] = []
        try:
            events = decode_all(frame.data, on_fault=faults.append, version=frame.version)
        except DecodeError as error:
            yield from self._salvage(frame, str(error))
        else:
            yield from events
        if faults and frame.certain:
            listed = f"{len(faults)} elements of the list are no events, the first: {faults[0]}"
            self._report(frame.line, listed if len(faults) > 1 else str(faults[0]))

    def _salvage(self, frame: Frame, fault: str) -> Iterator[Event]:
        """Find whole events in a record that is none: several documents, or a torn start."""
        records = cut_line(frame.data)
        if records is not None and len(records) > 1:
            for record in records:
                yield from self._json(frame._replace(data=record))
            return
        if frame.certain:
            self._report(frame.line, fault)
        yield from self._whole_events_in(frame.data)

    def _whole_events_in(self, data: bytes) -> Iterator[Event]:
        """Read the events after a torn one, or after a hole, that share its line."""
        for rest in data.split(EVENT_HEAD)[1:]:
            try:
                yield decode(EVENT_HEAD + rest)
            except DecodeError:
                continue  # the line was reported already, as a whole

    def _text_line(self, frame: Frame) -> Iterator[Event]:
        line = frame.data.decode("utf-8", "surrogateescape")
        if self._accept is Format.JSON or " AUDIT: " not in line[:100]:
            self._report(frame.line, f"not an audit event: {excerpt(frame.data)}")
            yield from self._whole_events_in(frame.data)
            return
        try:
            event, self.dialect = self._legacy.decode(line)
        except DecodeError as error:
            self._report(frame.line, str(error))
        else:
            yield event

    def _text(self) -> Iterator[bytes]:
        """Yield the stream's bytes as UTF-8, unpacked; report what makes the whole unreadable."""
        chunks = _whole_start(_read_chunks(self._stream))
        first = next(chunks, b"")
        if first.startswith(_GZIP):
            chunks = _whole_start(self._unpack(first, chunks))
            first = next(chunks, b"")
        if not first and self._is_cut_short:
            return
        if not first:
            self._report(0, "is empty: no events")
        elif first.startswith(_UTF16):
            yield from self._from_utf16(first, chunks)
        elif is_binary(first):
            self._report(0, "is a binary file, not an audit log")
        else:
            yield first
            yield from chunks

    def _unpack(self, first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Unpack gzip, also of several members; what a damaged file still holds is read."""
        member = zlib.decompressobj(wbits=_GZIP_WINDOW)
        for packed in chain((first,), chunks):
            rest = packed
            while rest := rest.lstrip(b"\0") if member.eof else rest:  # members may be padded
                if member.eof:
                    member = zlib.decompressobj(wbits=_GZIP_WINDOW)
                piece, later = rest[:_GZIP_PIECE], rest[_GZIP_PIECE:]
                before = member.copy()
                try:
                    yield member.decompress(piece, _CHUNK)
                except zlib.error as error:
                    yield from _last_bytes(before, piece)
                    self._cut_short(f"damaged gzip data ({error}); the rest is not read")
                    return
                rest = (member.unused_data if member.eof else member.unconsumed_tail) + later
        yield member.flush()
        if not member.eof:
            self._cut_short("the gzip data ends too early; the rest is missing")

    def _cut_short(self, message: str) -> None:
        self._report(0, message)
        self._is_cut_short = True

    def _from_utf16(self, first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        yield decoder.decode(first).encode()
        for chunk in chunks:
            yield decoder.decode(chunk).encode()


def read_events(
    stream: BinaryIO,
    source: str,
    *,
    on_problem: Callable[[Problem], None],
    accept: Format = Format.AUTO,
) -> EventReader:
    """Return the events of a stream as an iterable; see `EventReader`."""
    return EventReader(stream, source, on_problem=on_problem, accept=accept)


def is_binary(start: bytes) -> bool:
    """Say whether a file that starts like this is no text; a hole after a crash is not enough."""
    looked_at = start[:_LOOKED_AT]
    if b'"auditID"' in start or b" AUDIT: " in start:
        return False
    if looked_at.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(looked_at)
    except UnicodeDecodeError:
        return True
    return b"\0" in looked_at


def _last_bytes(member: "zlib._Decompress", packed: bytes) -> Iterator[bytes]:
    """Unpack byte by byte what comes before the damage: a failing call gives nothing at all."""
    with suppress(zlib.error):
        for index in range(len(packed)):
            yield member.decompress(packed[index : index + 1])


def _whole_start(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Join the first chunks until they tell what follows; a pipe may give a byte at a time."""
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= _SHORTEST_START:
            break
    if start:
        yield start
    yield from filter(None, chunks)


def _read_chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk
