"""Bodies pass as they come, whatever is recorded of them."""

import asyncio
import hashlib
import json
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from asgi_driver import WATCH, Audited, ask, body, http, part, rules, start
from kubewitness.capture.asgi_scope import Application, Message, Receive, Scope, Send

CHUNK = 64 * 1024
COUNT = 1024
MEGABYTE = 1024 * 1024


def chunk(number: int) -> bytes:
    return number.to_bytes(4) * (CHUNK // 4)


def digest() -> str:
    found = hashlib.sha256()
    for number in range(COUNT):
        found.update(chunk(number))
    return found.hexdigest()


class Stream:
    """64 MB in both directions, made as they are asked for, and forgotten once they passed."""

    def __init__(self) -> None:
        self.up, self.down = hashlib.sha256(), hashlib.sha256()
        self.in_flight = self._given = 0

    async def receive(self) -> Message:
        number, self._given = self._given, self._given + 1
        return {"type": "http.request", "body": chunk(number), "more_body": number < COUNT - 1}

    async def send(self, message: Message) -> None:
        assert self.in_flight == 1  # the application waits for each
        self.down.update(message.get("body", b""))

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            self.up.update(message["body"])
            more = message["more_body"]
        await self._send(send, start(200, "application/json"))
        for number in range(COUNT):
            await self._send(send, part(chunk(number), more=number < COUNT - 1))

    async def _send(self, send: Send, message: Message) -> None:
        self.in_flight += 1
        await send(message)
        self.in_flight -= 1


def test_64_megabytes_pass_in_the_memory_of_what_is_kept() -> None:
    stream = Stream()
    audited = Audited(stream, rules("RequestResponse"), max_body=MEGABYTE)
    scope = http("/upload", method="PUT", headers=[("Content-Type", "application/json")])

    tracemalloc.start()
    try:
        asyncio.run(run(audited.app, scope, stream))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 24 * MEGABYTE  # two bodies of 1 MB, and each as a JSON string of six times that
    assert stream.up.hexdigest() == stream.down.hexdigest() == digest()
    last = audited.events[-1]
    assert last["requestObject"].startswith("\0\0\0\0")
    assert len(last["responseObject"]) == MEGABYTE
    assert last["annotations"]["kubewitness.io/truncated"].count("the first 1048576 bytes") == 2


async def run(app: Application, scope: Scope, stream: Stream) -> None:
    await app(scope, stream.receive, stream.send)


def test_what_is_not_recorded_is_not_kept() -> None:
    stream = Stream()
    audited = Audited(stream)
    scope = http("/upload", method="PUT", headers=[("Content-Type", "application/json")])

    tracemalloc.start()
    try:
        asyncio.run(run(audited.app, scope, stream))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < MEGABYTE
    assert stream.down.hexdigest() == digest()


CHUNKS = st.lists(
    st.one_of(st.binary(max_size=12), st.sampled_from([b"", b'{"kind":"Pod"', b"}", "ä".encode()])),
    min_size=1,
    max_size=6,
)
TYPES = st.sampled_from(["application/json", "text/plain", "application/yaml", ""])


class Echo:
    """Keeps what it got, and sends what it is told to."""

    def __init__(self, status: int, content_type: str, chunks: list[bytes]) -> None:
        self.messages = [
            start(status, content_type),
            *(part(each, more=index < len(chunks)) for index, each in enumerate(chunks, 1)),
        ]
        self.received: list[Message] = []

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            self.received.append(await receive())
            more = self.received[-1]["more_body"]
        for message in self.messages:
            await send(message)


@given(
    bodies=st.tuples(CHUNKS, CHUNKS),
    content_type=TYPES,
    status=st.sampled_from([200, 201, 403, 500]),
    level=st.sampled_from(["None", "Metadata", "Request", "RequestResponse"]),
    target=st.sampled_from(["/things", WATCH, "/api/v1/namespaces/a/pods"]),
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    max_body=st.sampled_from([0, 1, 7, 20, 1000]),
    is_known=st.booleans(),
)
def test_application_and_client_see_the_same_as_without(
    bodies: tuple[list[bytes], list[bytes]],
    content_type: str,
    status: int,
    level: str,
    target: str,
    method: str,
    max_body: int,
    is_known: bool,  # noqa: FBT001
) -> None:
    up, down = bodies

    def scope() -> Scope:
        return http(target, method=method, headers=[("Content-Type", content_type)])

    settings: dict[str, Any] = {
        "max_body": max_body,
        "new_audit_id": lambda: "id",
        "now": lambda: 1_790_000_000_000_000_000,
    }
    if not is_known:
        settings["user"] = lambda _scope: None

    bare, echo = Echo(status, content_type, down), Echo(status, content_type, down)
    whole = Echo(status, content_type, [b"".join(down)])
    audited = Audited(echo, rules(level), **settings)
    in_one = Audited(whole, rules(level), **settings)

    without = ask(bare, scope(), *body(*up))
    sent = audited.ask(scope(), *body(*up))
    in_one.ask(scope(), *body(b"".join(up)))

    assert echo.received == bare.received
    assert sent[0]["headers"].pop(0) == (b"audit-id", b"id")
    assert sent == without
    assert audited.events == in_one.events
    assert len({json.dumps(event) for event in audited.events}) == len(audited.events)
