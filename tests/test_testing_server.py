"""The fake API server, asked by raw clients: its life, HTTP/1.1, and what it keeps of requests."""

import contextlib
import hashlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import pytest

from kubewitness.event import UserInfo
from kubewitness.testing import FakeAPIServer, Pair

SOON = 20
CAROL = UserInfo(username="carol", uid="c-1", groups=("dev",), extra={"scopes": ("view",)})


class Answered(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def connected(server: FakeAPIServer, pair: Pair | None = None) -> http.client.HTTPConnection:
    if not server.url.startswith("https"):
        return http.client.HTTPConnection("127.0.0.1", server.port, timeout=SOON)
    context = server.client_context(pair)
    return http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=SOON)


def ask(
    server: FakeAPIServer,
    target: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] = {},
    body: bytes | None = None,
    pair: Pair | None = None,
) -> Answered:
    with closing(connected(server, pair)) as connection:
        connection.request(method, target, body, dict(headers))
        response = connection.getresponse()
        return Answered(response.status, response.getheaders(), response.read())


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def dialled(server: FakeAPIServer) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=SOON)
    if not server.url.startswith("https"):
        return plain
    return server.client_context().wrap_socket(plain, server_hostname="127.0.0.1")


def sent(connection: socket.socket, target: str, *lines: str) -> None:
    head = "".join(f"{line}\r\n" for line in (f"GET {target} HTTP/1.1", "Host: fake", *lines))
    connection.sendall(f"{head}\r\n".encode())


def names_of(headers: list[Any]) -> list[str]:
    return [name for name, _ in headers]


def all_of(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture(scope="module")
def server() -> Iterator[FakeAPIServer]:
    with FakeAPIServer(tokens={"carols": CAROL}) as running:
        yield running


@pytest.fixture
def plain() -> Iterator[FakeAPIServer]:
    with FakeAPIServer(tls=False) as running:
        yield running


def test_what_is_unknown_is_not_found(server: FakeAPIServer) -> None:
    answer = ask(server, "/nothing/here")

    assert answer.status == 404
    assert answer.document["message"] == "the server could not find the requested resource"
    assert ("Cache-Control", "no-cache, private") in answer.headers


def test_requests_are_kept_as_they_came(plain: FakeAPIServer) -> None:
    with closing(dialled(plain)) as connection:
        head = "PUT //a/%2F?x=<y>&z HTTP/1.1\r\nhost: h\r\nX-b:  1 \r\nx-A: 2\r\nX-b: 3\r\n"
        connection.sendall(f"{head}Content-Length: 3\r\n\r\nabc".encode())
        assert connection.recv(12) == b"HTTP/1.1 404"

    [request] = plain.until_requests(1)
    assert (request.method, request.target) == ("PUT", "//a/%2F?x=<y>&z")
    assert request.headers[:4] == [("host", "h"), ("X-b", "1"), ("x-A", "2"), ("X-b", "3")]
    assert request.header("x-B") == ["1", "3"]
    assert (request.body, request.size, request.complete) == (b"abc", 3, True)
    assert request.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert request.certificate_name is None


def test_a_long_body_is_kept_in_part_and_counted_whole(plain: FakeAPIServer) -> None:
    body = bytes(range(256)) * 8192

    answer = ask(plain, "/fake/sink", "POST", body=body)

    assert answer.document == {"size": 2 << 20, "sha256": hashlib.sha256(body).hexdigest()}
    assert plain.requests[0].body == body[: 1 << 20]
    assert plain.requests[0].size == 2 << 20


def test_a_body_may_come_in_chunks(plain: FakeAPIServer) -> None:
    with closing(connected(plain)) as connection:
        connection.request("POST", "/fake/echo", iter([b"abc", b"defg"]), encode_chunked=True)
        document = json.loads(connection.getresponse().read())

    assert (document["body"], document["size"]) == ("abcdefg", 7)
    assert ["Transfer-Encoding", "chunked"] in document["headers"]


def test_a_body_that_breaks_off_is_kept_as_incomplete(plain: FakeAPIServer) -> None:
    with closing(dialled(plain)) as connection:
        sent(connection, "/fake/sink", "Content-Length: 10")
        connection.sendall(b"abc")

    [request] = plain.until_requests(1)
    assert (request.body, request.complete) == (b"abc", False)


def test_who_expects_to_continue_is_told_so(plain: FakeAPIServer) -> None:
    with closing(dialled(plain)) as connection:
        sent(connection, "/fake/sink", "Content-Length: 2", "Expect: 100-continue")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ab")
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_what_is_not_http_is_refused(plain: FakeAPIServer) -> None:
    with closing(dialled(plain)) as connection:
        connection.sendall(b"what is this\r\n\r\n")
        assert all_of(connection).startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    ("framing", "rest"),
    [
        ("Content-Length: ten", b""),
        ("Content-Length: -1", b""),
        ("Transfer-Encoding: chunked", b"0x1\r\n"),
        ("Transfer-Encoding: chunked", b"1\r\nab\r\n"),
        ("no colon", b""),
    ],
)
def test_a_body_without_an_end_is_refused(plain: FakeAPIServer, framing: str, rest: bytes) -> None:
    with closing(dialled(plain)) as connection:
        sent(connection, "/fake/sink", framing)
        connection.sendall(rest)
        assert all_of(connection).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_connection_carries_many_requests(server: FakeAPIServer) -> None:
    before = server.connections
    with closing(connected(server)) as connection:
        for number in range(3):
            connection.request("GET", f"/fake/echo?{number}")
            assert connection.getresponse().read()
        assert server.connections == before + 1
        assert server.open_connections >= 1

    server.until(lambda: server.open_connections == 0)


def test_stopping_ends_what_waits_and_starting_listens_again() -> None:
    server = FakeAPIServer(tls=False)
    server.start()
    port = server.port
    with closing(dialled(server)) as connection:
        sent(connection, "/fake/slow")
        server.until_requests(1)
        server.stop()
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    server.start()
    assert server.port == port
    assert ask(server, "/fake/echo").status == 200
    server.stop()


def test_stopping_twice_is_stopping_once() -> None:
    with FakeAPIServer(tls=False) as server:
        server.stop()
    server.stop()


def test_stopping_does_not_wait_for_a_handshake() -> None:
    with FakeAPIServer() as server:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=SOON)
        server.until(lambda: server.open_connections == 1)
    with closing(connection), contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""


def test_what_is_no_tls_is_hung_up_on(server: FakeAPIServer) -> None:
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=SOON)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in all_of(plain)
    server.until(lambda: server.open_connections == 0)


def test_waiting_has_an_end(plain: FakeAPIServer) -> None:
    with pytest.raises(TimeoutError, match="0 requests came"):
        plain.until_requests(1, 0)


def test_an_error_of_the_server_itself_is_raised() -> None:
    def may(_: object) -> bool:
        raise RuntimeError("a broken test")

    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    with (
        pytest.raises(ExceptionGroup, match="the fake API server failed"),
        FakeAPIServer(tls=False, may=may) as server,
        pytest.raises(http.client.RemoteDisconnected),
    ):
        ask(server, path, "POST", body=b'{"spec": {}}')


def test_importing_the_kit_imports_no_certificates() -> None:
    code = "import kubewitness.testing, sys; print({'trustme', 'cryptography'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
