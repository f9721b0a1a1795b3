"""When the pipeline runs and ends."""

import asyncio
from collections.abc import Sequence

import pytest

from asgi_driver import Audited, answers, http
from collecting import CollectingBackend
from kubewitness.capture.asgi_scope import Application, Message, Receive, Scope, Send

STARTUP: Message = {"type": "lifespan.startup"}
SHUTDOWN: Message = {"type": "lifespan.shutdown"}
STARTED: Message = {"type": "lifespan.startup.complete"}
ENDED: Message = {"type": "lifespan.shutdown.complete"}


class Order(CollectingBackend):
    """Notes, among its calls, what the application did."""

    def app(self, *answers_: Message) -> Application:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "lifespan":
                await answers()(scope, receive, send)
                return
            for answer in answers_:
                self.calls.append((await receive())["type"])
                await send(answer)

        return app


class Broken(CollectingBackend):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def run(self) -> None:
        super().run()
        raise self._error


def live(app: Application, *messages: Message) -> list[Message]:
    waiting, sent = list(messages), list[Message]()

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(run(app, receive, send))
    return sent


async def run(app: Application, receive: Receive, send: Send) -> None:
    await app({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)


def test_it_runs_before_the_application_and_ends_after() -> None:
    backend = Order()
    audited = Audited(backend.app(STARTED, ENDED), backend=backend)

    assert live(audited.app, STARTUP, SHUTDOWN) == [STARTED, ENDED]

    assert backend.calls == ["run", "lifespan.startup", "lifespan.shutdown", "shutdown"]


@pytest.mark.parametrize(
    "answers_",
    [
        [{"type": "lifespan.startup.failed", "message": "x"}],
        [STARTED, {"type": "lifespan.shutdown.failed", "message": "x"}],
    ],
)
def test_it_ends_where_the_application_fails(answers_: Sequence[Message]) -> None:
    backend = Order()
    audited = Audited(backend.app(*answers_), backend=backend)

    assert live(audited.app, STARTUP, SHUTDOWN) == answers_

    assert backend.calls[-1] == "shutdown"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError("no thread left"), "no thread left"),
        (ExceptionGroup("failed", [OSError("one"), OSError("two")]), "one; two"),
    ],
)
def test_without_it_there_is_no_application(error: Exception, sentence: str) -> None:
    backend = Broken(error)

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError

    audited = Audited(app, backend=backend)

    assert live(audited.app, STARTUP) == [
        {
            "type": "lifespan.startup.failed",
            "message": f"the audit pipeline did not start: {sentence}",
        }
    ]
    for _ in range(2):
        with pytest.raises(type(error)):
            audited.ask(http())
    assert backend.calls == ["run"]


def test_an_application_without_lifespan_says_so_itself() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise ValueError("only HTTP here")
        await answers()(scope, receive, send)

    audited = Audited(app)
    with pytest.raises(ValueError, match="only HTTP here"):
        live(audited.app, STARTUP)
    audited.ask(http())

    assert audited.backend.calls == ["run", "process_events", "process_events"]


def test_a_server_without_lifespan_has_it_run_at_the_first_request() -> None:
    audited = Audited(answers())
    assert audited.backend.calls == []

    audited.ask(http())
    audited.ask(http())

    assert audited.backend.calls.count("run") == 1
    assert audited.backend.calls[0] == "run"


def test_somebody_elses_pipeline_is_left_alone() -> None:
    backend = Order()
    audited = Audited(backend.app(STARTED, ENDED), backend=backend, owns_pipeline=False)

    live(audited.app, STARTUP, SHUTDOWN)
    audited.ask(http())

    assert "run" not in backend.calls
    assert "shutdown" not in backend.calls


def test_other_scopes_are_the_applications() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    audited = Audited(app)
    audited.ask({"type": "webtransport"})

    assert seen == ["webtransport"]
    assert audited.received == []
