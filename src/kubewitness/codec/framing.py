"""Where one record ends and the next begins, in a stream of any size and of mixed quality.

The usual log has a record a line, and a line is found with one search. Everything else goes
through a `_Cutter`, which follows brackets and strings: records over several lines, several on
one line, arrays of records, and the ``items`` of lists, which are cut one by one so that a list of
any length passes through in little memory.

What is broken is reported once and left behind at the next line that starts a record: a line torn
by a crash, by a full disk or by two writers costs the torn record and nothing else.

Not here: what a record means. The text is only cut, `decode` and `legacy` read it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

DEFAULT_LIMIT = 256 * 1024 * 1024
"""The longest record, in bytes, that is kept together; a longer one is reported and skipped."""

_STREAM_FROM = 4 * 1024 * 1024
_RECORD_START = b'{"'
_TEXT_RECORD = re.compile(rb"\d{4}-\d\d-\d\dT[^ ]{1,40} AUDIT: ")
_ARRAY_START = re.compile(rb"\[\s*(?:$|[\[{\]])")
_LIST_VERSION = re.compile(rb'"apiVersion"\s*:\s*"([^"\\]*)"')
_LIST_START = re.compile(
    rb'\{(?:\s*"(?:kind|apiVersion)"\s*:\s*"[^"\\]*"\s*,|\s*"metadata"\s*:\s*\{[^{}]*\}\s*,)*+'
    rb'\s*"items"\s*:\s*\['
)
_SWALLOWED_DEPTH = 4


def _run_pattern(depth: int) -> re.Pattern[bytes]:
    """Match white space, scalars and whole strings, and brackets nested up to a depth.

    All that leaves the depth as it is, that is. What is swallowed here costs no Python at all;
    more levels double the pattern each and gain little, for the strings are most of the work.
    """
    flat = rb'[ \t\r\n,:0-9+\-.Eaeflnrstu]++|"(?:[^"\\\n]++|\\[^\n])*+"'
    pattern = rb"(?:" + flat + rb")*+"
    for _ in range(depth):
        pattern = rb"(?:" + flat + rb"|\{" + pattern + rb"\}|\[" + pattern + rb"\])*+"
    return re.compile(pattern)


_RUN = _run_pattern(0)
_NESTED_RUN = _run_pattern(_SWALLOWED_DEPTH)
_IN_STRING = re.compile(rb'(?:[^"\\\n]++|\\[^\n])*+')
_SEPARATORS = b" \t\r\n,"


class Frame(NamedTuple):
    """A piece of the input.

    Attributes:
        line: 1-based number of the line where it starts.
        data: The text of one record; empty when there is a fault.
        fault: Why a piece is no record; empty for a record.
        certain: False for a piece found while looking for the way back after a fault: if it is
            no record either, that has been reported already.
        version: The apiVersion of the EventList that the record is an item of, or empty: items
            need not have one of their own.
    """

    line: int
    data: bytes
    fault: str = ""
    certain: bool = True
    version: str = ""


def frame_records(chunks: Iterable[bytes], *, limit: int = DEFAULT_LIMIT) -> Iterator[Frame]:
    """Cut a stream into records.

    Args:
        chunks: The bytes, in pieces of any size.
        limit: Longest record in bytes.

    Yields:
        Records and faults, in the order of the input.
    """
    framer = _Framer(limit)
    for chunk in chunks:
        yield from framer.feed(chunk)
    yield from framer.close()


def cut_line(data: bytes) -> list[bytes] | None:
    """Cut a line that holds several JSON documents; None if it does not hold whole ones."""
    cutter = _Cutter(1, len(data) + 1)
    try:
        records = [record for _, record in cutter.feed(data)]
    except _Torn:
        return None
    return records if cutter.is_idle else None


class _Framer:
    """Lines first; a `_Cutter` only while a record needs more than its line."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._number = 1
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._hold_until = _STREAM_FROM
        self._cutter: _Cutter | None = None
        self._skipping_line = False
        self._lost = False

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines and self._pending:
            self._pending.append(lines[0])
            lines[0] = self._take_pending()
        for line in lines:
            if self._cutter is None and line[:1] == b"{" and line[-1:] == b"}":
                if self._skipping_line:
                    self._skipping_line = False
                else:
                    yield self._record(self._number, line)
            else:
                yield from self._line(line)
            self._number += 1
        if rest:
            yield from self._hold(rest)

    def close(self) -> Iterator[Frame]:
        if self._pending:
            yield from self._line(self._take_pending())
        if self._cutter is not None and not self._cutter.is_idle:
            yield from self._abandon(self._cutter, "the input ends in the middle of a record")

    def _take_pending(self) -> bytes:
        start = b"".join(self._pending)
        self._pending = []
        self._pending_size = 0
        self._hold_until = _STREAM_FROM
        return start

    def _hold(self, rest: bytes) -> Iterator[Frame]:
        """Keep the start of a line until its end arrives; stream it once it is long."""
        if self._skipping_line:
            return
        self._pending.append(rest)
        self._pending_size += len(rest)
        if self._pending_size < self._hold_until:
            return
        start = self._take_pending()
        if self._cutter is not None or _may_be_json(start.lstrip()):
            yield from self._cut(start)
        elif _TEXT_RECORD.match(start) and len(start) < self._limit:
            self._pending = [start]  # text has no brackets to stream it by
            self._pending_size = len(start)
            self._hold_until = self._limit
        else:
            yield Frame(self._number, b"", f"not an audit event: {excerpt(start)}", not self._lost)
            self._skipping_line = True

    def _line(self, line: bytes) -> Iterator[Frame]:
        """Take a whole line that is not simply one record."""
        if self._skipping_line:
            self._skipping_line = False
            return
        if self._cutter is not None:
            if self._cutter.is_torn_by(line):
                yield from self._abandon(self._cutter, "the record is cut off in the middle")
            else:
                yield from self._cut(line + b"\n")
                return
        text = line.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r")
        if text.endswith(b"},"):  # an element of an array whose start was lost
            text = text[:-1]
        if text.startswith(b"{") and text.endswith(b"}"):
            yield self._record(self._number, text)
        elif _may_be_json(text):
            yield from self._cut(text + b"\n")
        elif _TEXT_RECORD.match(text):
            self._lost = False
            yield Frame(self._number, text)
        elif text and not (self._lost or text in (b"]", b"},", b"],")):
            yield Frame(self._number, text)

    def _cut(self, data: bytes) -> Iterator[Frame]:
        cutter = self._cutter = self._cutter or _Cutter(self._number, self._limit)
        try:
            for line, record in cutter.feed(data):
                yield self._record(line, record, cutter.version)
        except _Torn as torn:
            self._skipping_line = not data.endswith(b"\n")
            yield from self._abandon(cutter, str(torn))
            return
        if cutter.is_idle:
            self._cutter = None

    def _record(self, line: int, data: bytes, version: str = "") -> Frame:
        """Make a frame; the first one that looks like an event ends a search."""
        frame = Frame(line, data, "", not self._lost, version)
        self._lost = self._lost and b'"auditID"' not in data
        return frame

    def _abandon(self, cutter: "_Cutter", fault: str) -> Iterator[Frame]:
        """Report a broken record, and look through its later lines for whole ones."""
        self._cutter = None
        if not self._lost:
            yield Frame(cutter.record_line, b"", fault)
        _, *later = cutter.unfinished().split(b"\n")
        self._lost = cutter.is_amid_list or len(later) > 1
        for offset, line in enumerate(later, 1):
            text = line.strip(b" \t\r,")
            if text.startswith(b"{") and text.endswith(b"}"):
                yield Frame(cutter.record_line + offset, text, "", certain=False)


def _may_be_json(text: bytes) -> bool:
    """Tell the start of an object or of an array of objects from text in brackets."""
    return text[:1] == b"{" or _ARRAY_START.match(text) is not None


class _Torn(Exception):  # noqa: N818 - it never leaves this module
    """The text cannot be a record any more."""


class _Cutter:
    """Follows the brackets of JSON text and cuts out the records.

    A record is an object at the depth of `_base`: 0 for objects one after the other, 1 inside an
    array of records, 2 inside the ``items`` of a list.
    """

    def __init__(self, line: int, limit: int) -> None:
        self.version = ""
        self._limit = limit
        self._buffer = bytearray()
        self._line = line
        self._counted = 0  # the position up to which newlines are counted in _line
        self._has_cut = False
        self._at = 0
        self._open = bytearray()
        self._base = 0
        self._start: int | None = None
        self._in_string = False

    @property
    def is_idle(self) -> bool:
        return not self._open

    @property
    def is_amid_list(self) -> bool:
        """Whether a list was being read that had records in it."""
        return self._base > 0 and self._has_cut

    @property
    def record_line(self) -> int:
        """The line where the record being cut starts."""
        self._count_lines(self._start or 0)
        return self._line

    def _count_lines(self, end: int) -> None:
        if end > self._counted:
            self._line += self._buffer.count(b"\n", self._counted, end)
            self._counted = end

    def unfinished(self) -> bytes:
        return bytes(self._buffer[self._start or 0 :])

    def is_torn_by(self, line: bytes) -> bool:
        """Say whether a line starts a record where the open one cannot contain it."""
        if _TEXT_RECORD.match(line):
            return True
        if self._start is None or line[:1] != b"{":
            return False
        return line.startswith(_RECORD_START) or not self._expects_value()

    def _expects_value(self) -> bool:
        """Say whether an object may start a line after what was read so far.

        Not after a line that is indented: what that one opened would be indented, too.
        """
        read = bytes(self._buffer[-4096:]).rstrip()
        if read.rpartition(b"\n")[2][:1] in (b" ", b"\t"):
            return False
        last = read[-1:]
        return last in (b":", b"[") or (last == b"," and self._open[-1:] == b"[")

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take more text; yield (line, record) for each record that it completes.

        Raises:
            _Torn: A string runs over a line's end, brackets do not match, text stands between
                records, or the record is longer than the limit.
        """
        self._buffer += data
        while self._at < len(self._buffer):
            if self._in_string:
                if not self._close_string():
                    break
            else:
                self._run()
                if self._at < len(self._buffer) and (found := self._bracket()) is not None:
                    yield found
        self._drop_consumed()

    def _run(self) -> None:
        # Records and the items of a list open at these depths, and must not be swallowed.
        is_inside = len(self._open) > max(self._base, 1)
        run = (_NESTED_RUN if is_inside else _RUN).match(self._buffer, self._at)
        end = run.end() if run else self._at
        if len(self._open) == self._base and self._buffer[self._at : end].strip(_SEPARATORS):
            raise _Torn(f"not an audit event: {excerpt(self._buffer[self._at : end])}")
        self._at = end

    def _close_string(self) -> bool:
        """Move to the end of a string that an earlier piece of text left open."""
        inside = _IN_STRING.match(self._buffer, self._at)
        self._at = inside.end() if inside else self._at
        rest = self._buffer[self._at : self._at + 2]
        if rest[:1] == b'"':
            self._in_string = False
            self._at += 1
            return True
        if b"\n" in rest:
            raise _Torn("the record is cut off inside a string")
        return False

    def _bracket(self) -> tuple[int, bytes] | None:
        """Take the bracket or the opening quote at the current position."""
        character = bytes(self._buffer[self._at : self._at + 1])
        self._at += 1
        if character == b'"':
            self._in_string = True
        elif character in b"{[":
            self._opening(character)
        elif character in b"}]":
            return self._closing(character)
        else:
            raise _Torn(f"{self._surprise()}: {excerpt(self._buffer[self._at - 1 :])}")
        return None

    def _surprise(self) -> str:
        is_between = len(self._open) == self._base
        return "not an audit event" if is_between else "the record is cut off in the middle"

    def _opening(self, character: bytes) -> None:
        if self._base == 0 and not self._open and character == b"[":
            self._base = 1
        elif len(self._open) == self._base:
            self._start = self._at - 1
        self._open += character
        if self._base == 0 and self._open == b"{[" and self._start is not None:
            head = _LIST_START.match(self._buffer, self._start, self._at)
            if head is not None and head.end() == self._at:
                self._base = 2
                self._start = None
                self.version = _item_version(head[0])

    def _closing(self, character: bytes) -> tuple[int, bytes] | None:
        if not self._open or bytes((self._open[-1],)) + character not in (b"{}", b"[]"):
            raise _Torn("the record is cut off in the middle: brackets do not match")
        self._open.pop()
        if len(self._open) < self._base:
            self._base = 0
            self.version = ""
        if self._start is None or len(self._open) > self._base:
            return None
        found = self.record_line, bytes(self._buffer[self._start : self._at])
        self._start = None
        self._has_cut = True
        return found

    def _drop_consumed(self) -> None:
        consumed = self._at if self._start is None else self._start
        self._count_lines(consumed)
        self._counted = 0
        del self._buffer[:consumed]
        self._at -= consumed
        if self._start is not None:
            self._start = 0
        if len(self._buffer) > self._limit:
            raise _Torn(f"the record is longer than {self._limit} bytes")


def _item_version(head: bytes) -> str:
    """Return the version that the items of an EventList have; those of a List say their own."""
    version = _LIST_VERSION.search(head)
    return version[1].decode("utf-8", "replace") if version and b'"EventList"' in head else ""


def excerpt(text: bytes | bytearray, *, length: int = 40) -> str:
    """Return the start of a text for a message, safe to print."""
    start = bytes(text[: length + 1].lstrip())
    shown = ascii(start[:length].decode("utf-8", "replace"))
    return f"{shown[:-1]}…'" if len(start) > length else shown
