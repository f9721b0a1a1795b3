"""What is recorded of message bodies as they go over the wire: any media type, encoded, cut off.

Bodies of JSON are recorded as they are, other text as a JSON string, and so is the beginning of
what was too long to keep: what is recorded is always JSON. Of protobuf, CBOR and other bytes
nothing is recorded, and a sentence says why. What a request holds is what the API server reads in
it, whatever the client says of it. Not here: which requests' bodies are asked for, and
what becomes of them in an event (`machine`).

Source: audit specification section 5.8.
"""

import re
import zlib
from typing import NamedTuple

from msgspec import Raw, Struct
from msgspec.structs import replace

from kubewitness.event import NO_OBJECT, Status, StatusDetails
from kubewitness.recorder import objects, protobuf

MAX_BODY = 3 * 1024 * 1024
"""Bytes of a body that are kept unless told otherwise: as many as kube-apiserver takes of one."""

_BINARY = ("protobuf", "cbor")
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_KIND_OF_JSON = re.compile(rb'\s*\{\s*"(?:kind|apiVersion)"\s*:')
_KIND_OF_YAML = re.compile(rb"^kind:", re.MULTILINE)

# Messages are read from their beginning, and names in them up to the quote that ends them: who
# names an object chooses what else is in there.
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_BEHIND_THE_KIND = re.compile(rf"(?: {_QUOTED})? is forbidden: ")

# Answers that the API server gives before it reads the body into an object.
_UNREAD_CODES = frozenset((401, 405, 406, 413, 415))
_UNREAD_MESSAGES = re.compile(
    rf'(?:[^\s"]+(?: {_QUOTED})? is )?forbidden: User {_QUOTED} cannot \S* (?:resource|path) "'
    r"|the server could not find the requested resource"
    rf'|[^\s"]+ in version {_QUOTED} cannot be handled as an? '
    r"|the object provided is unrecognized \("
)

# No request has a verb with a colon, and none on a resource is called ``impersonate``.
_REFUSED_IDENTITY = re.compile(rf'User {_QUOTED} cannot impersonate(?::[\w-]+)? resource "')
_REFUSED_ACTION = re.compile(
    rf'User {_QUOTED} cannot impersonate-on:[\w-]+:\S* (?:resource|path) "'
)
_IDENTITIES = frozenset(("users", "groups", "serviceaccounts", "uids", "userextras", "nodes"))
_GROUPS_OF_IDENTITIES = ("", "authentication.k8s.io")


class Body(Struct, frozen=True):
    """A body as it was sent, or the beginning of it.

    Attributes:
        data: The bytes that were kept, still encoded.
        size: How many there were.
        content_type: The header, ``""`` without one.
        content_encoding: The same.
        limit: How many bytes are kept of it once it is decoded.
    """

    data: bytes
    size: int
    content_type: str = ""
    content_encoding: str = ""
    limit: int = MAX_BODY

    @property
    def media_type(self) -> str:
        """The type without parameters, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()


class Content(NamedTuple):
    """What can be recorded of a body.

    Attributes:
        data: The decoded bytes.
        document: What is recorded: JSON, or `NO_OBJECT`.
        is_whole: Whether nothing is missing at the end.
        omitted: Why nothing is recorded, ``""`` if something is.
    """

    data: bytes
    document: Raw
    is_whole: bool = True
    omitted: str = ""


def content_of(body: Body) -> Content:
    """Decode a body, and make of it what can be recorded. Never raises."""
    data, is_whole = body.data, body.size <= len(body.data)
    if body.content_encoding.lower() not in ("", "identity"):
        data, fault, ended = _decoded(body)
        if fault:
            return Content(body.data, NO_OBJECT, is_whole=False, omitted=fault)
        is_whole = is_whole and ended
    kind = body.media_type
    if any(binary in kind for binary in _BINARY):
        return Content(data, NO_OBJECT, is_whole, omitted=kind)
    document = objects.recordable(data) if is_whole else objects.as_string(data, is_whole=False)
    omitted = "not text" if document is NO_OBJECT else ""
    return Content(data, document, is_whole, omitted)


def content_of_request(body: Body) -> Content:
    """Decode the body of a request, and make of it what can be recorded. Never raises.

    kube-apiserver does not look at the Content-Encoding of a request, so a body that can be read as
    it is was not encoded, whatever its client says. Other servers, and those behind kube-apiserver,
    may decode what cannot.
    """
    as_it_is = content_of(replace(body, content_encoding=""))
    if as_it_is.document is not NO_OBJECT or body.data.startswith(protobuf.MAGIC):
        return as_it_is
    return content_of(body)


def status_in(content: Content, media_type: str) -> Status | None:
    """Return what a body says if it is a Status, in JSON or in protobuf."""
    if not content.is_whole:
        return None
    if is_json(media_type):
        return objects.status_of(content.data)
    return protobuf.status_of(content.data)


def _decoded(body: Body) -> tuple[bytes, str, bool]:
    """Return decoded bytes, what was wrong, and whether that is all of them."""
    encoding = body.content_encoding.lower()
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return b"", f"Content-Encoding {encoding}", False
    unpacking = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        data = unpacking.decompress(body.data, body.limit)
    except zlib.error:
        return b"", f"not {encoding}, as its Content-Encoding says", False
    return data, "", unpacking.eof


def is_api_object(content: Content, media_type: str) -> bool:
    """Tell an object of the API, or a list or table of them, from what only looks alike.

    The API server records what its object writer writes, and that always has a kind.
    """
    if content.data.startswith(protobuf.MAGIC):
        return True
    if "yaml" in media_type:
        return _KIND_OF_YAML.search(content.data) is not None
    is_nested_deep = is_json(media_type) and bytes(content.document).startswith(b'"')
    if not content.is_whole or is_nested_deep:  # only the beginning can be looked at
        return _KIND_OF_JSON.match(content.data) is not None
    return is_json(media_type) and objects.has_kind(content.data)


def is_json(media_type: str) -> bool:
    """Tell whether a media type is one of JSON."""
    return media_type == "application/json" or media_type.endswith("+json")


def was_unread(status: Status | None) -> bool:
    """Tell by its answer whether a request was refused before its body was read."""
    if status is None:
        return False
    if status.code in _UNREAD_CODES or (status.code == 404 and not status.message):
        return True
    return status.code in (400, 403, 404) and bool(_UNREAD_MESSAGES.match(status.message))


def refused_impersonation(status: Status | None) -> bool:
    """Tell by its answer whether a request did not get as far as to act as another.

    Without an answer, or when nobody knows who asked, it did not. A refusal whose reason cannot be
    read counts: nobody is said to have acted as another then.

    Source: upstream ``pkg/endpoints/filters/impersonation/mode.go``.
    """
    if status is None or status.code == 401:
        return True
    if status.code != 403:
        return False
    return not status.message or _is_refusal_to_impersonate(status)


def _is_refusal_to_impersonate(status: Status) -> bool:
    details = status.details or StatusDetails()
    objection = _objection(status.message, details)
    if status.reason != "Forbidden" or not objection:
        return False
    if _REFUSED_ACTION.match(objection):  # of the request itself, whatever that is about
        return True
    is_identity = details.kind.partition("/")[0] in _IDENTITIES
    is_identity = is_identity and details.group in _GROUPS_OF_IDENTITIES
    return is_identity and _REFUSED_IDENTITY.match(objection) is not None


def _objection(message: str, details: StatusDetails) -> str:
    """Return what stands behind ``KIND.GROUP "NAME" is forbidden: ``; "" for another message."""
    if not details.kind:
        objection = message.removeprefix("forbidden: ")
        return objection if objection != message else ""
    kind = f"{details.kind}.{details.group}" if details.group else details.kind
    head = _BEHIND_THE_KIND.match(message, len(kind)) if message.startswith(kind) else None
    return message[head.end() :] if head else ""
