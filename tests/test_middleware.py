"""What the middleware tells the recorder, and what it leaves alone."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from asgi_driver import (
    ABORTED,
    COMPLETE,
    FORBIDDEN,
    HEADER,
    PODS,
    RECEIVED,
    STARTED,
    WATCH,
    Audited,
    answers,
    ask,
    body,
    failing,
    header,
    http,
    nobody,
    part,
    pipeline_to,
    rules,
    run_with,
    sends,
    serve,
    start,
    websocket,
)
from clocks import SOON
from collecting import CollectingBackend
from kubewitness.capture.asgi import AUDIT, AuditMiddleware, audit_of
from kubewitness.capture.asgi_scope import Message, Receive, Scope, Send, target_of
from kubewitness.event import Event, UserInfo
from kubewitness.policy import load_policy


def test_a_request_has_its_events() -> None:
    audited = Audited(answers(201))

    sent = audited.ask(http("/things?a=b", method="POST", headers=[("User-Agent", "ua/1")]))

    assert audited.stages == [(RECEIVED, 0), (COMPLETE, 201)]
    event = audited.events[-1]
    assert event["requestURI"] == "/things?a=b"
    assert event["verb"] == "post"
    assert event["userAgent"] == "ua/1"
    assert event["sourceIPs"] == ["127.0.0.1"]
    assert event["user"] == {"username": "system:anonymous", "groups": ["system:unauthenticated"]}
    assert header(sent[0], "Audit-Id") == [event["auditID"]]


def test_times_are_the_clocks() -> None:
    ticks = iter(range(1_790_000_000_000_000_000, 1_790_000_009_000_000_000, 1_000_000_000))
    audited = Audited(answers(), now=lambda: next(ticks))

    audited.ask(http())

    first, last = audited.events
    assert first["requestReceivedTimestamp"] == "2026-09-21T14:13:20.000000Z"
    assert first["stageTimestamp"] == "2026-09-21T14:13:20.000000Z"
    assert last["stageTimestamp"] > first["stageTimestamp"]


@pytest.mark.parametrize(
    ("scope", "target"),
    [
        ({"raw_path": b"/a%2Fb", "path": "/a/b", "query_string": b"q=%20"}, "/a%2Fb?q=%20"),
        ({"raw_path": b"/a\xff", "path": "/", "query_string": b"\xff"}, "/a\udcff?\udcff"),
        ({"raw_path": b"/a?b", "path": "/a", "query_string": b"b"}, "/a?b"),
        ({"raw_path": None, "path": "/a b%/ä", "query_string": b""}, "/a%20b%25/%C3%A4"),
        ({"path": "/a\udcff", "query_string": b""}, "/a%FF"),
        ({"path": ""}, "/"),
        ({"raw_path": b"/api/x", "path": "/api/x", "root_path": "/api"}, "/api/x"),
    ],
)
def test_the_target_is_what_was_sent(scope: dict[str, Any], target: str) -> None:
    assert target_of(scope) == target


def test_headers_keep_their_bytes() -> None:
    audited = Audited(answers())
    scope = http()
    scope["headers"] = [(b"user-agent", b"caf\xc3\xa9 \xff"), (b"audit-id", b"\xff")]

    sent = audited.ask(scope)

    assert dict(sent[0]["headers"])[b"audit-id"] == b"\xff"
    assert audited.received[0].user_agent == "café \udcff"


@pytest.mark.parametrize("policy", [rules("Metadata"), rules("None"), ""])
def test_every_answer_has_the_audit_id(policy: str) -> None:
    audited = Audited(answers(), policy, new_audit_id=lambda: "new")

    assert header(audited.ask(http())[0], "Audit-Id") == ["new"]
    chosen = audited.ask(http(headers=[("Audit-ID", "mine"), ("Audit-ID", "other")]))
    assert header(chosen[0], "Audit-Id") == ["mine"]


def test_the_applications_audit_id_stays() -> None:
    own = start()
    own["headers"] = [(b"X-A", b"1"), (b"AUDIT-ID", b"own")]
    audited = Audited(sends(own, part()))

    sent = audited.ask(http())

    assert sent[0] is own
    assert audited.stages == [(RECEIVED, 0), (COMPLETE, 200)]


@pytest.mark.parametrize("policy", [rules("RequestResponse"), ""])
@pytest.mark.parametrize("name", [b"x-a", b"audit-id"])
def test_headers_that_can_be_read_once_arrive(policy: str, name: bytes) -> None:
    own = start()
    own["headers"] = iter([(name, b"1"), (b"content-type", b"application/json")])
    audited = Audited(sends(own, part(b"{}")), policy)

    sent = audited.ask(http())

    assert sent[0]["headers"][-2:] == [(name, b"1"), (b"content-type", b"application/json")]
    assert len(header(sent[0], "Audit-Id")) == 1


def test_messages_are_the_same_objects_in_the_same_order() -> None:
    messages = [part(b"a", more=True), {"type": "http.response.push"}, part(b"b")]
    audited = Audited(sends(start(), *messages), rules("RequestResponse"))

    sent = audited.ask(http())

    assert [id(message) for message in sent[1:]] == [id(message) for message in messages]


@pytest.mark.parametrize("policy", [rules("None"), ""])
def test_nothing_is_recorded_where_nothing_is_to_be(policy: str) -> None:
    audited = Audited(answers(200, b"{}", "application/json"), policy)

    audited.ask(http())
    audited.ask(http(WATCH))
    Audited(answers(401), policy, backend=audited.backend, user=nobody).ask(http())

    assert audited.received == []


def test_without_a_policy_even_malformed_targets_are_the_applications() -> None:
    audited = Audited(answers(204), "")

    assert audited.ask(http("/%zz"))[0]["status"] == 204


def test_the_policy_may_be_exchanged() -> None:
    audited = Audited(answers(), "")
    audited.ask(http())
    audited.pipeline.policy = load_policy(rules("Metadata").encode())
    audited.ask(http())
    audited.pipeline.policy = load_policy(rules("None").encode())
    audited.ask(http())

    assert len(audited.received) == 2


def test_two_middlewares_to_one_pipeline_record_once() -> None:
    audited = Audited(answers())
    twice = AuditMiddleware(audited.app, audited.pipeline)

    sent = ask(twice, http())

    assert audited.stages == [(RECEIVED, 0), (COMPLETE, 200)]
    assert len(header(sent[0], "Audit-Id")) == 1


def test_two_pipelines_share_the_id() -> None:
    inner = Audited(answers())
    outer = Audited(inner.app)

    sent = outer.ask(http())

    ids = {event.audit_id for event in (*inner.received, *outer.received)}
    assert [*ids] == header(sent[0], "Audit-Id")
    assert (len(inner.received), len(outer.received)) == (2, 2)


class TestFromTheApplication:
    def test_it_annotates_and_impersonates(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            audit = audit_of(scope)
            assert audit is not None
            audit.annotate("example.com/why", "because")
            audit.impersonate(UserInfo(username="bob"))
            await answers()(scope, receive, send)

        audited = Audited(app)
        audited.ask(http())

        assert "annotations" not in audited.events[0]
        assert audited.events[1]["annotations"] == {"example.com/why": "because"}
        assert audited.events[1]["impersonatedUser"]["username"] == "bob"

    def test_an_object_that_it_records_itself_counts(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            audit = audit_of(scope)
            assert audit is not None
            audit.record_request_object(b'{"password":"***"}')
            audit.record_response_object(b'{"token":"***"}')
            await answers(200, b'{"token":"secret"}', "application/json")(scope, receive, send)

        audited = Audited(app, rules("RequestResponse"))
        audited.ask(http("/login", method="POST"), *body(b'{"password":"secret"}'))

        assert audited.events[-1]["requestObject"] == {"password": "***"}
        assert audited.events[-1]["responseObject"] == {"token": "***"}

    def test_there_is_an_audit_only_while_the_request_is_served(self) -> None:
        audited, scope = Audited(answers()), http()
        assert audit_of(scope) is None
        audited.ask(scope)
        assert audit_of(scope) is None
        assert AUDIT not in scope

    def test_what_it_leaves_in_the_scope_is_seen_further_out(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope["route"] = "/things/{id}"
            await answers()(scope, receive, send)

        scope = http()
        Audited(app).ask(scope)

        assert scope["route"] == "/things/{id}"


class TestBodies:
    def test_json_is_recorded_of_any_request(self) -> None:
        audited = Audited(answers(200, b'{"c": [1]}', "application/json"), rules("RequestResponse"))

        headers = [("Content-Type", "application/json")]
        audited.ask(http("/things", method="PUT", headers=headers), *body(b'{"a":', b" 1}"))

        assert "requestObject" not in audited.events[0]
        assert audited.events[1]["requestObject"] == {"a": 1}
        assert audited.events[1]["responseObject"] == {"c": [1]}

    def test_or_only_of_the_kubernetes_api(self) -> None:
        audited = Audited(
            answers(200, b'{"c": [1]}', "application/json"),
            rules("RequestResponse"),
            records_any_json=False,
        )

        audited.ask(http("/things", method="PUT"), *body(b'{"a": 1}'))

        assert "requestObject" not in audited.events[1]
        assert "responseObject" not in audited.events[1]

    def test_more_than_is_kept_is_marked(self) -> None:
        long = b'{"text":"%s"}' % ("ä" * 100).encode()
        audited = Audited(
            answers(200, long, "application/json"), rules("RequestResponse"), max_body=16
        )

        audited.ask(http("/things", method="PUT"), *body(long[:10], long[10:]))

        event = audited.events[-1]
        assert event["requestObject"] == event["responseObject"] == '{"text":"äää'
        assert event["annotations"]["kubewitness.io/truncated"] == (
            "responseObject: the first 16 bytes; requestObject: the first 16 bytes"
        )

    def test_exactly_what_is_kept_is_whole(self) -> None:
        audited = Audited(answers(), rules("Request"), max_body=8)

        audited.ask(http("/things", method="PUT"), *body(b'{"a":1', b" }"))

        assert audited.events[-1]["requestObject"] == {"a": 1}

    def test_what_the_application_did_not_read_is_not_recorded(self) -> None:
        async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send(start())
            await send(part())

        audited = Audited(app, rules("RequestResponse"))
        audited.ask(http(method="PATCH"), *body(b'{"a":1}'))

        assert "requestObject" not in audited.events[-1]

    def test_what_it_read_half_is_marked(self) -> None:
        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(start())
            await send(part())

        audited = Audited(app, rules("RequestResponse"))
        audited.ask(http("/things", method="PUT"), *body(b'{"a":', b"1}"))

        assert audited.events[-1]["requestObject"] == '{"a":'
        assert "kubewitness.io/truncated" in audited.events[-1]["annotations"]

    def test_a_refusals_status_is_taken_at_any_level(self) -> None:
        audited = Audited(answers(403, FORBIDDEN, "application/json"))

        audited.ask(http())

        assert audited.events[-1]["responseStatus"]["message"] == "no"
        assert "responseObject" not in audited.events[-1]


class TestLongRunning:
    def test_it_has_started_before_the_answer_has(self) -> None:
        seen: list[int] = []

        async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send(start())
            seen.append(len(audited.received))
            await send(part(b"x", more=True))
            await send(part())

        audited = Audited(app)
        audited.ask(http(WATCH))

        assert seen == [2]
        assert audited.stages == [(RECEIVED, 0), (STARTED, 200), (COMPLETE, 200)]

    @pytest.mark.parametrize("chunks", [(FORBIDDEN,), (FORBIDDEN[:9], FORBIDDEN[9:], b"")])
    def test_a_refusal_has_its_status_in_the_start(self, chunks: Sequence[bytes]) -> None:
        parts = [part(chunk, more=index < len(chunks)) for index, chunk in enumerate(chunks, 1)]
        own = start(403, "application/json")
        audited = Audited(sends(own, *parts), rules("RequestResponse"))

        sent = audited.ask(http(WATCH))

        assert audited.stages == [(RECEIVED, 0), (STARTED, 403), (COMPLETE, 403)]
        for event in audited.events[1:]:
            assert event["responseStatus"]["message"] == "no"
            assert event["responseObject"] == json.loads(FORBIDDEN)
        assert sent[0]["status"] == 403
        assert [id(message) for message in sent[1:]] == [id(message) for message in parts]

    def test_a_refusal_waits_for_no_more_than_is_kept(self) -> None:
        first, last = part(b"x" * 8, more=True), part()
        sent: list[Message] = []

        async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send(start(403, "application/json"))
            assert sent == []
            await send(first)
            assert sent[1] is first
            await send(last)

        async def keep(message: Message) -> None:
            sent.append(message)

        audited = Audited(app, max_body=7)
        asyncio.run(run_with(audited.app, http(WATCH), keep))

        assert sent[2] is last
        assert audited.stages[-1] == (COMPLETE, 403)

    def test_a_refusal_that_never_had_a_body_is_sent(self) -> None:
        audited = Audited(sends(start(403, "application/json")))

        assert audited.ask(http(WATCH))[0]["status"] == 403
        assert audited.stages == [(RECEIVED, 0), (STARTED, 403), (COMPLETE, 403)]

    def test_a_refusal_that_fails_is_sent_before_it_does(self) -> None:
        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        audited = Audited(failing(ValueError("boom"), start(403, "application/json")))
        with pytest.raises(ValueError, match="boom"):
            asyncio.run(run_with(audited.app, http(WATCH), keep))

        assert [message["type"] for message in sent] == ["http.response.start"]
        assert audited.stages == [(RECEIVED, 0), (STARTED, 403), ("Panic", 500)]

    def test_which_requests_are_is_a_setting(self) -> None:
        audited = Audited(answers(), is_long_running=lambda info: info.path == "/events")

        audited.ask(http("/events"))
        audited.ask(http(WATCH))

        assert audited.stages == [
            (RECEIVED, 0),
            (STARTED, 200),
            (COMPLETE, 200),
            (RECEIVED, 0),
            (COMPLETE, 200),
        ]


class TestWebSockets:
    def test_it_starts_when_it_is_accepted(self) -> None:
        own: Message = {"type": "websocket.accept", "subprotocol": "x"}
        seen: list[int] = []

        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(own)
            seen.append(len(audited.received))
            await send({"type": "websocket.close", "code": 1000})

        audited = Audited(app)
        sent = audited.ask(websocket(), {"type": "websocket.connect"})

        assert audited.stages == [(RECEIVED, 0), (STARTED, 101), (COMPLETE, 101)]
        assert seen == [2]
        assert header(sent[0], "Audit-Id") == [audited.received[0].audit_id]
        assert audited.events[0]["verb"] == "get"

    @pytest.mark.parametrize("level", ["Metadata", "RequestResponse"])
    def test_a_denial_has_its_status_in_the_start(self, level: str) -> None:
        app = sends(start(403, "application/json", socket=True), part(FORBIDDEN, socket=True))
        audited = Audited(app, rules(level))

        audited.ask(websocket(), {"type": "websocket.connect"})

        assert audited.stages == [(RECEIVED, 0), (STARTED, 403), (COMPLETE, 403)]
        assert audited.events[1]["responseStatus"]["message"] == "no"

    def test_refused_credentials_have_one_event(self) -> None:
        audited = Audited(sends({"type": "websocket.close"}), user=nobody)

        audited.ask(websocket(), {"type": "websocket.connect"})

        assert audited.stages == [(STARTED, 403)]

    def test_an_exception_because_the_client_left_is_no_panic(self) -> None:
        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            raise LookupError

        audited = Audited(app)
        with pytest.raises(LookupError):
            audited.ask(
                websocket(), {"type": "websocket.connect"}, {"type": "websocket.disconnect"}
            )

        assert audited.stages == [(RECEIVED, 0), (STARTED, 101), (COMPLETE, 101)]
        assert audited.events[2]["annotations"][ABORTED] == "the client disconnected (LookupError)"


class ThreadNoting(CollectingBackend):
    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()

    def process_events(self, events: Sequence[Event]) -> bool:
        self.threads.add(threading.current_thread().name)
        return super().process_events(events)


@pytest.mark.parametrize("waits", [True, False])
def test_a_pipeline_that_waits_is_called_in_a_thread(waits: bool) -> None:  # noqa: FBT001
    backend = ThreadNoting()
    backend.waits = waits
    audited = Audited(answers(), backend=backend)

    audited.ask(http())

    assert audited.stages == [(RECEIVED, 0), (COMPLETE, 200)]
    assert (threading.current_thread().name in backend.threads) is not waits


def test_other_requests_go_on_while_one_waits() -> None:
    audited = Audited(answers(204))
    audited.backend.waits = True
    audited.backend.gate.clear()

    async def both() -> None:
        waiting = asyncio.create_task(serve(audited.app, http(), body()))
        await asyncio.to_thread(audited.backend.until_at_once, 1)
        other = AuditMiddleware(answers(200), pipeline_to(CollectingBackend()))
        assert (await serve(other, http(), body()))[0]["status"] == 200
        audited.backend.gate.set()
        assert (await asyncio.wait_for(waiting, SOON))[0]["status"] == 204

    asyncio.run(both())


def test_rules_see_what_the_request_is() -> None:
    policy = (
        f"{HEADER}rules:\n"
        "- {level: None, users: [alice]}\n"
        "- {level: Request, verbs: [create], resources: [{group: '', resources: [pods]}]}\n"
        "- level: None\n"
    )

    def by_header(scope: Scope) -> UserInfo:
        return UserInfo(username=dict(scope["headers"])[b"x-user"].decode())

    audited = Audited(answers(201), policy, user=by_header)
    for user in ("alice", "bob"):
        audited.ask(
            http(PODS, method="POST", headers=[("X-User", user)]),
            *body(b'{"kind":"Pod","metadata":{"name":"p9"}}'),
        )
        audited.ask(http(headers=[("X-User", user)]))

    assert audited.stages == [(RECEIVED, 0), (COMPLETE, 201)]
    assert audited.events[1]["objectRef"]["name"] == "p9"
    assert audited.events[1]["user"]["username"] == "bob"


def test_levels_are_counted() -> None:
    audited = Audited(answers())
    audited.ask(http())
    refused = Audited(answers(401), user=nobody)
    refused.ask(http())

    for each in (audited, refused):
        metrics = each.pipeline.metrics
        assert metrics.sums(metrics.levels) == {("Metadata",): 1}


def test_it_imports_no_framework() -> None:
    script = "import kubewitness.capture, json, sys;print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}

    assert loaded.isdisjoint({"aiohttp", "starlette", "fastapi", "litestar", "django", "quart"})
    assert loaded.isdisjoint({"anyio", "uvicorn", "uvloop", "click", "rich"})
