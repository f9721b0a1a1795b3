"""What the fake API server does on purpose, each line of its table."""

import gzip
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing

import pytest

from kubewitness.testing import FakeAPIServer
from kubewitness.testing.behaviours import PATTERN
from test_testing_server import (
    CAROL,
    SOON,
    all_of,
    ask,
    connected,
    dialled,
    names_of,
    sent,
)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeAPIServer]:
    with FakeAPIServer(tokens={"carols": CAROL}) as running:
        yield running


@pytest.fixture
def plain() -> Iterator[FakeAPIServer]:
    with FakeAPIServer(tls=False) as running:
        yield running


def test_echo(server: FakeAPIServer) -> None:
    document = ask(server, "/fake/echo?a=b", "PUT", body=b"hello", headers={"X-Y": "z"}).document

    assert (document["method"], document["target"]) == ("PUT", "/fake/echo?a=b")
    assert (document["body"], document["size"]) == ("hello", 5)
    assert ["X-Y", "z"] in document["headers"]


@pytest.mark.parametrize("target", ["/fake/status/503", "/api/v1/pods?a=b&fake=status/503"])
def test_a_status(server: FakeAPIServer, target: str) -> None:
    answer = ask(server, target)
    assert (answer.status, answer.document["code"]) == (503, 503)


def test_a_status_without_a_body(server: FakeAPIServer) -> None:
    assert ask(server, "/fake/status/204").body == b""
    assert ask(server, "/fake/status/abc").status == 400


@pytest.mark.parametrize("query", ["", "?chunked=true"])
def test_bytes(server: FakeAPIServer, query: str) -> None:
    answer = ask(server, f"/fake/bytes/100001{query}")

    assert answer.body == (PATTERN * 2)[:100001]
    names = names_of(answer.headers)
    assert ("Transfer-Encoding" in names) == bool(query)
    assert ("Content-Length" in names) != bool(query)


def test_head_has_no_body(server: FakeAPIServer) -> None:
    with closing(connected(server)) as connection:
        connection.request("HEAD", "/fake/bytes/10")
        assert connection.getresponse().getheader("Content-Length") == "10"
        connection.close()


@pytest.mark.parametrize("after", ["", "?after=head", "?after=body"])
def test_slow_answers_wait_for_their_release(after: str) -> None:
    with FakeAPIServer() as server, closing(connected(server)) as connection:
        connection.request("GET", f"/fake/slow{after}")
        server.until_requests(1)
        if after:
            response = connection.getresponse()
            assert response.read(7) == b"half of" if after == "?after=body" else response
        server.release.set()
        response = response if after else connection.getresponse()
        assert response.read().endswith(b"other half.\n")


def test_a_client_that_does_not_wait_is_let_go(plain: FakeAPIServer) -> None:
    with closing(dialled(plain)) as connection:
        sent(connection, "/fake/slow?after=head")
        assert connection.recv(12) == b"HTTP/1.1 200"

    plain.until(lambda: plain.open_connections == 0)


@pytest.mark.parametrize("after", ["accept", "head", "body"])
def test_a_reset(plain: FakeAPIServer, after: str) -> None:
    with closing(dialled(plain)) as connection:
        sent(connection, f"/fake/reset?after={after}", "Content-Length: 10")
        if after != "accept":
            connection.sendall(b"0123456789")
        with pytest.raises(ConnectionResetError):
            all_of(connection)
        assert len(plain.requests) == 1


def test_a_reset_in_tls_is_no_end_of_tls(server: FakeAPIServer) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as plain,
        server.client_context().wrap_socket(
            plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False
        ) as connection,
    ):
        sent(connection, "/fake/reset?after=accept")
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            connection.recv(1)


@pytest.mark.parametrize("after", ["accept", "head", "body"])
def test_a_connection_is_closed_too_early(server: FakeAPIServer, after: str) -> None:
    with closing(dialled(server)) as connection:
        sent(connection, f"/fake/close?after={after}")
        head, _, body = all_of(connection).partition(b"\r\n\r\n")

    assert (b"Content-Length: 32" in head) == (after != "accept")
    assert len(body) == (16 if after == "body" else 0)


def test_gzip(server: FakeAPIServer) -> None:
    answer = ask(server, "/fake/gzip")
    assert ("Content-Encoding", "gzip") in answer.headers
    assert json.loads(gzip.decompress(answer.body))["kind"] == "ConfigMap"


def test_protobuf(server: FakeAPIServer) -> None:
    answer = ask(server, "/fake/protobuf")
    assert ("Content-Type", "application/vnd.kubernetes.protobuf") in answer.headers
    assert answer.body.startswith(b"k8s\0")


def test_garbage(server: FakeAPIServer) -> None:
    with closing(connected(server)) as connection:
        connection.request("GET", "/fake/garbage")
        with pytest.raises(http.client.BadStatusLine):
            connection.getresponse()


@pytest.mark.parametrize("tls", [True, False])
def test_a_tunnel_gives_back_every_byte(tls: bool) -> None:  # noqa: FBT001
    with FakeAPIServer(tls=tls) as server, closing(dialled(server)) as connection:
        sent(connection, "/fake/tunnel", "Connection: Upgrade", "Upgrade: fake-tunnel")
        assert connection.recv(1000).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        connection.sendall(b"\x00\xffhello")
        assert connection.recv(100) == b"\x00\xffhello"
        if not tls:
            connection.sendall(b"the rest")
            connection.shutdown(socket.SHUT_WR)
            assert all_of(connection) == b"the rest"


def test_a_tunnel_may_be_closed_by_the_server(server: FakeAPIServer) -> None:
    with closing(dialled(server)) as connection:
        lines = ("Connection: Upgrade", "Upgrade: fake-tunnel")
        sent(connection, "/fake/tunnel?close=first", *lines)
        assert all_of(connection).endswith(b"\r\n\r\nbye\n")


def test_a_tunnel_wants_an_upgrade(server: FakeAPIServer) -> None:
    assert ask(server, "/fake/tunnel").status == 400
