r"""Bytes to events: JSON as Kubernetes writes it now, wrote it once, and as other tools hand it on.

Two ways. What Kubernetes itself writes is decoded straight into the model. Anything that fails
there, or is not a plain ``audit.k8s.io/v1`` Event, goes the patient way: member by member with the
standard library's reader, which accepts what Go accepts (``null`` for an empty value, broken UTF-8
and lone ``\ud800`` escapes, both read as U+FFFD). Recorded objects are only located there, so that
their bytes are taken over untouched.

Not here: legacy text (`legacy`), finding where one record ends and the next begins (`framing`).

Source: audit specification sections 1 and appendix A; for the older versions upstream's
``pkg/apis/audit/{v1alpha1,v1beta1}/conversion.go`` of 1.23.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw

from kubewitness.codec.encode import EVENT_HEAD
from kubewitness.codec.grammar import check, elements, excerpt, members
from kubewitness.codec.times import ZERO_TIME, is_micro_time, to_nanoseconds
from kubewitness.errors import DecodeError
from kubewitness.event import API_VERSION, NO_OBJECT, Event, EventList

OLD_VERSIONS = ("audit.k8s.io/v1beta1", "audit.k8s.io/v1alpha1")

_VERSIONS = (API_VERSION, *OLD_VERSIONS)
_LIST_HEAD = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1",'


class _Envelope(msgspec.Struct, rename="camel"):
    kind: str = ""
    api_version: str = ""


_DECODER = msgspec.json.Decoder(Event)
_LIST_DECODER = msgspec.json.Decoder(EventList)
_ENVELOPE_DECODER = msgspec.json.Decoder(_Envelope)
_OBJECTS = ("requestObject", "responseObject")
_TIMES = ("requestReceivedTimestamp", "stageTimestamp")
_READ = (
    *(name for name in Event.__struct_encode_fields__ if name not in _OBJECTS),
    "metadata",  # these two only in the older versions
    "timestamp",
)
_READER = json.JSONDecoder()
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"


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


def decode_all(data: bytes, *, version: str = "") -> list[Event]:
    """Read one JSON document: an Event, an EventList, a v1 List of Events, or an array of them.

    Args:
        data: The document.
        version: The apiVersion of a document that has none because it is an item of an EventList;
            if that is not known, either, the item's own members tell.

    Raises:
        DecodeError: The document is not JSON, or something in it is no audit event.
    """
    if data.startswith(_LIST_HEAD):
        events = _decode_plain_list(data)
        return _decode_patiently(data) if events is None else events
    event = _decode_plain(data, version)
    return _decode_patiently(data, version) if event is None else [event]


def is_list_of_events(kind: str, version: str) -> bool:
    """Say whether an object of this kind and apiVersion holds events in its ``items``.

    An EventList is Kubernetes' own; a ``v1`` List is what ``kubectl`` and scripts make.
    """
    if kind == "EventList":
        return version in _VERSIONS
    return kind == "List" and version in ("v1", *_VERSIONS)


def _decode_plain(data: bytes, version: str = "") -> Event | None:
    """Read an Event of Kubernetes' own; None if it is for the patient way to read or to refuse."""
    try:
        if not data.startswith(EVENT_HEAD):
            envelope = _ENVELOPE_DECODER.decode(data)
            if not (envelope.kind or envelope.api_version):
                return _decode_item(data) if version in ("", API_VERSION) else None
            if envelope.kind != "Event" or envelope.api_version != API_VERSION:
                return None
        event = _DECODER.decode(data)
    except _UNREADABLE:
        return None
    return event if _is_plain(event) else None


def _decode_item(data: bytes) -> Event | None:
    """Read an item that was cut out of an EventList, where neither kind nor version is written."""
    event = _DECODER.decode(data)
    reference = event.object_ref
    has_times = event.request_received_timestamp and event.stage_timestamp
    if not has_times or (reference and "/" in reference.api_version):
        return None  # perhaps of an older version
    return event if _is_item(event) else None


def _decode_plain_list(data: bytes) -> list[Event] | None:
    try:
        events = list(_LIST_DECODER.decode(data).items)
    except _UNREADABLE:
        return None
    return events if all(map(_is_item, events)) else None


def _is_item(event: Event) -> bool:
    # An item without these is of another kind, and would pass for an event with nothing in it.
    return bool(event.audit_id and event.stage) and _is_plain(event)


def _is_plain(event: Event) -> bool:
    return _has_plain_times(event) and not (
        _is_null(event.request_object) or _is_null(event.response_object)
    )


def _is_null(document: Raw) -> bool:
    return document is not NO_OBJECT and bytes(document) == b"null"


def _has_plain_times(event: Event) -> bool:
    received, stage = event.request_received_timestamp, event.stage_timestamp
    return (received is None or is_micro_time(received)) and (stage is None or is_micro_time(stage))


def _decode_patiently(data: bytes, version: str = "") -> list[Event]:
    document = data.removeprefix(_BOM).strip(_BLANKS)
    check(document)
    try:
        return list(_events(document, 0, version))
    except (RecursionError, ValueError) as error:
        raise DecodeError(f"not JSON that can be read: {error}") from None


_Spans = dict[str, tuple[int, int]]


def _events(document: bytes, start: int, version: str) -> Iterator[Event]:
    """Yield the events of an object or of an array of objects in a checked document."""
    if start == 0 and document.startswith(b"["):
        for at, _ in elements(document, start):
            yield from _events(document, at, version)
    elif document.startswith(b"{", start):
        spans = {_name(name): (at, end) for name, at, end in members(document, start)}
        yield from _events_of(document, spans, version)
    else:
        raise DecodeError("not an audit event: a JSON object is expected")


def _events_of(document: bytes, spans: _Spans, version: str) -> Iterator[Event]:
    """Yield the events of one object: itself, or those in its ``items``."""
    kind = _read(document, spans, "kind") or ""
    version = _read(document, spans, "apiVersion") or version
    if is_list_of_events(kind, version):
        yield from _items(document, spans, version if kind == "EventList" else "")
    elif (kind == "Event" and version in _VERSIONS) or (
        # An item of an EventList, perhaps cut out of it.
        kind == "" and version in ("", *_VERSIONS) and {"auditID", "stage"} <= spans.keys()
    ):
        yield _event(document, spans, version)
    else:
        name = f"{_shown(version, 'apiVersion')}, {_shown(kind, 'kind')}"
        raise DecodeError(f"not an audit event ({name})")


def _items(document: bytes, spans: _Spans, version: str) -> Iterator[Event]:
    start, end = spans.get("items", (0, 0))
    if document[start:end] in (b"", b"null"):
        return
    if not document.startswith(b"[", start):
        raise DecodeError("not a list of audit events: its items are no array")
    for at, _ in elements(document, start):
        yield from _events(document, at, version)


def _shown(value: Any, name: str) -> str:
    return excerpt(str(value).encode("utf-8", "replace")).strip("'") if value else f"no {name}"


def _event(document: bytes, spans: _Spans, version: str) -> Event:
    """Build an event from its members, with Go's idea of an absent value."""
    values = {name: _read(document, spans, name) for name in _READ if name in spans}
    if version != API_VERSION:
        _modernise(values, version)
    values = {name: value for name, value in values.items() if value is not None}
    _check_times(values)
    try:
        event = msgspec.convert(without_nulls(values), Event)
    except msgspec.ValidationError as error:
        raise DecodeError(f"not an audit event: {error}") from None
    request_object, response_object = (_raw(document, spans, name) for name in _OBJECTS)
    return msgspec.structs.replace(
        event, request_object=request_object, response_object=response_object
    )


def _raw(document: bytes, spans: _Spans, name: str) -> Raw:
    start, end = spans.get(name, (0, 0))
    value = document[start:end]
    return NO_OBJECT if value in (b"", b"null") else Raw(value)


def _modernise(values: dict[str, Any], version: str) -> None:
    """Fill the fields of v1 from those that v1beta1 and v1alpha1 had instead."""
    metadata = values.get("metadata")
    created = metadata.get("creationTimestamp") if isinstance(metadata, dict) else None
    for name, older in zip(_TIMES, (values.get("timestamp"), created), strict=True):
        if values.get(name) in (None, ZERO_TIME):
            values[name] = older
    reference = values.get("objectRef")
    if isinstance(reference, dict) and version != "audit.k8s.io/v1beta1":
        group, slash, name = str(reference.get("apiVersion") or "").rpartition("/")
        if slash:  # v1alpha1 had no apiGroup: the version carried it
            values["objectRef"] = {**reference, "apiGroup": group, "apiVersion": name}


def _check_times(values: dict[str, Any]) -> None:
    for name in _TIMES:
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


def _read(document: bytes, spans: _Spans, name: str) -> Any:
    if name not in spans:
        return None
    return _value(document[slice(*spans[name])])


def _name(quoted: bytes) -> str:
    return quoted[1:-1].decode() if quoted.isascii() and b"\\" not in quoted else _value(quoted)


def _value(document: bytes) -> Any:
    return _replace_broken(_READER.decode(document.decode("utf-8", "surrogateescape")))


def _replace_broken(value: Any) -> Any:
    """Replace what was not UTF-8 by U+FFFD, each byte and each half pair, as Go does."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_replace_broken(name): _replace_broken(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_replace_broken(item) for item in value]
    return value
