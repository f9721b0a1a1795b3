r"""Bytes to events: JSON as Kubernetes writes it now, wrote it once, and as other tools hand it on.

Two ways. What Kubernetes itself writes is decoded straight into the model. Anything that fails
there, or is not a plain ``audit.k8s.io/v1`` Event, goes the patient way: member by member with the
standard library's reader, which accepts what Go accepts (``null`` for an empty value, broken UTF-8
and lone ``\ud800`` escapes, both read as U+FFFD) and tells where each recorded object lies in the
text, so that those bytes are taken over untouched.

Not here: legacy text (`legacy`), finding where one record ends and the next begins (`framing`).

Source: audit specification sections 1 and appendix A; for the older versions upstream's
``pkg/apis/audit/{v1alpha1,v1beta1}/conversion.go`` of 1.23.
"""

import json
import re
from collections.abc import Callable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from typing import Any, NoReturn

import msgspec
from msgspec import Raw

from kubewitness.codec.encode import EVENT_HEAD
from kubewitness.codec.grammar import end_of_value, surprise
from kubewitness.codec.times import is_micro_time, to_nanoseconds
from kubewitness.errors import DecodeError
from kubewitness.event import API_VERSION, NO_OBJECT, Event, EventList

OnFault = Callable[[DecodeError], object]

OLD_VERSIONS = ("audit.k8s.io/v1beta1", "audit.k8s.io/v1alpha1")

_LIST_HEAD = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1",'


class _Envelope(msgspec.Struct, rename="camel"):
    kind: str = ""
    api_version: str = ""


_DECODER = msgspec.json.Decoder(Event)
_LIST_DECODER = msgspec.json.Decoder(EventList)
_ENVELOPE_DECODER = msgspec.json.Decoder(_Envelope)
_OBJECTS = ("requestObject", "responseObject")
_READ = (
    *(name for name in Event.__struct_encode_fields__ if name not in _OBJECTS),
    "metadata",  # these two only in the older versions
    "timestamp",
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANKS = re.compile(r"[ \t\r\n]*")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode(data: bytes) -> Event:
    """Read one Event document: v1, or the older v1beta1 and v1alpha1.

    Recorded objects keep their bytes. They refer to `data`, so an event keeps it alive.

    Raises:
        DecodeError: The bytes are not JSON, or not one audit event.
    """
    event = _decode_plain(data)
    if event is not None:
        return event
    events = _decode_patiently(data)
    if len(events) != 1:
        raise DecodeError(f"a list of {len(events)} events where one event is expected")
    return events[0]


def decode_all(data: bytes, *, on_fault: OnFault | None = None, version: str = "") -> list[Event]:
    """Read one JSON document: an Event, an EventList, a v1 List of Events, or an array of them.

    Args:
        data: The document.
        on_fault: Told of each element of a list that is no event; the others are still read.
            Without it, one such element fails the list.
        version: The apiVersion of a document that has none because it is an item of an EventList.

    Raises:
        DecodeError: The document is not JSON, or is not an event or a list of them.
    """
    if data.startswith(_LIST_HEAD):
        events = _decode_plain_list(data)
        return _decode_patiently(data, on_fault) if events is None else events
    event = _decode_plain(data, version)
    return _decode_patiently(data, on_fault, version) if event is None else [event]


def _decode_plain(data: bytes, version: str = "") -> Event | None:
    """Read an Event of Kubernetes' own; None if it is for the patient way to read or to refuse."""
    try:
        if data.startswith(EVENT_HEAD) or _is_event(_ENVELOPE_DECODER.decode(data), version):
            event = _DECODER.decode(data)
            return event if _is_plain(event) else None
    except _UNREADABLE:
        return None
    return None


def _decode_plain_list(data: bytes) -> list[Event] | None:
    try:
        events = list(_LIST_DECODER.decode(data).items)
    except _UNREADABLE:
        return None
    # An item without these is of another kind, and would pass for an event with nothing in it.
    whole = all(event.audit_id and event.stage and _is_plain(event) for event in events)
    return events if whole else None


def _is_event(envelope: _Envelope, version: str) -> bool:
    kind = envelope.kind or ("Event" if version else "")
    return kind == "Event" and (envelope.api_version or version) == API_VERSION


def _raise(fault: DecodeError) -> NoReturn:
    raise fault


def _decode_patiently(
    data: bytes, on_fault: OnFault | None = None, version: str = ""
) -> list[Event]:
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    try:
        return list(_documents(text, on_fault or _raise, version))
    except (RecursionError, ValueError) as error:
        raise DecodeError(f"not JSON that can be read: {error}") from None


def _is_plain(event: Event) -> bool:
    return _has_plain_times(event) and not (
        _is_null(event.request_object) or _is_null(event.response_object)
    )


def _is_null(document: Raw) -> bool:
    return document is not NO_OBJECT and bytes(document) == b"null"


def _has_plain_times(event: Event) -> bool:
    received, stage = event.request_received_timestamp, event.stage_timestamp
    return (received is None or is_micro_time(received)) and (stage is None or is_micro_time(stage))


def _documents(text: str, on_fault: OnFault, version: str) -> Iterator[Event]:
    start = _skip_blanks(text, 0)
    if text.startswith("[", start):
        elements, end = _elements(text, start)
        events = _each(text, elements, "", on_fault)
    else:
        members, end = _members(text, start)
        events = _events_of(text, members, version, on_fault)
    if _skip_blanks(text, end) != len(text):
        raise DecodeError("not JSON: something follows the document")
    yield from events


def _each(text: str, starts: list[int], version: str, on_fault: OnFault) -> Iterator[Event]:
    for start in starts:
        try:
            members, _ = _members(text, start)
            yield from _events_of(text, members, version, on_fault)
        except (DecodeError, RecursionError) as error:
            on_fault(DecodeError(str(error)))


def _events_of(text: str, members: "_Spans", version: str, on_fault: OnFault) -> Iterator[Event]:
    """Yield the events of one object: itself, or those in its ``items``."""
    kind, version = _read(text, members, "kind"), _read(text, members, "apiVersion") or version
    if kind in ("EventList", "List") and version in (API_VERSION, *OLD_VERSIONS, "v1"):
        if "items" in members and not text.startswith("null", members["items"][0]):
            elements, _ = _elements(text, members["items"][0])
            own = version if kind == "EventList" else ""
            yield from _each(text, elements, own, on_fault)
    elif kind in ("Event", None) and version in (API_VERSION, *OLD_VERSIONS):
        yield _event(text, members, version)
    elif kind is None and version == "" and {"auditID", "stage"} <= members.keys():
        yield _event(text, members, API_VERSION)  # an item that was cut out of its EventList
    else:
        name = f"{version or 'no apiVersion'}, {kind or 'no kind'}"
        raise DecodeError(f"not an audit event ({name})")


_Spans = dict[str, tuple[int, int]]


def _event(text: str, members: "_Spans", version: str) -> Event:
    """Build an event from its members, with Go's idea of an absent value."""
    values = {name: _read(text, members, name) for name in _READ if name in members}
    if version in OLD_VERSIONS:
        _modernise(values, version)
    values = {name: value for name, value in values.items() if value is not None}
    _check_times(values)
    try:
        event = msgspec.convert(without_nulls(values), Event)
    except msgspec.ValidationError as error:
        raise DecodeError(f"not an audit event: {error}") from None
    objects = {name: _raw(text, members, name) for name in _OBJECTS if name in members}
    return msgspec.structs.replace(
        event,
        request_object=objects.get("requestObject", event.request_object),
        response_object=objects.get("responseObject", event.response_object),
    )


def _raw(text: str, members: "_Spans", name: str) -> Raw:
    start, end = members[name]
    document = text[start:end].encode("utf-8", "surrogateescape")
    return Raw(b"" if document == b"null" else document)


def _modernise(values: dict[str, Any], version: str) -> None:
    """Fill the fields of v1 from those that v1beta1 and v1alpha1 had instead."""
    metadata = values.get("metadata")
    created = metadata.get("creationTimestamp") if isinstance(metadata, dict) else None
    values["stageTimestamp"] = values.get("stageTimestamp") or created
    values["requestReceivedTimestamp"] = values.get("requestReceivedTimestamp") or values.get(
        "timestamp"
    )
    reference = values.get("objectRef")
    if version.endswith("v1alpha1") and isinstance(reference, dict):
        group, slash, name = str(reference.get("apiVersion") or "").rpartition("/")
        if slash:  # v1alpha1 had no apiGroup: the version carried it
            values["objectRef"] = {**reference, "apiGroup": group, "apiVersion": name}


def _check_times(values: dict[str, Any]) -> None:
    for name in ("requestReceivedTimestamp", "stageTimestamp"):
        if isinstance(text := values.get(name), str):
            try:
                to_nanoseconds(text)
            except ValueError as error:
                raise DecodeError(f"{name}: {error}") from None


def without_nulls(value: Any, *, name: str = "") -> Any:
    """Drop null members, as Go does; a null in ``extra`` is a nil list, in annotations an ""."""
    if isinstance(value, dict):
        absent = {"extra": None, "annotations": ""}
        return {
            key: absent[name] if item is None else without_nulls(item, name=key)
            for key, item in value.items()
            if item is not None or name in absent
        }
    if isinstance(value, list):
        return ["" if item is None else without_nulls(item) for item in value]
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise DecodeError(f"not JSON: {name} is not a number")


_READER = json.JSONDecoder(parse_constant=_refuse_constant)


def _read(text: str, members: "_Spans", name: str) -> Any:
    if name not in members:
        return None
    value, _ = _READER.raw_decode(text, members[name][0])
    return _replace_broken(value)


def _replace_broken(value: Any) -> Any:
    """Replace what was not UTF-8 by U+FFFD, each byte and each half pair, as Go does."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_replace_broken(name): _replace_broken(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_replace_broken(item) for item in value]
    return value


def _skip_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _members(text: str, start: int) -> tuple["_Spans", int]:
    """Return where the value of each member of an object lies, and where the object ends."""
    if not text.startswith("{", start):
        raise DecodeError("not an audit event: a JSON object is expected")
    spans: _Spans = {}
    at = _skip_blanks(text, start + 1)
    while not text.startswith("}", at):
        if spans:
            at = _expect(text, at, ",")
        name, at = scanstring(text, _expect(text, at, '"', keep_blanks=True), True)  # noqa: FBT003
        at = _expect(text, _skip_blanks(text, at), ":")
        end = end_of_value(text, at)
        spans[_replace_broken(name)] = (at, end)
        at = _skip_blanks(text, end)
    return spans, at + 1


def _elements(text: str, start: int) -> tuple[list[int], int]:
    """Return where each element of an array starts, and where the array ends."""
    if not text.startswith("[", start):
        raise DecodeError("not an audit event: a list of events is expected")
    starts: list[int] = []
    at = _skip_blanks(text, start + 1)
    while not text.startswith("]", at):
        if starts:
            at = _expect(text, at, ",")
        starts.append(at)
        at = _skip_blanks(text, end_of_value(text, at))
    return starts, at + 1


def _expect(text: str, at: int, character: str, *, keep_blanks: bool = False) -> int:
    if not text.startswith(character, at):
        raise DecodeError(f"not JSON: {surprise(text, at)}")
    return at + 1 if keep_blanks else _skip_blanks(text, at + 1)
