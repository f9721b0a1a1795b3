"""What is recorded of request and response bodies.

Bodies are JSON bytes from end to end; only what a rule asks for is looked at or taken out.

Source: audit specification section 5.8; upstream ``pkg/audit/request.go``.
"""

import msgspec
from msgspec import Raw, Struct

from kubewitness.codec import compact
from kubewitness.errors import EncodeError
from kubewitness.event import NO_OBJECT, ObjectReference, Status, StatusDetails

_Members = dict[str, Raw]
_MEMBERS = msgspec.json.Decoder(_Members)
_LIST = msgspec.json.Decoder(list[Raw])
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Metadata(Struct, rename="camel"):
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""


class _WithMetadata(Struct):
    metadata: _Metadata


class _StatusDocument(Struct, rename="camel"):
    kind: str
    api_version: str
    status: str = ""
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None
    code: int = 0


_WITH_METADATA = msgspec.json.Decoder(_WithMetadata)
_STATUS = msgspec.json.Decoder(_StatusDocument)


def recordable(body: bytes) -> Raw:
    """Return a body as a JSON document: itself, or as a JSON string if it is other text.

    Upstream loses the whole event of a patch that is not JSON; here the event stays. Of bytes that
    are no text nothing is recorded (`NO_OBJECT`).
    """
    try:
        return Raw(compact(body))
    except EncodeError:
        return _as_string(body)


def _as_string(body: bytes) -> Raw:
    try:
        return Raw(msgspec.json.encode(body.decode("utf-8")))
    except UnicodeDecodeError:
        return NO_OBJECT


def status_of(document: bytes) -> Status | None:
    """Return what a ``v1`` Status document says; None for any other document."""
    if b'"Status"' not in document:
        return None
    try:
        found = _STATUS.decode(document)
    except _UNREADABLE:
        return None
    if (found.kind, found.api_version) != ("Status", "v1"):
        return None
    return Status(
        status=found.status,
        message=found.message,
        reason=found.reason,
        details=found.details,
        code=found.code,
    )


def completed_reference(
    reference: ObjectReference | None, document: bytes
) -> ObjectReference | None:
    """Fill what an object reference leaves open from the object's own metadata."""
    try:
        own = _WITH_METADATA.decode(document).metadata
    except _UNREADABLE:
        return reference
    known = reference or ObjectReference()
    return msgspec.structs.replace(
        known,
        namespace=known.namespace or own.namespace,
        name=known.name or own.name,
        uid=known.uid or own.uid,
        resource_version=known.resource_version or own.resource_version,
    )


def without_managed_fields(document: Raw) -> Raw:
    """Remove ``metadata.managedFields`` of an object, of a list's items and of a Table's rows."""
    text = bytes(document)
    if b'"managedFields"' not in text:
        return document
    try:
        return Raw(msgspec.json.encode(_cleaned(text)))
    except _UNREADABLE:
        return document


def _cleaned(document: bytes | Raw) -> _Members:
    members = _cleaned_metadata(document)
    if "items" in members:
        items = map(_cleaned_metadata, _LIST.decode(members["items"]))
        members["items"] = _raw(list(items))
    if "rows" in members:
        rows = map(_cleaned_row, _LIST.decode(members["rows"]))
        members["rows"] = _raw(list(rows))
    return members


def _cleaned_row(row: Raw) -> _Members:
    members = _MEMBERS.decode(row)
    if "object" in members:
        members["object"] = _raw(_cleaned_metadata(members["object"]))
    return members


def _cleaned_metadata(document: bytes | Raw) -> _Members:
    members = _MEMBERS.decode(document)
    if b"managedFields" in bytes(members.get("metadata", b"")):
        metadata = _MEMBERS.decode(members["metadata"])
        metadata.pop("managedFields", None)
        members["metadata"] = _raw(metadata)
    return members


def _raw(value: _Members | list[_Members]) -> Raw:
    return Raw(msgspec.json.encode(value))
