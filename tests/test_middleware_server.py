"""The middleware in a real server: WebSockets, streams, clients that leave, exceptions."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from asgi_driver import rules
from asgi_server import Server, serving
from clocks import SOON
from kubewitness.recorder import MAX_BODY

HERE = Path(__file__).parent
RECEIVED, STARTED, COMPLETE = "RequestReceived", "ResponseStarted", "ResponseComplete"
MEGABYTE = 1024 * 1024


@contextmanager
def running(place: Path, *, implementation: str = "websockets-sansio") -> Iterator[Server]:
    (place / "policy.yaml").write_text(rules("RequestResponse"))
    with serving("asgi_apps", HERE, place, f"--ws={implementation}") as server:
        yield server


def stages(server: Server) -> list[tuple[str, int]]:
    return [
        (event["stage"], event.get("responseStatus", {}).get("code", 0)) for event in server.events
    ]


@pytest.mark.parametrize("implementation", ["websockets-sansio", "wsproto"])
def test_a_websocket_is_long_running(tmp_path: Path, implementation: str) -> None:
    seen: list[str] = []

    async def talk(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect(server.url("/echo?a=b")) as websocket:
            seen.append(websocket._response.headers["Audit-Id"])
            for text in ("one", "two"):
                await websocket.send_str(text)
                assert await websocket.receive_str() == text
            assert len(server.events) == 2

    with running(tmp_path, implementation=implementation) as server:
        server.run(talk)

    assert stages(server) == [(RECEIVED, 0), (STARTED, 101), (COMPLETE, 101)]
    assert {event["auditID"] for event in server.events} == {*seen}
    assert {(event["verb"], event["requestURI"]) for event in server.events} == {
        ("get", "/echo?a=b")
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/close", [(RECEIVED, 0), (STARTED, 403), (COMPLETE, 403)]),
        ("/deny", [(RECEIVED, 0), (STARTED, 403), (COMPLETE, 403)]),
        ("/fail", [(RECEIVED, 0), ("Panic", 500)]),
    ],
)
def test_a_websocket_that_is_refused(
    tmp_path: Path, path: str, expected: list[tuple[str, int]]
) -> None:
    async def connect(session: aiohttp.ClientSession) -> int:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(server.url(path))
        return caught.value.status

    with running(tmp_path) as server:
        server.may_fail = path == "/fail"
        assert server.run(connect) == expected[-1][1]

    assert stages(server) == expected
    if path == "/deny":
        assert server.events[1]["responseStatus"]["message"] == "not you"
        assert server.events[1]["responseObject"]["code"] == 403


def test_an_exception_is_a_panic(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.may_fail = True
        assert server.ask("/fail")[0] == 500

    assert stages(server) == [(RECEIVED, 0), ("Panic", 500)]
    assert server.events[1]["responseStatus"]["message"] == "APIServer panic'd: kaboom"


def test_64_megabytes_each_way(tmp_path: Path) -> None:
    async def upload() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * MEGABYTE

    async def both(session: aiohttp.ClientSession) -> tuple[str, int]:
        async with session.put(server.url("/upload"), data=upload()) as response:
            text = await response.text()
        received = 0
        async with session.get(server.url("/download")) as response:
            async for chunk in response.content.iter_any():
                received += len(chunk)
        return text, received

    with running(tmp_path) as server:
        assert server.run(both) == ('{"size":67108864}', 64 * MEGABYTE + len('{"size":0}'))

    assert stages(server) == [(RECEIVED, 0), (COMPLETE, 200)] * 2
    assert server.events[1]["requestObject"] == "x" * MAX_BODY
    assert server.events[3]["responseObject"] == "y" * MAX_BODY
    assert f"first {MAX_BODY} bytes" in server.events[3]["annotations"]["kubewitness.io/truncated"]


def test_a_client_that_leaves_in_the_middle_of_its_body(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port), SOON) as client:
            client.sendall(b"PUT /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        server.ask("/")

    left = [event for event in server.events if event["verb"] == "put"]
    assert [event["stage"] for event in left] == [RECEIVED, COMPLETE]
    assert left[1]["responseStatus"]["message"] == "Connection closed early"
    assert left[1]["annotations"]["kubewitness.io/aborted"] == "the client disconnected"


def test_an_answer_before_the_body(tmp_path: Path) -> None:
    async def ask(session: aiohttp.ClientSession) -> int:
        async with session.put(server.url("/early"), data=b'{"a":1}') as response:
            return response.status

    with running(tmp_path) as server:
        assert server.run(ask) == 200

    assert stages(server) == [(RECEIVED, 0), (COMPLETE, 200)]
    assert "requestObject" not in server.events[1]


def test_several_answers_on_one_connection_are_several_requests(tmp_path: Path) -> None:
    async def ask(session: aiohttp.ClientSession) -> list[str]:
        found = []
        for number in range(5):
            async with session.get(server.url(f"/{number}")) as response:
                await response.read()
                found.append(response.headers["Audit-Id"])
        return found

    with running(tmp_path) as server:
        ids = server.run(ask)

    assert [event["auditID"] for event in server.events[1::2]] == ids
    assert len(set(ids)) == 5
