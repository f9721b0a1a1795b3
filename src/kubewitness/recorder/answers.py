"""The answers that auditing gives to a client instead of the handler's.

Source: audit specification sections 4, 5.7 and 5.10.
"""

import msgspec
from msgspec import Struct

from kubewitness.codec.duration import parse_duration
from kubewitness.codec.gotext import quote
from kubewitness.errors import RequestError
from kubewitness.request import RequestInfo, is_long_running, parse_query


class Answer(Struct, frozen=True):
    """An HTTP response: status, header lines and body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def failed_store(target: str) -> Answer:
    """Return the answer to a request whose first event could not be stored (blocking-strict)."""
    return _internal_error(target, "failed to store audit event")


def status_answer(code: int, reason: str, message: str, **details: object) -> Answer:
    """Return a failure in Status form, as the API server writes one.

    Args:
        code: The HTTP status.
        reason: One of Kubernetes' reasons, for example ``Forbidden``.
        message: A sentence.
        details: Members of the Status' ``details``, which is left out when there are none.
    """
    document = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        **({"details": details} if details else {}),
        "code": code,
    }
    text = msgspec.json.encode(document)
    for character in b"<>&":  # as Go's encoder; outside of strings JSON has none of them
        text = text.replace(b"%c" % character, b"\\u%04x" % character)
    return Answer(code, (("Content-Type", "application/json"),), text + b"\n")


def failed_request_info(target: str, reason: str) -> Answer:
    """Return the answer to a request whose target speaks of no resource and of no path."""
    return _internal_error(target, f"failed to create RequestInfo: {reason}")


def refused_target(target: str, error: RequestError) -> Answer:
    """Return the answer to a request that `Recorder.receive` would not audit."""
    if error.status == 500:
        return failed_request_info(target, str(error))
    return Answer(400, (("Content-Type", "text/plain; charset=utf-8"),), b"400 Bad Request")


def timeout_fault(info: RequestInfo, target: str) -> str | None:
    """Say what is wrong with a request's ``timeout`` parameter; None when it may go on.

    The API server answers such a request with a Status of code 400 and this message, before it
    authenticates. Long-running requests may send anything.
    """
    value = (parse_query(target.partition("?")[2]).get("timeout") or [""])[0]
    if not value or is_long_running(info):
        return None
    try:
        parse_duration(value)
    except ValueError as error:
        return f"invalid timeout specified in the request URL - {error}"
    return None


def _internal_error(target: str, reason: str) -> Answer:
    headers = (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
    )
    text = f"Internal Server Error: {quote(target)}: {reason}\n"
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Answer(500, headers, text.encode("utf-8", "surrogateescape"))
