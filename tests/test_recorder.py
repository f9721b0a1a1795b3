"""The recorder's rules one by one; the runs of the real filter chain are in test_recorder_chain."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.codec import encode, encode_legacy
from kubewitness.errors import RequestError, StateError
from kubewitness.event import NO_OBJECT, Event, Stage, UserInfo
from kubewitness.policy import load_policy
from kubewitness.recorder import (
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
from kubewitness.request import resolve

START = 1_790_000_000_123_456_789
LATER = START + 1_000_000_000
ANN = UserInfo(username="ann", groups=("system:authenticated",))
PODS = "/api/v1/namespaces/shop/pods"


def audit_of(
    level: str,
    *,
    method: str = "GET",
    target: str = f"{PODS}/web",
    headers: dict[str, str] | None = None,
    rest: str = "",
    certificate: bool = False,
) -> RequestAudit:
    policy = f"apiVersion: audit.k8s.io/v1\n{rest}\nrules:\n- level: {level}\n"
    request = IncomingRequest(
        method=method,
        target=target,
        headers=Headers((headers or {}).items()),
        remote_address="192.0.2.1:9",
        received=START,
        has_certificate=certificate,
    )
    return Recorder(load_policy(policy.encode())).receive(request, audit_id="id")


def last_of(audit: RequestAudit, code: int = 200, at: int = LATER) -> Event:
    return (audit.respond(code, at) + audit.complete(at))[-1]


def opened(level: str, **arguments: Any) -> RequestAudit:
    audit = audit_of(level, **arguments)
    audit.begin(ANN)
    return audit


def test_times_keep_their_nanoseconds_for_text_logs() -> None:
    event = last_of(opened("Metadata"))

    assert b'"requestReceivedTimestamp":"2026-09-21T14:13:20.123456Z"' in encode(event)
    assert encode_legacy(event).startswith(b"2026-09-21T14:13:20.123456789Z AUDIT:")


def test_a_patch_keeps_its_bytes() -> None:
    audit = opened("Request", method="PATCH")
    audit.record_patch(b'{ "b" : "<x>", "a":1.0, "a": 2 }\n')

    assert b'"requestObject":{"b":"\\u003cx\\u003e","a":1.0,"a":2},' in encode(last_of(audit))


@pytest.mark.parametrize("body", [b"a: b\n", b"", b"{", b"\xc3\xa9"])
def test_a_patch_that_is_no_json_is_recorded_as_text(body: bytes) -> None:
    audit = opened("Request", method="PATCH")
    audit.record_patch(body)

    assert json.loads(encode(last_of(audit)))["requestObject"] == body.decode()


def test_a_body_that_is_no_text_is_left_out_and_that_is_said() -> None:
    audit = opened("RequestResponse", method="PATCH")
    audit.record_patch(b"k8s\0\xff\xfe")
    audit.record_response_object(b"\xff")

    event = last_of(audit)
    assert event.request_object is NO_OBJECT
    assert event.response_object is NO_OBJECT
    assert event.annotations == {
        "kubewitness.io/not-recorded": "requestObject: not text; responseObject: not text"
    }


@pytest.mark.parametrize(
    ("level", "has_reference", "has_request", "has_response"),
    [
        ("Metadata", True, False, False),
        ("Request", True, True, False),
        ("RequestResponse", True, True, True),
    ],
)
def test_levels(level: str, *, has_reference: bool, has_request: bool, has_response: bool) -> None:
    audit = opened(level, method="POST", target=PODS)
    body = b'{"metadata":{"name":"web","uid":"u","namespace":"other","resourceVersion":"7"}}'
    audit.record_request_object(body)
    audit.record_response_object(b"{}")

    event = last_of(audit, 201)
    reference = event.object_ref
    assert reference is not None
    found = (reference.name, reference.uid, reference.namespace, reference.resource_version)
    assert (found == ("web", "u", "shop", "7")) == has_reference
    assert (bytes(event.request_object) == body) == has_request
    assert (bytes(event.response_object) == b"{}") == has_response


def test_level_none_records_nothing_and_asks_for_nothing() -> None:
    audit = audit_of("None", method="POST", target=PODS)
    assert audit.annotate("a.example.com/b", "1")
    assert audit.begin(ANN) == []
    audit.record_request_object(b"{}")
    audit.record_response_object(b"{}")
    assert audit.respond(200, LATER) + audit.complete(LATER) == []


@pytest.mark.parametrize("stage", list(Stage))
def test_an_omitted_stage_makes_no_event(stage: Stage) -> None:
    audit = audit_of("Metadata", target=f"{PODS}/web/log", rest=f"omitStages: [{stage}]")
    events = audit.begin(ANN) + audit.respond(200, LATER)
    events += audit.panic("x", LATER) if stage is Stage.PANIC else audit.complete(LATER)

    stages = [event.stage for event in events]
    assert stage not in stages
    assert len(stages) == 2


MANAGED = b'"managedFields":[{"manager":"m","fieldsV1":{"f:x":{}}}]'


@pytest.mark.parametrize(
    ("document", "cleaned"),
    [
        (b'{"metadata":{"name":"a",%b,"uid":"u"}}', b'{"metadata":{"name":"a","uid":"u"}}'),
        (b'{"metadata":{%b},"x":1.0e5}', b'{"metadata":{},"x":1.0e5}'),
        (
            b'{"items":[{"metadata":{%b}},{"metadata":{"name":"b"}}]}',
            b'{"items":[{"metadata":{}},{"metadata":{"name":"b"}}]}',
        ),
        (
            b'{"kind":"Table","rows":[{"cells":["a"],"object":{"metadata":{%b}}}]}',
            b'{"kind":"Table","rows":[{"cells":["a"],"object":{"metadata":{}}}]}',
        ),
        (b'{"data":{%b}}', b'{"data":{%b}}' % MANAGED),
        (b'[{"metadata":{%b}}]', b'[{"metadata":{%b}}]' % MANAGED),
        (b'{"metadata":"%%", "x":{%b}}', b'{"metadata":"%%","x":{%b}}' % MANAGED),
    ],
)
def test_managed_fields_are_left_out(document: bytes, cleaned: bytes) -> None:
    audit = opened("RequestResponse", method="PUT", rest="omitManagedFields: true")
    audit.record_request_object(document % MANAGED)
    audit.record_response_object(document % MANAGED)

    event = last_of(audit)
    assert bytes(event.request_object) == cleaned
    assert bytes(event.response_object) == cleaned


@pytest.mark.parametrize(
    "document",
    [
        b'{"metadata":{%b},"items":null}',
        b'{"metadata":{%b},"rows":5}',
        b'{"metadata":{%b},"items":["a",null,{"metadata":{%b}}]}',
        b'{"metadata":{%b},"rows":[null,{"object":null},{"object":{"metadata":{%b}}}]}',
    ],
)
def test_an_odd_part_keeps_no_managed_fields_elsewhere(document: bytes) -> None:
    fields = (MANAGED,) * document.count(b"%b")
    audit = opened("RequestResponse", method="PUT", rest="omitManagedFields: true")
    audit.record_request_object(document % fields)

    recorded = bytes(last_of(audit).request_object)
    assert recorded == document % ((b"",) * len(fields))


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_no_body_is_no_object(body: bytes) -> None:
    audit = opened("RequestResponse", method="DELETE")
    audit.record_request_object(body)
    audit.record_response_object(body)

    event = last_of(audit)
    assert event.request_object is NO_OBJECT
    assert event.response_object is NO_OBJECT
    assert event.annotations == {}


def test_null_is_the_empty_value_in_what_the_server_sends() -> None:
    audit = opened("Metadata", method="POST", target=PODS)
    audit.record_request_object(b'{"metadata":{"name":"x","namespace":null,"uid":null}}')
    audit.record_response_object(
        b'{"kind":"Status","apiVersion":"v1","status":"Failure","message":null,'
        b'"details":{"name":"x","causes":null},"code":409}'
    )

    event = last_of(audit, 409)
    assert event.object_ref is not None
    assert event.object_ref.name == "x"
    assert event.response_status is not None
    assert event.response_status.details is not None
    assert (event.response_status.status, event.response_status.details.name) == ("Failure", "x")


def test_managed_fields_of_a_patch_stay() -> None:
    audit = opened("Request", method="PATCH", rest="omitManagedFields: true")
    audit.record_patch(b'{"metadata":{%b}}' % MANAGED)

    assert bytes(last_of(audit).request_object) == b'{"metadata":{%b}}' % MANAGED


def test_the_first_value_of_an_annotation_stays() -> None:
    audit = audit_of("Metadata")
    assert audit.annotate("k.example.com/a", "1")
    assert audit.annotate("k.example.com/a", "1")
    assert not audit.annotate("k.example.com/a", "2")
    first = audit.begin(ANN)[0]
    audit.annotate("k.example.com/b", "3")

    assert first.annotations == {"k.example.com/a": "1"}
    assert last_of(audit).annotations == {"k.example.com/a": "1", "k.example.com/b": "3"}


@pytest.mark.parametrize(
    ("after", "target", "expected"),
    [
        (500_000_000, f"{PODS}/web", {}),
        (
            500_000_001,
            f"{PODS}/web",
            {"etcd": "3ms", "authorization": "2ms", "total": "500.000001ms"},
        ),
        (
            61_005_000_000,
            f"{PODS}/web/log",
            {"etcd": "3ms", "authorization": "2ms", "total": "1m1.005s"},
        ),
        (900_000_000, f"{PODS}?watch=1", {}),
    ],
)
def test_latency_of_slow_requests(after: int, target: str, expected: dict[str, str]) -> None:
    audit = opened("Metadata", target=target)
    for tracker in ("etcd", "authorization"):
        for milliseconds in (1, 2):
            audit.add_latency(tracker, milliseconds * 1_000_000)
    audit.add_latency("decode-response-object", 0)

    found = last_of(audit, at=START + after).annotations
    assert found == {f"apiserver.latency.k8s.io/{name}": text for name, text in expected.items()}


def test_no_latency_without_trackers_and_after_a_panic() -> None:
    assert last_of(opened("Metadata")).annotations == {}
    audit = opened("Metadata")
    audit.add_latency("etcd", 5)
    assert audit.panic("x", LATER)[0].annotations == {}


@pytest.mark.parametrize(
    ("agent", "recorded"),
    [
        ("", ""),
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1024 + "...TRUNCATED"),
        ("x" * 1023 + "é", "x" * 1023 + "\\ufffd...TRUNCATED"),
        ("a\udcffb", "a\\ufffdb"),
    ],
)
def test_user_agent_is_cut_by_bytes(agent: str, recorded: str) -> None:
    event = last_of(opened("Metadata", headers={"user-AGENT": agent}))

    assert (f'"userAgent":"{recorded}"'.encode() in encode(event)) == bool(recorded)


def test_the_source_addresses_come_from_headers_and_peer() -> None:
    event = last_of(opened("Metadata", headers={"X-Forwarded-For": "10.1.1.1", "X-Real-Ip": "::1"}))

    assert event.source_ips == ("10.1.1.1", "::1", "192.0.2.1")


def test_the_audit_id_is_the_clients_or_a_new_one() -> None:
    assert audit_id_of(Headers([("audit-id", "a"), ("Audit-Id", "b")]), lambda: "new") == "a"
    assert audit_id_of(Headers([("Audit-ID", "")]), lambda: "new") == "new"
    assert audit_id_of(Headers([]), lambda: "new") == "new"


@pytest.mark.parametrize(
    ("headers", "query", "certificate", "message"),
    [
        ({}, "", False, "Authentication failed, no credentials provided"),
        ({"Authorization": "Basic dTpw"}, "", False, "Authentication failed, attempted: basic"),
        ({"Authorization": "Basic !"}, "", False, "Authentication failed, no credentials provided"),
        (
            {"Authorization": "Basic dXA="},
            "",
            False,
            "Authentication failed, no credentials provided",
        ),
        ({"Authorization": "BEARER x"}, "", False, "Authentication failed, attempted: bearer"),
        ({"Authorization": "Bearer"}, "", False, "Authentication failed, no credentials provided"),
        (
            {"Authorization": "bearer x"},
            "?access_token=t",
            True,
            "Authentication failed, attempted: bearer, access_token, x509",
        ),
        ({}, "?access_token=%20", False, "Authentication failed, no credentials provided"),
    ],
)
def test_failed_authentication(
    headers: dict[str, str], query: str, *, certificate: bool, message: str
) -> None:
    target = f"{PODS}/web{query}"
    audit = audit_of("Metadata", headers=headers, target=target, certificate=certificate)
    audit.fail_authentication()

    (event,) = audit.respond(401, LATER)
    assert event.stage == "ResponseStarted"
    assert event.user == UserInfo()
    assert event.response_status is not None
    assert (event.response_status.message, event.response_status.code) == (message, 401)


@pytest.mark.parametrize(
    ("name", "groups", "expected"),
    [
        ("bob", (), ("system:authenticated",)),
        ("bob", ("a", "system:authenticated"), ("a", "system:authenticated")),
        ("bob", ("system:unauthenticated",), ("system:unauthenticated",)),
        ("system:anonymous", (), ("system:unauthenticated",)),
        ("system:anonymous", ("a",), ("a", "system:unauthenticated")),
        (
            "system:serviceaccount:n:s",
            (),
            ("system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"),
        ),
        ("system:serviceaccount:n:s", ("g",), ("g", "system:authenticated")),
        ("system:serviceaccount:n", (), ("system:authenticated",)),
        ("system:node:n", (), ("system:authenticated",)),
    ],
)
def test_impersonated_groups(name: str, groups: tuple[str, ...], expected: tuple[str, ...]) -> None:
    lines = [("Impersonate-User", name), *(("Impersonate-Group", group) for group in groups)]

    user = impersonated_user(Headers(lines))

    assert user is not None
    assert user.groups == expected


def test_impersonation_headers() -> None:
    lines = [
        ("impersonate-user", "bob"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-Scopes%2FX", "a"),
        ("Impersonate-Extra-Scopes%2FX", "b"),
    ]
    user = impersonated_user(Headers(lines))

    assert user is not None
    assert (user.uid, user.extra) == ("7", {"scopes/x": ("a", "b")})
    assert impersonated_user(Headers([("Impersonate-Group", "g")])) is None
    odd = impersonated_user(
        Headers([("Impersonate-User", "b"), ("Impersonate-Extra-%zz%2fk", "v")])
    )
    assert odd is not None
    assert odd.extra == {"%zz%2fk": ("v",)}


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        (f"{PODS}/web", None),
        (f"{PODS}/web?timeout=", None),
        (f"{PODS}/web?timeout=30s", None),
        (f"{PODS}?watch=1&timeout=abc", None),
        (
            f"{PODS}/web?timeout=abc",
            'invalid timeout specified in the request URL - time: invalid duration "abc"',
        ),
        (
            f"{PODS}/web?timeout=5",
            'invalid timeout specified in the request URL - time: missing unit in duration "5"',
        ),
    ],
)
def test_timeout_parameter(target: str, fault: str | None) -> None:
    assert timeout_fault(resolve("GET", target), target) == fault


def test_the_answer_to_a_request_that_could_not_be_stored() -> None:
    answer = failed_store('/a?b=<c>&"d"')

    assert answer.status == 500
    assert answer.body == (
        b'Internal Server Error: "/a?b=&lt;c&gt;&amp;\\"d\\"": failed to store audit event\n'
    )
    assert dict(answer.headers)["X-Content-Type-Options"] == "nosniff"
    other = failed_request_info("/api/v1/watch?a=<b>", "cannot, /api/v1/watch?a=<b>")
    assert b"<" not in other.body


def test_a_status_is_copied_from_the_answer_only_if_it_is_one() -> None:
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409}
    audit = opened("Metadata")
    audit.record_response_object(json.dumps({**status, "apiVersion": "example.com/v1"}).encode())
    audit.record_response_object(b'{"kind":"Status"')
    assert audit.respond(409, LATER) == []
    audit.record_response_object(json.dumps(status).encode())

    event = audit.complete(LATER)[-1]
    assert event.response_status is not None
    assert event.response_status.status == "Failure"


def test_steps_out_of_order_are_errors() -> None:
    audit = audit_of("Metadata")
    for step in (
        lambda: audit.respond(200, LATER),
        lambda: audit.complete(LATER),
        lambda: audit.panic("x", LATER),
        lambda: audit.record_patch(b""),
        lambda: audit.impersonate(ANN),
        audit.reject,
    ):
        with pytest.raises(StateError, match="id is received"):
            step()
    audit.begin(ANN)
    with pytest.raises(StateError, match="id is open"):
        audit.begin(ANN)
    with pytest.raises(StateError, match="id is open"):
        audit.fail_authentication()
    audit.complete(LATER)
    with pytest.raises(StateError, match="id is closed"):
        audit.complete(LATER)


def test_a_target_without_request_info_is_not_audited() -> None:
    with pytest.raises(RequestError) as refused:
        audit_of("Metadata", target="/api/v1/watch")
    assert refused.value.status == 500
    with pytest.raises(RequestError) as malformed:
        audit_of("Metadata", target="/a%zz")
    assert malformed.value.status == 400


STEPS = st.lists(
    st.sampled_from(["respond", "annotate", "request", "response", "patch", "latency", "other"]),
    max_size=8,
)
ORDER = [Stage.REQUEST_RECEIVED, Stage.RESPONSE_STARTED, Stage.RESPONSE_COMPLETE]


@given(
    steps=STEPS,
    target=st.sampled_from([f"{PODS}/web", f"{PODS}/web/log", f"{PODS}?watch=1", "/healthz", PODS]),
    method=st.sampled_from(["GET", "POST", "PATCH", "DELETE", "OPTIONS"]),
    level=st.sampled_from(["Metadata", "Request", "RequestResponse"]),
    panics=st.booleans(),
    body=st.binary(max_size=30) | st.just(b'{"metadata":{"name":"n"}}'),
)
def test_any_order_of_steps_makes_the_stages_in_order(
    steps: list[str], target: str, method: str, level: str, *, panics: bool, body: bytes
) -> None:
    audit = audit_of(level, method=method, target=target)
    events = audit.begin(ANN)
    actions: dict[str, Any] = {
        "respond": lambda: events.extend(audit.respond(204, LATER)),
        "annotate": lambda: audit.annotate("a.example.com/b", "c"),
        "request": lambda: audit.record_request_object(body),
        "response": lambda: audit.record_response_object(body),
        "patch": lambda: audit.record_patch(body),
        "latency": lambda: audit.add_latency("etcd", 7),
        "other": lambda: audit.impersonate(ANN),
    }
    for step in steps:
        actions[step]()
    events += audit.panic("oops", LATER) if panics else audit.complete(LATER)

    stages = [Stage(event.stage) for event in events]
    started = stages[1:-1]
    assert stages[0] is Stage.REQUEST_RECEIVED
    assert stages[-1] is (Stage.PANIC if panics else Stage.RESPONSE_COMPLETE)
    assert started in ([], [Stage.RESPONSE_STARTED])
    if not panics:
        watches = method == "GET" and target.endswith("watch=1")
        assert bool(started) == (watches or target.endswith("/log"))
    for event in events:
        msgspec.json.decode(encode(event))
