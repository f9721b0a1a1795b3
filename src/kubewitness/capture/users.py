"""Who makes a request, as somebody before the middleware has found out.

The middleware authenticates nobody. It asks a function of the scope for a `UserInfo`; those here
take the word of a framework's authentication, or of a proxy in front. Write your own to take a
token's; return None for credentials that are refused.

Source: audit specification sections 5.7 and 5.9; upstream
``apiserver/pkg/authentication/request/headerrequest``, ``…/authentication/group``.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import ip_address, ip_network

from kubewitness.capture.asgi_scope import Scope, headers_of
from kubewitness.errors import RequestError
from kubewitness.event import UserInfo
from kubewitness.recorder import Headers
from kubewitness.request.uri import unescape

FindUser = Callable[[Scope], UserInfo | None]
"""Says who makes the request of a scope; None when the credentials were refused."""

AUTHENTICATED = "system:authenticated"
UNAUTHENTICATED = "system:unauthenticated"
ANONYMOUS = UserInfo(username="system:anonymous", groups=(UNAUTHENTICATED,))
"""Who brings no credentials, in Kubernetes' words."""

_NAMES = ("username", "display_name", "identity")
_MAX_PEERS = 1024


def framework_user(scope: Scope) -> UserInfo | None:
    """Return the user that a framework's authentication left in ``scope["user"]``.

    That is there if the authentication comes before the middleware. Its name is the first of
    ``username``, ``display_name`` and ``identity`` that it has; its group is that of everybody who
    was authenticated. Who was not, or is not there, is anonymous.
    """
    user = scope.get("user")
    if user is None or not getattr(user, "is_authenticated", True):
        return ANONYMOUS
    return UserInfo(username=_name_of(user), groups=(AUTHENTICATED,))


def _name_of(user: object) -> str:
    if isinstance(user, str):
        return user
    for attribute in _NAMES:
        try:
            name = getattr(user, attribute, "")
        except NotImplementedError:  # Starlette's BaseUser, where a subclass does not say
            continue
        if name:
            return str(name)
    return ""


def front_proxy_user(trusted: Iterable[str], *, fallback: FindUser = framework_user) -> FindUser:
    """Return a function that takes an authenticating proxy's word for who makes a request.

    The headers are ``X-Remote-User``, ``-Group`` (repeatable), ``-Uid`` and ``-Extra-KEY``, as
    kube-apiserver reads them from its front proxy. They count only when they come from a trusted
    network; anybody else's are ignored, and so are those without a user.

    Args:
        trusted: Networks, for example ``10.0.0.0/8``, or addresses. What counts is ``client`` in
            the scope: a server must not replace it by what ``X-Forwarded-For`` says (uvicorn:
            ``--no-proxy-headers``).
        fallback: Says who it is when no trusted proxy does.

    Raises:
        ValueError: A network cannot be read.
    """
    networks = tuple(map(ip_network, trusted))

    @lru_cache(_MAX_PEERS)
    def is_trusted(peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:  # a Unix socket, or a test's made-up name
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in networks)

    def find_user(scope: Scope) -> UserInfo | None:
        client = scope.get("client")
        if client and is_trusted(client[0] or ""):
            headers = headers_of(scope)
            if name := headers.first("X-Remote-User").strip():
                return _remote_user(name, headers)
        return fallback(scope)

    return find_user


def _remote_user(name: str, headers: Headers) -> UserInfo:
    extra: dict[str, tuple[str, ...] | None] = {}
    for key, values in headers.starting_with("x-remote-extra-"):
        key = _unescaped(key)  # noqa: PLW2901
        extra[key] = (extra.get(key) or ()) + values
    groups = tuple(filter(None, headers.every("X-Remote-Group")))
    return UserInfo(
        username=name,
        uid=headers.first("X-Remote-Uid"),
        groups=_with_authentication(name, groups),
        extra=extra,
    )


def _with_authentication(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Add the group of all who were authenticated, unless it is said already who was not."""
    if name == ANONYMOUS.username or AUTHENTICATED in groups or UNAUTHENTICATED in groups:
        return groups
    return (*groups, AUTHENTICATED)


def _unescaped(key: str) -> str:
    try:
        return unescape(key)
    except RequestError:  # kept as it was sent, as upstream does
        return key
