"""What goes wrong around the middleware, and who is refused: what events say of it."""

import asyncio
import contextlib
import json

import pytest

from asgi_driver import (
    ABORTED,
    COMPLETE,
    DISCONNECT,
    FORBIDDEN,
    POD,
    RECEIVED,
    STARTED,
    Audited,
    answers,
    body,
    failing,
    header,
    http,
    nobody,
    part,
    rules,
    run_with,
    sends,
    serve,
    start,
    websocket,
)
from collecting import CollectingBackend
from kubewitness.capture.asgi_scope import Application, Message, Receive, Scope, Send
from kubewitness.event import UserInfo


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "text"),
        [(ValueError("kaboom"), "kaboom"), (ValueError(), "ValueError"), (OSError(2, "x"), "x")],
    )
    def test_an_exception_is_a_panic_and_goes_its_way(self, error: Exception, text: str) -> None:
        audited = Audited(failing(error))

        with pytest.raises(type(error)) as caught:
            audited.ask(http())

        assert caught.value is error
        assert audited.stages == [(RECEIVED, 0), ("Panic", 500)]
        assert text in audited.events[1]["responseStatus"]["message"]

    def test_also_after_the_answer(self) -> None:
        audited = Audited(failing(ValueError("late"), start(201), part()))

        with pytest.raises(ValueError, match="late"):
            audited.ask(http())

        assert audited.stages == [(RECEIVED, 0), ("Panic", 500)]

    def test_a_client_that_leaves_is_noted(self) -> None:
        async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
            assert (await receive())["type"] == "http.disconnect"

        audited = Audited(app)
        audited.ask(http(), DISCONNECT)

        assert audited.stages == [(RECEIVED, 0), (COMPLETE, 200)]
        assert audited.events[1]["responseStatus"]["message"] == "Connection closed early"
        assert audited.events[1]["annotations"] == {ABORTED: "the client disconnected"}

    def test_an_exception_because_of_that_is_no_panic(self) -> None:
        audited = Audited(failing(ConnectionError("gone")))

        with pytest.raises(ConnectionError):
            audited.ask(http(), *body(b"half", is_whole=False), DISCONNECT)

        assert audited.stages == [(RECEIVED, 0), (COMPLETE, 200)]
        assert audited.events[1]["annotations"] == {
            ABORTED: "the client disconnected (ConnectionError: gone)"
        }

    def test_nor_is_what_the_server_says_of_it(self) -> None:
        async def send(_message: Message) -> None:
            raise BrokenPipeError

        audited = Audited(answers(200))
        with pytest.raises(BrokenPipeError):
            asyncio.run(run_with(audited.app, http(), send))

        assert audited.stages == [(RECEIVED, 0), (COMPLETE, 200)]
        assert audited.events[1]["annotations"][ABORTED].endswith("(BrokenPipeError)")

    def test_a_client_that_leaves_after_the_answer_is_none(self) -> None:
        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(start())
            await send(part())
            await receive()

        audited = Audited(app)
        audited.ask(http(), *body(), DISCONNECT)

        assert "annotations" not in audited.events[1]

    def test_an_application_that_does_not_answer(self) -> None:
        audited = Audited(sends())
        audited.ask(http())

        assert audited.events[1]["responseStatus"] == {
            "metadata": {},
            "status": "Success",
            "message": "Connection closed early",
            "code": 200,
        }

    @pytest.mark.parametrize("waits", [False, True])
    def test_a_cancelled_request_has_its_last_event(self, waits: bool) -> None:  # noqa: FBT001
        audited = Audited(hanging(), backend=CollectingBackend())
        audited.backend.waits = waits

        async def cancel() -> None:
            began = asyncio.Event()
            task = asyncio.create_task(serve(audited.app, {**http(), "began": began}, body()))
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancel())

        assert audited.stages == [(RECEIVED, 0), (COMPLETE, 200)]
        assert audited.events[1]["annotations"] == {ABORTED: "the request was cancelled"}

    def test_one_cancelled_before_its_first_event_was_stored_too(self) -> None:
        audited = Audited(hanging())
        audited.backend.waits = True
        audited.backend.gate.clear()

        async def cancel() -> None:
            task = asyncio.create_task(serve(audited.app, http(), body()))
            await asyncio.to_thread(audited.backend.until_at_once, 1)
            task.cancel()
            audited.backend.gate.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(cancel())

        assert sorted(stage for stage, _ in audited.stages) == [RECEIVED, COMPLETE]

    def test_what_finds_the_user_may_fail(self) -> None:
        def find_user(_scope: Scope) -> UserInfo:
            raise LookupError("no such key")

        audited = Audited(answers(), user=find_user)
        with pytest.raises(LookupError):
            audited.ask(http())

        assert audited.received == []


def hanging() -> Application:
    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        scope["began"].set()
        await asyncio.Event().wait()

    return app


class TestRefusedCredentials:
    def test_there_is_one_event_when_the_application_answers(self) -> None:
        audited = Audited(answers(401, b"no"), user=nobody)

        audited.ask(http(headers=[("Authorization", "Bearer x")]))

        assert audited.stages == [(STARTED, 401)]
        event = audited.events[0]
        assert event["user"] == {}
        assert event["responseStatus"]["message"] == "Authentication failed, attempted: bearer"

    def test_a_certificate_is_an_attempt(self) -> None:
        audited = Audited(answers(401), user=nobody)

        audited.ask(http(extensions={"tls": {"client_cert_chain": ["PEM"]}}))

        assert audited.events[0]["responseStatus"]["message"].endswith("attempted: x509")

    def test_its_status_is_in_the_event(self) -> None:
        unauthorized = FORBIDDEN.replace(b"403", b"401")
        audited = Audited(
            answers(401, unauthorized, "application/json"), rules("RequestResponse"), user=nobody
        )

        audited.ask(http(method="PUT"), *body(b'{"secret":1}'))

        assert audited.stages == [(STARTED, 401)]
        assert audited.events[0]["responseStatus"]["message"] == "no"
        assert audited.events[0]["responseObject"] == json.loads(unauthorized)
        assert "requestObject" not in audited.events[0]

    def test_an_application_that_serves_it_all_the_same_streams(self) -> None:
        audited = Audited(
            answers(200, b"{}", "application/json"), rules("RequestResponse"), user=nobody
        )

        audited.ask(http())

        assert audited.stages == [(STARTED, 200)]

    @pytest.mark.parametrize("app", [failing(ValueError("boom")), sends()])
    def test_an_application_that_does_not_answer_hides_nothing(self, app: Application) -> None:
        audited = Audited(app, user=nobody)

        with contextlib.suppress(ValueError):
            audited.ask(http())

        assert audited.stages == [(STARTED, 500)]


class TestAsKubernetes:
    def test_a_bad_timeout_is_refused(self) -> None:
        audited = Audited(failing(AssertionError()), answers_as_kubernetes=True)

        sent = audited.ask(http(f"{POD}?timeout=%3Cb%3E"))

        assert sent[0]["status"] == 400
        assert b'invalid duration \\"\\u003cb\\u003e\\"' in sent[1]["body"]
        assert audited.stages == [(STARTED, 400)]

    def test_or_left_to_the_application(self) -> None:
        audited = Audited(answers())

        audited.ask(http(f"{POD}?timeout=abc"))

        assert audited.stages == [(RECEIVED, 0), (COMPLETE, 200)]

    def test_a_path_that_ends_after_watch_is_refused(self) -> None:
        audited = Audited(failing(AssertionError()), answers_as_kubernetes=True)

        sent = audited.ask(http("/api/v1/watch"))

        assert sent[0]["status"] == 500
        assert b"failed to create RequestInfo" in sent[1]["body"]
        assert header(sent[0], "Audit-Id")
        assert audited.received == []

    def test_or_served_and_audited_by_its_path(self) -> None:
        audited = Audited(answers())

        audited.ask(http("/api/v1/watch"))

        assert audited.events[1]["verb"] == "get"
        assert audited.events[1]["requestURI"] == "/api/v1/watch"
        assert "objectRef" not in audited.events[1]

    @pytest.mark.parametrize("as_kubernetes", [True, False])
    def test_a_malformed_target_never_gets_to_the_application(
        self,
        as_kubernetes: bool,  # noqa: FBT001
    ) -> None:
        audited = Audited(failing(AssertionError()), answers_as_kubernetes=as_kubernetes)

        sent = audited.ask(http("/%zz"))

        assert (sent[0]["status"], sent[1]["body"]) == (400, b"400 Bad Request")
        assert audited.received == []


class TestBlockingStrict:
    def test_a_request_whose_first_event_is_not_stored_is_not_served(self) -> None:
        audited = Audited(failing(AssertionError()), backend=CollectingBackend(answer=False))

        sent = audited.ask(http(f"{POD}?a=<b>"))

        assert sent[0]["status"] == 500
        assert header(sent[0], "Audit-Id") == [audited.received[0].audit_id]
        assert header(sent[0], "Content-Length") == [str(len(sent[1]["body"]))]
        assert sent[1]["body"] == (
            f'Internal Server Error: "{POD}?a=&lt;b&gt;": failed to store audit event\n'.encode()
        )
        assert audited.stages == [(RECEIVED, 0)]
        assert audited.pipeline.metrics.sums(audited.pipeline.metrics.rejected)[()] == 1

    def test_a_websocket_is_refused_by_an_answer(self) -> None:
        audited = Audited(failing(AssertionError()), backend=CollectingBackend(answer=False))

        sent = audited.ask(
            websocket(extensions={"websocket.http.response": {}}), {"type": "websocket.connect"}
        )

        assert [message["type"] for message in sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert sent[0]["status"] == 500

    def test_or_closed(self) -> None:
        audited = Audited(failing(AssertionError()), backend=CollectingBackend(answer=False))

        sent = audited.ask(websocket(), {"type": "websocket.connect"})

        assert [message["type"] for message in sent] == ["websocket.close"]
        assert audited.stages == [(RECEIVED, 0)]
