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

`annotate`, `add_latency` and `withdraw_impersonation` are allowed at any time, for authentication
comes before `begin`; impersonation while OPEN, the recording of objects while OPEN or REFUSED. A
step out of order raises StateError: it is a bug of the driver, not of the request. One request is
driven by one thread at a time; different requests share nothing.

Source: audit specification sections 5.3 and 5.6 to 5.11.
"""

from collections.abc import Callable
from enum import Enum

from msgspec import Struct
from msgspec.structs import replace

from kubewitness.codec.duration import format_duration
from kubewitness.codec.times import exact_time
from kubewitness.errors import StateError
from kubewitness.event import (
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
from kubewitness.recorder.bodies import Body, Content, refused_impersonation
from kubewitness.recorder.evidence import Evidence
from kubewitness.recorder.headers import Headers
from kubewitness.request import (
    RequestAttributes,
    RequestInfo,
    is_long_running,
    normalize_target,
    parse_query,
    resolve,
    source_ips,
)

_SLOW = 500_000_000
_LATENCY = "apiserver.latency.k8s.io/"
_TAKEN_AT_MAXIMUM = frozenset(("apf-queue-wait", "authorization", "validating-webhook"))


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
        resolve: What a request is, by its method and target; kube-apiserver's rules by default.
        records_any_json: Take the bodies of all requests and responses that are JSON for objects,
            not only those that kube-apiserver's handlers read and write.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        is_long_running: Callable[[RequestInfo], bool] = is_long_running,
        resolve: Callable[[str, str], RequestInfo] = resolve,
        records_any_json: bool = False,
    ) -> None:
        self.policy = policy
        self.is_long_running = is_long_running
        self.resolve = resolve
        self.records_any_json = records_any_json

    def receive(self, request: IncomingRequest, *, audit_id: str) -> "RequestAudit":
        """Start the audit of a request that just arrived.

        Args:
            request: The request.
            audit_id: Its id, see `audit_id_of`.

        Raises:
            RequestError: The API server answers this target itself and audits nothing.
        """
        info = self.resolve(request.method, request.target)
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
        self._proposed: UserInfo | None = None
        self._authentication: AuthenticationMetadata | None = None
        self._evidence = Evidence(
            info,
            is_long_running=self._is_long_running,
            records_any_json=recorder.records_any_json,
        )
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
            self._evidence.status = Status(message=message)

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

    def impersonate_if_allowed(self, user: UserInfo) -> None:
        """Note whom the user wants to act as, where only the answer tells whether it may."""
        self._expect(_State.OPEN)
        self._proposed = user

    def withdraw_impersonation(self) -> None:
        """Forget whom the user wants to act as, for an answer that is not the API server's own.

        Where nobody judged, nobody is said to have acted as another. What `impersonate` noted, or
        an answer settled, stays.
        """
        self._proposed = None

    def record_request_object(self, body: bytes) -> None:
        """Take the object that the client sent to create, update or delete by, if it sent one."""
        self._expect(_State.OPEN, _State.REFUSED)
        self._evidence.take_object(Content(body, objects.recordable(body)))

    def record_patch(self, body: bytes) -> None:
        """Take a patch as the client sent it; whatever it is, the event is kept."""
        self._expect(_State.OPEN, _State.REFUSED)
        self._evidence.take_patch(Content(body, objects.recordable(body)))

    def record_response_object(self, body: bytes) -> None:
        """Take the object sent back, if any, before `respond`; a Status tells how it ended."""
        self._expect(_State.OPEN, _State.REFUSED)
        self._evidence.take_response_object(body)

    @property
    def keeps_request_body(self) -> bool:
        """Whether `record_request_body` has a use for the body of this request."""
        return self._evidence.keeps_request_body

    def keeps_response_body(self, code: int, content_type: str) -> bool:
        """Tell whether `record_response_body` has a use for the body of an answer like this."""
        return self._evidence.keeps_response_body(code, content_type)

    def record_request_body(self, body: Body) -> None:
        """Take the body of the request as it was sent.

        It counts once the answer is there: of a request that the API server refuses before it
        reads the body, nothing is recorded, as upstream does.
        """
        self._expect(_State.OPEN, _State.REFUSED)
        self._evidence.take_request_body(body)

    def record_response_body(self, body: Body) -> None:
        """Take the body of the answer as it is sent, before `respond` or `complete`."""
        self._expect(_State.OPEN, _State.REFUSED)
        status = self._evidence.status
        code = status.code if self._answered and status is not None else 0
        self._evidence.take_response_body(body, code=code)

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
        self._evidence.status = replace(self._evidence.status or Status(), code=code)
        self._settle_impersonation()
        if self._state is _State.REFUSED:
            self._state = _State.CLOSED
            return self._emit(Stage.RESPONSE_STARTED, at)
        return self._start(at)

    def complete(self, at: int) -> list[Event]:
        """Close the audit of a request whose handler returned."""
        self._expect(_State.OPEN)
        if self._evidence.status is None:
            self._evidence.status = Status(
                status="Success", message="Connection closed early", code=200
            )
            self._settle_impersonation()
        events = self._start(at)
        self._evidence.settle()
        self._annotate_latencies(at)
        self._state = _State.CLOSED
        return events + self._emit(Stage.RESPONSE_COMPLETE, at)

    def panic(self, value: str, at: int) -> list[Event]:
        """Close the audit of a request whose handler failed with an exception."""
        self._expect(_State.OPEN)
        self._settle_impersonation()
        self._evidence.settle()
        self._evidence.status = Status(
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
        self._evidence.decide(self.decision)
        if self.decision.level is not Level.NONE:
            self._base = self._unchanging(self.decision.level, user or UserInfo())

    def _settle_impersonation(self) -> None:
        user, self._proposed = self._proposed, None
        if user is not None and not refused_impersonation(self._evidence.status):
            self._impersonated = user

    def _start(self, at: int) -> list[Event]:
        if self._started or not self._is_long_running:
            return []
        self._started = True
        self._evidence.settle()
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
        evidence = self._evidence
        event = replace(
            self._base,
            stage=stage,
            impersonated_user=self._impersonated,
            authentication_metadata=self._authentication,
            object_ref=evidence.object_ref,
            response_status=evidence.status,
            request_object=evidence.request_object,
            response_object=evidence.response_object,
            stage_timestamp=exact_time(at),
            annotations={**self._annotations, **evidence.annotations},
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
