"""A client's connection: who is at its other end, and what it may cost before it says something.

A request's head must arrive soon and be of bounded size, so that clients that trickle or flood
headers are cut off with a clear answer. Not here: what is done with a request (`relay`).
"""

import asyncio
import contextlib
import math
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Self

from aiohttp import HttpVersion10, web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from msgspec import Struct

from kubewitness.capture.proxy.identity import user_of_certificate
from kubewitness.event import UserInfo

MOST_HEAD = 1024 * 1024
"""Bytes of a request's head, as Go's server has it."""

_MOST_HEADERS = 500
_IDLE_SECONDS = 180.0
_CUT_SECONDS = 5.0
_GOODBYE_SECONDS = 0.5
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"


class Connection(Struct, frozen=True):
    """What is known of a connection, the same for all its requests.

    Attributes:
        host: The client's address, ``""`` if it has none.
        address: The same with its port, as ``host:port``.
        user: Whom its certificate names; None without a certificate that names anybody.
        has_certificate: Whether it showed one.
        expires: When the certificate ends, Unix time in seconds; never without one.
    """

    host: str
    address: str
    user: UserInfo | None
    has_certificate: bool
    expires: float = math.inf

    @classmethod
    def of_transport(cls, transport: Any) -> Self:
        """Look at a connection."""
        peer = transport.get_extra_info("peername") if transport is not None else None
        security = transport.get_extra_info("ssl_object") if transport is not None else None
        host, port = (str(peer[0]), peer[1]) if isinstance(peer, tuple) else ("", 0)
        bracketed = f"[{host}]" if ":" in host else host
        certificate = security.getpeercert() if security is not None else None
        return cls(
            host,
            f"{bracketed}:{port}",
            user_of_certificate(security),
            bool(certificate),
            _end_of(certificate) if certificate else math.inf,
        )


def _end_of(certificate: Mapping[str, Any]) -> float:
    return float(ssl.cert_time_to_seconds(certificate["notAfter"]))


def _is_answerable(request: web.BaseRequest) -> bool:
    """Tell whether a request speaks of a path, or could be taken for one to another server."""
    target = request.raw_path
    is_path = target.startswith("/") or "://" in target
    return is_path and request.method != "CONNECT" and request.version >= HttpVersion10


def _no_http() -> web.Response:
    answer = web.Response(status=400, text="400 Bad Request")
    answer.force_close()
    return answer


def _expects(request: web.BaseRequest) -> bool:
    return "Expect" in request.headers and request.headers["Expect"].lower() == "100-continue"


def protocol_of(request: web.BaseRequest) -> "ClientProtocol":
    """Return the connection that a request came by."""
    protocol = request.protocol
    assert isinstance(protocol, ClientProtocol)  # noqa: S101
    return protocol


class ClientProtocol(RequestHandler):
    """aiohttp's connection, with a limit on time and size of a request's head.

    Attributes:
        is_long_running: Whether the request that is served, if one is, may take for ever.
        is_cut: Whether the proxy ends it before its end.
        is_last: Whether no further request is served over this connection.

    Args:
        manager: The server.
        head_timeout: Seconds that a request's head may take.
        settings: aiohttp's.
    """

    __slots__ = (
        "_head_bytes",
        "_head_timeout",
        "_head_timer",
        "_invited",
        "_known",
        "is_cut",
        "is_last",
        "is_long_running",
    )

    def __init__(self, manager: web.Server, *, head_timeout: float, **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._known: Connection | None = None
        self.is_long_running = False
        self.is_cut = False
        self.is_last = False
        self._invited: web.BaseRequest | None = None
        self._head_timeout = head_timeout
        self._head_bytes = 0
        self._head_timer: Any = None

    @property
    def known(self) -> Connection:
        """What is known of the client."""
        if self._known is None:
            self._known = Connection.of_transport(self.transport)
        return self._known

    def invite_body(self, request: web.BaseRequest) -> None:
        """Tell the client, if it waits for that, that it may send the request's body."""
        if _expects(request) and self.transport is not None:
            self._invited = request
            self.transport.write(_CONTINUE)

    def is_kept_waiting(self, request: web.BaseRequest) -> bool:
        """Tell whether the client waits with the request's body, and may well never send it."""
        return _expects(request) and self._invited is not request and not request.content.is_eof()

    def cut(self) -> None:
        """End the request that is served, and the connection with it.

        aiohttp's own `shutdown` waits first, and without a limit when told to wait 0 seconds.
        """
        self.is_cut = True
        if self._current_request is not None and self._task_handler is not None:
            self._task_handler.cancel()
        else:
            self.force_close()

    def end_soon(self) -> None:
        """Serve no further request over this connection."""
        self.is_last = True
        if self._is_between_requests():
            self.force_close()

    def connection_made(self, transport: Any) -> None:
        """Expect the first request soon."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Read what came; while it is only a part of a head, the time for that runs."""
        if not self._is_between_requests():
            super().data_received(data)
        elif self._head_bytes or b"pgrade" in data:
            self._read_by_line(data)
        else:
            super().data_received(data)
        if self._messages:
            self._fail_body()
        self._head_bytes += len(data)
        if not self._is_between_requests():
            self._forget_head()
        elif self._head_bytes > MOST_HEAD:
            self._refuse(_TOO_LARGE)
        elif self._head_timer is None:
            self._await_head()

    def _fail_body(self) -> None:
        """If a body turns out to be malformed, let who reads it know, which aiohttp does not."""
        message = self._messages[-1][0]
        if isinstance(message, RawRequestMessage):
            return
        if len(self._messages) > 1:
            body = self._messages[-2][1]
        elif self._current_request is not None:
            body = self._current_request.content
        else:
            return
        if not body.is_eof():
            body.set_exception(web.RequestPayloadError(message.message))

    def _read_by_line(self, data: bytes) -> None:
        """Read a head that may ask for a change of protocols, and leave alone what comes after it.

        aiohttp knows of no protocols but websocket, and takes what follows for another request.
        """
        lines = iter(data.splitlines(keepends=True))
        for line in lines:
            super().data_received(line)
            if self._messages:
                message, body = self._messages[-1]
                if getattr(message, "upgrade", False) and body.is_eof():
                    self._upgraded = True
                super().data_received(b"".join(lines))
                return

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._forget_head()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, or too much of it."""
        if isinstance(exc, LineTooLong):
            status, message = 431, "Request Header Fields Too Large"
        elif isinstance(exc, BadHttpMessage):
            message = "Bad Request"
        elif exc is not None:
            self.log_exception("a request failed", exc_info=exc)
        answer = web.Response(status=status, text=f"{status} {message or 'Internal Server Error'}")
        answer.force_close()
        return answer

    def _is_between_requests(self) -> bool:
        return self._current_request is None and not self._messages and not self._upgraded

    def _await_head(self) -> None:
        self._head_timer = self._loop.call_later(self._head_timeout, self._refuse, _TOO_SLOW)

    def _forget_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, answer: bytes) -> None:
        self._forget_head()
        if self.transport is not None:
            self.transport.write(answer)
        self.force_close()


class ClientServer(web.Server):
    """aiohttp's server, with our connections, and an end in good order.

    Args:
        serve: What answers a request.
        head_timeout: Seconds that a request's head may take.
    """

    def __init__(
        self,
        serve: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        head_timeout: float,
    ) -> None:
        super().__init__(self._serve, handler_cancellation=True)
        self._head_timeout = head_timeout
        self._answer = serve
        self._busy: set[ClientProtocol] = set()
        self._is_draining = False
        self._changed = asyncio.Event()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        protocol = protocol_of(request)
        self._busy.add(protocol)
        try:
            if not _is_answerable(request):
                return _no_http()
            response = await self._answer(request)
            if protocol.is_kept_waiting(request) or request.content.exception() is not None:
                request.content.feed_eof()  # or else aiohttp waits for it
                response.force_close()
            if self._is_draining or protocol.is_last:
                response.force_close()
            return response
        finally:
            self._busy.discard(protocol)
            self._changed.set()

    def doubt_certificates(self) -> None:
        """Have clients with certificates connect anew; what is under way goes on to its end."""
        for client in self._clients():
            if client.known.has_certificate:
                client.end_soon()

    async def drain(self, seconds: float, *, grace: float) -> None:
        """Close idle connections at once, the others as soon as they have been served.

        Args:
            seconds: How long requests may take that are not long-running.
            grace: How long the long-running ones may.
        """
        self._is_draining = True
        for client in self._clients() - self._busy:
            client.force_close()
        await self._until(lambda: all(each.is_long_running for each in self._busy), seconds)
        await self._until(lambda: not self._busy, grace)
        for client in self._clients():
            client.cut()
        await self._until(lambda: not self._busy, _CUT_SECONDS)
        await self._until(lambda: not self.connections, _GOODBYE_SECONDS)
        self._abort(lambda transport: transport.get_write_buffer_size() == 0)
        await self._until(lambda: not self.connections, _CUT_SECONDS)
        self._abort(lambda _: True)
        await self._until(lambda: not self.connections, _CUT_SECONDS)

    def _abort(self, is_over: Callable[[asyncio.Transport], bool]) -> None:
        """Close connections whose clients do not answer the end of TLS; most never do."""
        for transport in list(self._connections.values()):
            if is_over(transport):
                transport.abort()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        serving = handler._task_handler  # noqa: SLF001  # aiohttp's, as in its own method
        super().connection_lost(handler, exc)
        if serving is not None:  # aiohttp forgets the connection when this is done
            serving.add_done_callback(lambda _: self._changed.set())
        self._changed.set()

    def _clients(self) -> set["ClientProtocol"]:
        return {each for each in self.connections if isinstance(each, ClientProtocol)}

    async def _until(self, is_so: Callable[[], bool], seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not is_so():
                    self._changed.clear()
                    await self._changed.wait()

    def __call__(self) -> RequestHandler:
        """Make the connection of a client that just came."""
        return ClientProtocol(
            self,
            head_timeout=self._head_timeout,
            loop=self._loop,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=_IDLE_SECONDS,
            max_line_size=MOST_HEAD,
            max_field_size=MOST_HEAD,
            max_headers=_MOST_HEADERS,
        )
