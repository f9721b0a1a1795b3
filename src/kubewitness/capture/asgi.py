"""The middleware: audits the requests of any ASGI application, HTTP and WebSocket.

It tells a `RequestAudit` what happens between a server and an application, and lets everything
through: what is recorded is the recorder's to say. Frameworks are not known here, and none is
imported.

Read here first how a request begins; `asgi_exchange` has what happens to its messages,
`asgi_scope` what a scope says, `asgi_answers` what is answered instead of the application,
`asgi_lifespan` when the pipeline runs, `users` who makes a request.

Source: audit specification section 5; the ASGI specification 3.0.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from kubewitness.backends.pipeline import Pipeline
from kubewitness.capture.asgi_answers import identified, send_answer
from kubewitness.capture.asgi_exchange import Exchange
from kubewitness.capture.asgi_lifespan import Life
from kubewitness.capture.asgi_scope import (
    Application,
    Call,
    Receive,
    Scope,
    Send,
    headers_of,
    incoming_request,
)
from kubewitness.capture.auditor import Auditor, new_audit_id
from kubewitness.capture.users import FindUser, framework_user
from kubewitness.errors import RequestError
from kubewitness.recorder import (
    MAX_BODY,
    IncomingRequest,
    RequestAudit,
    audit_id_of,
    failed_store,
    refused_target,
    status_answer,
    timeout_fault,
)
from kubewitness.request import RequestInfo, is_long_running, normalize_target, resolve

AUDIT = "kubewitness.audit"
"""The key of the scope under which `audit_of` finds the audit."""


class _Running(NamedTuple):
    audit: RequestAudit
    pipeline: Pipeline


def audit_of(scope: Scope) -> RequestAudit | None:
    """Return the audit of the request of a scope; None while there is none.

    An application may annotate it (``annotate``), note whom the user acts as (``impersonate``),
    add latencies, and record objects itself (``record_request_object`` and its like). What begins,
    answers and closes the audit is the middleware's to call.
    """
    running: _Running | None = scope.get(AUDIT)
    return None if running is None else running.audit


class AuditMiddleware:
    """Audits the requests that reach an ASGI application.

    Another policy counts from the next request on once it is set as the pipeline's `policy`.
    Without one nothing is audited.

    Args:
        app: The application.
        pipeline: What is recorded, and where events go; `options.build_pipeline` makes it.
        user: Says who makes the request of a scope; None when the credentials were refused, which
            the application is left to answer. What it raises is raised, and nothing is audited.
        max_body: Bytes that are recorded of each body at most.
        is_long_running: Which requests have the stage ResponseStarted; kube-apiserver's by
            default. WebSockets always have it.
        answers_as_kubernetes: Refuse what kube-apiserver refuses before it authenticates: a bad
            ``timeout`` parameter, and a path that ends after ``watch`` or ``proxy``.
        records_any_json: Record the JSON bodies of all requests, not only those that are objects
            of the Kubernetes API.
        owns_pipeline: Run the pipeline when the application starts, or else at the first request,
            and shut it down when the application ends. False for a program that does both.
        now: The clock: Unix time in nanoseconds; the machine's by default.
        new_audit_id: Makes an id for a request that brings none; random by default.

    Source: audit specification section 5.
    """

    def __init__(  # noqa: PLR0913 - every one is a setting of its own
        self,
        app: Application,
        pipeline: Pipeline,
        *,
        user: FindUser = framework_user,
        max_body: int = MAX_BODY,
        is_long_running: Callable[[RequestInfo], bool] = is_long_running,
        answers_as_kubernetes: bool = False,
        records_any_json: bool = True,
        owns_pipeline: bool = True,
        now: Callable[[], int] = time.time_ns,
        new_audit_id: Callable[[], str] = new_audit_id,
    ) -> None:
        self.app = app
        self.pipeline = pipeline
        self._user = user
        self._max_body = max_body
        self._answers_as_kubernetes = answers_as_kubernetes
        self._life = Life(pipeline if owns_pipeline else None)
        self._now = now
        self._new_audit_id = new_audit_id
        self._policy = pipeline.policy
        self._is_long_running = {"http": is_long_running, "websocket": _always}
        self._auditors = {
            kind: Auditor(
                pipeline,
                is_long_running=starts,
                resolve=resolve if answers_as_kubernetes else _resolve_any,
                records_any_json=records_any_json,
                now=now,
                new_audit_id=new_audit_id,
            )
            for kind, starts in self._is_long_running.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope, as ASGI calls an application."""
        kind = scope["type"]
        if kind in self._auditors:
            await self._serve(Call(scope, receive, send))
        elif kind == "lifespan":
            await self._life.serve(self.app, Call(scope, receive, send))
        else:
            await self.app(scope, receive, send)

    async def _serve(self, call: Call) -> None:
        received = self._now()
        scope, outer = call.scope, call.scope.get(AUDIT)
        self._life.start()
        if outer is not None and outer.pipeline is self.pipeline:  # one of us is enough
            await self.app(*call)
            return
        headers = headers_of(scope)
        audit_id = outer.audit.audit_id if outer else audit_id_of(headers, self._new_audit_id)
        call = Call(scope, call.receive, identified(call.send, audit_id))
        auditor = self._auditor(scope["type"])
        if auditor is None:
            await self.app(*call)
            return
        request = incoming_request(scope, headers, received=received)
        try:
            audit = auditor.receive(request, audit_id=audit_id)
        except RequestError as error:
            await send_answer(call, refused_target(request.target, error))
            return
        # In the server's own scope: what an application leaves in it must be seen further out.
        scope[AUDIT] = _Running(audit, self.pipeline)
        try:
            await self._audit(auditor, audit, request, call)
        finally:
            _restore(scope, outer)

    def _auditor(self, kind: str) -> Auditor | None:
        """Return who audits by the policy of this moment; None when there is none."""
        policy = self.pipeline.policy
        if policy is not self._policy and policy is not None:
            for auditor in self._auditors.values():
                auditor.use_policy(policy)
            self._policy = policy
        return self._auditors[kind] if policy is not None else None

    async def _audit(
        self, auditor: Auditor, audit: RequestAudit, request: IncomingRequest, call: Call
    ) -> None:
        kind = call.scope["type"]
        if self._answers_as_kubernetes and kind == "http":
            fault = timeout_fault(audit.info, request.target)
            if fault is not None:
                await self._refuse(auditor, audit, fault, call)
                return
        starts = self._is_long_running[kind](audit.info)
        exchange = Exchange(auditor, audit, call, max_body=self._max_body, starts=starts)
        user = self._user(call.scope)
        if user is None:
            exchange.refuse()
        elif not await exchange.begin(user, request.headers):
            await send_answer(call, failed_store(request.target))
            return
        if exchange.is_recorded:
            await exchange.run(self.app)
        else:
            await self.app(*call)

    async def _refuse(self, auditor: Auditor, audit: RequestAudit, fault: str, call: Call) -> None:
        answer = status_answer(400, "BadRequest", fault)
        auditor.refuse(audit)
        audit.record_response_object(answer.body)
        await auditor.deliver(audit.respond(answer.status, self._now()))
        await send_answer(call, answer)


def _restore(scope: Scope, outer: _Running | None) -> None:
    if outer is None:
        scope.pop(AUDIT, None)
    else:
        scope[AUDIT] = outer


def _always(_info: RequestInfo) -> bool:
    return True


def _resolve_any(method: str, target: str) -> RequestInfo:
    """Return what a request is; of what the API server gives up on, only its path."""
    try:
        return resolve(method, target)
    except RequestError as error:
        if error.status != 500:
            raise
        return RequestInfo(path=normalize_target(target)[1], verb=method.lower())
