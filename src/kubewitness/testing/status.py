"""Status documents: what an API server answers instead of an object.

Source: upstream ``apimachinery/pkg/api/errors/errors.go``.
"""

import json
from collections.abc import Mapping
from typing import Any

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}

NOT_FOUND = "the server could not find the requested resource"


class StatusError(Exception):
    """A request is answered with a Status; the message is the Status's."""

    def __init__(
        self, code: int, message: str, *, reason: str = "", details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.document = status(code, message, reason=reason, details=details)


def status(
    code: int, message: str = "", *, reason: str = "", details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a Status document; its reason follows from the code unless given."""
    document: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
    document["status"] = "Success" if code < 400 else "Failure"
    if message:
        document["message"] = message
    if reason or code in _REASONS:
        document["reason"] = reason or _REASONS[code]
    if details is not None:
        document["details"] = dict(details)
    return {**document, "code": code}


def encoded(document: object) -> bytes:
    """Return a document as an API server writes it: compact JSON and a line feed."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "surrogatepass") + b"\n"
