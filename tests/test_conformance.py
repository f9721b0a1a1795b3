"""153 recorded requests under five policies: the real server's events, and ours.

`tests/data/conformance` holds what was sent and what a real kube-apiserver 1.36.2 wrote. Here each
request goes through policy and recorder the way the server took it, and must make the same events:
number, order, stages, level, and every field that does not need the server's own knowledge.
"""

import json
from collections import defaultdict
from typing import Any

import pytest

from kubewitness.codec import decode, encode
from kubewitness.errors import RequestError
from kubewitness.event import Event, UserInfo
from kubewitness.policy import Policy, load_policy
from kubewitness.recorder import (
    Headers,
    IncomingRequest,
    Recorder,
    RequestAudit,
    audit_id_of,
    impersonated_user,
    timeout_fault,
)
from kubewitness.request import attributes_of
from vectors import DATA, POLICIES, recorded, transcript

WHO = {
    "admin": UserInfo(username="kubernetes-admin", groups=("system:masters",)),
    "alice": UserInfo(username="alice@example.com", groups=("developers",)),
    "bob": UserInfo(username="bob@example.com", groups=("sre", "oncall")),
}
ANONYMOUS = UserInfo(username="system:anonymous", groups=("system:unauthenticated",))

# The real server lost these events of its JSON run: a recorded patch that is not JSON.
LOST = {("all", "cm-apply-yaml"), ("all", "cm-patch-badjson")}
FIELDS = ("level", "auditID", "stage", "requestURI", "verb", "userAgent", "sourceIPs")


def policy_of(name: str) -> Policy:
    return load_policy((DATA / "conformance" / f"{name}.policy.yaml").read_bytes(), name)


def events_by_case(name: str) -> dict[str, list[dict[str, Any]]]:
    cases: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in recorded(f"{name}.events.jsonl").split(b"\n"):
        if line:
            event = json.loads(line)
            cases[event["auditID"]].append(event)
    return cases


def user_of(case: dict[str, Any]) -> UserInfo | None:
    if case["who"] == "badtoken":
        return None
    if case["who"] == "anon":
        return ANONYMOUS
    known = WHO[case["who"]]
    return UserInfo(username=known.username, groups=(*known.groups, "system:authenticated"))


def send(recorder: Recorder, case: dict[str, Any]) -> list[Event]:
    """Take one request of the transcript through the recorder, as the server took it."""
    headers = Headers(case["headers"].items())
    request = IncomingRequest(
        method=case["method"],
        target=case["path"],
        headers=headers,
        remote_address="127.0.0.1:50000",
        received=1_790_000_000_000_000_000,
    )
    try:
        audit = recorder.receive(request, audit_id=audit_id_of(headers, lambda: "new"))
    except RequestError:
        return []
    return answer(audit, case, headers)


def answer(audit: RequestAudit, case: dict[str, Any], headers: Headers) -> list[Event]:
    at, response = 1_790_000_000_100_000_000, case["response"]
    user = user_of(case)
    status = (response["body"] or {}).get("text", "").encode()
    if timeout_fault(audit.info, case["path"]) is not None or user is None:
        audit.fail_authentication()
        record_status(audit, status)
        return audit.respond(response["status"], at)
    events = audit.begin(user)
    other = impersonated_user(headers)
    if other is not None and "cannot impersonate" not in json.dumps(response["body"]):
        audit.impersonate(other)
    record_status(audit, status)
    events += audit.respond(response["status"], at)
    return events + audit.complete(at)


def record_status(audit: RequestAudit, body: bytes) -> None:
    """Let the recorder see the answers that are a Status; the others it cannot be told here."""
    if b'"kind":"Status"' in body:
        audit.record_response_object(body)


def essence(event: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """Return what a recorder can know without being the API server."""
    reference = event.get("objectRef")
    # Completed by the server from the object that it decoded.
    known = reference and {
        name: value for name, value in reference.items() if name not in ("uid", "resourceVersion")
    }
    if known and event["verb"] == "create" and not known.get("subresource"):
        known.pop("name", None)
        known.pop("namespace", None)
    user = {name: value for name, value in event["user"].items() if name != "extra"}
    status = event.get("responseStatus")
    if case["method"] == "HEAD" and status is not None:  # its Status goes over no wire
        status = {"code": status["code"]}
    return {
        **{name: event.get(name) for name in FIELDS},
        "user": user,
        "impersonatedUser": event.get("impersonatedUser"),
        "objectRef": known,
        "responseStatus": status,
    }


@pytest.mark.parametrize("name", POLICIES)
def test_every_case_makes_the_events_of_the_real_server(name: str) -> None:
    recorder, theirs = Recorder(policy_of(name)), events_by_case(name)
    differing = {}
    for case in transcript(name):
        ours = [essence(json.loads(encode(event)), case) for event in send(recorder, case)]
        wanted = [essence(event, case) for event in theirs.get(case["id"], [])]
        if (name, case["id"]) in LOST:
            ours = ours[:-1]
        if ours != wanted:
            differing[case["id"]] = (ours, wanted)

    assert len(transcript(name)) == 153
    assert differing == {}


@pytest.mark.parametrize("name", POLICIES)
def test_recorded_events_decide_as_the_server_decided(name: str) -> None:
    policy = policy_of(name)
    for line in recorded(f"{name}.events.jsonl").split(b"\n"):
        if line:
            event = json.loads(line)
            decision = policy.evaluate(attributes_of(decode(line)))
            assert decision.level == event["level"], event
            assert event["stage"] not in decision.omit_stages, event
