"""How long a value on a tape is: where it ends, whether it is torn, or whether it is a list.

A value is torn when it goes on in a way that no JSON can, and also when a line that is indented no
deeper than its own starts with ``{``: the next record. What starts as a list of events is not
followed to its end, only to its items.

Not here: what to do about it (`framing`).
"""

import re
from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec import Struct

from kubewitness.codec.decode import is_list_of_events
from kubewitness.codec.grammar import STRING, VALUE, follow
from kubewitness.codec.tape import Tape
from kubewitness.event import API_VERSION


def spaced(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a pattern in which a blank stands for a few blanks or none."""
    return re.compile(pattern.replace(b" ", rb"[ \t\r\n]{0,20}+"))


RECORD_HEAD = (
    rb'\{ "(?:kind" : "Event(?:List)?" , "apiVersion" : "audit\.k8s\.io/'
    rb'|apiVersion" : "audit\.k8s\.io/'
    rb'|level" : "[A-Za-z]{4,15}" , "auditID" :'
    rb'|metadata" : \{ (?:"creationTimestamp" : (?:null|"[^"\s]{,40}") )?\} , "level" :)'
)
"""The pattern, for `spaced`, of how an event may start; it matches within `ROOM` bytes."""

ROOM = 512

_EVENT_HEAD = spaced(rb'\{ "kind" : "Event"')
_HEAD_ON_LINE = spaced(rb"\n" + RECORD_HEAD)
_SECOND_LINE = re.compile(rb'\{[ \t\r]*+\n([ \t]*+)["}]')
_LIST_HEAD = re.compile(
    rb'\{ (?:(?!"items" : \[)%s : %s , )*+"items" : \['.replace(b" ", rb"[ \t\r\n]*+")
    % (STRING, VALUE)
)


class Measure(NamedTuple):
    """How long a value is; or why it is none, and behind how many bytes another one may start.

    Attributes:
        size: Its length in bytes; 0 for none.
        fault: What is wrong with it; empty if nothing is.
        resume: How far to go before looking for another value.
        list_head: The length of a list's start, up to its first item.
        version: The list's apiVersion, if it is an EventList and says so in its start.
    """

    size: int = 0
    fault: str = ""
    resume: int = 0
    list_head: int = 0
    version: str = ""


class _Envelope(Struct, rename="camel"):
    kind: str = ""
    api_version: str = ""


class Ruler:
    """Measures what stands on a tape, at the tape's place.

    Args:
        tape: It is read on as needed.
        limit: The longest value, in bytes.
        exact: Go by JSON's own grammar, see `grammar.follow`.
    """

    def __init__(self, tape: Tape, *, limit: int, exact: bool) -> None:
        self._tape = tape
        self._limit = limit
        self._exact = exact
        self._fence_key: tuple[object, int] = (None, 0)
        self._fence_span = (0, 0)

    def measure(self, indent: int, *, may_be_list: bool = False, inside: str = "") -> Measure:
        """Measure the value that starts here.

        Args:
            indent: How deep the line is indented where it starts.
            may_be_list: Whether to stop at the items of a list of events.
            inside: ``object`` to measure from behind a member of an object to the object's end.
        """
        tape = self._tape
        while True:
            fence, most = self._fence(indent), tape.at + self._limit
            stop = min(fence, most, len(tape.data))
            if may_be_list and (head := self._list_head(stop)):
                return head
            reach = follow(tape.data, tape.at, stop, inside=inside, exact=self._exact)
            if reach.end:
                return Measure(size=reach.end - tape.at)
            resume = self._resume(reach.last) - tape.at
            if reach.broken or stop == fence < len(tape.data):
                return Measure(fault="the record is cut off in the middle", resume=resume)
            if stop == most:
                fault = f"the record is longer than {self._limit} bytes"
                return Measure(fault=fault, resume=self._limit)
            if not tape.grow():
                return Measure(
                    fault="the record is cut off: the input ends in the middle of it", resume=resume
                )

    def _resume(self, last: int) -> int:
        """Return where to go on when the value breaks behind a token: on its line, if need be."""
        data = self._tape.data
        line_end = data.rfind(b"\n", self._tape.at, last)
        if line_end < 0:
            return last
        is_object = data.startswith(b"{", last) and not data[line_end + 1 : last].strip()
        # Else the whole line may be a record of its own, of text for example: it is read afresh.
        return last if is_object else line_end

    def is_flat(self, indent: int) -> bool:
        """Say whether the object here has its members on lines that are indented no deeper."""
        second = _SECOND_LINE.match(self._tape.data, self._tape.at)
        return second is not None and len(second[1]) <= indent

    def _list_head(self, stop: int) -> Measure | None:
        tape = self._tape
        if _EVENT_HEAD.match(tape.data, tape.at):
            return None
        head = _LIST_HEAD.match(tape.data, tape.at, stop)
        if head is None:
            return None
        try:
            envelope = msgspec.json.decode(head[0] + b"]}", type=_Envelope)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        # What is not known yet may still come, behind the items.
        may_be = is_list_of_events(envelope.kind, envelope.api_version or API_VERSION)
        if envelope.kind and not may_be:
            return None
        own = (
            "" if envelope.kind == "List" or envelope.api_version == "v1" else envelope.api_version
        )
        return Measure(list_head=len(head[0]), version=own)

    def _fence(self, indent: int) -> int:
        """Return where the next record starts for certain; the end of what is there if nowhere."""
        tape = self._tape
        pattern = _HEAD_ON_LINE if self.is_flat(indent) else _line_opening(indent)
        key = (pattern, tape.reads)
        if self._fence_key != key or self._fence_span[0] < tape.at:
            found = pattern.search(tape.data, tape.at)
            self._fence_key = key
            self._fence_span = found.span() if found else (len(tape.data), 0)
        start, end = self._fence_span
        return start if end <= tape.at + self._limit else len(tape.data)


@lru_cache(maxsize=64)
def _line_opening(indent: int) -> re.Pattern[bytes]:
    """Return the pattern of an object that starts a line indented so deep or less."""
    return re.compile(rb"\n[ \t]{0,%d}\{" % indent)
