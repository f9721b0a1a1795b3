"""One request on its way through the middleware: messages pass, and the audit is told of them.

Messages go on as they are, in their order, one at a time: nothing is gathered that the application
or the server would wait for. There is one exception. The event ResponseStarted of a refusal has
the refusal's Status in it, so the start of such an answer waits for its body, at most for as much
as is kept of it; only long-running requests and those without accepted credentials have it.

Source: audit specification sections 5.6 to 5.8.
"""

import asyncio
import contextlib
from collections.abc import Iterable

from kubewitness.capture.asgi_answers import ACCEPT, BODIES, CLOSE, STARTS, listed
from kubewitness.capture.asgi_scope import Application, Call, Message
from kubewitness.capture.auditor import Auditor
from kubewitness.capture.tee import Tee
from kubewitness.event import Level, UserInfo
from kubewitness.recorder import Body, Headers, RequestAudit

ABORTED = "kubewitness.io/aborted"
"""The annotation of a request that ended before its answer did; the value says why."""

_DISCONNECTS = frozenset(("http.disconnect", "websocket.disconnect"))
_SWITCHING_PROTOCOLS, _FORBIDDEN = 101, 403


class _Kept(Tee):
    """The beginning of a body that passes in messages, and what its headers say of it."""

    __slots__ = ("_encoding", "_type")

    def __init__(self, limit: int, content_type: str, content_encoding: str) -> None:
        super().__init__(limit)
        self._type = content_type
        self._encoding = content_encoding

    def take(self, message: Message) -> None:
        """Keep what a message has of the body, as far as there is room."""
        self.add(message.get("body", b""))
        self.has_ended = not message.get("more_body", False)

    def taken(self) -> Body:
        """Return what there is to record."""
        return self.body(self._type, self._encoding)


class Exchange:
    """Stands between server and application for one request.

    `receive` and `send` are what the application gets, `run` closes the audit.

    Args:
        auditor: Delivers the events.
        audit: The request's audit, received but not begun.
        call: The server's.
        max_body: Bytes that are kept of each body.
        starts: Whether the request has the stage ResponseStarted, being long-running.
    """

    __slots__ = (
        "_auditor",
        "_has_answered",
        "_has_finished",
        "_held",
        "_is_gone",
        "_is_refused",
        "_max_body",
        "_receive",
        "_request",
        "_response",
        "_scope",
        "_send",
        "_starts",
        "audit",
    )

    def __init__(
        self,
        auditor: Auditor,
        audit: RequestAudit,
        call: Call,
        *,
        max_body: int,
        starts: bool,
    ) -> None:
        self.audit = audit
        self._auditor = auditor
        self._scope, self._receive, self._send = call
        self._max_body = max_body
        self._starts = starts
        self._is_refused = False
        self._has_answered = False
        self._has_finished = False
        self._is_gone = False
        self._request: _Kept | None = None
        self._response: _Kept | None = None
        self._held: list[Message] = []

    @property
    def is_recorded(self) -> bool:
        """Whether any event may come of the request."""
        decision = self.audit.decision
        return decision is not None and decision.level is not Level.NONE

    async def begin(self, user: UserInfo, headers: Headers) -> bool:
        """Open the audit; False when its first event was not stored, and it is closed again."""
        try:
            is_stored = await self._auditor.begin(self.audit, user)
        except asyncio.CancelledError as error:
            await self._fail(error)
            raise
        if is_stored and self.audit.keeps_request_body:
            kind, encoding = headers.first("Content-Type"), headers.first("Content-Encoding")
            self._request = _Kept(self._max_body, kind, encoding)
        return is_stored

    def refuse(self) -> None:
        """Open the audit of a request whose credentials were not accepted.

        Its only event is that of the answer.
        """
        self._auditor.fail_authentication(self.audit)
        self._is_refused = True
        self._starts = True

    async def receive(self) -> Message:
        """Return the server's next message."""
        message = await self._receive()
        if message["type"] in _DISCONNECTS:
            self._is_gone = not self._has_finished
        elif self._request is not None and message["type"] == "http.request":
            self._request.take(message)
        return message

    async def send(self, message: Message) -> None:
        """Pass on a message of the application, once the audit knows it."""
        kind = message["type"]
        if kind in BODIES:
            await self._send_body(message)
        elif self._held:
            self._held.append(message)
        elif kind in STARTS:
            await self._send_start(message)
        else:
            if kind == ACCEPT:
                await self._respond(_SWITCHING_PROTOCOLS)
            elif kind == CLOSE:
                self._has_finished = True
                await self._respond(_FORBIDDEN)
            await self._pass_on(message)

    async def run(self, application: Application) -> None:
        """Let the application serve the request, and close the audit by how that ends.

        Who fails after the client's disconnect, fails because of it.
        """
        try:
            await application(self._scope, self.receive, self.send)
            await self._release()
        except BaseException as error:
            await self._fail(error)
            raise
        if self._is_gone and not self._has_answered:
            self.audit.annotate(ABORTED, "the client disconnected")
        await self._complete()

    async def _fail(self, error: BaseException) -> None:
        if self._is_gone:
            told = ": ".join(filter(None, (type(error).__name__, str(error))))
            self.audit.annotate(ABORTED, f"the client disconnected ({told})")
            await self._complete()
        elif isinstance(error, asyncio.CancelledError):
            self.audit.annotate(ABORTED, "the request was cancelled")
            await self._complete()
        else:
            await self._panic(error)

    async def _send_start(self, message: Message) -> None:
        if not self._has_answered:
            message = listed(message)
            self._look_at_answer(message)
            if self._response is not None and self._starts:
                self._held.append(message)
                return
            await self._respond(message["status"])
        await self._pass_on(message)

    async def _send_body(self, message: Message) -> None:
        self._has_finished = not message.get("more_body", False)
        kept = self._response
        if kept is not None:
            kept.take(message)
        if not self._held:
            await self._pass_on(message)
            return
        self._held.append(message)
        if kept is None or kept.has_ended or kept.size > self._max_body:
            await self._release()

    def _look_at_answer(self, start: Message) -> None:
        """Keep the body if there is a use for it; of what has started, only refusals'."""
        code = start["status"]
        kind, encoding = _content(start.get("headers") or ())
        if (code >= 400 or not self._starts) and self.audit.keeps_response_body(code, kind.lower()):
            self._response = _Kept(self._max_body, kind, encoding)

    async def _pass_on(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # how servers say that the client has gone
            self._is_gone = True
            raise

    async def _release(self) -> None:
        """Record a refusal, and send what waited for that."""
        if not self._held:
            return
        held, self._held = self._held, []
        self._record_response()
        await self._respond(held[0]["status"])
        for message in held:
            await self._pass_on(message)

    async def _respond(self, code: int) -> None:
        if self._has_answered:
            return
        self._has_answered = True
        if self._request is not None and self._request.has_ended:
            self._record_request()
        if events := self.audit.respond(code, self._auditor.now()):
            await self._auditor.deliver(events)

    async def _complete(self) -> None:
        if self._is_refused:
            await self._respond(500)  # what the server answers where the application does not
            return
        self._record_request()
        self._record_response()
        await self._auditor.deliver(self.audit.complete(self._auditor.now()))

    async def _panic(self, error: BaseException) -> None:
        try:
            with contextlib.suppress(OSError):
                await self._release()
        finally:
            if self._is_refused:
                await self._respond(500)
            else:
                self._record_request()
                self._record_response()
                now = self._auditor.now()
                await self._auditor.deliver(self.audit.panic(_text(error), now))

    def _record_request(self) -> None:
        kept, self._request = self._request, None
        if kept is not None and (kept.has_ended or kept.size):
            self.audit.record_request_body(kept.taken())

    def _record_response(self) -> None:
        kept, self._response = self._response, None
        if kept is not None:
            self.audit.record_response_body(kept.taken())


def _content(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, str]:
    """Return Content-Type and Content-Encoding."""
    kind = encoding = b""
    for name, value in headers:
        if len(name) == 12 and name.lower() == b"content-type":
            kind = value
        elif len(name) == 16 and name.lower() == b"content-encoding":
            encoding = value
    return kind.decode("latin-1"), encoding.decode("latin-1")


def _text(error: BaseException) -> str:
    """Return what an exception says, or else what it is."""
    return str(error) or type(error).__name__
