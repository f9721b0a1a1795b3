"""The little of Kubernetes' protobuf that an event needs: how a request ended, and of which object.

Objects in protobuf are not recorded, for without the schema of each kind nobody can write them as
JSON. But every answer that is a Status has one shape, and every object has its metadata in one
place. Whatever is not of that shape says nothing. Not here: any other field.

Source: apimachinery ``pkg/runtime/serializer/protobuf``, ``pkg/runtime/generated.proto`` and
``pkg/apis/meta/v1/generated.proto``; the encoding of protocol buffers.
"""

from typing import NamedTuple

from kubewitness.event import ObjectReference, Status, StatusCause, StatusDetails

MAGIC = b"k8s\x00"
"""What an object in protobuf begins with."""

_VARINT, _FIXED64, _BYTES, _GROUP, _END_OF_GROUP, _FIXED32 = range(6)
_MOST_VARINT = 10
_MOST_FIELDS = 20_000
_INT32 = 0xFFFFFFFF

_Value = int | bytes
_Fields = dict[int, list[_Value]]


class _Envelope(NamedTuple):
    api_version: str
    kind: str
    raw: bytes


def status_of(data: bytes) -> Status | None:
    """Return what a ``v1`` Status in protobuf says; None for anything else."""
    try:
        envelope = _unwrapped(data)
        if envelope is None or (envelope.api_version, envelope.kind) != ("v1", "Status"):
            return None
        fields = _fields(envelope.raw, 2, 3, 4, 5, 6)
        return Status(
            status=_text(fields, 2),
            message=_text(fields, 3),
            reason=_text(fields, 4),
            details=_details(_message(fields, 5)) if 5 in fields else None,
            code=_number(fields, 6),
        )
    except ValueError:
        return None


def reference_of(data: bytes) -> ObjectReference | None:
    """Return what an object in protobuf says of itself in its metadata; None for anything else."""
    try:
        envelope = _unwrapped(data)
        object_fields = _fields(envelope.raw, 1) if envelope is not None else {}
        if 1 not in object_fields:
            return None
        metadata = _fields(_message(object_fields, 1), 1, 3, 5, 6)
        return ObjectReference(
            name=_text(metadata, 1),
            namespace=_text(metadata, 3),
            uid=_text(metadata, 5),
            resource_version=_text(metadata, 6),
        )
    except ValueError:
        return None


def _unwrapped(data: bytes) -> _Envelope | None:
    if not data.startswith(MAGIC):
        return None
    fields = _fields(data[len(MAGIC) :], 1, 2)
    kind = _fields(_message(fields, 1), 1, 2)
    raw = _as_bytes(fields[2][-1]) if 2 in fields else b""
    return _Envelope(_text(kind, 1), _text(kind, 2), raw)


def _details(data: bytes) -> StatusDetails:
    fields = _fields(data, 1, 2, 3, 4, 5, 6)
    return StatusDetails(
        name=_text(fields, 1),
        group=_text(fields, 2),
        kind=_text(fields, 3),
        uid=_text(fields, 6),
        causes=tuple(_cause(cause) for cause in fields.get(4, ())),
        retry_after_seconds=_number(fields, 5),
    )


def _cause(value: _Value) -> StatusCause:
    fields = _fields(_as_bytes(value), 1, 2, 3)
    return StatusCause(reason=_text(fields, 1), message=_text(fields, 2), field=_text(fields, 3))


def _fields(data: bytes, *wanted: int) -> _Fields:
    """Return the values of some fields of a message.

    All of it is looked through, for the last value counts, as in Go: who stopped at the first would
    be shown another name than the API server reads.

    Raises:
        ValueError: It is none, or has more fields than anybody needs.
    """
    found: _Fields = {}
    at = groups = 0
    for _ in range(_MOST_FIELDS):
        if at >= len(data):
            return found
        tag, at = _varint(data, at)
        wire_type = tag & 7
        groups += (wire_type == _GROUP) - (wire_type == _END_OF_GROUP)
        start, at, number = _span(data, at, wire_type)
        field = tag >> 3 & _INT32  # Go takes no more of it
        if field in wanted and not groups and wire_type != _END_OF_GROUP:
            found.setdefault(field, []).append(data[start:at] if number is None else number)
    raise ValueError("too many fields")


def _span(data: bytes, at: int, wire_type: int) -> tuple[int, int, int | None]:
    """Return where a value starts and ends, and the value itself if it is a number."""
    if wire_type == _VARINT:
        number, end = _varint(data, at)
        return at, end, number
    if wire_type in (_GROUP, _END_OF_GROUP):  # of old: brackets around fields, which Go skips
        size = 0
    elif wire_type == _BYTES:
        size, at = _varint(data, at)
    elif wire_type in (_FIXED32, _FIXED64):
        size = 4 if wire_type == _FIXED32 else 8
    else:
        raise ValueError("an unknown wire type")
    if at + size > len(data):
        raise ValueError("a field has no end")
    return at, at + size, None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for index, byte in enumerate(data[at : at + _MOST_VARINT]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, at + index + 1
    raise ValueError("a number has no end")


def _message(fields: _Fields, number: int) -> bytes:
    """Return a message in a field. One that is there twice is merged: put one behind the other."""
    return b"".join(_as_bytes(value) for value in fields.get(number, ()))


def _as_bytes(value: _Value) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError("a number, not a message")


def _text(fields: _Fields, number: int) -> str:
    return _as_bytes(fields[number][-1]).decode("utf-8") if number in fields else ""


def _number(fields: _Fields, number: int) -> int:
    value = fields[number][-1] if number in fields else 0
    if not isinstance(value, int):
        raise ValueError("a message, not a number")  # noqa: TRY004  # the bytes are wrong
    unsigned = value & _INT32
    return unsigned - (1 << 32) if unsigned >> 31 else unsigned
