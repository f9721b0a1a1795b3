"""A tiny API server: upstream's filters in upstream's order, driving a Recorder.

It does what the generator of the `chain_events` vectors did: fixed authentication, fixed
authorization, and a handler that the vector describes in words. `Chain` answers nothing over a
wire; what it returns is the events and, where auditing itself gives the answer, that answer.
`Filters` is what another driver of the same vectors needs.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from kubewitness.errors import RequestError
from kubewitness.event import Event, UserInfo
from kubewitness.policy import load_policy
from kubewitness.recorder import (
    Answer,
    Headers,
    IncomingRequest,
    Recorder,
    RequestAudit,
    audit_id_of,
    failed_request_info,
    failed_store,
    impersonated_user,
    timeout_fault,
)

ALICE = UserInfo(
    username="alice",
    uid="u-1",
    groups=("devs", "system:authenticated"),
    extra={"example.com/z": ("1", "2"), "a": None},
)
START = 1_790_000_000_000_000_000
MILLISECOND = 1_000_000
UNAUTHORIZED = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "Unauthorized",
    "reason": "Unauthorized",
    "code": 401,
}


class PanicError(Exception):
    """What a handler of the chain fails with; the text is what Go would print."""


class Filters:
    """The filters that follow the audit filter, and the handler; how it answers is a subclass's."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.vector = vector
        self.headers = Headers(
            (name, value) for name, values in vector["headers"].items() for value in values
        )
        self.now = START

    def answer(self, audit: RequestAudit, code: int, document: bytes = b"") -> None:
        """Begin the answer; a document is written through the API object writer."""
        raise NotImplementedError

    def take_patch(self, audit: RequestAudit) -> None:
        """Take the body for a patch."""
        raise NotImplementedError

    @property
    def is_authenticated(self) -> bool:
        return self.headers.first("Authorization") == "Bearer good"

    def authenticate(self, audit: RequestAudit) -> UserInfo | None:
        if not self.is_authenticated:
            return None
        audit.annotate("early.example.com/authn", "x")
        audit.add_latency("authentication", MILLISECOND)
        return ALICE

    def refuse_authentication(self, audit: RequestAudit) -> None:
        is_acceptable = self.headers.first("Accept") != "foo/bar"  # no Status form for that
        self.answer(audit, 401, json.dumps(UNAUTHORIZED).encode() if is_acceptable else b"")

    def serve(self, audit: RequestAudit) -> None:
        constraint = _constraint(self.headers) if self.vector["constrainedImpersonation"] else ""
        user = impersonated_user(self.headers, as_node="node" in constraint)
        if user is not None:
            audit.impersonate(user, constraint=constraint)
        elif self.headers.every("Impersonate-Group"):
            message = "requested [{Group  g1    }] without impersonating a user"
            self.answer(audit, 400, _status("BadRequest", message, 400))
            return
        self._authorize(audit)

    def _authorize(self, audit: RequestAudit) -> None:
        info = audit.info
        audit.add_latency("authorization", MILLISECOND)
        if info.resource == "errored":
            audit.annotate("authorization.k8s.io/reason", "internal error")
            self.answer(audit, 500)
        elif info.path == "/denied" or info.resource == "denied":
            audit.annotate("authorization.k8s.io/decision", "forbid")
            audit.annotate("authorization.k8s.io/reason", "no <rule> & stuff")
            self.answer(audit, 403, self.vector["response"]["body"].encode())
        else:
            audit.annotate("authorization.k8s.io/decision", "allow")
            audit.annotate("authorization.k8s.io/reason", "because")
            for step in HANDLERS[self.vector["handler"]]:
                step(self, audit)


class Chain(Filters):
    """One request through the filters; `events` and `own_answer` are what came of it."""

    def __init__(self, vector: dict[str, Any]) -> None:
        super().__init__(vector)
        self.audit_id = audit_id_of(self.headers, lambda: "new-id")
        self.events: list[Event] = []
        self.own_answer: Answer | None = None

    def run(self) -> None:
        recorder = Recorder(load_policy(self.vector["policy"].encode()))
        request = IncomingRequest(
            method=self.vector["method"],
            target=self.vector["target"],
            headers=self.headers,
            remote_address="127.0.0.1:40000",
            received=self.now,
        )
        try:
            audit = recorder.receive(request, audit_id=self.audit_id)
        except RequestError as error:
            self.own_answer = failed_request_info(request.target, str(error))
            return
        if not self.headers.first("Access-Control-Request-Method"):
            self._authenticate(audit)

    def answer(self, audit: RequestAudit, code: int, document: bytes = b"") -> None:
        audit.record_response_object(document)
        self.events += audit.respond(code, self.now)

    def take_patch(self, audit: RequestAudit) -> None:
        audit.record_patch(self.vector["body"].encode())

    def _authenticate(self, audit: RequestAudit) -> None:
        if (fault := timeout_fault(audit.info, self.vector["target"])) is not None:
            audit.refuse()
            self.answer(audit, 400, _status("BadRequest", fault, 400))
        elif (user := self.authenticate(audit)) is None:
            audit.fail_authentication()
            self.refuse_authentication(audit)
        else:
            self._audit(audit, user)

    def _audit(self, audit: RequestAudit, user: UserInfo) -> None:
        first = audit.begin(user)
        self.events += first
        if first and self.vector["sinkFailsAtStage"] == "RequestReceived":
            audit.reject()
            self.own_answer = failed_store(self.vector["target"])
            return
        try:
            self.serve(audit)
        except PanicError as error:
            self.events += audit.panic(str(error), self.now)
        else:
            self.events += audit.complete(self.now)


def _status(reason: str, message: str, code: int) -> bytes:
    failure = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return json.dumps({**failure, "message": message, "reason": reason, "code": code}).encode()


def _constraint(headers: Headers) -> str:
    is_node = headers.first("Impersonate-User").startswith("system:node:")
    return "impersonate:arbitrary-node" if is_node else "impersonate:user-info"


Step = Callable[[Filters, RequestAudit], None]


def write(code: int) -> Step:
    def step(chain: Filters, audit: RequestAudit) -> None:
        chain.answer(audit, code)

    return step


def panic(value: str) -> Step:
    def step(_chain: Filters, _audit: RequestAudit) -> None:
        raise PanicError(value)

    return step


def wait(milliseconds: int) -> Step:
    def step(chain: Filters, _audit: RequestAudit) -> None:
        chain.now += milliseconds * MILLISECOND

    return step


def track(tracker: str) -> Step:
    def step(_chain: Filters, audit: RequestAudit) -> None:
        audit.add_latency(tracker, MILLISECOND)

    return step


def send_response_body(chain: Filters, audit: RequestAudit) -> None:
    chain.answer(audit, 200, chain.vector["response"]["body"].encode())


def record_patch(chain: Filters, audit: RequestAudit) -> None:
    chain.take_patch(audit)


def annotate(chain: Filters, audit: RequestAudit) -> None:
    assert audit.annotate("k.example.com/a", "1")
    assert not audit.annotate("k.example.com/a", "2")
    assert audit.annotate("k.example.com/b", "1")
    chain.answer(audit, 200)


HANDLERS: dict[str, list[Step]] = {
    "WriteHeader(200), body ok": [write(200)],
    "handler returns without writing": [],
    "Flush() only": [],
    "hijack the connection, write a raw 403 response, close": [write(101)],
    "handler panics with the string kaboom": [panic("kaboom")],
    "handler aborts the connection (Go http.ErrAbortHandler)": [
        panic("net/http: abort Handler"),
    ],
    "handler panics with an error whose text is 'wrapped 3'": [panic("wrapped 3")],
    "WriteHeader(201), then panic with the string late": [write(201), panic("late")],
    "WriteHeader(202), WriteHeader(500)": [write(202), write(500)],
    "sleep 700 ms, WriteHeader(200)": [wait(700), write(200)],
    "wait for the request context to end (deadline), sleep 200 ms, WriteHeader(207)": [
        wait(501),
        track("response-write"),
        write(207),
    ],
    "write a metav1.Status object through the API object writer": [send_response_body],
    "write an APIResourceList object through the API object writer": [send_response_body],
    "record the raw request body as patch, WriteHeader(200)": [record_patch, write(200)],
    "AddAuditAnnotation(k.example.com/a,1), AddAuditAnnotation(k.example.com/a,2), "
    "AddAuditAnnotations(k.example.com/b,1,odd) (odd count: panics in Go), WriteHeader(200)": [
        annotate,
    ],
}


def comparable(event: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield an event's members with what differs between any two runs blanked, as the vectors."""
    for name, value in event.items():
        if name == "annotations":
            yield name, {key: _blanked(key, text) for key, text in value.items()}
        elif name.endswith("Timestamp"):
            yield name, "<TIME>"
        else:
            yield name, value


def _blanked(key: str, text: str) -> str:
    return "<DURATION>" if key.startswith("apiserver.latency.k8s.io/") else text
