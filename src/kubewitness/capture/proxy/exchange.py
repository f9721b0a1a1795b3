"""One request on its way through the proxy: its audit, told what happens, step by step."""

from aiohttp import web

from kubewitness.capture.auditor import Auditor
from kubewitness.capture.proxy.answers import own_answer
from kubewitness.capture.proxy.connection import protocol_of
from kubewitness.recorder import Answer, Body, Headers, RequestAudit

ENDED = "the proxy was ended before the end of the answer"
LEFT_EARLY = "the client closed the connection before there was an answer"
_ABORTED = "kubewitness.io/aborted"
_ABORT_HANDLER = "net/http: abort Handler"
"""What Go's reverse proxy fails with when an answer breaks off, and what is then in the event."""


class Exchange:
    """A request, and what the auditor is told of it.

    Args:
        request: The client's request.
        headers: Its headers.
        audit: Its audit.
        auditor: Where events go.
    """

    def __init__(
        self, request: web.BaseRequest, headers: Headers, audit: RequestAudit, auditor: Auditor
    ) -> None:
        self.request = request
        self.headers = headers
        self.audit = audit
        self._auditor = auditor
        self._is_refused = False
        self._is_closed = False

    def fail_authentication(self) -> None:
        """Note that the client's credentials are refused."""
        self._is_refused = True
        self._auditor.fail_authentication(self.audit)

    def refuse(self) -> None:
        """Note that the request is answered before anybody asks who sent it."""
        self._is_refused = True
        self._auditor.refuse(self.audit)

    async def respond(self, code: int) -> None:
        """Note the first byte of an answer."""
        await self._auditor.deliver(self.audit.respond(code, self._auditor.now()))

    async def complete(self) -> None:
        """Note that the request is over."""
        if not self._is_refused:
            self._is_closed = True
            await self._auditor.deliver(self.audit.complete(self._auditor.now()))

    async def answer(self, answer: Answer) -> web.StreamResponse:
        """Answer by the proxy itself, and note that; the API server has allowed nothing then."""
        self.audit.withdraw_impersonation()
        content_type = dict(answer.headers).get("Content-Type", "")
        self.audit.record_response_body(Body(answer.body, len(answer.body), content_type))
        try:
            await self.respond(answer.status)
        finally:  # also of a client that has gone meanwhile
            await self.complete()
        return own_answer(answer, self.audit.audit_id)

    async def give_up(self, reason: str) -> None:
        """Note that the client is gone; with long-running requests that is how they end."""
        if reason:
            self.audit.annotate(_ABORTED, reason)
        self.audit.withdraw_impersonation()
        await self.complete()

    async def abandon(self) -> None:
        """Note that nobody waits for the answer, if the audit has begun and still is open."""
        if self.audit.decision is not None and not self._is_closed:
            is_cut = protocol_of(self.request).is_cut
            await self.give_up(ENDED if is_cut else LEFT_EARLY)

    async def fail(self, error: Exception) -> None:
        """Note a fault of the proxy itself: a panic, as in kube-apiserver."""
        if self._is_closed or self.audit.decision is None:
            return
        self._is_closed = True
        if self._is_refused:
            await self.respond(500)
        else:
            text = str(error) or type(error).__name__
            await self._auditor.deliver(self.audit.panic(text, self._auditor.now()))

    async def break_off(self, reason: str) -> None:
        """Note that the answer came only in part, as upstream's own proxy does: by a panic."""
        self._is_closed = True
        self.audit.annotate(_ABORTED, reason)
        await self._auditor.deliver(self.audit.panic(_ABORT_HANDLER, self._auditor.now()))
