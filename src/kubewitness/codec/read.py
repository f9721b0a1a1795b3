"""Streams of events in any form the project knows, told apart record by record.

`read_events` takes bytes from a file or a pipe and gives events: JSON lines, concatenated or
indented JSON, arrays, EventLists and Lists, the legacy text formats, each of them also gzipped,
after a byte-order mark, or in UTF-16. Memory does not grow with the input. What is no event goes
to `on_problem` with its line, and reading goes on.

Not here: opening files (the caller gives a binary stream), and judging what an event says.
"""

import codecs
import zlib
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import chain
from typing import BinaryIO

from kubewitness.codec.decode import decode_all
from kubewitness.codec.framing import DEFAULT_LIMIT, Frame, frame_again, frame_records
from kubewitness.codec.grammar import excerpt
from kubewitness.codec.legacy import Dialect, LegacyReader
from kubewitness.errors import DecodeError, Problem, printable
from kubewitness.event import Event

_CHUNK = 1024 * 1024
_GZIP = b"\x1f\x8b"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LOOKED_AT = 65_536
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
        self._is_damaged = False
        self._is_unreadable = False
        self._reported_line = 0

    def __iter__(self) -> Iterator[Event]:
        wants_json = self._accept is not Format.LEGACY
        for frame in frame_records(self._text(), limit=self._limit):
            self.line = frame.line
            if wants_json and frame.data.startswith(b"{"):
                try:
                    events = decode_all(frame.data, version=frame.version)
                except DecodeError as error:
                    yield from self._look_closer(frame, str(error))
                    continue
                self.dialect = None
                yield from events
            else:
                yield from self._other(frame)
        if self.line == 0 and not self._is_unreadable:
            self._report(0, "holds no events")

    def _report_piece(self, piece: Frame, message: str) -> None:
        """Report a piece of the text, of a torn line only the first."""
        # Of what damaged gzip data ends with, the damage itself has been reported.
        is_new = piece.certain and not self._is_damaged
        if is_new and (piece.listed or piece.line != self._reported_line):
            self._reported_line = piece.line
            self._report(piece.line, message)

    def _report(self, line: int, message: str) -> None:
        message = printable(message)
        if len(message) > _LONGEST_MESSAGE:
            message = message[: _LONGEST_MESSAGE - 1] + "…"
        self._is_unreadable = self._is_unreadable or line == 0
        self._on_problem(Problem(self._source, line, 0, "", message))

    def _look_closer(self, frame: Frame, fault: str) -> Iterator[Event]:
        """Read what whole events there are in a record that is none."""
        pieces = frame_again(frame)
        if len(pieces) == 1 and pieces[0].data == frame.data:
            self._report_piece(frame, fault)
            return
        if pieces[0].fault:
            self._report_piece(frame, fault)  # it says more
            del pieces[0]
        for piece in pieces:
            self.line = piece.line
            if not piece.data.startswith(b"{"):
                yield from self._other(piece)
                continue
            try:
                events = decode_all(piece.data, version=piece.version)
            except DecodeError as error:
                self._report_piece(piece, str(error))
                continue
            self.dialect = None
            yield from events

    def _other(self, frame: Frame) -> Iterator[Event]:
        """Read a line of text; report what is none."""
        line = frame.data.decode("utf-8", "surrogateescape")
        if frame.fault:
            self._report_piece(frame, frame.fault)
        elif frame.data.startswith(b"{"):
            self._report_piece(frame, "JSON, where only legacy text is to be read")
        elif self._accept is Format.JSON or " AUDIT: " not in line[:100]:
            self._report_piece(frame, f"not an audit event: {excerpt(frame.data)}")
        else:
            try:
                event, self.dialect = self._legacy.decode(line)
            except DecodeError as error:
                self._report_piece(frame, str(error))
            else:
                yield event

    def _text(self) -> Iterator[bytes]:
        """Yield the stream's bytes as UTF-8, unpacked; report what makes the whole unreadable."""
        chunks = _recognisable(_read_chunks(self._stream))
        first = next(chunks)
        if first.startswith(_GZIP):
            chunks = _recognisable(self._unpack(chain((first,), chunks)))
            first = next(chunks)
        if not first:
            if not self._is_damaged:
                self._report(0, "is empty: no events")
        elif first.startswith(_UTF16):
            yield from _from_utf16(chain((first,), chunks))
        elif is_binary(first):
            self._report(0, "is a binary file, not an audit log")
        else:
            yield first
            yield from chunks

    def _unpack(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Unpack gzip, also of several members; what a damaged file still holds is read."""
        member = None
        try:
            for chunk in chunks:
                packed = chunk
                while packed := packed if member else packed.lstrip(b"\0"):  # padding
                    member = member or zlib.decompressobj(wbits=31)
                    yield from _inflate(member, packed)
                    packed = member.unused_data
                    member = None if member.eof else member
        except zlib.error as error:
            self._is_damaged = True
            self._report(0, f"damaged gzip data ({error}); the rest is not read")
            return
        if member:
            self._is_damaged = True
            self._report(0, "the gzip data ends too early; the rest is missing")


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
    text = looked_at.lstrip(b"\0")
    if not text or text.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return False
    if b'"auditID"' in text or b" AUDIT: " in text:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text)
    except UnicodeDecodeError:
        return True
    return b"\0" in text


def _recognisable(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes, but first a piece that is long enough to tell what they are."""
    chunks = iter(chunks)
    start = bytearray()
    for chunk in chunks:
        start += chunk
        if len(start) >= _LOOKED_AT or start.startswith((_GZIP, *_UTF16)):
            break
        if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
            break
        if b" AUDIT: " in start:  # a live text log must not wait for more of it
            break
    yield bytes(start)
    yield from chunks


def _read_chunks(stream: BinaryIO) -> Iterator[bytes]:
    # A pipe's read waits for all that is asked for; read1 gives what has come.
    read: Callable[[int], bytes | None] = getattr(stream, "read1", stream.read)
    while chunk := read(_CHUNK):
        yield chunk


def _inflate(member: "zlib._Decompress", packed: bytes, size: int = _CHUNK) -> Iterator[bytes]:
    """Yield what a piece of a gzip member holds, all of it that comes before any damage."""
    while not member.eof:
        before = member.copy()
        try:
            piece = member.decompress(packed, size)
        except zlib.error:
            # The error took along what the same call had unpacked: get that in smaller steps.
            if size > 1:
                yield from _inflate(before, packed, max(1, size // 64))
            raise
        packed = member.unconsumed_tail
        if piece:
            yield piece
        if not packed and len(piece) < size:
            return


def _from_utf16(chunks: Iterable[bytes]) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    for chunk in chunks:
        yield decoder.decode(chunk).encode()
    yield decoder.decode(b"", final=True).encode()
