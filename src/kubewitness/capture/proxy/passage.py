"""The way of a request to the API server, and of the answer back: streamed, and looked at once.

Bodies go through piece by piece, as they come; what the audit asks for is kept up to a limit. The
one thing that is held back is a short refusal in JSON: its Status belongs into the first event that
has the answer's code, so it is read before that event is made.

Source: audit specification sections 5.6 and 5.8; Go's ``net/http/httputil``.
"""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

from kubewitness.capture.proxy.answers import Nothing, Passed
from kubewitness.capture.proxy.connection import protocol_of
from kubewitness.capture.proxy.exchange import ENDED, LEFT_EARLY, Exchange
from kubewitness.capture.proxy.forwarding import HeaderLines, returned_headers, upgrade_of
from kubewitness.capture.proxy.retrieval import Retrieved
from kubewitness.capture.proxy.tunnel import Pipe, run_both
from kubewitness.capture.proxy.upstream import Upstream, told
from kubewitness.capture.tee import Tee
from kubewitness.metrics import ProxyMetrics
from kubewitness.recorder import Answer, status_answer
from kubewitness.request import is_long_running

ServerAnswer = aiohttp.ClientResponse | Retrieved
_SWITCHING = 101
_SMALL = 256 * 1024
_REFUSAL_BYTES = 64 * 1024
_REFUSAL_SECONDS = 1.0
_LEFT = "the client closed the connection before the end of the answer"
_NOT_IN_TIME = "the answer did not end within the allotted timeout"
_BROKE_OFF = "the API server closed the connection before the end of its answer"
_TOO_LATE = status_answer(
    504, "Timeout", "Timeout: request did not complete within the allotted timeout"
)


class NoAnswerError(Exception):
    """There is no answer of the API server; the proxy gives one by itself."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.answer = status_answer(code, reason, message)


class BrokenOffError(Exception):
    """An answer has no end."""


class ClientGoneError(Exception):
    """Nobody is there to take the answer."""


class Passage:
    """The passage of one request.

    Args:
        exchange: The request and its audit, which has begun.
        upstream: The API server.
        metrics: Where failures are counted.
        max_body: Bytes of a body that are kept for the record.
    """

    def __init__(
        self, exchange: Exchange, upstream: Upstream, metrics: ProxyMetrics, *, max_body: int
    ) -> None:
        self._exchange = exchange
        self._request = exchange.request
        self._audit = exchange.audit
        self._upstream = upstream
        self._metrics = metrics
        self._max_body = max_body
        self._is_stream = is_long_running(exchange.audit.info)
        self._sent = Tee(max_body) if exchange.audit.keeps_request_body else None
        self._sending_fault: Exception | None = None
        self._has_begun = False
        self._seconds = 0.0

    async def run(
        self, target: str, headers: HeaderLines, *, is_trusted: bool, seconds: float
    ) -> web.StreamResponse:
        """Pass the request on, and the answer back.

        Args:
            target: What the API server is asked for.
            headers: The request's header lines for it.
            is_trusted: Whether the proxy's own credentials go with them.
            seconds: How long that may take, if it is no long-running request; with those, how long
                the client may take to send a small body.
        """
        self._seconds = seconds
        try:
            async with asyncio.timeout(None if self._is_stream else seconds):
                response = await self._pass(target, headers, is_trusted=is_trusted)
        except NoAnswerError as error:
            return await self._answer(error.answer)
        except TimeoutError:
            if self._has_begun:
                return await self._break_off(_NOT_IN_TIME)
            return await self._answer(_TOO_LATE)
        except BrokenOffError:
            self._metrics.upstream_errors.inc()
            return await self._break_off(_BROKE_OFF)
        except (ClientGoneError, asyncio.CancelledError) as error:
            await self._give_up()
            if isinstance(error, asyncio.CancelledError):
                raise
            return self._cut()
        await self._exchange.complete()
        return response

    async def _pass(
        self, target: str, headers: HeaderLines, *, is_trusted: bool
    ) -> web.StreamResponse:
        if not target.startswith("/"):  # it would become a part of the host's name
            raise NoAnswerError(400, "BadRequest", "the target of the request is no path")
        body = await self._body()
        try:
            answer = await self._upstream.send(
                self._request.method, target, headers, body=body, is_trusted=is_trusted
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._without_answer(error) from None
        try:
            if answer.status == _SWITCHING:
                return await self._tunnel(self._as_asked(answer))
            return await self._return(answer)
        finally:
            answer.release()

    def _as_asked(self, answer: ServerAnswer) -> ServerAnswer:
        """Return an answer that changes the protocol, if it is to the one that was asked for."""
        wanted, given = upgrade_of(self._exchange.headers), answer.headers.get("Upgrade", "")
        if not wanted or wanted.lower() != given.lower():
            self._metrics.upstream_errors.inc()
            message = "the API server changed to a protocol that nobody asked for"
            raise NoAnswerError(502, "ServiceUnavailable", message)
        return answer

    def _without_answer(self, error: Exception) -> Exception:
        """Return what is to be raised when a request could not be sent, or was not answered."""
        if self._is_gone():
            return ClientGoneError()
        if self._sending_fault is not None:
            return _unreadable(self._sending_fault)
        self._metrics.upstream_errors.inc()
        message = f"the API server cannot be reached: {told(error)}"
        return NoAnswerError(502, "ServiceUnavailable", message)

    async def _body(self) -> AsyncIterator[bytes] | bytes | None:
        """Return the client's body: whole if it is small, or else piece by piece."""
        request = self._request
        if not request.body_exists:
            self._end_sent()
            return None
        size = request.content_length
        if size is None or size > _SMALL or "Expect" in request.headers:
            return self._pieces_sent()
        try:
            async with asyncio.timeout(self._seconds):
                data = await request.content.read()
        except TimeoutError:
            raise
        except (web.RequestPayloadError, aiohttp.ClientError, OSError) as error:
            raise (ClientGoneError() if self._is_gone() else _unreadable(error)) from None
        if self._sent is not None:
            self._sent.add(data)
        self._end_sent()
        return data

    async def _pieces_sent(self) -> AsyncIterator[bytes]:
        protocol_of(self._request).invite_body(self._request)
        try:
            async for piece in self._request.content.iter_any():
                if self._sent is not None:
                    self._sent.add(piece)
                yield piece
        except (web.RequestPayloadError, aiohttp.ClientError, OSError) as error:
            self._sending_fault = error
            raise
        self._end_sent()

    def _end_sent(self) -> None:
        if self._sent is not None:
            self._sent.has_ended = True

    async def _return(self, answer: ServerAnswer) -> web.StreamResponse:
        kept = self._tee(answer)
        first = b""
        if kept is not None and answer.status >= 400:
            first, kept = await self._refusal(answer, kept)
        self._record_sent()
        await self._exchange.respond(answer.status)
        response = Passed(answer.status, self._headers(answer), is_stream=self._is_stream)
        if "Content-Length" not in answer.headers and self._is_chunked(answer):
            response.enable_chunked_encoding()
        self._has_begun = True
        await self._give(answer, response, first, kept)
        if kept is not None:
            kept.has_ended = True
            self._record(answer, kept)
        return response

    def _tee(self, answer: ServerAnswer) -> Tee | None:
        content_type = answer.headers.get("Content-Type", "")
        is_kept = self._audit.keeps_response_body(answer.status, content_type)
        return Tee(self._max_body) if is_kept else None

    def _record(self, answer: ServerAnswer, kept: Tee) -> None:
        headers = answer.headers
        body = kept.body(headers.get("Content-Type", ""), headers.get("Content-Encoding", ""))
        self._audit.record_response_body(body)

    def _record_sent(self) -> None:
        if self._sent is not None:
            headers = self._request.headers
            self._audit.record_request_body(
                self._sent.body(
                    headers.get("Content-Type", ""), headers.get("Content-Encoding", "")
                )
            )

    async def _refusal(self, answer: ServerAnswer, kept: Tee) -> tuple[bytes, Tee | None]:
        """Read a refusal before it is passed on, if it is short and soon over, and record it."""
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(_REFUSAL_SECONDS):
                while piece := await _piece(answer.content):
                    pieces.append(piece)
                    kept.add(piece)
                    if sum(map(len, pieces)) > _REFUSAL_BYTES:
                        return b"".join(pieces), kept
        except TimeoutError:
            return b"".join(pieces), kept
        kept.has_ended = True
        self._record(answer, kept)
        return b"".join(pieces), None

    def _headers(self, answer: ServerAnswer) -> CIMultiDict[str]:
        headers = CIMultiDict(returned_headers(answer.headers.items()))
        headers.setdefault("Audit-Id", self._audit.audit_id)
        return headers

    def _is_chunked(self, answer: ServerAnswer) -> bool:
        has_body = self._request.method != "HEAD" and answer.status not in (204, 304)
        return has_body and self._request.version >= aiohttp.HttpVersion11

    async def _give(
        self,
        answer: ServerAnswer,
        response: web.StreamResponse,
        first: bytes,
        kept: Tee | None,
    ) -> None:
        """Pass the answer's body to the client, in the pieces that it comes in."""
        try:
            await response.prepare(self._request)
            if first:
                await response.write(first)
            content = answer.content
            while not content.at_eof():
                piece = await _piece(content)
                if kept is not None:
                    kept.add(piece)
                if piece:
                    await response.write(piece)
            await response.write_eof()
        except ConnectionError:
            raise ClientGoneError from None

    async def _tunnel(self, answer: ServerAnswer) -> web.StreamResponse:
        """Answer that the connection becomes another, and pass what comes then both ways."""
        protocol, outer = _protocol_of(answer), self._request.transport
        inner = protocol.transport
        if inner is None or outer is None:
            raise BrokenOffError
        await self._exchange.respond(_SWITCHING)
        self._has_begun = True
        down = Pipe(inner, outer, self._request.writer)
        up = Pipe(outer, inner, StreamWriter(protocol, asyncio.get_running_loop()))
        outer.write(self._switching(answer))
        protocol.set_parser(down, down)
        self._request.protocol.set_parser(up)  # type: ignore[arg-type]  # it asks for no more
        try:
            await run_both(up, down)
        finally:
            inner.close()
            outer.close()
        return Nothing()

    def _switching(self, answer: ServerAnswer) -> bytes:
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    async def _answer(self, answer: Answer) -> web.StreamResponse:
        self._record_sent()
        return await self._exchange.answer(answer)

    async def _break_off(self, reason: str) -> web.StreamResponse:
        await self._exchange.break_off(reason)
        return self._cut()

    async def _give_up(self) -> None:
        reason = _LEFT if self._has_begun else LEFT_EARLY
        if protocol_of(self._request).is_cut:
            reason = ENDED
        elif self._is_stream and self._has_begun:
            reason = ""
        self._record_sent()
        await self._exchange.give_up(reason)

    def _cut(self) -> web.StreamResponse:
        transport = self._request.transport
        if transport is not None and self._request.version < aiohttp.HttpVersion11:
            transport.abort()  # where the end of the connection ends an answer in good order
        elif transport is not None:
            transport.close()
        return Nothing()

    def _is_gone(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()


def _protocol_of(answer: ServerAnswer) -> ResponseHandler:
    if answer.connection is None or answer.connection.protocol is None:
        raise BrokenOffError
    return answer.connection.protocol


def _unreadable(error: Exception) -> NoAnswerError:
    return NoAnswerError(400, "BadRequest", f"the body of the request cannot be read: {error}")


async def _piece(content: aiohttp.StreamReader) -> bytes:
    """Return the next piece of an answer as soon as it comes; empty at its end.

    Raises:
        BrokenOffError: It has no end.
    """
    try:
        return await content.readany()
    except (aiohttp.ClientError, OSError):
        raise BrokenOffError from None
