"""Plays the server for an ASGI application: gives it one request, and keeps what it sends."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

from clocks import HandClock
from collecting import CollectingBackend
from kubewitness.backends import Backend
from kubewitness.backends.pipeline import Pipeline
from kubewitness.capture.asgi import AuditMiddleware
from kubewitness.capture.asgi_scope import Application, Message, Receive, Scope, Send
from kubewitness.codec import encode
from kubewitness.event import Event, UserInfo
from kubewitness.metrics import AuditMetrics
from kubewitness.policy import load_policy

HEADER = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
POD = "/api/v1/namespaces/ns1/pods/p1"
PODS = "/api/v1/namespaces/ns1/pods"
WATCH = f"{PODS}?watch=1"


def rules(level: str) -> str:
    """Return a policy with one level for all requests."""
    return f"{HEADER}rules:\n- level: {level}\n"


def pipeline_to(backend: Backend | None, policy: str = rules("Metadata")) -> Pipeline:
    """Return a pipeline to a backend; with the policy ``""`` it has none."""
    return Pipeline(
        load_policy(policy.encode()) if policy else None,
        backend,
        metrics=AuditMetrics(),
        clock=HandClock(),
        shutdown_timeout=1,
    )


class Audited:
    """An application in the middleware, and the events that come of it."""

    def __init__(
        self,
        app: Application,
        policy: str = rules("Metadata"),
        *,
        backend: CollectingBackend | None = None,
        **settings: Any,
    ) -> None:
        self.backend = backend or CollectingBackend()
        self.pipeline = pipeline_to(self.backend, policy)
        self.app = AuditMiddleware(app, self.pipeline, **settings)

    def ask(self, scope: Scope, *messages: Message) -> list[Message]:
        return ask(self.app, scope, *messages)

    @property
    def received(self) -> list[Event]:
        return self.backend.received

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(encode(event)) for event in self.backend.received]

    @property
    def stages(self) -> list[tuple[str, int]]:
        """Return the stage and code of each event."""
        return [
            (event["stage"], event.get("responseStatus", {}).get("code", 0))
            for event in self.events
        ]


def http(
    target: str = POD,
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    **more: Any,
) -> Scope:
    """Return the scope of a request, as uvicorn makes it."""
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": query.encode("utf-8", "surrogateescape"),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 80),
        **more,
    }


def websocket(target: str = "/ws", **more: Any) -> Scope:
    scope = http(target, **more)
    del scope["method"]
    return {**scope, "type": "websocket", "scheme": "ws", "subprotocols": []}


def body(*chunks: bytes, is_whole: bool = True) -> list[Message]:
    """Return a request body in chunks, as a server hands it on."""
    parts = chunks or (b"",)
    return [
        {
            "type": "http.request",
            "body": chunk,
            "more_body": not is_whole or index < len(parts) - 1,
        }
        for index, chunk in enumerate(parts)
    ]


DISCONNECT: Message = {"type": "http.disconnect"}


async def serve(app: Application, scope: Scope, messages: Sequence[Message]) -> list[Message]:
    """Have a request served, and return what was sent. The client stays to the end."""
    waiting, sent = list(messages), list[Message]()

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def ask(app: Application, scope: Scope, *messages: Message) -> list[Message]:
    """Have a request served; without messages it has no body."""
    return asyncio.run(serve(app, scope, messages or body()))


def start(status: int = 200, content_type: str = "", *, socket: bool = False) -> Message:
    """Return the start of an answer."""
    headers = [(b"content-type", content_type.encode())] if content_type else []
    prefix = "websocket.http.response" if socket else "http.response"
    return {"type": f"{prefix}.start", "status": status, "headers": headers}


def part(data: bytes = b"", *, more: bool = False, socket: bool = False) -> Message:
    """Return a part of an answer's body; the last one unless there is more."""
    prefix = "websocket.http.response" if socket else "http.response"
    return {"type": f"{prefix}.body", "body": data, "more_body": more}


def sends(*messages: Message) -> Application:
    """Return an application that reads the request to its end, and sends these messages."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        for message in messages:
            await send(message)

    return app


def answers(status: int = 200, data: bytes = b"", content_type: str = "") -> Application:
    """Return an application that reads the request, and answers at once."""
    return sends(start(status, content_type), part(data))


async def read(receive: Receive) -> bytes:
    """Return a request's body; of a WebSocket, take the wish to connect."""
    data = b""
    while True:
        message = await receive()
        data += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return data


def header(message: Message, name: str) -> list[str]:
    """Return the values of a header of an answer."""
    wanted = name.lower().encode()
    return [value.decode() for key, value in message["headers"] if key.lower() == wanted]


FORBIDDEN = (
    b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
    b'"message":"no","reason":"Forbidden","code":403}'
)
RECEIVED, STARTED, COMPLETE = "RequestReceived", "ResponseStarted", "ResponseComplete"
ABORTED = "kubewitness.io/aborted"


def nobody(_scope: Scope) -> UserInfo | None:
    return None


def failing(error: BaseException, *first: Message) -> Application:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        for message in first:
            await send(message)
        raise error

    return app


async def run_with(app: Application, scope: Scope, send: Send) -> None:
    async def receive() -> Message:
        return body()[0]

    await app(scope, receive, send)
