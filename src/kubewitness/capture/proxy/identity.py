"""Who makes a request: by client certificate, by bearer token, or nobody in particular.

In the API server's order: a certificate that a known authority signed, then a token, then nobody
(``system:anonymous``). Whose a token is the API server is asked, once for a bounded time; a token
that it does not know is refused here, and one that it cannot be asked about is, too, for nobody
is served unrecorded.

Source: upstream ``pkg/authentication/request/{x509,bearertoken,websocket}``.
"""

import base64
import binascii
import hashlib
import ssl
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from kubewitness.capture.proxy.config import ProxyConfig, TokenIdentity
from kubewitness.capture.proxy.forwarding import bearer_token, protocols_without_token
from kubewitness.capture.proxy.memory import Memory
from kubewitness.capture.proxy.upstream import Upstream, UpstreamError
from kubewitness.event import UserInfo
from kubewitness.metrics import ProxyMetrics
from kubewitness.recorder import Headers

AUTHENTICATED = "system:authenticated"
ANONYMOUS = UserInfo(username="system:anonymous", groups=("system:unauthenticated",))

_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105  # a path
_SELF_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
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
    """

    def __init__(self, upstream: Upstream, config: ProxyConfig, metrics: ProxyMetrics) -> None:
        self._upstream = upstream
        self._config = config
        self._metrics = metrics
        self._known: Memory[UserInfo | None] = Memory(
            lambda user: config.token_ttl if user else min(config.token_ttl, _UNKNOWN_SECONDS)
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
        if token:
            user = await self._user_of(token)
            return Identity(user, Credential.TOKEN, token) if user is not None else None
        token = _token_of_websocket(headers)
        if token:
            user = await self._user_of(token)
            return Identity(user, Credential.TOKEN) if user is not None else None
        return Identity(ANONYMOUS, Credential.NOTHING) if self._config.anonymous_auth else None

    async def _user_of(self, token: str) -> UserInfo | None:
        key = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        return await self._known.get(key, lambda: self._ask(token))

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
        status = answer.get("status") or {}
        return _user(status.get("user")) if status.get("authenticated") is True else None

    async def _review_self(self, token: str) -> UserInfo | None:
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        code, answer = await self._upstream.review(_SELF_REVIEWS, review, token=token)
        if code == 401:
            return None
        if code != 201:
            raise UpstreamError(f"the SelfSubjectReview was answered {code}: {_message(answer)}")
        return _user((answer.get("status") or {}).get("userInfo"))


def user_of_certificate(connection: ssl.SSLObject | None) -> UserInfo | None:
    """Return the user that the client certificate of a connection names, if it has one.

    TLS has verified it already. The CN is the name, each O a group.
    """
    certificate = connection.getpeercert() if connection is not None else None
    if connection is None or not certificate:
        return None
    subject: Any = certificate.get("subject", ())
    pairs = [pair for part in subject for pair in part]
    names = [value for key, value in pairs if key == "commonName"]
    if not names or not names[-1] or not all(value.isprintable() for _, value in pairs):
        return None
    groups = tuple(value for key, value in pairs if key == "organizationName")
    digest = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
    return UserInfo(
        username=names[-1],
        groups=groups if AUTHENTICATED in groups else (*groups, AUTHENTICATED),
        extra={_CREDENTIAL_ID: (f"X509SHA256={digest}",)},
    )


def _token_of_websocket(headers: Headers) -> str:
    _, encoded = protocols_without_token(headers.first("Sec-WebSocket-Protocol"))
    try:
        padded = encoded + "=" * (-len(encoded) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        return ""


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
