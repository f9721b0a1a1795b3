"""What is recorded of message bodies as they go over the wire: any media type, encoded, cut off.

Bodies of JSON are recorded as they are, other text as a JSON string, and so is the beginning of
what was too long to keep: what is recorded is always JSON. Of protobuf, CBOR and other bytes
nothing is recorded, and a sentence says why. Not here: which requests' bodies are asked for, and
what becomes of them in an event (`machine`).

Source: audit specification section 5.8.
"""

import codecs
import re
import zlib
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from kubewitness.event import NO_OBJECT, Status
from kubewitness.recorder import objects, protobuf

MAX_BODY = 1024 * 1024
"""Bytes of a body that are kept unless told otherwise."""

_BINARY = ("protobuf", "cbor")
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_KIND_OF_JSON = re.compile(rb'\s*\{\s*"(?:kind|apiVersion)"\s*:')
_KIND_OF_YAML = re.compile(rb"^kind:", re.MULTILINE)

# Answers that the API server gives before it reads the body into an object.
_UNREAD_CODES = frozenset((401, 405, 406, 413, 415))
_UNREAD_MESSAGES = re.compile(
    r"cannot [\w:-]+ resource "  # the authorizer's refusal
    r"|cannot [a-z]+ path "
    r"|could not find the requested resource"
    r"|cannot be handled as an? |the object provided is unrecognized"
)
_REFUSED_IMPERSONATION = re.compile(r" cannot impersonate[\w:-]* resource ")


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
    document = objects.recordable(data) if is_whole else _beginning(data)
    omitted = "not text" if document is NO_OBJECT else ""
    return Content(data, document, is_whole, omitted)


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


def _beginning(data: bytes) -> Raw:
    """Return the beginning of a text as a JSON string, less a character that was cut in two."""
    try:
        return Raw(msgspec.json.encode(codecs.getincrementaldecoder("utf-8")().decode(data)))
    except UnicodeDecodeError:
        return NO_OBJECT


def is_api_object(content: Content, media_type: str) -> bool:
    """Tell an object of the API, or a list or table of them, from what only looks alike.

    The API server records what its object writer writes, and that always has a kind.
    """
    if content.data.startswith(protobuf.MAGIC):
        return True
    if "yaml" in media_type:
        return _KIND_OF_YAML.search(content.data) is not None
    if not content.is_whole:
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
    return status.code in (400, 403, 404) and bool(_UNREAD_MESSAGES.search(status.message))


def refused_impersonation(status: Status | None) -> bool:
    """Tell by its answer whether a request was refused because of whom it wanted to act as.

    A refusal whose reason cannot be read counts: nobody is said to have acted as another then.
    """
    if status is None or status.code != 403:
        return False
    return not status.message or _REFUSED_IMPERSONATION.search(status.message) is not None
