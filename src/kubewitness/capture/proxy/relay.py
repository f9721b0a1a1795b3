"""What happens to one request: who sends it is found out, it is audited, and passed on.

The order is kube-apiserver's: a target that means nothing and a bad ``timeout`` are answered at
once; then authentication, the first event, impersonation; what comes after is the API server's.

Source: audit specification sections 5.1 to 5.10.
"""

import asyncio

from aiohttp import web

from kubewitness.capture.auditor import Auditor
from kubewitness.capture.proxy.answers import own_answer
from kubewitness.capture.proxy.config import Forwarding, ProxyConfig
from kubewitness.capture.proxy.connection import Connection, protocol_of
from kubewitness.capture.proxy.exchange import Exchange
from kubewitness.capture.proxy.forwarding import (
    HeaderLines,
    forwarded_headers,
    identifying_headers,
    upgrade_of,
)
from kubewitness.capture.proxy.identity import Authenticator, Credential, Identity
from kubewitness.capture.proxy.impersonation import (
    Impersonation,
    malformed,
    unreadable,
    wants_to_impersonate,
)
from kubewitness.capture.proxy.passage import Passage
from kubewitness.capture.proxy.probe import FrontProxyProbe
from kubewitness.capture.proxy.upstream import Upstream, UpstreamError
from kubewitness.errors import RequestError
from kubewitness.metrics import ProxyMetrics
from kubewitness.recorder import (
    Answer,
    Headers,
    IncomingRequest,
    audit_id_of,
    failed_store,
    impersonated_user,
    refused_target,
    status_answer,
    timeout_fault,
)
from kubewitness.request import is_long_running, normalize_target

_NANOSECONDS = 1_000_000_000
_UNAUTHORIZED = status_answer(401, "Unauthorized", "Unauthorized")


class Relay:
    """Serves requests.

    Args:
        auditor: Audits them.
        upstream: The API server.
        config: The proxy's settings.
        metrics: Where requests are counted.
    """

    def __init__(
        self, auditor: Auditor, upstream: Upstream, config: ProxyConfig, metrics: ProxyMetrics
    ) -> None:
        self._auditor = auditor
        self._upstream = upstream
        self._config = config
        self._metrics = metrics
        self._authenticator = Authenticator(upstream, config, metrics)
        self._impersonation = Impersonation(upstream)
        self._probe = FrontProxyProbe(upstream)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request, and count it."""
        code = 0
        self._metrics.in_flight.inc()
        try:
            response = await self._serve(request)
            code = response.status
            return response
        finally:
            self._metrics.in_flight.dec()
            self._metrics.count(code)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        received = self._auditor.now()
        headers = Headers(request.headers.items())
        audit_id = audit_id_of(headers, self._auditor.new_audit_id)
        protocol = protocol_of(request)
        connection = protocol.known
        incoming = IncomingRequest(
            method=request.method,
            target=request.raw_path,
            headers=headers,
            remote_address=connection.address,
            received=received,
            has_certificate=connection.has_certificate,
        )
        try:
            audit = self._auditor.receive(incoming, audit_id=audit_id)
        except RequestError as error:
            return own_answer(refused_target(request.raw_path, error), audit_id)
        protocol.is_long_running = is_long_running(audit.info)
        exchange = Exchange(request, headers, audit, self._auditor)
        try:
            return await self._take(exchange, connection)
        except asyncio.CancelledError:
            await exchange.abandon()
            raise
        except Exception as error:
            await exchange.fail(error)
            raise

    async def _take(self, exchange: Exchange, connection: Connection) -> web.StreamResponse:
        target = exchange.request.raw_path
        if (fault := timeout_fault(exchange.audit.info, target)) is not None:
            exchange.refuse()
            return await exchange.answer(status_answer(400, "BadRequest", fault))
        if connection.expires < self._auditor.now() / _NANOSECONDS:
            protocol_of(exchange.request).end_soon()
            exchange.fail_authentication()
            return await exchange.answer(_UNAUTHORIZED)
        try:
            identity = await self._authenticator.authenticate(exchange.headers, connection.user)
        except UpstreamError as error:
            exchange.fail_authentication()
            message = f"whose token this is cannot be found out: {error}"
            return await exchange.answer(status_answer(502, "ServiceUnavailable", message))
        if identity is None:
            exchange.fail_authentication()
            return await exchange.answer(_UNAUTHORIZED)
        if not await self._auditor.begin(exchange.audit, identity.user):
            return own_answer(failed_store(target), exchange.audit.audit_id)
        refusal = await self._doubt(identity) or await self._impersonate(exchange, identity)
        if refusal is not None:
            return await exchange.answer(refusal)
        return await self._pass(exchange, connection, identity)

    async def _doubt(self, identity: Identity) -> Answer | None:
        """Return the answer when the API server would not act as the user that the proxy names."""
        is_named = identity.by is Credential.CERTIFICATE
        if is_named and self._config.forwarding is Forwarding.FRONT_PROXY:
            try:
                await self._probe.check()
            except UpstreamError as error:
                message = f"the API server cannot be told who this is: {error}"
                return status_answer(502, "ServiceUnavailable", message)
        return None

    async def _impersonate(self, exchange: Exchange, identity: Identity) -> Answer | None:
        """Note whom the client wants to act as; return the answer if that is refused here."""
        if (fault := unreadable(exchange.headers)) is not None:
            return fault
        user = impersonated_user(exchange.headers)
        if not self._judges_impersonation(identity):
            if user is not None:
                exchange.audit.impersonate_if_allowed(user)
            return None
        if user is None:
            return malformed(exchange.headers) if wants_to_impersonate(exchange.headers) else None
        try:
            refusal = await self._impersonation.refusal(identity.user, exchange.headers)
        except UpstreamError as error:
            message = f"whether impersonation is allowed cannot be found out: {error}"
            return status_answer(502, "ServiceUnavailable", message)
        if refusal is None:
            exchange.audit.impersonate(user)
        return refusal

    def _judges_impersonation(self, identity: Identity) -> bool:
        """Tell whether the API server cannot judge it, because it sees the proxy ask."""
        is_impersonated = self._config.forwarding is Forwarding.IMPERSONATE
        return identity.by is Credential.CERTIFICATE and is_impersonated

    async def _pass(
        self, exchange: Exchange, connection: Connection, identity: Identity
    ) -> web.StreamResponse:
        passage = Passage(exchange, self._upstream, self._metrics, max_body=self._config.max_body)
        target, _ = normalize_target(exchange.request.raw_path)
        return await passage.run(
            _ascii(target),
            self._headers(exchange, connection, identity),
            is_trusted=identity.by is Credential.CERTIFICATE,
            seconds=self._config.request_timeout,
        )

    def _headers(
        self, exchange: Exchange, connection: Connection, identity: Identity
    ) -> HeaderLines:
        request = exchange.request
        is_judged = self._judges_impersonation(identity)
        acts_as_itself = not is_judged or not wants_to_impersonate(exchange.headers)
        lines = forwarded_headers(
            request.headers.items(),
            peer=connection.host,
            keeps_impersonation=not (is_judged and acts_as_itself),
            keeps_token=identity.by is Credential.TOKEN and not identity.token,
        )
        if identity.token:
            lines.append(("Authorization", f"Bearer {identity.token}"))
        if identity.by is Credential.CERTIFICATE and acts_as_itself:
            lines += identifying_headers(identity.user, self._config.forwarding)
        if upgrade := upgrade_of(exchange.headers):
            lines += [("Connection", "Upgrade"), ("Upgrade", upgrade)]
        lines.append(("Audit-ID", exchange.audit.audit_id))
        return lines


def _ascii(target: str) -> str:
    """Return a target with every byte percent-encoded that HTTP does not allow in it."""
    if target.isascii() and "#" not in target and " " not in target:
        return target
    data = target.encode("utf-8", "surrogateescape")
    return "".join(chr(b) if 0x20 < b < 0x7F and b != 0x23 else f"%{b:02X}" for b in data)
