"""What the fake server was asked: one record a request."""

import hashlib
from dataclasses import dataclass, field

from kubewitness.event import UserInfo
from kubewitness.testing.identity import Identity
from kubewitness.testing.wire import Exchange

KEPT = 1 << 20
"""How many bytes of a request body are kept."""


@dataclass
class Received:
    """One request, as it came.

    Attributes:
        method: The HTTP method.
        target: Path and query exactly as they were on the wire.
        headers: The header lines in their order.
        certificate_name: The common name of the client certificate; None without one.
        authenticated: Who the credentials say it is; None when they were not valid.
        user: Whom the request acts as; None when authentication or impersonation failed.
        body: The first `KEPT` bytes of the body, without its framing.
        size: The length of the whole body, in bytes.
        sha256: Of the whole body, in hexadecimal.
        complete: The body was received to its end; False when the client went away before, and for
            a behaviour that does not wait for it.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    certificate_name: str | None = None
    authenticated: UserInfo | None = None
    user: UserInfo | None = None
    body: bytes = b""
    size: int = 0
    sha256: str = field(default=hashlib.sha256().hexdigest())
    complete: bool = False

    def header(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    async def take(self, exchange: Exchange) -> None:
        """Receive the body, however long it is."""
        digest, kept = hashlib.sha256(), bytearray()
        try:
            async for piece in exchange.body():
                digest.update(piece)
                self.size += len(piece)
                kept += piece[: KEPT - len(kept)]
            self.complete = True
        finally:
            self.body, self.sha256 = bytes(kept), digest.hexdigest()


def received(exchange: Exchange, identity: Identity) -> Received:
    """Return the record of a request of which the head is here."""
    head = exchange.head
    return Received(
        head.method,
        head.target,
        head.headers,
        identity.certificate_name,
        identity.authenticated,
        identity.user,
    )
