"""An application that does what its path says, audited into ``audit.log``; for a real server."""

from kubewitness.capture import AuditMiddleware
from kubewitness.capture.asgi_scope import Receive, Scope, Send
from kubewitness.options import AuditOptions, build_pipeline

FORBIDDEN = (
    b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
    b'"message":"not you","reason":"Forbidden","code":403}'
)
_JSON = [(b"content-type", b"application/json")]


async def _echo_socket(receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def _socket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    if scope["path"] == "/close":
        await send({"type": "websocket.close", "code": 1000})
    elif scope["path"] == "/deny":
        start = {"status": 403, "headers": _JSON}
        await send({"type": "websocket.http.response.start", **start})
        await send({"type": "websocket.http.response.body", "body": FORBIDDEN})
    elif scope["path"] == "/fail":
        raise ValueError("kaboom")
    else:
        await _echo_socket(receive, send)


async def _http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/fail":
        raise ValueError("kaboom")
    more = scope["path"] != "/early"
    size = 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": _JSON})
    if scope["path"] == "/download":
        for _ in range(1024):
            await send({"type": "http.response.body", "body": b"y" * 65536, "more_body": True})
    await send({"type": "http.response.body", "body": b'{"size":%d}' % size})


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await _socket(scope, receive, send)
    elif scope["type"] == "http":
        await _http(scope, receive, send)
    else:
        raise NotImplementedError


app = AuditMiddleware(
    _application,
    build_pipeline(
        AuditOptions.from_arguments(
            ["--audit-policy-file=policy.yaml", "--audit-log-path=audit.log"]
        )
    ),
)
