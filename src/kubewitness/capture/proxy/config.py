"""What can be set about the proxy: one frozen value; the command's flags are made from it."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kubewitness.recorder import MAX_BODY


class Forwarding(StrEnum):
    """How the API server is told on whose behalf the proxy asks, for users with a certificate."""

    IMPERSONATE = "impersonate"
    FRONT_PROXY = "front-proxy"


class TokenIdentity(StrEnum):
    """How the proxy learns whose a bearer token is."""

    TOKEN_REVIEW = "tokenreview"  # noqa: S105  # the name of an API
    SELF_SUBJECT_REVIEW = "selfsubjectreview"


@dataclass(frozen=True, kw_only=True)
class ProxyConfig:
    """The settings of an `AuditProxy`; seconds where it says so.

    Attributes:
        tls_cert_file: The serving certificate and its chain, PEM.
        tls_private_key_file: Its key, PEM.
        client_ca_file: Authorities whose client certificates are believed; None asks for none.
        policy_file: The audit policy, read again when it changes; None keeps the pipeline's.
        forwarding: How users with a certificate are told to the API server.
        token_identity: How the user of a bearer token is found out.
        token_ttl: Seconds that an identity found out is remembered.
        anonymous_auth: Whether requests without credentials are let through.
        request_timeout: Seconds that a request may take that is not long-running.
        head_timeout: Seconds within which a request's head must have come.
        grace: Seconds that long-running requests may go on after the proxy was told to end.
        max_body: Bytes of a body that are recorded at most.
        reload_interval: Seconds between two looks at the files.
    """

    tls_cert_file: Path
    tls_private_key_file: Path
    client_ca_file: Path | None = None
    policy_file: Path | None = None
    forwarding: Forwarding = Forwarding.IMPERSONATE
    token_identity: TokenIdentity = TokenIdentity.TOKEN_REVIEW
    token_ttl: float = 120.0
    anonymous_auth: bool = True
    request_timeout: float = 60.0
    head_timeout: float = 10.0
    grace: float = 0.0
    max_body: int = MAX_BODY
    reload_interval: float = 2.0
