"""What request headers mean to auditing: the request's id, credentials, impersonation.

Source: audit specification sections 5.2, 5.7 and 5.9.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator

from kubewitness.errors import RequestError
from kubewitness.event import UserInfo
from kubewitness.request.uri import unescape

_ANONYMOUS = "system:anonymous"
_AUTHENTICATED = "system:authenticated"
_UNAUTHENTICATED = "system:unauthenticated"
_LONGEST_USER_AGENT = 1024
_SERVICE_ACCOUNT = "system:serviceaccount:"
_EXTRA = "impersonate-extra-"
_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_ACCOUNT = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


class Headers:
    """The header lines of one request, found by name in any case, in their order.

    Values are text; bytes that are not UTF-8 are kept as surrogate escapes.
    """

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in lines:
            self._values.setdefault(name.lower(), []).append(value)

    def first(self, name: str) -> str:
        """Return the first value of a header, ``""`` when there is none."""
        values = self._values.get(name.lower())
        return values[0] if values else ""

    def every(self, name: str) -> tuple[str, ...]:
        """Return all values of a header."""
        return tuple(self._values.get(name.lower(), ()))

    def starting_with(self, prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the rest of the name, in lower case, and the values of headers with a prefix."""
        for name, values in self._values.items():
            if name.startswith(prefix):
                yield name.removeprefix(prefix), tuple(values)


def audit_id_of(headers: Headers, new_audit_id: Callable[[], str]) -> str:
    """Return the id that the client chose, as it is; a new one when it chose none.

    Source: audit specification section 5.2.
    """
    return headers.first("Audit-ID") or new_audit_id()


def limited_user_agent(headers: Headers) -> str:
    """Return the user agent, cut after 1024 bytes (which may cut a character in two)."""
    agent = headers.first("User-Agent")
    data = agent.encode("utf-8", "surrogateescape")
    if len(data) <= _LONGEST_USER_AGENT:
        return agent
    return data[:_LONGEST_USER_AGENT].decode("utf-8", "surrogateescape") + "...TRUNCATED"


def authentication_attempts(
    headers: Headers, query: dict[str, list[str]], *, has_certificate: bool
) -> str:
    """Say which credentials a request with failed authentication brought.

    Source: audit specification section 5.7.
    """
    authorization = headers.first("Authorization")
    words = authorization.split()
    tried = {
        "basic": _is_basic(authorization),
        "bearer": len(words) > 1 and words[0].lower() == "bearer",
        "access_token": bool("".join(query.get("access_token", [])[:1]).strip()),
        "x509": has_certificate,
    }
    methods = ", ".join(method for method, found in tried.items() if found)
    if not methods:
        return "Authentication failed, no credentials provided"
    return f"Authentication failed, attempted: {methods}"


def _is_basic(authorization: str) -> bool:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        return b":" in base64.b64decode(credentials, validate=True)
    except (binascii.Error, ValueError):
        return False


def impersonated_user(headers: Headers, *, as_node: bool = False) -> UserInfo | None:
    """Return whom a request wants to act as, by its Impersonate-* headers; None for nobody.

    Whether it may is the authorizer's to say. A request with other Impersonate headers but no
    Impersonate-User is malformed (HTTP 400) and impersonates nobody.

    Args:
        headers: The request's headers.
        as_node: The constrained mode for nodes applies: the groups are a node's.

    Source: audit specification section 5.9.
    """
    name = headers.first("Impersonate-User")
    if not name:
        return None
    groups = headers.every("Impersonate-Group") or _groups_of(name, as_node=as_node)
    extra: dict[str, tuple[str, ...] | None] = {}
    for escaped, values in headers.starting_with(_EXTRA):
        key = unescaped_key(escaped)  # two spellings of one key are one key
        extra[key] = (*(extra.get(key) or ()), *values)
    return UserInfo(
        username=name,
        uid=headers.first("Impersonate-Uid"),
        groups=_with_authentication(name, groups),
        extra=extra,
    )


def unescaped_key(key: str) -> str:
    """Return the key that a header ``Impersonate-Extra-…`` stands for."""
    try:
        return unescape(key)
    except RequestError:  # kept as it was sent, as upstream does
        return key


def service_account_of(name: str) -> tuple[str, str] | None:
    """Return namespace and name of the service account that a user's name stands for, if it does.

    Source: upstream ``pkg/authentication/serviceaccount`` (``SplitUsername``).
    """
    if not name.startswith(_SERVICE_ACCOUNT):
        return None
    namespace, _, account = name.removeprefix(_SERVICE_ACCOUNT).partition(":")
    is_one = len(namespace) <= 63 and _NAMESPACE.fullmatch(namespace) is not None
    is_one = is_one and len(account) <= 253 and _ACCOUNT.fullmatch(account) is not None
    return (namespace, account) if is_one else None


def _groups_of(name: str, *, as_node: bool) -> tuple[str, ...]:
    if as_node:
        return ("system:nodes",)
    account = service_account_of(name)
    if account is None:
        return ()
    return ("system:serviceaccounts", f"system:serviceaccounts:{account[0]}")


def _with_authentication(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    if name == _ANONYMOUS:
        return groups if _UNAUTHENTICATED in groups else (*groups, _UNAUTHENTICATED)
    known = _AUTHENTICATED in groups or _UNAUTHENTICATED in groups
    return groups if known else (*groups, _AUTHENTICATED)
