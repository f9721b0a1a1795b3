"""Events to bytes, byte for byte as Kubernetes writes them.

Three steps: bring the few values that may be in another form into Kubernetes' own (times as UTC
microseconds, recorded objects compact), let msgspec write the members in order, and escape what
Go's encoder escapes for HTML. The last step can work on the whole line, because the characters in
question occur in JSON only inside strings.

Source: audit specification section 1; upstream ``plugin/pkg/audit/log/backend.go``.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from kubewitness.codec.grammar import end_of_value, tighten
from kubewitness.codec.times import ZERO_TIME, canonical_micro_time
from kubewitness.errors import DecodeError, EncodeError
from kubewitness.event import NO_OBJECT, Event

EVENT_HEAD = b'{"kind":"Event","apiVersion":"audit.k8s.io/v1",'
"""How the line of every event starts that Kubernetes writes."""

_LIST_HEAD = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
_ENCODER = msgspec.json.Encoder(order="deterministic")
_ZERO_MICRO_TIME = canonical_micro_time(ZERO_TIME)
_SURROGATE = re.compile("[\ud800-\udfff]")


def encode(event: Event) -> bytes:
    """Return the event as its audit-log line, newline included.

    Raises:
        EncodeError: A recorded object is not JSON, or a timestamp is not RFC 3339.
    """
    return EVENT_HEAD + _members(event)[1:] + b"\n"


def encode_list(events: Iterable[Event]) -> bytes:
    """Return events as one EventList, newline included: the body of a webhook request.

    Raises:
        EncodeError: As for `encode`; one bad event fails the list.
    """
    return _LIST_HEAD + b",".join(map(_members, events)) + b"]}\n"


def compact(document: bytes) -> bytes:
    """Return a JSON document without white space between its tokens.

    Member order, duplicate keys, the spelling of numbers and existing escapes stay as they are.

    Raises:
        EncodeError: The bytes are not one JSON document.
    """
    try:
        return msgspec.json.format(document, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return _compact_patiently(document)


def _compact_patiently(document: bytes) -> bytes:
    text = document.decode("utf-8", "surrogateescape")
    try:
        end = end_of_value(text, 0)
    except DecodeError as error:
        raise EncodeError(f"a recorded object is {error}") from None
    if text[end:].strip(" \t\r\n"):
        raise EncodeError("a recorded object is not JSON: something follows the document")
    return tighten(text).encode("utf-8", "surrogateescape")


def _members(event: Event) -> bytes:
    """Return the event's members as a JSON object without kind and apiVersion."""
    changes = _corrections(event)
    if changes:
        event = msgspec.structs.replace(event, **changes)
    try:
        text = _ENCODER.encode(event)
    except UnicodeEncodeError:
        text = _encode_broken_text(event)
    return _escape_html(text)


def _corrections(event: Event) -> dict[str, Any]:
    """Return the fields that Kubernetes would write in another form; mostly there are none."""
    changes: dict[str, Any] = {}
    if event.request_object is not NO_OBJECT:
        _correct_object("request_object", event.request_object, changes)
    if event.response_object is not NO_OBJECT:
        _correct_object("response_object", event.response_object, changes)
    _correct_time("request_received_timestamp", event.request_received_timestamp, changes)
    _correct_time("stage_timestamp", event.stage_timestamp, changes)
    return changes


def _correct_object(name: str, value: Raw, changes: dict[str, Any]) -> None:
    document = bytes(value)
    if document in (b"", b"null"):  # Go reads a null pointer, and writes nothing for it
        changes[name] = NO_OBJECT
    elif (compacted := compact(document)) != document:
        changes[name] = Raw(compacted)


def _correct_time(name: str, text: str | None, changes: dict[str, Any]) -> None:
    if text is None:
        return
    try:
        canonical = canonical_micro_time(text)
    except ValueError as error:
        raise EncodeError(str(error)) from None
    if canonical == _ZERO_MICRO_TIME:
        changes[name] = None
    elif canonical is not text:
        changes[name] = canonical


def _escape_html(text: bytes) -> bytes:
    if b"&" in text:
        text = text.replace(b"&", b"\\u0026")
    if b"<" in text:
        text = text.replace(b"<", b"\\u003c")
    if b">" in text:
        text = text.replace(b">", b"\\u003e")
    if b"\xe2" in text:  # one byte is found several times faster than the three of U+2028
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return text


def _encode_broken_text(event: Event) -> bytes:
    r"""Encode an event that holds bytes which were not UTF-8, each as the escape ``\ufffd``.

    Such bytes are in a str as lone surrogates, which have no UTF-8 form. They pass through the
    encoder as a character that the event does not use.
    """
    objects = {"request_object": event.request_object, "response_object": event.response_object}
    tree = msgspec.to_builtins(msgspec.structs.replace(event, **dict.fromkeys(objects, NO_OBJECT)))
    used = json.dumps(tree, ensure_ascii=False)
    used += b"".join(map(bytes, objects.values())).decode("utf-8", "replace")
    stand_in = next(mark for mark in map(chr, range(0xFDD0, 0xFDF0)) if mark not in used)
    whole = msgspec.convert(_replace_surrogates(tree, stand_in), Event)
    text = _ENCODER.encode(msgspec.structs.replace(whole, **objects))
    return text.replace(stand_in.encode(), b"\\ufffd")


def _replace_surrogates(value: Any, stand_in: str) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub(stand_in, value)
    if isinstance(value, dict):
        return {
            _replace_surrogates(name, stand_in): _replace_surrogates(item, stand_in)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_replace_surrogates(item, stand_in) for item in value]
    return value
