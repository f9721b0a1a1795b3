"""The life of one request's audit, as a machine.

The rules in one table; each step is a method of `RequestAudit`, the events it may return in
brackets. Stages that the decision omits, and all of them at level None, return nothing::

    RECEIVED ──begin(user)──────────► OPEN      [RequestReceived]
    RECEIVED ──refuse()─────────────► REFUSED
    OPEN     ──respond(code)────────► OPEN      [ResponseStarted, if long-running, once]
    OPEN     ──complete()───────────► CLOSED    [ResponseStarted, if long-running and none was,]
                                                [ResponseComplete]
    OPEN     ──panic(value)─────────► CLOSED    [Panic]
    OPEN     ──reject()─────────────► CLOSED    (its first event could not be stored)
    REFUSED  ──respond(code)────────► CLOSED    [ResponseStarted, long-running or not]

`annotate` and `add_latency` are allowed at any time, for authentication comes before `begin`;
impersonation while OPEN, the recording of objects while OPEN or REFUSED. A step out of order
raises StateError: it is a bug of the driver, not of the request. One request is driven by one
thread at a time; different requests share nothing.

Source: audit specification sections 5.3 and 5.6 to 5.11.
"""

from collections.abc import Callable
from enum import Enum

from msgspec import Raw, Struct
from msgspec.structs import replace

from kubewitness.codec.duration import format_duration
from kubewitness.codec.times import exact_time
from kubewitness.errors import StateError
from kubewitness.event import (
    NO_OBJECT,
    AuthenticationMetadata,
    Event,
    Level,
    Stage,
    Status,
    UserInfo,
)
from kubewitness.policy import Decision, Policy
from kubewitness.recorder import headers as headers_rules
from kubewitness.recorder import objects
from kubewitness.recorder.headers import Headers
from kubewitness.request import (
    RequestAttributes,
    RequestInfo,
    is_long_running,
    normalize_target,
    object_reference,
    parse_query,
    resolve,
    source_ips,
)

_SLOW = 500_000_000
_LATENCY = "apiserver.latency.k8s.io/"
_TAKEN_AT_MAXIMUM = frozenset(("apf-queue-wait", "authorization", "validating-webhook"))
_NOT_RECORDED = "kubewitness.io/not-recorded"


class IncomingRequest(Struct, frozen=True):
    """What is known of a request before anything is done with it.

    Attributes:
        method: The HTTP method, in its own case.
        target: The raw request target, for example ``/api/v1/pods?limit=5``.
        headers: The request's headers.
        remote_address: The peer's ``host:port`` (or host alone).
        received: Unix time in nanoseconds.
        has_certificate: Whether the peer showed a TLS client certificate.
    """

    method: str
    target: str
    headers: Headers
    remote_address: str
    received: int
    has_certificate: bool = False


class Recorder:
    """Makes a `RequestAudit` for each request, by one policy.

    Args:
        policy: Decides what is recorded. May be exchanged between requests.
        is_long_running: Which requests have the stage ResponseStarted; kube-apiserver's by default.
    """

    def __init__(
        self, policy: Policy, *, is_long_running: Callable[[RequestInfo], bool] = is_long_running
    ) -> None:
        self.policy = policy
        self.is_long_running = is_long_running

    def receive(self, request: IncomingRequest, *, audit_id: str) -> "RequestAudit":
        """Start the audit of a request that just arrived.

        Args:
            request: The request.
            audit_id: Its id, see `audit_id_of`.

        Raises:
            RequestError: The API server answers this target itself and audits nothing.
        """
        info = resolve(request.method, request.target)
        return RequestAudit(self, request, info, audit_id)


class _State(Enum):
    RECEIVED = "received"
    OPEN = "open"
    REFUSED = "refused"
    CLOSED = "closed"


class RequestAudit:
    """The audit of one request.

    Attributes:
        audit_id: The request's id; goes into the response header ``Audit-Id``.
        info: What the request is in Kubernetes' terms.
        decision: What the policy decided; None before `begin` or `refuse`.
    """

    def __init__(
        self, recorder: Recorder, request: IncomingRequest, info: RequestInfo, audit_id: str
    ) -> None:
        self.audit_id = audit_id
        self.info = info
        self.decision: Decision | None = None
        self._policy = recorder.policy
        self._is_long_running = recorder.is_long_running(info)
        self._request = request
        self._state = _State.RECEIVED
        self._started = False
        self._answered = False
        self._base = Event()
        self._impersonated: UserInfo | None = None
        self._authentication: AuthenticationMetadata | None = None
        self._object_ref = object_reference(info)
        self._status: Status | None = None
        self._request_object = NO_OBJECT
        self._response_object = NO_OBJECT
        self._annotations: dict[str, str] = {}
        self._latencies: dict[str, int] = {}

    def begin(self, user: UserInfo | None) -> list[Event]:
        """Decide for the authenticated user (None if there is none), and open the audit."""
        self._expect(_State.RECEIVED)
        self._decide(user)
        self._state = _State.OPEN
        return self._emit(Stage.REQUEST_RECEIVED, self._request.received)

    def fail_authentication(self) -> None:
        """Refuse a request whose credentials were not accepted, or that had none.

        The event's message names the credentials that were tried, until an answer in Status form
        replaces it.
        """
        tried = headers_rules.authentication_attempts(
            self._request.headers,
            parse_query(self._request.target.partition("?")[2]),
            has_certificate=self._request.has_certificate,
        )
        self.refuse(message=tried)

    def refuse(self, *, message: str = "") -> None:
        """Open the audit of a request that is answered before authentication.

        Its only event is ResponseStarted, made by `respond`.
        """
        self._expect(_State.RECEIVED)
        self._decide(None)
        self._state = _State.REFUSED
        if message:
            self._status = Status(message=message)

    def annotate(self, key: str, value: str) -> bool:
        """Add an annotation. The first value of a key stays.

        Returns:
            False if the key is already there with another value, which upstream only logs.
        """
        return self._annotations.setdefault(key, value) == value

    def impersonate(self, user: UserInfo, *, constraint: str = "") -> None:
        """Note whom the user acts as, once that is allowed; shown from the next stage on.

        Args:
            user: The impersonated user, see `impersonated_user`.
            constraint: For constrained impersonation, for example ``impersonate:user-info``.
        """
        self._expect(_State.OPEN)
        self._impersonated = user
        if constraint:
            self._authentication = AuthenticationMetadata(impersonation_constraint=constraint)

    def record_request_object(self, body: bytes) -> None:
        """Take the object that the client sent to create, update or delete by, if it sent one."""
        if not self._records(Level.METADATA) or not body.strip():
            return
        self._object_ref = objects.completed_reference(self._object_ref, body)
        if self._records(Level.REQUEST):
            self._request_object = self._recordable("requestObject", body, is_patch=False)

    def record_patch(self, body: bytes) -> None:
        """Take a patch as the client sent it; whatever it is, the event is kept."""
        if self._records(Level.REQUEST):
            self._request_object = self._recordable("requestObject", body, is_patch=True)

    def record_response_object(self, body: bytes) -> None:
        """Take the object sent back, if any, before `respond`; a Status tells how it ended."""
        if not self._records(Level.METADATA) or not body.strip():
            return
        self._status = objects.status_of(body) or self._status
        if self._records(Level.REQUEST_RESPONSE):
            self._response_object = self._recordable("responseObject", body, is_patch=False)

    def add_latency(self, tracker: str, nanoseconds: int) -> None:
        """Add to one of the latency trackers of a request, for example ``etcd``."""
        so_far = self._latencies.get(tracker, 0)
        at_maximum = tracker in _TAKEN_AT_MAXIMUM
        total = max(so_far, nanoseconds) if at_maximum else so_far + nanoseconds
        self._latencies[tracker] = total

    def respond(self, code: int, at: int) -> list[Event]:
        """Note the first byte of the answer: its status code, or 101 for an upgrade.

        Later calls change nothing.
        """
        self._expect(_State.OPEN, _State.REFUSED)
        if self._answered:
            return []
        self._answered = True
        self._status = replace(self._status or Status(), code=code)
        if self._state is _State.REFUSED:
            self._state = _State.CLOSED
            return self._emit(Stage.RESPONSE_STARTED, at)
        return self._start(at)

    def complete(self, at: int) -> list[Event]:
        """Close the audit of a request whose handler returned."""
        self._expect(_State.OPEN)
        if self._status is None:
            self._status = Status(status="Success", message="Connection closed early", code=200)
        events = self._start(at)
        self._annotate_latencies(at)
        self._state = _State.CLOSED
        return events + self._emit(Stage.RESPONSE_COMPLETE, at)

    def panic(self, value: str, at: int) -> list[Event]:
        """Close the audit of a request whose handler failed with an exception."""
        self._expect(_State.OPEN)
        self._status = Status(
            status="Failure",
            message=f"APIServer panic'd: {value}",
            reason="InternalError",
            code=500,
        )
        self._state = _State.CLOSED
        return self._emit(Stage.PANIC, at)

    def reject(self) -> None:
        """Close the audit of a request whose first event was not stored; see `failed_store`."""
        self._expect(_State.OPEN)
        self._state = _State.CLOSED

    def _expect(self, *states: _State) -> None:
        if self._state not in states:
            raise StateError(f"the audit of request {self.audit_id} is {self._state.value}")

    def _decide(self, user: UserInfo | None) -> None:
        self.decision = self._policy.evaluate(RequestAttributes.of_request(self.info, user))
        if self.decision.level is not Level.NONE:
            self._base = self._unchanging(self.decision.level, user or UserInfo())

    def _records(self, level: Level) -> bool:
        self._expect(_State.OPEN, _State.REFUSED)
        return self.decision is not None and self.decision.level.rank >= level.rank

    def _recordable(self, name: str, body: bytes, *, is_patch: bool) -> Raw:
        document = objects.recordable(body)
        if document is NO_OBJECT:
            self.annotate(_NOT_RECORDED, f"{name}: not text")
        elif not is_patch and self.decision is not None and self.decision.omit_managed_fields:
            return objects.without_managed_fields(document)
        return document

    def _start(self, at: int) -> list[Event]:
        if self._started or not self._is_long_running:
            return []
        self._started = True
        return self._emit(Stage.RESPONSE_STARTED, at)

    def _annotate_latencies(self, at: int) -> None:
        total = at - self._request.received
        measured = {name: value for name, value in self._latencies.items() if value}
        if total <= _SLOW or not measured or self.info.verb == "watch":
            return
        for name, value in (*measured.items(), ("total", total)):
            self.annotate(_LATENCY + name, format_duration(value))

    def _emit(self, stage: Stage, at: int) -> list[Event]:
        decision = self.decision
        if decision is None or decision.level is Level.NONE or stage in decision.omit_stages:
            return []
        event = replace(
            self._base,
            stage=stage,
            impersonated_user=self._impersonated,
            authentication_metadata=self._authentication,
            object_ref=self._object_ref,
            response_status=self._status,
            request_object=self._request_object,
            response_object=self._response_object,
            stage_timestamp=exact_time(at),
            annotations=dict(self._annotations),
        )
        return [event]

    def _unchanging(self, level: Level, user: UserInfo) -> Event:
        """Return what all events of the request have in common."""
        request = self._request
        uri, _ = normalize_target(request.target)
        return Event(
            level=level,
            audit_id=self.audit_id,
            request_uri=uri,
            verb=self.info.verb,
            user=user,
            source_ips=source_ips(
                request.remote_address,
                request.headers.first("X-Forwarded-For"),
                request.headers.first("X-Real-Ip"),
            ),
            user_agent=headers_rules.limited_user_agent(request.headers),
            request_received_timestamp=exact_time(request.received),
        )
