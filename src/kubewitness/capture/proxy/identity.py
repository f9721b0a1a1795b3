"""Who makes a request: by client certificate, by bearer token, or nobody in particular.

In the API server's order: a certificate that a known authority signed, then a token, then nobody
(``system:anonymous``). Whose a token is the API server is asked, once for a bounded time; a token
that it does not know is refused here, and one that it cannot be asked about is, too, for nobody
is served unrecorded.

Source: upstream ``pkg/authentication/request/{x509,bearertoken,websocket}``.
"""

import hashlib
import ssl
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from kubewitness.capture.proxy.config import ProxyConfig, TokenIdentity
from kubewitness.capture.proxy.forwarding import (
    bearer_token,
    is_sendable,
    token_of_websocket,
    upgrade_of,
)
from kubewitness.capture.proxy.memory import Memory
from kubewitness.capture.proxy.upstream import SELF_REVIEWS, Upstream, UpstreamError
from kubewitness.capture.users import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED
from kubewitness.event import UserInfo
from kubewitness.metrics import ProxyMetrics
from kubewitness.recorder import Headers

_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105  # a path
_UNKNOWN_SECONDS = 10.0
"""How long a token is remembered that the API server does not know."""


class Credential(Enum):
    """What somebody was recognised by."""

    CERTIFICATE = "certificate"
    TOKEN = "token"  # noqa: S105
    NOTHING = "nothing"


class Identity(NamedTuple):
    """Somebody, and what the API server is shown of it.

    Attributes:
        user: What is recorded.
        by: What it was recognised by.
        token: The token that goes on to the API server in ``Authorization``, if one does.
    """

    user: UserInfo
    by: Credential
    token: str = ""


class Authenticator:
    """Finds out who makes requests.

    Args:
        upstream: Asked whose tokens are.
        config: How, and for how long it is remembered.
        metrics: Where the questions are counted.
        now: Seconds on a clock that never goes back.
    """

    def __init__(
        self,
        upstream: Upstream,
        config: ProxyConfig,
        metrics: ProxyMetrics,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstream = upstream
        self._config = config
        self._metrics = metrics
        self._known: Memory[UserInfo | None] = Memory(
            lambda user: config.token_ttl if user else min(config.token_ttl, _UNKNOWN_SECONDS),
            now=now,
        )

    async def authenticate(self, headers: Headers, certified: UserInfo | None) -> Identity | None:
        """Return who makes a request; None if its credentials are refused.

        Args:
            headers: The request's.
            certified: Whom the connection's certificate names, see `user_of_certificate`.

        Raises:
            UpstreamError: Whose the token is could not be found out.
        """
        if certified is not None:
            return Identity(certified, Credential.CERTIFICATE)
        token = bearer_token(headers.first("Authorization"))
        if token and (user := await self._user_of(token)) is not None:
            return Identity(user, Credential.TOKEN, token)
        protocol = token_of_websocket(_protocols(headers))
        if protocol and (user := await self._user_of(protocol)) is not None:
            return Identity(user, Credential.TOKEN)
        if token or protocol != "" or not self._config.anonymous_auth:
            return None
        return Identity(ANONYMOUS, Credential.NOTHING)

    async def _user_of(self, token: str) -> UserInfo | None:
        if " " in token or not is_sendable(token):  # nobody's, and it would be read as another one
            return None
        return await self._known.get(
            hashlib.sha256(token.encode()).digest(), lambda: self._ask(token)
        )

    async def _ask(self, token: str) -> UserInfo | None:
        outcome = "error"
        try:
            if self._config.token_identity is TokenIdentity.TOKEN_REVIEW:
                user = await self._review_token(token)
            else:
                user = await self._review_self(token)
            outcome = "known" if user else "unknown"
            return user
        finally:
            self._metrics.reviews.labels(outcome).inc()

    async def _review_token(self, token: str) -> UserInfo | None:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        code, answer = await self._upstream.review(_TOKEN_REVIEWS, review)
        if code != 201:
            raise UpstreamError(f"the TokenReview was answered {code}: {_message(answer)}")
        status = status_of_review(answer)
        return _user(status.get("user")) if status.get("authenticated") is True else None

    async def _review_self(self, token: str) -> UserInfo | None:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        code, answer = await self._upstream.review(SELF_REVIEWS, review, token=token)
        if code == 401:
            return None
        if code != 201:
            raise UpstreamError(f"the SelfSubjectReview was answered {code}: {_message(answer)}")
        return _user(status_of_review(answer).get("userInfo"))


def user_of_certificate(connection: ssl.SSLObject | None) -> UserInfo | None:
    """Return the user that the client certificate of a connection names, if it has one.

    TLS has verified it already. The CN is the name, each O a group.
    """
    certificate = connection.getpeercert() if connection is not None else None
    if connection is None or not certificate:
        return None
    subject: Any = certificate.get("subject", ())
    pairs = [pair for part in subject for pair in part]
    name = next((value for key, value in reversed(pairs) if key == "commonName"), "")
    groups = tuple(value for key, value in pairs if key == "organizationName" and value)
    if not name or not all(map(is_sendable, (name, *groups))):
        return None
    digest = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
    return UserInfo(
        username=name,
        groups=_with_everybodys(name, groups),
        extra={_CREDENTIAL_ID: (f"X509SHA256={digest}",)},
    )


def _with_everybodys(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Return a user's groups with that of all who are known, or of all who are not."""
    if name == ANONYMOUS.username:
        return groups if UNAUTHENTICATED in groups else (*groups, UNAUTHENTICATED)
    is_there = AUTHENTICATED in groups or UNAUTHENTICATED in groups
    return groups if is_there else (*groups, AUTHENTICATED)


def _protocols(headers: Headers) -> tuple[str, ...]:
    """Return the protocols of a request for a websocket; none of any other request."""
    is_websocket = upgrade_of(headers).lower() == "websocket"
    return headers.every("Sec-WebSocket-Protocol") if is_websocket else ()


def status_of_review(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the status of a review; empty if it has none."""
    status = answer.get("status")
    return status if isinstance(status, dict) else {}


def _user(found: Any) -> UserInfo:
    """Read a user of the API."""
    try:
        user = msgspec.convert(found, UserInfo)
    except msgspec.ValidationError:
        raise UpstreamError("the review names no user") from None
    if not user.username:
        raise UpstreamError("the review names no user")
    return user


def _message(answer: dict[str, Any]) -> str:
    return str(answer.get("message", ""))[:200]
