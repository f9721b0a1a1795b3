"""Who the fake API server believes a request to come from."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewitness.event import UserInfo
from kubewitness.testing import PROXY_TOKEN, Authority, FakeAPIServer
from test_testing_server import (
    CAROL,
    SOON,
    ask,
    bearer,
)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeAPIServer]:
    with FakeAPIServer(tokens={"carols": CAROL}) as running:
        yield running


def user_of(server: FakeAPIServer, **how: Any) -> UserInfo | None:
    ask(server, "/fake/echo", **how)
    return server.requests[-1].user


def test_nobody_is_anonymous(server: FakeAPIServer) -> None:
    anonymous = UserInfo(username="system:anonymous", groups=("system:unauthenticated",))
    assert user_of(server) == anonymous
    assert user_of(server, headers={"X-Remote-User": "mallory"}) == anonymous


def test_a_certificate_names_the_user_and_the_groups(server: FakeAPIServer) -> None:
    pair = server.issue_client_certificate("alice", ["dev", "ops"])
    groups = ("dev", "ops", "system:authenticated")

    assert user_of(server, pair=pair) == UserInfo(username="alice", groups=groups)
    assert user_of(server, pair=pair, headers={"X-Remote-User": "mallory"}) == UserInfo(
        username="alice", groups=groups
    )
    assert server.requests[-1].certificate_name == "alice"


def test_a_front_proxy_is_believed(server: FakeAPIServer) -> None:
    pair = server.issue_client_certificate("front-proxy-client")
    headers = {
        "X-Remote-User": "dave",
        "X-Remote-Group": "dev",
        "X-Remote-Uid": "d-1",
        "X-Remote-Extra-Acme.com%2Fproject": "x",
    }

    assert user_of(server, pair=pair, headers=headers) == UserInfo(
        username="dave",
        uid="d-1",
        groups=("dev", "system:authenticated"),
        extra={"acme.com/project": ("x",)},
    )


def test_a_token_names_its_user(server: FakeAPIServer) -> None:
    assert user_of(server, headers=bearer("carols")) == UserInfo(
        username="carol",
        uid="c-1",
        groups=("dev", "system:authenticated"),
        extra={"scopes": ("view",)},
    )


def test_an_unknown_token_is_refused(server: FakeAPIServer) -> None:
    answer = ask(server, "/fake/echo", headers=bearer("wrong"))

    assert answer.status == 401
    assert answer.document == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized",
        "reason": "Unauthorized",
        "code": 401,
    }
    assert server.requests[-1].user is None
    assert server.requests[-1].authenticated is None


def test_the_proxy_may_impersonate(server: FakeAPIServer) -> None:
    headers = {**bearer(PROXY_TOKEN), "Impersonate-User": "erin", "Impersonate-Group": "dev"}

    user = user_of(server, headers=headers)

    assert user == UserInfo(username="erin", groups=("dev", "system:authenticated"))
    authenticated = server.requests[-1].authenticated
    assert authenticated is not None
    assert authenticated.username == "kubewitness-proxy"


def test_others_may_not_impersonate(server: FakeAPIServer) -> None:
    headers = {**bearer("carols"), "Impersonate-User": "erin"}

    answer = ask(server, "/fake/echo", headers=headers)

    assert answer.status == 403
    assert answer.document["message"] == (
        'users "erin" is forbidden: User "carol" cannot impersonate resource "users"'
        ' in API group "" at the cluster scope'
    )
    authenticated = server.requests[-1].authenticated
    assert authenticated is not None
    assert (authenticated.username, server.requests[-1].user) == ("carol", None)


def test_impersonating_no_user_is_malformed(server: FakeAPIServer) -> None:
    headers = {**bearer(PROXY_TOKEN), "Impersonate-Group": "dev"}
    assert ask(server, "/fake/echo", headers=headers).status == 400


def test_a_certificate_of_another_authority_is_refused(server: FakeAPIServer) -> None:
    context = server.client_context(Authority().issue_client_certificate("mallory"))
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        contextlib.suppress(ssl.SSLError, ConnectionError),
    ):
        assert connection.recv(1) == b""  # in TLS 1.3 the client hears of it here


@pytest.mark.parametrize("identity", ["certificate", "token"])
def test_a_kubeconfig_has_all_that_a_proxy_needs(
    server: FakeAPIServer, tmp_path: Path, identity: Any
) -> None:
    path = server.write_kubeconfig(tmp_path / "kubeconfig", identity=identity)
    document = yaml.safe_load(path.read_text())

    assert document["clusters"][0]["cluster"]["server"] == server.url
    assert ("token" in document["users"][0]["user"]) == (identity == "token")


def test_a_server_certificate_is_good_for_its_names(server: FakeAPIServer) -> None:
    pair = server.issue_server_certificate("proxy.test")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        serving = server.authority.server_context(pair)
        thread = threading.Thread(
            target=lambda: serving.wrap_socket(theirs, server_side=True).close()
        )
        thread.start()
        with server.client_context().wrap_socket(ours, server_hostname="proxy.test") as client:
            assert client.version() is not None
        thread.join()
