"""Connections that become something else: bytes both ways, and the end of either side."""

import asyncio
import contextlib
import hashlib
import json
import select
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from clocks import SOON, until
from kubewitness.capture.proxy.connector import Connector
from kubewitness.event import Event, Stage
from kubewitness.testing.behaviours import PATTERN
from proxies import RunningProxy
from wires import ABORTED, Message, Wire, client, last, request, scripted, served, stages

LARGE = 32 << 20
POD = "/api/v1/namespaces/default/pods/p"
EXEC = f"{POD}/exec?command=ls&stdin=true&stdout=true"
CREATED = json.dumps({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}}).encode()
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"


@pytest.fixture(name="running")
def _running(tmp_path: Path) -> Iterator[RunningProxy]:
    with served(tmp_path) as running:
        yield running


def with_pod(running: RunningProxy) -> None:
    with client(running) as wire:
        target = POD.removesuffix("/p")
        created = wire.ask(target, "POST", CREATED, Content_Type="application/json")
        assert created.status == 201
        assert len(running.events(2)) == 2


def upgrade(target: str, protocol: str, method: str = "GET", body: bytes = b"") -> bytes:
    return request(target, method, body, Connection="Upgrade", Upgrade=protocol)


def opened(wire: Wire, target: str = "/fake/tunnel") -> Message:
    wire.send(upgrade(target, "fake-tunnel"))
    head = wire.head()
    assert head.status == 101, head
    return head


def ended(running: RunningProxy, count: int = 2, *, first: int = 0) -> Event:
    """Return the last event of a tunnel, and check that all are there."""
    seen = stages(running, first + count)[first:]
    assert seen == [each for each in list(Stage)[:3] if count == 3 or each != "ResponseStarted"]
    running.server.until(lambda: running.server.open_connections == 0)
    return running.backend.received[-1]


async def talk(running: RunningProxy) -> list[bytes]:
    """Exec over a websocket, as a browser would."""
    url = running.url.replace("https:", "wss:") + EXEC
    messages = []
    async with (
        aiohttp.ClientSession(connector=Connector()) as session,
        session.ws_connect(
            url, ssl=running.client_context(), protocols=["v5.channel.k8s.io"]
        ) as socket,
    ):
        assert socket.protocol == "v5.channel.k8s.io"
        await socket.send_bytes(b"\0hello")
        messages.append((await socket.receive(SOON)).data)
        await socket.send_bytes(b"\xff\0")
        async for message in socket:
            messages.append(message.data)  # noqa: PERF401  # there is no extend for those
        assert socket.close_code == 1000
    return messages


def test_a_session_over_websocket(running: RunningProxy) -> None:
    with_pod(running)

    output, result = asyncio.run(talk(running))

    assert output == b"\1hello"
    assert json.loads(result[1:])["status"] == "Success"
    event = ended(running, 3, first=2)
    assert event.response_status is not None
    assert event.response_status.code == 101
    assert event.annotations == {}
    assert event.object_ref is not None
    assert event.object_ref.subresource == "exec"


def test_a_session_over_spdy_passes_every_byte(tmp_path: Path) -> None:
    def script(wire: Wire) -> None:
        head = wire.request()
        assert head.header("Upgrade") == ["SPDY/3.1"]
        assert [each.lower() for each in head.header("Connection")] == ["upgrade"]
        assert head.header("X-Stream-Protocol-Version") == ["v5", "v4"]
        wire.send(SWITCHING)
        while data := wire.socket.recv(1 << 16):
            wire.send(data)

    with scripted(tmp_path, script) as running, client(running) as wire:
        head = b"POST %b HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        lines = b"X-Stream-Protocol-Version: v5\r\nX-Stream-Protocol-Version: v4\r\n"
        wire.send(head % EXEC.encode(), lines, b"Content-Length: 0\r\n\r\n")
        answer = wire.head()
        wire.send(bytes(range(256)))

        assert answer.start == "HTTP/1.1 101 Switching Protocols"
        assert answer.header("Upgrade") == ["SPDY/3.1"]
        assert wire.exactly(256) == bytes(range(256))


@pytest.mark.parametrize("protocol", ["SPDY/3.1", "websocket", "fake-tunnel"])
@pytest.mark.parametrize("cut", [None, 10, -1])
def test_bytes_in_the_packets_of_both_heads_arrive(
    tmp_path: Path, protocol: str, cut: int | None
) -> None:
    early = b"GET / HTTP/1.1\r\n\r\nearly"

    def script(wire: Wire) -> None:
        wire.request()
        wire.send(SWITCHING.replace(b"SPDY/3.1", protocol.encode()), b"\0\xff with the head")
        assert wire.exactly(len(early)) == early
        wire.send(b"got it")

    with scripted(tmp_path, script) as running, client(running) as wire:
        head = request(EXEC, Connection="Upgrade", Upgrade=protocol, Sec_WebSocket_Key="a" * 24)
        wire.send(head[: cut or 0])
        wire.send(head[cut or 0 :] + early)

        assert wire.head().status == 101
        assert wire.to_end() == b"\0\xff with the headgot it"


def both_ways(wire: Wire, data: bytes) -> bytes:
    """Send and receive at once, in one thread, as two must not use one connection of TLS."""
    left, came = memoryview(data), bytearray()
    wire.socket.setblocking(False)  # noqa: FBT003  # socket's own
    while len(came) < len(data):
        select.select([wire.socket], [wire.socket] if left else [], [], SOON)
        with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
            left = left[wire.socket.send(left[: 1 << 16]) :] if left else left
        with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
            while piece := wire.socket.recv(1 << 20):
                came += piece
    return bytes(came)


def test_large_transfers_pass_both_ways_at_once(running: RunningProxy) -> None:
    sent = PATTERN * (LARGE // len(PATTERN))
    with client(running) as wire:
        opened(wire)
        came = both_ways(wire, sent)

    assert hashlib.sha256(came).digest() == hashlib.sha256(sent).digest()
    ended(running)


def stuck(wire: Wire) -> int:
    """Send until nobody takes anything for a while; return how much was taken."""
    taken = 0
    wire.socket.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while taken < LARGE:
            taken += wire.socket.send(PATTERN)
    wire.socket.settimeout(SOON)
    return taken


def test_an_end_that_does_not_read_stops_the_other(tmp_path: Path) -> None:
    taken: list[int] = []
    came: list[int] = []
    goes_on = threading.Event()

    def script(wire: Wire) -> None:
        wire.request()
        wire.send(SWITCHING)
        taken.append(stuck(wire))
        goes_on.wait(SOON)
        came.append(len(wire.exactly(taken[1])))

    with scripted(tmp_path, script) as running, client(running) as wire:
        wire.send(upgrade("/tunnel", "SPDY/3.1"))
        assert wire.head().status == 101
        while not taken:
            goes_on.wait(0.01)
        taken.append(stuck(wire))
        goes_on.set()
        assert len(wire.exactly(taken[0])) == taken[0]
        until(lambda: bool(came))

        assert came == taken[1:]
        assert max(taken) < LARGE // 2


def test_what_the_server_sent_before_it_closed_arrives(running: RunningProxy) -> None:
    with client(running) as wire:
        opened(wire, "/fake/tunnel?close=first")
        rest = wire.to_end()

    assert rest == b"bye\n"
    event = ended(running)
    assert event.response_status is not None
    assert event.response_status.code == 101


def test_much_that_the_server_sent_before_it_closed_arrives(tmp_path: Path) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.send(SWITCHING, PATTERN * 64)

    with scripted(tmp_path, script) as running, client(running) as wire:
        wire.send(upgrade("/tunnel", "SPDY/3.1"))
        assert wire.head().status == 101
        assert wire.to_end() == PATTERN * 64
        assert last(running).stage is Stage.RESPONSE_COMPLETE


def closing(wire: Wire) -> None:
    wire.socket.close()


def unwrapping(wire: Wire) -> None:
    with contextlib.suppress(OSError):
        wire.socket.unwrap()  # type: ignore[attr-defined]


@pytest.mark.parametrize("end", [closing, unwrapping, Wire.reset])
def test_a_client_that_ends_a_tunnel_ends_it_for_the_server(
    running: RunningProxy, end: Callable[[Wire], None]
) -> None:
    with client(running) as wire:
        opened(wire)
        wire.send(b"hello")
        assert wire.exactly(5) == b"hello"
        end(wire)

        event = ended(running)
        assert event.response_status is not None
        assert event.response_status.code == 101


def test_what_the_client_sent_before_it_closed_arrives(tmp_path: Path) -> None:
    arrived: list[bytes] = []

    def script(wire: Wire) -> None:
        wire.request()
        wire.send(SWITCHING)
        arrived.append(wire.to_end())

    with scripted(tmp_path, script) as running:
        with client(running) as wire:
            wire.send(upgrade("/tunnel", "SPDY/3.1"))
            assert wire.head().status == 101
            wire.send(PATTERN * 8)
            unwrapping(wire)
        last(running)
        until(lambda: bool(arrived))
    assert arrived == [PATTERN * 8]


def test_a_server_that_resets_a_tunnel_ends_it(tmp_path: Path) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.send(SWITCHING)
        wire.exactly(1)
        wire.reset()

    with scripted(tmp_path, script) as running, client(running) as wire:
        wire.send(upgrade(EXEC, "SPDY/3.1", "POST"))
        assert wire.head().status == 101
        wire.send(b"x")
        assert wire.to_end() == b""
        assert last(running, 3).stage is Stage.RESPONSE_COMPLETE


def test_a_server_that_ends_only_its_own_half_ends_both(tmp_path: Path) -> None:
    over: list[bytes] = []

    def script(wire: Wire) -> None:
        wire.request()
        wire.send(SWITCHING, b"last words")
        wire.socket.shutdown(1)
        over.append(wire.to_end())

    with scripted(tmp_path, script) as running, client(running) as wire:
        wire.send(upgrade("/tunnel", "SPDY/3.1"))
        assert wire.head().status == 101
        assert wire.to_end() == b"last words"
        last(running)
    assert over == [b""]


@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1"])
def test_a_refused_upgrade_is_an_ordinary_answer(running: RunningProxy, protocol: str) -> None:
    with client(running) as wire:
        wire.send(upgrade(EXEC, protocol))
        refused = wire.answer()
        again = wire.ask("/fake/echo")

    assert refused.status == 404
    assert refused.json()["details"]["name"] == "p"
    assert again.status == 200
    started = running.backend.received[1]
    assert started.stage is Stage.RESPONSE_STARTED
    assert started.response_status is not None
    assert (started.response_status.code, started.response_status.reason) == (404, "NotFound")
    assert ABORTED not in started.annotations


def test_requests_after_a_refused_upgrade_may_come_with_it(running: RunningProxy) -> None:
    with client(running) as wire:
        wire.send(upgrade("/fake/status/403", "SPDY/3.1"), request("/fake/echo?n=1"))
        codes = [wire.answer().status, wire.answer().status]

    assert codes == [403, 200]


def test_an_upgrade_that_the_server_ignores_is_an_ordinary_answer(running: RunningProxy) -> None:
    with client(running) as wire:
        wire.send(upgrade("/fake/echo", "h2c", "POST", b"a body"))
        assert wire.answer().json()["body"] == "a body"
        assert wire.ask("/fake/echo").status == 200


def test_a_tunnel_has_no_time_limit(tmp_path: Path) -> None:
    with served(tmp_path, request_timeout=0.2) as running:
        with_pod(running)
        target = f"{POD}/portforward?fake=tunnel"
        with client(running) as wire, client(running) as other:
            opened(wire, target)
            assert other.ask("/fake/slow").status == 504
            wire.send(b"still there")
            assert wire.exactly(11) == b"still there"


def test_a_server_that_leaves_in_the_middle_of_the_upgrade_is_a_502(tmp_path: Path) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SP")

    with scripted(tmp_path, script) as running, client(running) as wire:
        wire.send(upgrade(EXEC, "SPDY/3.1"))
        answer = wire.answer()

        assert answer.status == 502
        event = last(running, 3)
        assert event.response_status is not None
        assert event.response_status.code == 502


@pytest.mark.parametrize("asked", ["", "websocket"])
def test_a_change_of_protocol_that_nobody_asked_for_is_no_tunnel(
    tmp_path: Path, asked: str
) -> None:
    smuggled: list[bytes] = []

    def script(wire: Wire) -> None:
        wire.request()
        wire.send(SWITCHING)
        smuggled.append(wire.to_end())

    with scripted(tmp_path, script) as running, client(running) as wire:
        wire.send(upgrade("/tunnel", asked) if asked else request("/version"))
        assert wire.answer().status == 502
        wire.send(b"DELETE /api/v1/nodes HTTP/1.1\r\n\r\n")
        until(lambda: bool(smuggled))
    assert smuggled == [b""]
