"""Asks a proxy, header line by header line, as whoever; an API server whose reviews go wrong."""

import http.client
import itertools
import json
import ssl
from contextlib import closing
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clocks import SOON, until
from kubewitness.event import Event, Stage, UserInfo
from kubewitness.testing import Authority, FakeAPIServer, Pair, Received
from proxies import RunningProxy

ANN = UserInfo(
    username="ann",
    uid="u-1",
    groups=("shop", "system:authenticated"),
    extra={"scopes": ("view", "edit")},
)
ANONYMOUS = UserInfo(username="system:anonymous", groups=("system:unauthenticated",))
BY_TOKEN = ("Authorization", "Bearer anns")
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"

_IDS = itertools.count(1)
_LAST = (Stage.RESPONSE_COMPLETE, Stage.PANIC)


class ReviewingServer(FakeAPIServer):
    """A fake API server; ``anns`` is the token of `ANN`.

    `answer`, a code and a body, is what reviews are answered; with `holds` they wait for `release`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"tokens": {"anns": ANN}, **settings})
        self.answer: tuple[int, bytes] | None = None
        self.holds = False

    @property
    def reviews(self) -> list[Received]:
        """What the proxy asked for itself."""
        return [each for each in self.requests if each.target.endswith("reviews")]

    @property
    def reached(self) -> list[Received]:
        """What was passed on."""
        return [each for each in self.requests if not each.target.endswith("reviews")]

    async def _respond(self, exchange: Any, request: Received, identity: Any) -> None:
        if request.target.endswith("reviews"):
            if self.holds:
                await self.release.wait()
            if self.answer is not None:
                await exchange.answer(*self.answer)
                return
        await super()._respond(exchange, request, identity)


class Asked(NamedTuple):
    """One request through the proxy: its answer, and its id."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    audit_id: str

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def connected(
    running: RunningProxy, context: ssl.SSLContext | None = None
) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection(
        "127.0.0.1", running.port, context=context or running.client_context(), timeout=SOON
    )


def ask(
    running: RunningProxy,
    *lines: tuple[str, str],
    context: ssl.SSLContext | None = None,
    target: str = "/fake/echo",
    method: str = "GET",
) -> Asked:
    """Send a request with these header lines over a connection of its own."""
    with closing(connected(running, context)) as connection:
        return ask_by(connection, *lines, target=target, method=method)


def ask_by(
    connection: http.client.HTTPSConnection,
    *lines: tuple[str, str],
    target: str = "/fake/echo",
    method: str = "GET",
) -> Asked:
    """Send a request with these header lines, and an id of its own."""
    audit_id = f"asked-{next(_IDS)}"
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in (*lines, ("Audit-ID", audit_id)):
        connection.putheader(name, value.encode("utf-8", "surrogateescape"))
    connection.endheaders()
    answer = connection.getresponse()
    return Asked(answer.status, answer.getheaders(), answer.read(), audit_id)


def events_of(running: RunningProxy, asked: Asked) -> list[Event]:
    """Return the events of a request that has been answered, once the last is there."""

    def found() -> list[Event]:
        return [each for each in list(running.backend.received) if each.audit_id == asked.audit_id]

    def is_over() -> bool:
        events = found()
        is_refused = [each.stage for each in events] == [Stage.RESPONSE_STARTED]
        return is_refused or any(each.stage in _LAST for each in events)

    until(is_over)
    return found()


def last_event(running: RunningProxy, asked: Asked) -> Event:
    return events_of(running, asked)[-1]


def certificate(
    authority: Authority, *, names: tuple[str, ...] = (), groups: tuple[str, ...] = ()
) -> Pair:
    """Return a client's certificate with any number of names and groups, whatever is in them."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in groups]
    attributes += [x509.NameAttribute(NameOID.COMMON_NAME, each) for each in names]
    key = ec.generate_private_key(ec.SECP256R1())
    signed = authority._signed(x509.Name(attributes), key.public_key())
    return Pair(
        signed.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
