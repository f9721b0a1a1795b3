"""Where one record ends and the next begins, in a stream of any size and of mixed quality.

The usual log has a record a line, and a line is found with one search. Everything else is followed
by its brackets and strings (`measure`): records over several lines, several on one line,
arrays of records, and the ``items`` of lists, which are cut one by one so that a list of any
length passes through in little memory.

What is broken is reported once and left behind where the next record starts: a line torn by a
crash, by a full disk or by two writers costs the torn record and nothing else. An object found in
the middle of a torn line counts only if the line lets it stand alone, because an object recorded
within an event may look like one.

No decision depends on how the stream is cut into chunks: each waits for the bytes that it needs.
Not here: what a record means. The text is only cut, `decode` and `legacy` read it.
"""

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from kubewitness.codec.grammar import VALUE, excerpt
from kubewitness.codec.measure import RECORD_HEAD, ROOM, Ruler, spaced
from kubewitness.codec.tape import Tape

DEFAULT_LIMIT = 256 * 1024 * 1024
"""The longest record, in bytes, that is kept together; a longer one is reported and skipped."""

_LONGEST_LINE = 1024 * 1024
"""A longer line is not kept as a whole: what it holds is followed record by record."""

_PLAIN_HEAD = b'{"kind":"Event","apiVersion":"audit.k8s.io/'
_BRACE = ord("}")


_HEAD = spaced(RECORD_HEAD)
_WAY_BACK = spaced(rb'\n|\{ "')
_ARRAY_HEAD = re.compile(rb"\[[ \t\r\n]{0,400}[{\]]")
_SEPARATORS = re.compile(rb"(?:[ \t\r\n,]|\xef\xbb\xbf)*+")
_TEXT_RECORD = re.compile(rb"\d{4}-\d\d-\d\dT[^ ]{1,40} AUDIT: ")
_BARE_BRACE = re.compile(rb"\{[ \t\r]*+\n")
_ELEMENT = re.compile(rb"(%s)[ \t\r]*+(?:[,\]]|\Z)" % VALUE)
_ALONE = re.compile(rb"[ \t\r]{0,40}(?:[\n{\0]|\Z)")
_GOES_ON = re.compile(rb'[ \t\r]{0,40}(?:[":]|,[ \t\r]{0,40}[^ \t\r\n{\[])')
_ALONE_IN_LIST = spaced(rb" (?:, \{|[\n\]\0]|\Z)")

_OPEN = "the list that starts here is not closed"


class Frame(Struct, frozen=True, gc=False):
    """A piece of the input.

    Attributes:
        line: 1-based number of the line where it starts.
        data: The text of one record; empty when there is a fault.
        fault: Why a piece is no record; empty for a record.
        certain: False for a piece found while looking for the way back after a fault: if it is
            no record either, that has been reported already.
        listed: Whether it lies in a list, where several pieces of a line can each be at fault.
        version: The apiVersion of the EventList that the record is an item of, or empty: items
            need not have one of their own.
    """

    line: int
    data: bytes
    fault: str = ""
    certain: bool = True
    listed: bool = False
    version: str = ""


def frame_records(chunks: Iterable[bytes], *, limit: int = DEFAULT_LIMIT) -> Iterator[Frame]:
    """Cut a stream into records.

    A record is a JSON object, an element of a list that is none, or a line of other text. A line
    that starts and ends like an object is taken for one: if it cannot be decoded, `frame_again`
    looks closer.

    Args:
        chunks: The bytes, in pieces of any size.
        limit: Longest record in bytes.

    Yields:
        Records and faults, in the order of the input.
    """
    return _Framer(Tape(chunks), limit=limit).frames()


def frame_again(frame: Frame) -> list[Frame]:
    """Cut a record that cannot be decoded: it may be several, or torn, or a list with a bad item.

    Returns:
        What it holds; only the same record if that is one JSON object.
    """
    framer = _Framer(Tape([frame.data], line=frame.line), limit=len(frame.data) + 1, again=frame)
    return list(framer.frames())


class _Framer:
    """Cuts a tape piece by piece.

    Attributes of its state: whether the place is the start of a line, how deep that line is
    indented, whether a torn piece came before on the same line, what closes the open list, where
    that list starts (0: reported), whether its elements are separated well, and, after a record
    over several lines was lost, how deep at most the line is indented that ends the search
    (-1: only an event ends it).
    """

    def __init__(self, tape: Tape, *, limit: int, again: Frame | None = None) -> None:
        self._tape = tape
        self._ruler = Ruler(tape, limit=limit, exact=again is not None)
        self._limit = limit
        self._longest_line = min(limit, _LONGEST_LINE)
        self._again = again is not None
        self._listed = again is not None and again.listed
        self._at_line_start = True
        self._indent = 0
        self._behind_torn = False
        self._closing = ""
        self._version = "" if again is None else again.version
        self._list_line = 0
        self._separated = True
        self._lost: int | None = None if again is None or again.certain else -1

    def frames(self) -> Iterator[Frame]:
        tape = self._tape
        while self._read_line():
            line = tape.line
            if self._at_line_start and not (self._closing or self._again):
                yield from self._plain_lines()
            if line == tape.line:
                yield from self._piece()
        yield from self._leave_list()

    def _read_line(self) -> bool:
        """Have the whole line there, or more of it than is kept; False at the end of the input."""
        tape = self._tape
        while True:
            end = tape.line_end()
            size = (len(tape.data) if end < 0 else end) - tape.at
            # Text has no brackets to follow it by.
            is_text = _TEXT_RECORD.match(tape.data, tape.at) is not None
            longest = self._limit if is_text else self._longest_line
            self._line_size = size if size <= longest else -1
            if end >= 0 or self._line_size < 0:
                return True
            if tape.ended or not tape.grow(to_line_end=True):
                return size > 0

    def _plain_lines(self) -> Iterator[Frame]:
        """Yield the lines that Kubernetes wrote, each a record, up to the first other one."""
        tape = self._tape
        data, at, line, longest = tape.data, tape.at, tape.line, self._longest_line
        while (
            data.startswith(_PLAIN_HEAD, at)
            and 0 <= (end := data.find(b"\n", at)) <= at + longest
            and data[end - 1] == _BRACE
        ):
            self._lost = None
            yield Frame(line, data[at:end])
            at = end + 1
            line += 1
        tape.at, tape.line = at, line

    def _piece(self) -> Iterator[Frame]:
        """Take what starts here, of a line or of a list."""
        tape = self._tape
        found = _SEPARATORS.match(tape.data, tape.at)
        start = found.end() if found else tape.at
        separators = tape.data[tape.at : start]
        self._separated = self._separated or b"," in separators
        newline = separators.rfind(b"\n")
        if newline >= 0:
            tape.move(tape.at + newline + 1)
            self._at_line_start, self._behind_torn = True, False
            return
        opens_line, self._at_line_start = self._at_line_start, False
        if opens_line:
            self._indent = separators.count(b" ") + separators.count(b"\t")
        tape.at = start
        self._line_size -= len(separators) if self._line_size > 0 else 0
        character = tape.data[start : start + 1]
        if opens_line and character in (b"{", b"["):
            self._end_search()
            if not self._separated:
                yield from self._leave_list()
        if character == b"{":
            yield from self._object(opens_line=opens_line)
        elif character == b"[" and (opens_line or not self._closing) and self._is_array():
            yield from self._enter_list("]", 1)
        elif character in (b"]", b"}"):
            yield from self._bracket(opens_line=opens_line)
        elif character:
            yield from self._other()

    # Objects

    def _object(self, *, opens_line: bool) -> Iterator[Frame]:
        """Take the object that starts here: a record, or a list to go into."""
        if opens_line and (size := self._whole_line()):
            yield self._record(size)
            return
        found = self._ruler.measure(self._indent, may_be_list=not self._closing)
        if found.list_head:
            yield from self._enter_list("]}", found.list_head)
            self._version = found.version
        elif found.fault:
            yield from self._give_up(found.fault, found.resume)
        elif not self._stands_alone(found.size):
            yield from self._give_up("the record goes on behind its end", found.size)
        else:
            yield self._record(found.size)

    def _whole_line(self) -> int:
        """Return the size of what looks like the only record of its line, 0 if nothing does."""
        if self._line_size < 0 or self._again or self._is_within_lost():
            return 0
        tape = self._tape
        line = tape.data[tape.at : tape.at + self._line_size].rstrip(b" \t\r")
        record = line.removesuffix(b",")
        if not (record.startswith(b'{"') and record.endswith(b"}")) or b'"items"' in record:
            return 0
        # The last line of a list may end with the list's own brackets.
        return 0 if self._closing and len(record) == len(line) else len(record)

    def _record(self, size: int) -> Frame:
        tape = self._tape
        data = tape.data[tape.at : tape.at + size]
        frame = self._frame(data)
        if b'"auditID"' in data and not frame.certain:
            self._lost, self._behind_torn = None, False
        self._separated = False
        tape.move(tape.at + size)
        return frame

    def _frame(self, data: bytes, fault: str = "") -> Frame:
        is_certain = self._lost is None and not self._behind_torn
        is_listed = self._listed or bool(self._closing)
        return Frame(self._tape.line, data, fault, is_certain, is_listed, self._version)

    # Lists

    def _is_array(self) -> bool:
        self._tape.fill(ROOM)
        return _ARRAY_HEAD.match(self._tape.data, self._tape.at) is not None

    def _enter_list(self, closing: str, size: int) -> Iterator[Frame]:
        yield from self._leave_list()
        tape = self._tape
        self._closing = closing
        self._list_line = tape.line if self._lost is None else 0
        self._separated = True
        tape.move(tape.at + size)

    def _leave_list(self) -> Iterator[Frame]:
        """Report a list that was left without its end."""
        if self._list_line:
            yield Frame(self._list_line, b"", _OPEN, self._lost is None)
        self._closing, self._version, self._list_line = "", "", 0

    def _bracket(self, *, opens_line: bool) -> Iterator[Frame]:
        """Take a closing bracket: a list's own, or one whose beginning is not in the input."""
        tape = self._tape
        bracket = tape.data[tape.at : tape.at + 1]
        if self._closing and bracket == b"]":
            yield from self._close_list()
            return
        is_certain = self._lost is None and not self._behind_torn
        yield Frame(tape.line, b"", f"not an audit event: {excerpt(bracket)}", is_certain)
        if opens_line and self._lost is None:
            self._lost = self._indent
        self._at_line_start = opens_line
        tape.move(tape.at + 1)

    def _close_list(self) -> Iterator[Frame]:
        tape = self._tape
        has_members = self._closing == "]}"
        self._closing = self._version = ""
        tape.move(tape.at + 1)
        if has_members:
            found = self._ruler.measure(self._indent, inside="object")
            if found.fault:
                yield from self._give_up(found.fault, found.resume)
                return
            tape.move(tape.at + found.size)
        self._list_line = 0

    # What is no record

    def _other(self) -> Iterator[Frame]:
        """Take an element of a list that is no object, or text up to the end of the line."""
        tape = self._tape
        if self._line_size < 0:
            start = tape.data[tape.at : tape.at + 100]
            yield from self._give_up(f"not an audit event: {excerpt(start)}", 1)
            return
        end = tape.at + self._line_size
        if self._closing and (element := _ELEMENT.match(tape.data, tape.at, end)):
            yield self._record(len(element[1]))
            return
        if tape.data.find(b"{", tape.at, end) >= 0:
            tape.fill(self._line_size + ROOM)
        found = _WAY_BACK.search(tape.data, tape.at + 1)
        size = found.start() - tape.at if found else self._line_size
        text = tape.data[tape.at : tape.at + size].rstrip(b" \t\r")
        yield self._frame(text)
        if self._lost is None and self._indent and text.startswith(b'"'):
            self._lost = -1  # a member of a record over several lines, whose start is not here
        self._behind_torn = True
        tape.move(tape.at + size)

    def _give_up(self, fault: str, resume: int) -> Iterator[Frame]:
        """Report what cannot be a record, and go on where the next one may start."""
        tape = self._tape
        yield self._frame(b"", fault)
        if self._lost is None and (
            tape.data.find(b"\n", tape.at, tape.at + resume) >= 0
            or _BARE_BRACE.match(tape.data, tape.at)
        ):
            self._lost = -1 if self._ruler.is_flat(self._indent) else self._indent
        self._list_line = 0
        self._separated = self._behind_torn = True
        tape.move(tape.at + max(resume, 1))
        self._find_way_back()

    def _find_way_back(self) -> None:
        """Move to the end of the line, or to what looks like the head of a record before that."""
        tape = self._tape
        while True:
            found = _WAY_BACK.search(tape.data, tape.at)
            here = found.start() if found else len(tape.data)
            # Behind a brace, the end of a line may lie within a head that is not all there yet.
            is_sure = tape.data.find(b"{", tape.at, here + 1) < 0 or len(tape.data) - here >= ROOM
            if found and (is_sure or tape.ended):
                tape.move(here)
                return
            tape.move(max(tape.at, here - ROOM))
            if not tape.grow() and not found:
                tape.move(len(tape.data))
                return

    def _end_search(self) -> None:
        """After a record over several lines was lost, see whether this line starts a new one."""
        if self._lost is None:
            return
        self._tape.fill(ROOM)
        is_head = self._lost < 0 and _HEAD.match(self._tape.data, self._tape.at)
        if self._indent <= self._lost or is_head:
            self._lost = None

    def _stands_alone(self, size: int) -> bool:
        """Say whether the object here is one of its own, not a part of a larger one."""
        tape = self._tape
        if not self._behind_torn:
            if self._is_within_lost():
                return False
            if tape.data.startswith(b"\n", tape.at + size):
                return True
        tape.fill(size + ROOM)
        in_list = self._listed or bool(self._closing)
        if not self._behind_torn:
            return in_list or _GOES_ON.match(tape.data, tape.at + size) is None
        pattern = _ALONE_IN_LIST if in_list else _ALONE
        return pattern.match(tape.data, tape.at + size) is not None

    def _is_within_lost(self) -> bool:
        return self._lost is not None and 0 <= self._lost < self._indent
