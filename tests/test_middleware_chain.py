"""The middleware against 56 runs of the real filter chain, its inner filters played by the app."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from asgi_driver import Audited, ask, body, header, http, part, start
from collecting import CollectingBackend
from filter_chain import Filters, PanicError, comparable
from kubewitness.capture.asgi import audit_of
from kubewitness.capture.asgi_scope import Message, Receive, Scope, Send
from kubewitness.event import Event, UserInfo
from kubewitness.recorder import RequestAudit
from test_recorder_chain import OURS, expected
from vectors import vectors

BEYOND_ASGI = {
    "cors preflight": "is answered by the CORS filter, which comes before the audit filter",
    "exec hijack": "HTTP connections cannot be taken over; WebSockets can, whose method is GET",
    "hijack not long running": "the same",
}
ANSWERED_OUTSIDE = {
    "timeout 504": "the filter that answers 504 is around the audit filter",
}
# The client accepts no Status, and gets one all the same. Upstream's object writer knows that it
# wrote none; what comes over the wire is one.
SEEN_ON_THE_WIRE = {
    "authn bad not acceptable",
    "authn basic not acceptable",
    "authn none not acceptable",
}
ALL = vectors("chain_events")
CASES = [case for case in ALL if case["name"] not in BEYOND_ASGI]


class FailingAt(CollectingBackend):
    """Says of the events of one stage that they were not stored."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self._stage = stage

    def process_events(self, events: Sequence[Event]) -> bool:
        super().process_events(events)
        return all(event.stage != self._stage for event in events)


class InnerFilters(Filters):
    """What comes after the audit filter, as an ASGI application."""

    def __init__(self, vector: dict[str, Any]) -> None:
        super().__init__(vector)
        self.messages: list[Message] = []

    def clock(self) -> int:
        return self.now

    def user(self, scope: Scope) -> UserInfo | None:
        audit = audit_of(scope)
        assert audit is not None
        return self.authenticate(audit)

    def answer(self, audit: RequestAudit, code: int, document: bytes = b"") -> None:
        """Send what upstream sent; the audit is to find out by itself."""
        assert audit.decision is not None
        response = self.vector["response"] or {"status": 0}
        is_it = response["status"] == code
        self.messages.append(start(code, response["contentType"] if is_it else ""))
        sent = response["body"].encode() if is_it else document
        self.messages.append(part(sent))

    def take_patch(self, audit: RequestAudit) -> None:
        assert audit.keeps_request_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        audit = audit_of(scope)
        assert audit is not None
        await receive()
        try:
            if self.is_authenticated:
                self.serve(audit)
            else:
                self.refuse_authentication(audit)
        finally:
            for message in self.messages:
                await send(message)


class Run:
    def __init__(self, case: dict[str, Any]) -> None:
        self.filters = InnerFilters(case)
        self.audited = Audited(
            self.filters,
            case["policy"],
            backend=FailingAt(case["sinkFailsAtStage"]),
            user=self.filters.user,
            answers_as_kubernetes=True,
            now=self.filters.clock,
            new_audit_id=lambda: "new-id",
        )
        headers = [(name, value) for name, values in case["headers"].items() for value in values]
        scope = http(case["target"], method=case["method"], headers=headers)
        self.panic = ""
        self.sent: list[Message] = []
        try:
            self.sent = ask(self.audited.app, scope, *body(case["body"].encode()))
        except PanicError as error:
            self.panic = str(error)


def events_of(run: Run) -> list[dict[str, Any]]:
    return [dict(comparable(event)) for event in run.audited.events]


def test_what_is_left_out_is_there() -> None:
    assert len(ALL) == 56
    names = {case["name"] for case in ALL}
    assert {*BEYOND_ASGI, *ANSWERED_OUTSIDE, *SEEN_ON_THE_WIRE, *OURS} <= names


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_events_are_upstreams(case: dict[str, Any]) -> None:
    events, wanted = events_of(Run(case)), expected(case, "new-id")

    if case["name"] in SEEN_ON_THE_WIRE:
        assert wanted[0]["responseStatus"].pop("message").startswith("Authentication failed")
        status = json.loads(case["response"]["body"])
        wanted[0]["responseStatus"].update(
            {name: status[name] for name in ("status", "message", "reason")}
        )
    if case["name"] in OURS:
        assert events[0] == wanted[0]
        assert len(events) == 2
        assert OURS[case["name"]].items() <= events[1].items()
    else:
        assert events == wanted


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_answers_are_upstreams(case: dict[str, Any]) -> None:
    run = Run(case)

    response = case["response"]
    if response is None:  # a panic; of `annot` only upstream's
        assert run.panic or case["name"] in OURS
    elif case["name"] not in ANSWERED_OUTSIDE and run.sent:
        first, *rest = run.sent
        assert first["status"] == response["status"]
        assert (
            b"".join(message.get("body", b"") for message in rest[:1]).decode()
            == (response["body"])
        )
        assert header(first, "Audit-Id") == [
            "new-id" if value == "<UUID>" else value for value in response["auditIDHeader"]
        ]
        assert "".join(header(first, "Content-Type")) == response["contentType"]
