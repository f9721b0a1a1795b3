"""Sessions in pods of the fake API server: WebSocket with aiohttp, SPDY with hand-made frames."""

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing

import aiohttp
import pytest

from kubewitness.testing import FakeAPIServer
from kubewitness.testing.spdy import DICTIONARY
from test_testing_api import PODS, create
from test_testing_server import ask, dialled, sent

EXEC = f"{PODS}/web/exec?command=echo&command=a+b&stdout=true&stderr=true"
SPDY = ("Connection: Upgrade", "Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io")
SUCCESS = {"metadata": {}, "status": "Success"}


@pytest.fixture
def server() -> Iterator[FakeAPIServer]:
    with FakeAPIServer(tls=False) as running:
        create(running, "web", PODS)
        yield running


async def talked(
    server: FakeAPIServer, target: str, *protocols: str, say: tuple[bytes, ...] = ()
) -> list[bytes]:
    """Return the messages of a session in which these are sent."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(server.url + target, protocols=protocols) as connection,
    ):
        assert connection.protocol == protocols[0]
        for message in say:
            await connection.send_bytes(message)
        return [bytes(message.data) async for message in connection]


def test_exec_over_websocket_prints_its_command_line(server: FakeAPIServer) -> None:
    output, result = asyncio.run(talked(server, EXEC, "v5.channel.k8s.io"))

    assert output == b"\x01echo a b\n"
    assert (result[:1], json.loads(result[1:])) == (b"\x03", SUCCESS)


def test_exec_over_websocket_gives_back_stdin(server: FakeAPIServer) -> None:
    long = b"x" * 70000
    say = (b"\x00abc", b"\x04{}", b"\x00" + long, b"\xff\x00")

    first, second, _ = asyncio.run(
        talked(server, f"{EXEC}&stdin=true", "v5.channel.k8s.io", "v4.channel.k8s.io", say=say)
    )

    assert (first, second) == (b"\x01abc", b"\x01" + long)


def test_attach_works_in_v4_too(server: FakeAPIServer) -> None:
    target = f"{PODS}/web/attach?stdout=true"
    output, _ = asyncio.run(talked(server, target, "v4.channel.k8s.io"))
    assert output == b"\x01attached\n"


def test_a_session_wants_a_known_protocol(server: FakeAPIServer) -> None:
    assert ask(server, EXEC).document["message"] == "Upgrade request required"
    with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
        asyncio.run(talked(server, EXEC, "v1.channel.k8s.io"))
    with closing(dialled(server)) as connection:
        sent(connection, EXEC, "Connection: Upgrade", "Upgrade: SPDY/9")
        assert connection.recv(12) == b"HTTP/1.1 400"


def test_a_session_wants_a_pod(server: FakeAPIServer) -> None:
    assert ask(server, EXEC.replace("web", "none")).status == 404


class Spdy:
    """A client's side of SPDY, with its frames made by hand."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rwb")
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)

    def open(self, stream: int, **headers: str) -> None:
        block = struct.pack(">I", len(headers))
        for text in (text for pair in headers.items() for text in pair):
            block += struct.pack(">I", len(text)) + text.encode()
        data = self._deflate.compress(block) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self._write(0x80030001, 0, struct.pack(">IIH", stream, 0, 0) + data)

    def control(self, kind: int, payload: bytes) -> None:
        self._write(0x80030000 | kind, 0, payload)

    def send(self, stream: int, data: bytes, *, last: bool = False) -> None:
        self._write(stream, int(last), data)

    def frame(self) -> tuple[int, int, bytes]:
        """Return the next frame: stream or control type, flags, payload."""
        first, second = struct.unpack(">II", self._file.read(8))
        payload = self._file.read(second & 0xFFFFFF)
        if first == 0x80030002:
            block = self._inflate.decompress(payload[4:])
            assert block == bytes(4), "a reply without headers"
            payload = payload[:4]
        return first & 0xFFFF if first >> 31 else -first, second >> 24, payload

    def close(self) -> None:
        self._file.close()

    def _write(self, first: int, flags: int, payload: bytes) -> None:
        self._file.write(struct.pack(">II", first, flags << 24 | len(payload)) + payload)
        self._file.flush()


@pytest.fixture
def spdy(server: FakeAPIServer) -> Iterator[socket.socket]:
    with closing(dialled(server)) as connection:
        yield connection


def switched(connection: socket.socket, target: str) -> Spdy:
    sent(connection, target, *SPDY)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n")
    assert b"\r\nX-Stream-Protocol-Version: " in head
    return Spdy(connection)


def number(value: int) -> bytes:
    return struct.pack(">I", value)


def test_exec_over_spdy_prints_its_command_line(spdy: socket.socket) -> None:
    with closing(switched(spdy, EXEC)) as client:
        for stream, kind in ((1, "error"), (3, "stdout"), (5, "stderr")):
            client.open(stream, streamtype=kind)
        frames = [client.frame() for _ in range(6)]

    assert frames[:3] == [(2, 0, number(1)), (2, 0, number(3)), (2, 0, number(5))]
    assert frames[3:5] == [(-3, 1, b"echo a b\n"), (-5, 1, b"")]
    stream, last, result = frames[5]
    assert (stream, last, json.loads(result)) == (-1, 1, SUCCESS)


def test_exec_over_spdy_gives_back_stdin(spdy: socket.socket) -> None:
    with closing(switched(spdy, f"{EXEC}&stdin=true")) as client:
        for stream, kind in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")):
            client.open(stream, streamtype=kind)
            assert client.frame() == (2, 0, number(stream))
        client.send(3, b"abc")
        assert client.frame() == (9, 0, number(3) + number(3))
        assert client.frame() == (-5, 0, b"abc")
        client.send(3, b"", last=True)
        assert [client.frame()[0] for _ in range(3)] == [-5, -7, -1]


def test_pings_come_back_and_goaway_ends(spdy: socket.socket) -> None:
    with closing(switched(spdy, EXEC)) as client:
        client.control(6, number(7))
        assert client.frame() == (6, 0, number(7))
        client.control(9, number(1) + number(100))
        client.control(7, number(0) + number(0))
        assert spdy.recv(1) == b""


def test_a_forwarded_port_gives_back_every_byte(spdy: socket.socket) -> None:
    with closing(switched(spdy, f"{PODS}/web/portforward")) as client:
        client.open(1, streamtype="error", port="80", requestid="0")
        client.open(3, streamtype="data", port="80", requestid="0")
        assert [client.frame()[0] for _ in range(2)] == [2, 2]
        client.send(3, b"abc")
        assert [client.frame() for _ in range(2)][1] == (-3, 0, b"abc")
        client.send(3, b"", last=True)
        assert [client.frame() for _ in range(2)] == [(-3, 1, b""), (-1, 1, b"")]
