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
from msgspec.structs import replace

from kubewitness.codec.grammar import check, tighten
from kubewitness.codec.times import (
    ZERO_TIME,
    canonical_micro_time,
    is_micro_time,
    to_nanoseconds,
)
from kubewitness.errors import DecodeError, EncodeError
from kubewitness.event import NO_OBJECT, Event

EVENT_HEAD = b'{"kind":"Event","apiVersion":"audit.k8s.io/v1",'
"""How the line of every event starts that Kubernetes writes."""

_LIST_HEAD = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
_ENCODER = msgspec.json.Encoder(order="deterministic")
_OUTER_BLANK = re.compile(rb" (?:\Z|(?<![^{}\[\],:] )|(?=[{}\[\],:]))")
_SKIM = msgspec.json.Decoder(Raw).decode
_ZERO = to_nanoseconds(ZERO_TIME)
_BLANK, _LF, _TAB, _CR, _AMPERSAND, _LESS, _GREATER = b" \n\t\r&<>"  # a number is found much faster
_FIRST_OF_U2028 = 0xE2
_SURROGATE = re.compile("[\ud800-\udfff]")


def encode(event: Event) -> bytes:
    """Return the event as its audit-log line, newline included.

    Raises:
        EncodeError: A recorded object is not JSON, a timestamp is not RFC 3339, or a field holds
            something of another type than its own.
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
    try:
        check(document)
    except DecodeError as error:
        raise EncodeError(f"a recorded object is {error}") from None
    return tighten(document)


def _members(event: Event) -> bytes:
    """Return the event's members as a JSON object without kind and apiVersion."""
    try:
        if not _is_canonical(event):
            event = replace(event, **_corrections(event))
        try:
            text = _ENCODER.encode(event)
        except UnicodeEncodeError:
            text = _encode_broken_text(event)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:  # made by hand
        raise EncodeError(f"an event with a field of a wrong type: {error}") from None
    if _LF in text or _TAB in text or _CR in text:  # in JSON these are never in strings
        return _members(replace(event, **_compacted(event)))
    return _escape_html(text)


def _compacted(event: Event) -> dict[str, Raw]:
    objects = {"request_object": event.request_object, "response_object": event.response_object}
    return {name: Raw(compact(bytes(value))) for name, value in objects.items() if value}


def _is_canonical(event: Event) -> bool:
    """Return whether every field is surely in the form that Kubernetes writes: mostly they are."""
    asked, answered = event.request_object, event.response_object
    received, staged = event.request_received_timestamp, event.stage_timestamp
    return (
        (received is None or (is_micro_time(received) and received[0] != "0"))
        and (staged is None or (is_micro_time(staged) and staged[0] != "0"))
        and (asked is NO_OBJECT or _is_plain(asked))
        and (answered is NO_OBJECT or _is_plain(answered))
    )


def _corrections(event: Event) -> dict[str, Any]:
    """Return the fields that Kubernetes would write in another form."""
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
    if not document or document.strip() == b"null":  # for Go a null pointer: nothing is written
        changes[name] = NO_OBJECT
    elif (compacted := compact(document)) != document:
        changes[name] = Raw(compacted)


def _is_plain(document: Raw) -> bool:
    """Return whether a document is JSON that needs no correction; a third of what `compact` costs.

    False says nothing: a string with ", " in it may look like white space between tokens.
    """
    try:
        _SKIM(document)
    except (msgspec.DecodeError, RecursionError):
        return False
    text = bytes(document)
    return (_BLANK not in text or not _OUTER_BLANK.search(text)) and text != b"null"


def _correct_time(name: str, text: str | None, changes: dict[str, Any]) -> None:
    if text is None:
        return
    try:
        canonical = canonical_micro_time(text)
        if canonical.startswith("0001-") and to_nanoseconds(text) == _ZERO:
            changes[name] = None
        elif canonical is not text:
            changes[name] = canonical
    except ValueError as error:
        raise EncodeError(str(error)) from None


def _escape_html(text: bytes) -> bytes:
    if _AMPERSAND in text:
        text = text.replace(b"&", b"\\u0026")
    if _LESS in text:
        text = text.replace(b"<", b"\\u003c")
    if _GREATER in text:
        text = text.replace(b">", b"\\u003e")
    if _FIRST_OF_U2028 in text:
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return text


def _encode_broken_text(event: Event) -> bytes:
    r"""Encode an event that holds bytes which were not UTF-8, each as the escape ``\ufffd``.

    Such bytes are in a str as lone surrogates. The standard library's writer lets them through.
    """
    tree = msgspec.to_builtins(event, builtin_types=(Raw,))
    _sort(tree, "annotations")
    _sort(tree["user"], "extra")
    _sort(tree.get("impersonatedUser", {}), "extra")
    return b"{%s}" % b",".join(_broken_member(name, value) for name, value in tree.items())


def _sort(holder: dict[str, Any], name: str) -> None:
    """Put the keys of a map in the order of their bytes, of which surrogates stand for one."""
    if name in holder:
        holder[name] = dict(sorted(holder[name].items(), key=lambda item: _bytes(item[0])))


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "surrogatepass")


def _broken_member(name: str, value: Any) -> bytes:
    if isinstance(value, Raw):
        return b'"%s":%s' % (name.encode(), bytes(value))
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return b'"%s":%s' % (name.encode(), _SURROGATE.sub(r"\\ufffd", text).encode())
