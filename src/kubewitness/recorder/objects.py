"""What is recorded of request and response bodies.

Bodies are JSON bytes from end to end; only what a rule asks for is looked at or taken out. They are
a client's, up to its limits: whatever is done here costs no more than some passes over the bytes.

Source: audit specification section 5.8; upstream ``pkg/audit/request.go``.
"""

import codecs
import re
from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from kubewitness.codec.decode import without_nulls
from kubewitness.event import NO_OBJECT, ObjectReference, Status, StatusDetails

DEEPEST = 500
"""How many levels of brackets a document may have that is recorded as it is.

Whoever reads the log gives up at some depth, and then on all events that come together with this
one: jq and Python's readers at a thousand or less, Go's at 10,000. An object of Kubernetes has some
twenty.
"""

_Members = dict[str, Raw]
_MEMBERS = msgspec.json.Decoder(_Members)
_ITEMS = msgspec.json.Decoder(list[Raw])
_Document = TypeVar("_Document", bound=Struct)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_NULL = b"null"
_EMPTY = Raw(b'""')
_AS_JSON_BEGINS = re.compile(rb"[ \t\r\n]*+[\[{]")
_HALF_PAIR = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
_OPENED, _CLOSED = 1, 255  # in an array of signed bytes, a step down and a step up
_STEPS = bytes.maketrans(b"[{]}", bytes((_OPENED, _OPENED, _CLOSED, _CLOSED)))
_NO_STEPS = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_CHUNK = 256


class _Metadata(Struct, rename="camel"):
    namespace: Raw = _EMPTY
    name: Raw = _EMPTY
    uid: Raw = _EMPTY
    resource_version: Raw = _EMPTY


class _WithMetadata(Struct):
    metadata: Raw


class _Kind(Struct):
    kind: str


class _Type(Struct, rename="camel"):
    kind: str
    api_version: str


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

    JSON that is nested deeper than `DEEPEST` counts as other text. Upstream loses the whole event
    of a patch that is not JSON; here the event stays. Of bytes that are no text nothing is recorded
    (`NO_OBJECT`).
    """
    document = _compacted(body)
    if document is None or is_deep(document):
        return as_string(body)
    return Raw(document)


def as_string(data: bytes, *, is_whole: bool = True) -> Raw:
    """Return text as a JSON string; `NO_OBJECT` if it is no text.

    What begins like JSON is text in spite of bytes that are not, for Go reads it: U+FFFD stands in
    their place.

    Args:
        data: The text, or its beginning.
        is_whole: False leaves out a character that was cut in two at the end.
    """
    lenient = _AS_JSON_BEGINS.match(data) is not None
    decoder = codecs.getincrementaldecoder("utf-8")("replace" if lenient else "strict")
    try:
        return Raw(msgspec.json.encode(decoder.decode(data, is_whole)))
    except UnicodeDecodeError:
        return NO_OBJECT


def _compacted(document: bytes) -> bytes | None:
    """Return JSON without blanks between its tokens, and legible; None if it is no JSON.

    None, too, if it is nested too deep for the reader, which gives up beyond `DEEPEST`.
    """
    document = _with_utf8(document)
    try:
        return msgspec.json.format(document, indent=-1)
    except RecursionError:
        return None
    except msgspec.DecodeError:
        paired = _with_pairs(document)
    try:
        return None if paired == document else msgspec.json.format(paired, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return None


def _with_utf8(document: bytes) -> bytes:
    r"""Replace each byte that is no UTF-8 by the six characters ``\ufffd``, as Go writes them.

    Source: audit specification section 1.4.
    """
    try:
        document.decode("utf-8")
    except UnicodeDecodeError:
        if b"\1" not in document:  # it is in no JSON, and stands for the question marks here
            marked = document.replace(b"?", b"\1").decode("utf-8", "surrogateescape")
            replaced = marked.encode("utf-8", "replace").replace(b"?", rb"\ufffd")
            return replaced.replace(b"\1", b"?")
    return document


def _with_pairs(document: bytes) -> bytes:
    r"""Replace each ``\ud800`` without its other half by ``\ufffd``: Go reads both as the same."""
    if b"\\u" not in document or b"\0" in document:  # NUL is in no JSON, and marks a place here
        return document
    marked = document.replace(rb"\\", b"\\\0")
    return _HALF_PAIR.sub(rb"\\ufffd", marked).replace(b"\\\0", rb"\\")


def is_deep(document: bytes) -> bool:
    """Tell whether a JSON document is nested deeper than `DEEPEST`."""
    if document.count(b"[") + document.count(b"{") <= DEEPEST:
        return False
    steps, depth = _steps(document), 0
    for at in range(0, len(steps), _CHUNK):
        chunk = steps[at : at + _CHUNK]
        down = chunk.count(_OPENED)
        if depth + down > DEEPEST and depth + max(accumulate(array("b", chunk))) > DEEPEST:
            return True
        depth += 2 * down - len(chunk)
    return False


def _steps(document: bytes) -> bytes:
    """Return the brackets of a JSON document, those in strings left out: one step each."""
    document = document.replace(rb"\\", b"").replace(rb"\"", b"")  # no quote is in a string now
    rest = document.translate(_STEPS, _NO_STEPS)
    return b"".join(rest.replace(b'""', b"").split(b'"')[::2])


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
    if b'"Status"' not in document or not _is_status(document):
        return None
    found = _read(document, _StatusDocument)
    if found is None:
        return None
    return Status(
        status=found.status,
        message=found.message,
        reason=found.reason,
        details=found.details,
        code=found.code,
    )


def _is_status(document: bytes) -> bool:
    try:
        found = msgspec.json.decode(document, type=_Type)
    except _UNREADABLE:
        return False
    return (found.kind, found.api_version) == ("Status", "v1")


def reference_of(document: bytes) -> ObjectReference | None:
    """Return what an object says of itself in its metadata; None for another document."""
    document = _with_utf8(document)
    try:
        return _reference_of(document)
    except _UNREADABLE:
        paired = _with_pairs(document)
    try:
        return None if paired == document else _reference_of(paired)
    except _UNREADABLE:
        return None


def _reference_of(document: bytes) -> ObjectReference:
    """Read the metadata only, and of that only what is asked for: the rest is a client's matter."""
    metadata = msgspec.json.decode(document, type=_WithMetadata).metadata
    own = msgspec.json.decode(metadata, type=_Metadata)
    return ObjectReference(
        namespace=_text(own.namespace),
        name=_text(own.name),
        uid=_text(own.uid),
        resource_version=_text(own.resource_version),
    )


def _text(value: Raw) -> str:
    return "" if bytes(value) == _NULL else msgspec.json.decode(value, type=str)


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
