"""What is recorded of request and response bodies.

Bodies are JSON bytes from end to end; only what a rule asks for is looked at or taken out.

Source: audit specification section 5.8; upstream ``pkg/audit/request.go``.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from kubewitness.codec import compact
from kubewitness.codec.decode import without_nulls
from kubewitness.errors import EncodeError
from kubewitness.event import NO_OBJECT, ObjectReference, Status, StatusDetails

_Members = dict[str, Raw]
_MEMBERS = msgspec.json.Decoder(_Members)
_ITEMS = msgspec.json.Decoder(list[Raw])
_Document = TypeVar("_Document", bound=Struct)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Metadata(Struct, rename="camel"):
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""


class _WithMetadata(Struct):
    metadata: _Metadata


class _Kind(Struct):
    kind: str


class _StatusDocument(Struct, rename="camel"):
    kind: str
    api_version: str
    status: str = ""
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None
    code: int = 0


def _read(document: bytes, kind: type[_Document]) -> _Document | None:
    """Read an object as Go would, to whom null is the empty value; None for another shape."""
    try:
        return msgspec.json.decode(document, type=kind)
    except _UNREADABLE:
        return _read_with_nulls(document, kind)


def _read_with_nulls(document: bytes, kind: type[_Document]) -> _Document | None:
    try:
        return msgspec.convert(without_nulls(msgspec.json.decode(document)), kind)
    except _UNREADABLE:
        return None


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


def has_kind(document: bytes) -> bool:
    """Tell whether a JSON document is an object with a ``kind``."""
    if b'"kind"' not in document:
        return False
    try:
        return bool(msgspec.json.decode(document, type=_Kind).kind)
    except _UNREADABLE:
        return False


def status_of(document: bytes) -> Status | None:
    """Return what a ``v1`` Status document says; None for any other document."""
    if b'"Status"' not in document:
        return None
    found = _read(document, _StatusDocument)
    if found is None or (found.kind, found.api_version) != ("Status", "v1"):
        return None
    return Status(
        status=found.status,
        message=found.message,
        reason=found.reason,
        details=found.details,
        code=found.code,
    )


def reference_of(document: bytes) -> ObjectReference | None:
    """Return what an object says of itself in its metadata; None for another document."""
    found = _read(document, _WithMetadata)
    if found is None:
        return None
    own = found.metadata
    return ObjectReference(
        namespace=own.namespace,
        name=own.name,
        uid=own.uid,
        resource_version=own.resource_version,
    )


def completed_reference(
    reference: ObjectReference | None, own: ObjectReference | None
) -> ObjectReference | None:
    """Fill what an object reference leaves open from what the object says of itself."""
    if own is None:
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
    """Remove ``metadata.managedFields`` of an object, of a list's items and of a Table's rows.

    A part of another shape than these stays as it is; all other parts are still cleaned.
    """
    if b'"managedFields"' not in bytes(document):
        return document
    document = _without_own(document)
    document = _changed(document, "items", lambda items: _each(items, _without_own))
    return _changed(document, "rows", lambda rows: _each(rows, _without_those_of_row))


def _without_those_of_row(row: Raw) -> Raw:
    return _changed(row, "object", _without_own)


def _without_own(document: Raw) -> Raw:
    return _changed(document, "metadata", _without_the_member)


def _without_the_member(metadata: Raw) -> Raw:
    try:
        members = _MEMBERS.decode(metadata)
    except _UNREADABLE:
        return metadata
    return metadata if members.pop("managedFields", None) is None else _raw(members)


def _changed(document: Raw, name: str, change: Callable[[Raw], Raw]) -> Raw:
    """Return an object with one member changed; itself if that changes nothing."""
    try:
        members = _MEMBERS.decode(document)
    except _UNREADABLE:
        return document
    if name not in members:
        return document
    old, members[name] = members[name], change(members[name])
    return document if bytes(members[name]) == bytes(old) else _raw(members)


def _each(array: Raw, change: Callable[[Raw], Raw]) -> Raw:
    try:
        return _raw([change(item) for item in _ITEMS.decode(array)])
    except _UNREADABLE:
        return array


def _raw(value: _Members | list[Raw]) -> Raw:
    return Raw(msgspec.json.encode(value))
