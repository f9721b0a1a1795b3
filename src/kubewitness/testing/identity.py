"""Who a request comes from, as a real API server establishes it.

The order is upstream's: a front proxy's word, a client certificate, a bearer token, nobody. Then
``Impersonate-*`` makes another user of those who may.

Source: audit specification section 5.9; upstream ``authentication/request/{headerrequest,x509}``.
"""

from collections.abc import Mapping, Set
from typing import Any, NamedTuple
from urllib.parse import unquote

from msgspec.structs import replace

from kubewitness.event import UserInfo
from kubewitness.recorder import Headers, impersonated_user
from kubewitness.testing.status import StatusError

ANONYMOUS = UserInfo(username="system:anonymous", groups=("system:unauthenticated",))

_AUTHENTICATED = "system:authenticated"


class Identity(NamedTuple):
    """Who asked. `refusal` is the answer to those who may not be who they say.

    Attributes:
        certificate_name: The common name of the client certificate; None without one.
        authenticated: Who the credentials say it is; None when they are not valid.
        user: Whom the request acts as; None when it may not.
    """

    certificate_name: str | None
    authenticated: UserInfo | None
    user: UserInfo | None
    refusal: StatusError | None = None


class Authenticator:
    """Establishes identities.

    Args:
        tokens: The users of bearer tokens.
        front_proxies: Names of client certificates whose ``X-Remote-*`` headers are believed.
        impersonators: Names of users who may send ``Impersonate-*``.
    """

    def __init__(
        self,
        tokens: Mapping[str, UserInfo],
        *,
        front_proxies: Set[str],
        impersonators: Set[str],
    ) -> None:
        self.tokens = {token: _member(user) for token, user in tokens.items()}
        self._front_proxies = front_proxies
        self._impersonators = impersonators

    def identify(self, lines: list[tuple[str, str]], certificate: Any) -> Identity:
        """Say who a request with these header lines and this ``getpeercert()`` comes from."""
        headers = Headers(lines)
        owner = _owner(certificate)
        name = owner.username if owner else None
        user = self._authenticate(headers, owner)
        if user is None:
            return Identity(name, None, None, StatusError(401, "Unauthorized"))
        try:
            return Identity(name, user, self._effective(headers, user))
        except StatusError as refusal:
            return Identity(name, user, None, refusal)

    def _authenticate(self, headers: Headers, owner: UserInfo | None) -> UserInfo | None:
        remote = headers.first("X-Remote-User")
        if owner and owner.username in self._front_proxies and remote:
            return _member(_remote_user(headers, remote))
        if owner:
            return _member(owner)
        scheme, _, token = headers.first("Authorization").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            return self.tokens.get(token.strip())
        return ANONYMOUS

    def _effective(self, headers: Headers, user: UserInfo) -> UserInfo:
        wanted = impersonated_user(headers)
        if wanted is None:
            if any(True for _ in headers.starting_with("impersonate-")):
                raise StatusError(400, "requested impersonation without impersonating a user")
            return user
        if user.username not in self._impersonators:
            raise StatusError(
                403,
                f'users "{wanted.username}" is forbidden: User "{user.username}" cannot impersonate'
                ' resource "users" in API group "" at the cluster scope',
                details={"name": wanted.username, "kind": "users"},
            )
        return wanted


def _owner(certificate: Any) -> UserInfo | None:
    """Return the user that a client certificate names."""
    if not certificate:
        return None
    fields = [field for part in certificate["subject"] for field in part]
    names = [value for key, value in fields if key == "commonName"]
    groups = tuple(value for key, value in fields if key == "organizationName")
    return UserInfo(username=names[-1] if names else "", groups=groups)


def _remote_user(headers: Headers, name: str) -> UserInfo:
    extra: dict[str, tuple[str, ...] | None] = {
        unquote(key): values for key, values in headers.starting_with("x-remote-extra-")
    }
    return UserInfo(
        username=name,
        uid=headers.first("X-Remote-Uid"),
        groups=headers.every("X-Remote-Group"),
        extra=extra,
    )


def _member(user: UserInfo) -> UserInfo:
    """Return the user as a member of those who are authenticated, as upstream adds it."""
    known = {_AUTHENTICATED, "system:unauthenticated"} & set(user.groups)
    if known or user.username == ANONYMOUS.username:
        return user
    return replace(user, groups=(*user.groups, _AUTHENTICATED))
