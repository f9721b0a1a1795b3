"""Which header lines go on to the API server and back: pure functions.

What says who somebody is never passes unchanged: a client's ``X-Remote-*`` lines are dropped, and
its ``Authorization`` goes on only as the token that its identity was found out by.

Source: RFC 9110 section 7.6.1; upstream ``pkg/authentication/request/headerrequest`` and Go's
``net/http/httputil``.
"""

from collections.abc import Iterable, Iterator
from urllib.parse import quote

from kubewitness.capture.proxy.config import Forwarding
from kubewitness.event import UserInfo

HeaderLines = list[tuple[str, str]]
"""Names and values, in order; a name may come more than once."""

_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_NEVER_FORWARDED = _HOP_BY_HOP | {"host", "expect", "authorization", "audit-id"}
_REMOTE = "x-remote-"
_IMPERSONATE = "impersonate-"
_FORWARDED_FOR = "x-forwarded-for"
_BEARER_PROTOCOL = "base64url.bearer.authorization.k8s.io."
_AUTHENTICATED = "system:authenticated"
_UNESCAPED_IN_NAMES = "!#$&'*+-.^_`|~"


def forwarded_headers(
    lines: Iterable[tuple[str, str]], *, peer: str, keeps_impersonation: bool
) -> HeaderLines:
    """Return a client's header lines for the API server, without any that identify it.

    Args:
        lines: As the client sent them.
        peer: The client's address, appended to ``X-Forwarded-For``; ``""`` when unknown.
        keeps_impersonation: Whether the API server judges the client's ``Impersonate-*`` itself.
    """
    kept: HeaderLines = []
    forwarded_for: list[str] = []
    named: frozenset[str] = frozenset()
    pairs = [(name, name.lower(), value) for name, value in lines]
    for _, lower, value in pairs:
        if lower == "connection":
            named |= {token.strip().lower() for token in value.split(",")}
    for name, lower, value in pairs:
        if lower in _NEVER_FORWARDED or lower in named or lower.startswith(_REMOTE):
            continue
        if lower == _FORWARDED_FOR:
            forwarded_for.append(value)
        elif keeps_impersonation or not lower.startswith(_IMPERSONATE):
            kept.append((name, value))
    chain = [*forwarded_for, peer] if peer else forwarded_for
    if chain:
        kept.append(("X-Forwarded-For", ", ".join(chain)))
    return kept


def returned_headers(lines: Iterable[tuple[str, str]]) -> HeaderLines:
    """Return an API server's header lines for the client."""
    return [(name, value) for name, value in lines if name.lower() not in _HOP_BY_HOP]


def identifying_headers(user: UserInfo, forwarding: Forwarding) -> HeaderLines:
    """Return the lines by which the proxy says on whose behalf it asks."""
    if forwarding is Forwarding.FRONT_PROXY:
        return list(_lines(user, "X-Remote-"))
    return list(_lines(user, "Impersonate-"))


def _lines(user: UserInfo, prefix: str) -> Iterator[tuple[str, str]]:
    yield f"{prefix}User", user.username
    for group in user.groups:
        if group != _AUTHENTICATED:  # the API server adds it by itself
            yield f"{prefix}Group", group
    if user.uid:
        yield f"{prefix}Uid", user.uid
    for key, values in user.extra.items():
        for value in values or ():
            yield f"{prefix}Extra-{quote(key, safe=_UNESCAPED_IN_NAMES)}", value


def bearer_token(authorization: str) -> str:
    """Return the token of an ``Authorization`` line, as the API server reads it; ``""`` if none."""
    parts = authorization.strip().split(" ", 2)
    return parts[1] if len(parts) > 1 and parts[0].lower() == "bearer" else ""


def protocols_without_token(value: str) -> tuple[str, str]:
    """Return a ``Sec-WebSocket-Protocol`` line less the bearer token in it, and that, encoded.

    Browsers cannot send ``Authorization`` with a websocket, so the API server takes this, too.
    """
    names = [name.strip() for name in value.split(",")]
    tokens = [name for name in names if name.startswith(_BEARER_PROTOCOL)]
    rest = ", ".join(name for name in names if name not in tokens)
    return rest, tokens[0].removeprefix(_BEARER_PROTOCOL) if len(tokens) == 1 else ""
