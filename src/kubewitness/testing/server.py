"""The fake API server: what there is to ask it, and who answers what."""

import asyncio
import contextlib
import itertools
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from kubewitness.event import UserInfo
from kubewitness.testing import kubeconfig
from kubewitness.testing.api import Api
from kubewitness.testing.behaviours import Behaviours, answers_early
from kubewitness.testing.certificates import Authority, Pair
from kubewitness.testing.identity import Authenticator, Identity
from kubewitness.testing.received import Received, received
from kubewitness.testing.release import Release
from kubewitness.testing.replay import Case, Transcript, replay
from kubewitness.testing.reviews import May, Reviews, masters_may
from kubewitness.testing.running import Loop
from kubewitness.testing.status import NOT_FOUND, StatusError, encoded
from kubewitness.testing.wire import Connection, Exchange, WireError, read_head

PROXY_NAME = "kubewitness-proxy"
PROXY_TOKEN = "proxy-token"  # noqa: S105
SOON = 20.0
"""Seconds within which what is waited for has to happen."""


class FakeAPIServer:
    """A Kubernetes API server on loopback, in a thread of its own.

    What a request gets, the first that applies: the answer of the transcript's case whose id is its
    ``Audit-ID``; a review's answer; the answer of the transcript's next case with its method and
    target; 401 or 403 by its identity; a behaviour (see `kubewitness.testing.behaviours`); what the
    small stateful API says (see `kubewitness.testing.api`); 404.

    Args:
        transcript: Cases to replay (see `kubewitness.testing.replay`).
        authority: Issues the certificates; a new one when there is none.
        tls: Serve HTTPS, and ask for client certificates; otherwise plain HTTP.
        tokens: The users of bearer tokens, beside `PROXY_TOKEN`.
        front_proxies: Names of client certificates whose ``X-Remote-*`` headers are believed.
        impersonators: Names of users who may send ``Impersonate-*``.
        may: What a SubjectAccessReview allows, by its ``spec``.

    Attributes:
        requests: What was received, in the order in which the requests were complete.
        release: Set it to let answers go on that wait.
        faults: Errors of the server itself; leaving the context raises them.
    """

    def __init__(
        self,
        transcript: Iterable[Case] = (),
        *,
        authority: Authority | None = None,
        tls: bool = True,
        tokens: Mapping[str, UserInfo] = {},
        front_proxies: Set[str] = frozenset({"front-proxy-client"}),
        impersonators: Set[str] = frozenset({PROXY_NAME}),
        may: May = masters_may,
    ) -> None:
        self.port = 0
        self.requests: list[Received] = []
        self.release = Release()
        self.faults: list[Exception] = []
        self._authority = authority
        self._tls = tls
        self._transcript = Transcript(transcript)
        self._authenticator = Authenticator(
            {PROXY_TOKEN: UserInfo(username=PROXY_NAME), **tokens},
            front_proxies=front_proxies,
            impersonators=impersonators,
        )
        self._reviews = Reviews(self._authenticator.tokens, may)
        self._behaviours = Behaviours(self.release)
        self._api = Api(self.release)
        self._ids = itertools.count(1)
        self._changed = threading.Condition()
        self._loop = Loop(
            self._serve,
            context=self._context() if tls else None,
            attach=self.release.attach,
            changed=self._notify,
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if self.faults and error is None:
            raise ExceptionGroup("the fake API server failed", self.faults)

    @property
    def url(self) -> str:
        """The server's address, without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def authority(self) -> Authority:
        """The authority behind all certificates here."""
        if self._authority is None:
            self._authority = Authority()
        return self._authority

    @property
    def ca_pem(self) -> bytes:
        """The certificate that the server's own is checked by."""
        return self.authority.ca_pem

    @property
    def connections(self) -> int:
        """How many connections have been accepted so far."""
        return self._loop.opened

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return self._loop.open

    def start(self) -> None:
        """Listen, again at the same port after `stop`."""
        self.port = self._loop.start(self.port)

    def stop(self) -> None:
        """Go away: nobody listens any more, and connections are torn down."""
        self._loop.stop()

    def until(self, condition: Callable[[], bool], seconds: float = SOON) -> None:
        """Wait until something is true of the server.

        Raises:
            TimeoutError: It did not become true in time.
        """
        with self._changed:
            if not self._changed.wait_for(condition, seconds):
                raise TimeoutError(f"not within {seconds:g} s; {len(self.requests)} requests came")

    def until_requests(self, count: int, seconds: float = SOON) -> list[Received]:
        """Wait until so many requests were received, and return all that were.

        Raises:
            TimeoutError: There were fewer.
        """
        self.until(lambda: len(self.requests) >= count, seconds)
        return list(self.requests)

    def issue_client_certificate(self, common_name: str, organizations: Iterable[str] = ()) -> Pair:
        """Return a certificate and key of a user in groups, both PEM."""
        return self.authority.issue_client_certificate(common_name, organizations)

    def issue_server_certificate(self, *names: str) -> Pair:
        """Return a certificate and key of a server at these names, both PEM."""
        return self.authority.issue_server_certificate(*names)

    def client_context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return a client's side of TLS, with a certificate if there is one."""
        return self.authority.client_context(pair)

    def write_kubeconfig(
        self,
        path: Path,
        *,
        identity: Literal["certificate", "token"] = "certificate",
        common_name: str = PROXY_NAME,
        organizations: Iterable[str] = (),
        token: str = PROXY_TOKEN,
        server: str = "",
    ) -> Path:
        """Write a kubeconfig, by default that of a proxy in front of this server.

        Args:
            path: The file; it is returned.
            identity: Which credentials it holds.
            common_name: The user of a client certificate.
            organizations: The groups of a client certificate.
            token: The bearer token.
            server: The address of another server, which has a certificate of our authority.
        """
        if identity == "token":
            user = {"token": token}
        else:
            pair = self.issue_client_certificate(common_name, organizations)
            user = kubeconfig.certificate_user(pair)
        address = server or self.url
        ca_pem = self.ca_pem if address.startswith("https:") else b""
        return kubeconfig.write(path, server=address, ca_pem=ca_pem, user=user)

    def _context(self) -> ssl.SSLContext:
        return self.authority.server_context(self.issue_server_certificate())

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def _serve(self, connection: Connection) -> None:
        try:
            while head := await read_head(connection.reader):
                exchange = Exchange(head, connection)
                await self._handle(exchange)
                if not exchange.reusable:
                    break
        except WireError as error:
            with contextlib.suppress(OSError):
                connection.writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                connection.writer.write(str(error).encode("utf-8", "replace"))
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client went away
        except Exception as error:
            self.faults.append(error)

    async def _handle(self, exchange: Exchange) -> None:
        """Receive a request, keep it, and answer."""
        head = exchange.head
        certificate = exchange.connection.writer.get_extra_info("peercert")
        identity = self._authenticator.identify(head.headers, certificate)
        audit_id = head.first("Audit-ID") or f"fake-{next(self._ids)}"
        exchange.common = (("Audit-Id", audit_id), ("Cache-Control", "no-cache, private"))
        request = received(exchange, identity)
        try:
            if not answers_early(head):
                await request.take(exchange)
        finally:
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
        await self._answer(exchange, request, identity)

    async def _answer(self, exchange: Exchange, request: Received, identity: Identity) -> None:
        try:
            await self._respond(exchange, request, identity)
        except StatusError as error:
            if not exchange.started:
                await exchange.answer(error.code, encoded(error.document))

    async def _respond(self, exchange: Exchange, request: Received, identity: Identity) -> None:
        head = exchange.head
        case = self._transcript.by_id(head)
        if case is None and not self._reviews.reviews(head):
            case = self._transcript.by_request(head)
        if case is not None:
            await replay(exchange, case)
            return
        if identity.refusal is not None:
            raise identity.refusal
        if (review := self._reviews.answer(head, request)) is not None:
            await exchange.answer(201, encoded(review))
        elif not await self._perform(exchange, request):
            raise StatusError(404, NOT_FOUND, details={})

    async def _perform(self, exchange: Exchange, request: Received) -> bool:
        return await self._behaviours.perform(exchange, request) or await self._api.perform(
            exchange, request
        )
