"""The API server behind the proxy: connections to it, kept, and what the proxy asks it for itself.

There are two kinds of connections. *Trusted* ones carry the proxy's own credentials, the client
certificate of its kubeconfig among them; a request goes over them only with a line that says on
whose behalf it is. *Bare* ones carry nothing but what the client sent. A client's token over a
connection with the proxy's certificate would make the client the proxy.

Source: audit specification section 8.1 (kubeconfig); Kubernetes' ``authentication.k8s.io/v1`` and
``authorization.k8s.io/v1``.
"""

import asyncio
import dataclasses
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from kubewitness.backends.credentials import Credentials
from kubewitness.backends.kubeconfig import Kubeconfig, proxy_of
from kubewitness.capture.proxy.connector import Connector
from kubewitness.capture.proxy.forwarding import HeaderLines
from kubewitness.capture.proxy.retrieval import (
    METHODS,
    MOST_HEADER,
    MOST_HEADERS,
    Retrieval,
    Retrieved,
)

SELF_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

KEEP_ALIVE = 30.0
"""Seconds that an idle connection is kept: less than servers and load balancers keep theirs."""

_CONNECT_SECONDS = 10.0
_REVIEW_SECONDS = 10.0
_REVIEW_HEADERS = (
    ("Content-Type", "application/json"),
    ("Accept", "application/json"),
    ("User-Agent", "kubewitness"),
)
_LOOK_SECONDS = 1.0
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
_SKIPPED = CIMultiDict({"Content-Type": None})

_Shown = tuple[ssl.SSLContext | None, tuple[tuple[str, str], ...]]
"""A TLS context and header lines; see `Credentials.current`."""


class UpstreamError(Exception):
    """The API server could not be asked. The text is a sentence without secrets."""


class _Request(aiohttp.ClientRequest):
    """A request with the header lines that it is given, and none of aiohttp's own."""

    def update_auto_headers(self, skip_auto_headers: object) -> None:  # noqa: ARG002
        self._skip_auto_headers = _SKIPPED


class Upstream:
    """One API server.

    Args:
        kubeconfig: Where it is, and the proxy's own credentials; the files that it names are looked
            at once a second, and read again when they have changed.
        environment: Where the names of proxies are looked up.

    Raises:
        KubeconfigError: The files that it names cannot be used.
    """

    def __init__(
        self, kubeconfig: Kubeconfig, *, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._kubeconfig = kubeconfig
        self._trusted = Credentials(kubeconfig)
        self._bare = Credentials(_without_credentials(kubeconfig))
        self._proxy = proxy_of(kubeconfig, environment)
        self._base = kubeconfig.server.partition("?")[0].rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._connector: Connector
        self._retrievals: dict[bool, tuple[ssl.SSLContext | None, Retrieval]] = {}
        self._shown = (self._bare.current(), self._trusted.current())
        self._looked_at = 0.0

    def open(self) -> None:
        """Be ready to connect; called within the event loop."""
        self._connector = Connector(limit=0, keepalive_timeout=KEEP_ALIVE)
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_TIMEOUT,
            request_class=_Request,
            auto_decompress=False,
            max_line_size=MOST_HEADER,
            max_field_size=MOST_HEADER,
            max_headers=MOST_HEADERS,
        )
        self._session._retry_connection = False  # noqa: SLF001  # else it sends a PUT or DELETE twice

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        method: str,
        target: str,
        headers: HeaderLines,
        *,
        body: AsyncIterator[bytes] | bytes | None = None,
        is_trusted: bool,
    ) -> aiohttp.ClientResponse | Retrieved:
        """Send a request, and return the answer as soon as its head is there.

        Args:
            method: The HTTP method.
            target: Path and query as they go over the wire.
            headers: Its header lines.
            body: Its body, if it has one.
            is_trusted: Whether the proxy's own credentials go with it.

        Raises:
            aiohttp.ClientError: There is no answer.
            OSError: The same.
        """
        if body is None and method in METHODS:
            context, own = self._credentials()[is_trusted]
            lines = [*headers, *own] if is_trusted else headers
            return await self._retrieval(context, is_trusted).send(method, target, lines)
        return await self._send_body(method, target, headers, body=body, is_trusted=is_trusted)

    async def _send_body(
        self,
        method: str,
        target: str,
        headers: HeaderLines,
        *,
        body: AsyncIterator[bytes] | bytes | None,
        is_trusted: bool,
    ) -> aiohttp.ClientResponse:
        assert self._session is not None  # noqa: S101
        context, own = self._credentials()[is_trusted]
        return await self._session.request(
            method,
            URL(self._base + target, encoded=True),
            headers=CIMultiDict([*headers, *own] if is_trusted else headers),
            data=body,
            ssl=context or True,
            server_hostname=self._kubeconfig.tls_server_name or None,
            proxy=self._proxy,
            allow_redirects=False,
        )

    def _retrieval(self, context: ssl.SSLContext | None, is_trusted: bool) -> Retrieval:  # noqa: FBT001
        """Return the way for requests without a body over connections with a context."""
        made_for, retrieval = self._retrievals.get(is_trusted, (None, None))
        if retrieval is None or made_for is not context:
            retrieval = Retrieval(
                self._connector,
                URL(self._base, encoded=True),
                context=context,
                server_hostname=self._kubeconfig.tls_server_name or None,
                proxy=self._proxy,
                timeout=_TIMEOUT,
            )
            self._retrievals[is_trusted] = (context, retrieval)
        return retrieval

    def _credentials(self) -> tuple[_Shown, _Shown]:
        """Return what is shown to the API server over bare and over trusted connections."""
        now = time.monotonic()
        if now - self._looked_at > _LOOK_SECONDS:
            self._looked_at = now
            self._shown = (self._bare.current(), self._trusted.current())
        return self._shown

    async def review(
        self,
        path: str,
        document: Mapping[str, Any],
        *,
        token: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> tuple[int, dict[str, Any]]:
        """POST a review, and return the code and the document that came back.

        Args:
            path: For example ``/apis/authentication.k8s.io/v1/tokenreviews``.
            document: The review.
            token: Ask with this bearer token, not as the proxy.
            headers: Header lines beside those of every review.

        Raises:
            UpstreamError: There was no answer that can be read.
        """
        lines = [*_REVIEW_HEADERS, *headers]
        if token is not None:
            lines.append(("Authorization", f"Bearer {token}"))
        body = msgspec.json.encode(document)
        try:
            async with asyncio.timeout(_REVIEW_SECONDS):
                sent = self._send_body("POST", path, lines, body=body, is_trusted=token is None)
                async with await sent as answer:
                    text = await answer.read()
                    return answer.status, msgspec.json.decode(text, type=dict[str, Any])
        except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
            raise UpstreamError(told(error)) from None


def told(error: BaseException) -> str:
    """Say in a few words why there was no answer."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {_why(error.os_error)}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, msgspec.DecodeError):
        return "the answer is not JSON"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the connection was closed before the answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"the answer is not HTTP: {error.message}"
    return str(error) or type(error).__name__


def _why(error: OSError) -> str:
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own text names the address
    return error.strerror or type(error).__name__


def _without_credentials(kubeconfig: Kubeconfig) -> Kubeconfig:
    """Return how to reach the same server as nobody."""
    return dataclasses.replace(
        kubeconfig,
        client_certificate=None,
        client_certificate_data=b"",
        client_key=None,
        client_key_data=b"",
        token="",
        token_file=None,
        username="",
        password="",
        impersonate="",
        impersonate_uid="",
        impersonate_groups=(),
        impersonate_extra=(),
    )
