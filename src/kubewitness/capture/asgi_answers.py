"""Answers that the middleware gives instead of the application, as ASGI messages.

Source: audit specification sections 4, 5.2, 5.7 and 5.10.
"""

from collections.abc import Iterable

from kubewitness.capture.asgi_scope import Call, Message, Send
from kubewitness.recorder import Answer

AUDIT_ID = b"audit-id"
STARTS = frozenset(("http.response.start", "websocket.http.response.start"))
BODIES = frozenset(("http.response.body", "websocket.http.response.body"))
ACCEPT, CLOSE = "websocket.accept", "websocket.close"
DENIAL = "websocket.http.response"
"""The extension by which a server lets a WebSocket be refused with an answer."""

_WITH_HEADERS = STARTS | {ACCEPT}
_SERVER_ERROR = 1011


def identified(send: Send, audit_id: str) -> Send:
    """Return a `send` that puts the audit's id into the answer, unless it has one already."""
    line = (AUDIT_ID, audit_id.encode("utf-8", "surrogateescape"))

    async def send_with_id(message: Message) -> None:
        if message["type"] in _WITH_HEADERS:
            message = listed(message)
            headers = message.get("headers") or ()
            if not _has_id(headers):
                message = {**message, "headers": [line, *headers]}
        await send(message)

    return send_with_id


def listed(message: Message) -> Message:
    """Return a message whose headers may be read more than once; ASGI lets them be an iterator."""
    headers = message.get("headers")
    if headers is None or isinstance(headers, (list, tuple)):
        return message
    return {**message, "headers": list(headers)}


def _has_id(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    for name, _ in headers:  # noqa: SIM110 - twice as fast as `any`, for every answer
        if len(name) == len(AUDIT_ID) and name.lower() == AUDIT_ID:
            return True
    return False


async def send_answer(call: Call, answer: Answer) -> None:
    """Give an answer instead of the application.

    A WebSocket whose server cannot refuse with an answer is closed, which the client sees as 403.
    """
    prefix = "http.response"
    if call.scope["type"] == "websocket":
        await call.receive()  # websocket.connect
        if DENIAL not in (call.scope.get("extensions") or ()):
            await call.send({"type": CLOSE, "code": _SERVER_ERROR, "reason": ""})
            return
        prefix = DENIAL
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    await call.send({"type": f"{prefix}.start", "status": answer.status, "headers": headers})
    await call.send({"type": f"{prefix}.body", "body": answer.body})
