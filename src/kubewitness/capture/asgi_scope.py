"""What an ASGI scope says of a request, and the types that ASGI is made of.

Source: the ASGI specification 3.0, "HTTP & WebSocket"; audit specification sections 5.4 and 5.5.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import quote

from kubewitness.recorder import Headers, IncomingRequest

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Call(NamedTuple):
    """What a server calls an application with."""

    scope: Scope
    receive: Receive
    send: Send


_PLAIN = "$&+,/:;=@"
"""What a target that has to be made up leaves unquoted, as Go does."""


def headers_of(scope: Scope) -> Headers:
    """Return a request's headers, bytes that are not UTF-8 as surrogate escapes."""
    return Headers(
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
        for name, value in scope["headers"]
    )


def target_of(scope: Scope) -> str:
    """Return the request target as it was sent; made anew of the path where only that is known.

    It is the whole path, with what a server or a mount calls ``root_path``.
    """
    raw: bytes | None = scope.get("raw_path")
    if raw:
        path = raw.partition(b"?")[0].decode("utf-8", "surrogateescape")
    else:
        path = quote(scope["path"] or "/", safe=_PLAIN, errors="surrogateescape")
    query: bytes = scope.get("query_string") or b""
    return f"{path}?{query.decode('utf-8', 'surrogateescape')}" if query else path


def incoming_request(scope: Scope, headers: Headers, *, received: int) -> IncomingRequest:
    """Return what is known of an ``http`` or ``websocket`` request; the latter's method is GET.

    Args:
        scope: The request's scope.
        headers: Its headers, see `headers_of`.
        received: Unix time in nanoseconds.
    """
    client = scope.get("client")
    return IncomingRequest(
        method=scope.get("method", "GET"),
        target=target_of(scope),
        headers=headers,
        remote_address=client[0] or "" if client else "",
        received=received,
        has_certificate=_has_certificate(scope),
    )


def _has_certificate(scope: Scope) -> bool:
    extensions = scope.get("extensions")
    tls = extensions.get("tls") if extensions else None
    return bool(tls and tls.get("client_cert_chain"))
