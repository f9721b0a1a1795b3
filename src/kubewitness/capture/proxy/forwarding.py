"""Which header lines go on to the API server and back: pure functions.

What says who somebody is never passes unchanged: a client's ``X-Remote-*`` lines are dropped, and
its ``Authorization`` goes on only as the token that its identity was found out by. Nor can a client
take away by ``Connection`` what it is judged by.

Source: RFC 9110 section 7.6.1; upstream ``pkg/authentication/request/headerrequest`` and Go's
``net/http/httputil``.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from kubewitness.capture.proxy.config import Forwarding
from kubewitness.event import UserInfo
from kubewitness.recorder import Headers, service_account_of

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
_PROTOCOL = "sec-websocket-protocol"
_BEARER_PROTOCOL = "base64url.bearer.authorization.k8s.io."
_NOT_BASE64URL = re.compile(r"[^A-Za-z0-9_-]")
_HTTP_AGAIN = re.compile(r"(?:^|[,\s])(?:h2|h3|http/|tls/)", re.IGNORECASE)
_UNSENDABLE = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_AUTHENTICATED = "system:authenticated"
_UNESCAPED_IN_NAMES = "!#$&'*+-.^_`|~"


def forwarded_headers(
    lines: Iterable[tuple[str, str]], *, peer: str, keeps_impersonation: bool, keeps_token: bool
) -> HeaderLines:
    """Return a client's header lines for the API server, without any that identify it.

    All lines of one name have it in the case of the first, for aiohttp's client takes only the last
    of two that differ.

    Args:
        lines: As the client sent them.
        peer: The client's address, appended to ``X-Forwarded-For``; ``""`` when unknown.
        keeps_impersonation: Whether the client's ``Impersonate-*`` lines go on.
        keeps_token: Whether the bearer token goes on that is among a websocket's protocols.
    """
    kept: HeaderLines = []
    forwarded_for: list[str] = []
    spelled: dict[str, str] = {}
    pairs = [(name, name.lower(), value) for name, value in lines]
    named = _named_by_connection(pairs)
    for name, lower, value in pairs:
        if lower in _NEVER_FORWARDED or lower in named or lower.startswith(_REMOTE):
            continue
        if lower == _FORWARDED_FOR:
            forwarded_for.append(value)
        elif lower == _PROTOCOL and not keeps_token:
            if rest := protocols_without_token(value):
                kept.append((spelled.setdefault(lower, name), rest))
        elif keeps_impersonation or not lower.startswith(_IMPERSONATE):
            kept.append((spelled.setdefault(lower, name), value))
    chain = [*forwarded_for, peer] if peer else forwarded_for
    if chain:
        kept.append(("X-Forwarded-For", ", ".join(chain)))
    return kept


def _named_by_connection(pairs: Iterable[tuple[str, str, str]]) -> set[str]:
    """Return the headers that ``Connection`` makes hop-by-hop, less those that identify."""
    named: set[str] = set()
    for _, lower, value in pairs:
        if lower == "connection":
            named |= {token.strip().lower() for token in value.split(",")}
    return {each for each in named if each != _PROTOCOL and not each.startswith(_IMPERSONATE)}


def returned_headers(lines: Iterable[tuple[str, str]]) -> HeaderLines:
    """Return an API server's header lines for the client."""
    return [(name, value) for name, value in lines if name.lower() not in _HOP_BY_HOP]


def identifying_headers(user: UserInfo, forwarding: Forwarding) -> HeaderLines:
    """Return the lines by which the proxy says on whose behalf it asks."""
    if forwarding is Forwarding.FRONT_PROXY:
        return list(_lines(user, "X-Remote-", user.groups))
    groups = user.groups
    # The API server adds this one by itself, but it gives service accounts without any their own.
    if groups[-1:] == (_AUTHENTICATED,) and (groups[:-1] or not service_account_of(user.username)):
        groups = groups[:-1]
    return list(_lines(user, "Impersonate-", groups))


def _lines(user: UserInfo, prefix: str, groups: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield f"{prefix}User", user.username
    for group in groups:
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


def upgrade_of(headers: Headers) -> str:
    """Return the protocol that a request wants to change to, if that can be; ``""`` if it stays.

    HTTP under another name stays what it is: nobody would audit the requests that follow.
    """
    tokens = ",".join(headers.every("Connection")).lower().split(",")
    protocol = headers.first("Upgrade") if "upgrade" in map(str.strip, tokens) else ""
    return "" if _HTTP_AGAIN.search(protocol) else protocol


def is_sendable(value: str) -> bool:
    """Tell whether a value arrives as it is when it is sent in a header line.

    What begins or ends with white space does not, nor what is no UTF-8, nor control characters.
    """
    return value == value.strip(" \t") and _UNSENDABLE.search(value) is None


def protocols_without_token(value: str) -> str:
    """Return a ``Sec-WebSocket-Protocol`` line less the bearer tokens in it."""
    names = (name.strip() for name in value.split(","))
    return ", ".join(name for name in names if not name.startswith(_BEARER_PROTOCOL))


def token_of_websocket(lines: Iterable[str]) -> str | None:
    """Return the bearer token in ``Sec-WebSocket-Protocol`` lines; ``""`` if none, None if bad.

    Browsers cannot send ``Authorization`` with a websocket, so the API server takes this, too: one
    token, in base64url without padding, beside at least one other protocol.
    """
    names = [name.strip() for line in lines for name in line.split(",")]
    tokens = [name for name in names if name.startswith(_BEARER_PROTOCOL)]
    if not tokens:
        return ""
    encoded = tokens[0].removeprefix(_BEARER_PROTOCOL)
    if len(tokens) > 1 or not encoded.isascii() or _NOT_BASE64URL.search(encoded):
        return None
    try:
        token = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return None
    return None if token and len(names) == 1 else token
