"""What drivers share: one recorder, the way out for its events, and what is counted on the way.

A driver brings requests to `Auditor.receive`, tells the `RequestAudit` that it gets what happens,
and hands every list of events that comes back to `Auditor.deliver`. Not here: any rule about which
events are due (`recorder`), and HTTP (`asgi`, `proxy`).

Source: audit specification sections 5.2, 5.10 and 11.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypedDict

from kubewitness.backends.pipeline import Pipeline
from kubewitness.event import Event, UserInfo
from kubewitness.policy import Policy
from kubewitness.recorder import IncomingRequest, Recorder, RequestAudit
from kubewitness.request import RequestInfo, is_long_running, resolve


def new_audit_id() -> str:
    """Return a random id, as the API server makes them."""
    return str(uuid.uuid4())


async def _to_its_end(action: Coroutine[Any, Any, bool]) -> bool:
    """Await something that goes on, and is waited for, even when this task is cancelled."""
    going, cancelled = asyncio.ensure_future(action), False
    while not going.done():
        try:
            await asyncio.wait((going,))
        except asyncio.CancelledError:
            cancelled = True
    if cancelled and going.exception() is None:
        raise asyncio.CancelledError
    return going.result()


class _Settings(TypedDict):
    is_long_running: Callable[[RequestInfo], bool]
    resolve: Callable[[str, str], RequestInfo]
    records_any_json: bool


class Auditor:
    """Audits the requests of one server.

    Attributes:
        pipeline: Where events go.
        now: The clock: Unix time in nanoseconds.
        new_audit_id: Makes an id for a request that brings none.

    Args:
        pipeline: The way out, and the policy to start with.
        is_long_running: See `Recorder`.
        resolve: See `Recorder`.
        records_any_json: See `Recorder`.
        now: The machine's clock by default.
        new_audit_id: Random ids by default.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        is_long_running: Callable[[RequestInfo], bool] = is_long_running,
        resolve: Callable[[str, str], RequestInfo] = resolve,
        records_any_json: bool = False,
        now: Callable[[], int] = time.time_ns,
        new_audit_id: Callable[[], str] = new_audit_id,
    ) -> None:
        self.pipeline = pipeline
        self.now = now
        self.new_audit_id = new_audit_id
        self._settings: _Settings = {
            "is_long_running": is_long_running,
            "resolve": resolve,
            "records_any_json": records_any_json,
        }
        self._recorder: Recorder | None = None
        if pipeline.policy is not None:
            self.use_policy(pipeline.policy)

    @property
    def is_recording(self) -> bool:
        """Whether there is a policy; without one nothing is audited."""
        return self._recorder is not None

    def use_policy(self, policy: Policy) -> None:
        """Decide by another policy from the next request on."""
        self._recorder = Recorder(policy, **self._settings)

    def receive(self, request: IncomingRequest, *, audit_id: str) -> RequestAudit:
        """Start the audit of a request; only while `is_recording`.

        Raises:
            RequestError: The API server answers this target itself and audits nothing.
        """
        assert self._recorder is not None  # noqa: S101
        return self._recorder.receive(request, audit_id=audit_id)

    async def begin(self, audit: RequestAudit, user: UserInfo | None) -> bool:
        """Decide for the user, and deliver what is due.

        Returns:
            False when the request must not be served, because its first event was not stored; its
            audit is closed then. The answer is `recorder.failed_store`.
        """
        events = audit.begin(user)
        self._count(audit)
        if not events or await self.deliver(events):
            return True
        audit.reject()
        self.pipeline.metrics.rejected.inc()
        return False

    def refuse(self, audit: RequestAudit) -> None:
        """Open the audit of a request that is answered before authentication."""
        audit.refuse()
        self._count(audit)

    def fail_authentication(self, audit: RequestAudit) -> None:
        """Open the audit of a request whose credentials were not accepted."""
        audit.fail_authentication()
        self._count(audit)

    async def deliver(self, events: Sequence[Event]) -> bool:
        """Hand events to the pipeline, from a thread if it may wait.

        They are delivered even when the task that awaits this is cancelled.
        """
        if not events:
            return True
        if not self.pipeline.waits:
            return self.pipeline.process_events(events)
        return await _to_its_end(asyncio.to_thread(self.pipeline.process_events, events))

    def _count(self, audit: RequestAudit) -> None:
        if audit.decision is not None:
            self.pipeline.metrics.levels.labels(str(audit.decision.level)).inc()
