"""A real kubectl against the fake API server."""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kubectl import LOGS, SOON, Kubectl, needs_kubectl
from kubewitness.testing import FakeAPIServer

pytestmark = needs_kubectl


@pytest.fixture
def server() -> Iterator[FakeAPIServer]:
    with FakeAPIServer() as running:
        yield running


@pytest.fixture
def kubectl(server: FakeAPIServer, tmp_path: Path) -> Kubectl:
    return Kubectl(
        server.write_kubeconfig(
            tmp_path / "kubeconfig", common_name="admin", organizations=["system:masters"]
        )
    )


def test_get_apply_and_delete(kubectl: Kubectl, server: FakeAPIServer) -> None:
    assert kubectl("get", "namespaces", "-o", "name").split() == [
        "namespace/default",
        "namespace/kube-system",
    ]
    assert kubectl.apply_map("one", "1") == "configmap/one created\n"
    assert kubectl.apply_map("one", "2") == "configmap/one configured\n"
    assert kubectl.apply_map("two", "3", "--server-side") == "configmap/two serverside-applied\n"
    assert kubectl("get", "cm", "one", "-o", "jsonpath={.data.a}") == "2"
    assert kubectl("delete", "cm", "one") == 'configmap "one" deleted\n'
    assert kubectl("get", "cm", "-o", "name") == "configmap/two\n"
    assert {request.user.username for request in server.requests if request.user} == {"admin"}


def test_who_am_i(kubectl: Kubectl) -> None:
    assert "[system:masters system:authenticated]" in kubectl("auth", "whoami")


def test_get_and_watch(kubectl: Kubectl) -> None:
    kubectl.apply_map("one", "1")
    with kubectl.running("get", "cm", "-w", "-o", "name") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "configmap/one\n"
        kubectl.apply_map("two", "2")
        assert watching.stdout.readline() == "configmap/two\n"


def test_logs(kubectl: Kubectl, server: FakeAPIServer) -> None:
    assert kubectl("run", "web", "--image=fake") == "pod/web created\n"
    assert kubectl("logs", "web") == LOGS

    with kubectl.running("logs", "-f", "web") as following:
        assert following.stdout is not None
        assert "".join(following.stdout.readline() for _ in range(3)) == LOGS
        server.release.set()
        assert following.wait(SOON) == 0


@pytest.mark.parametrize(("websockets", "upgrade"), [("true", "websocket"), ("false", "SPDY/3.1")])
def test_exec(kubectl: Kubectl, server: FakeAPIServer, websockets: str, upgrade: str) -> None:
    more = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets}
    kubectl("run", "web", "--image=fake")

    assert kubectl("exec", "web", "--", "echo", "a b", more=more) == "echo a b\n"
    assert kubectl("exec", "-i", "web", "--", "cat", say="typed\n", more=more) == "typed\n"
    assert server.requests[-1].header("Upgrade") == [upgrade]


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_port_forward(kubectl: Kubectl, websockets: str) -> None:
    more = {"KUBECTL_PORT_FORWARD_WEBSOCKETS": websockets}
    kubectl("run", "web", "--image=fake")

    with kubectl.running(
        "port-forward", "--address=127.0.0.1", "pod/web", ":80", more=more
    ) as forwarding:
        assert forwarding.stdout is not None
        line = forwarding.stdout.readline()
        port = int(line.removeprefix("Forwarding from 127.0.0.1:").split(" ")[0])
        with closing(socket.create_connection(("127.0.0.1", port), timeout=SOON)) as connection:
            connection.sendall(b"through the tunnel")
            connection.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: connection.recv(100), b""))

    assert received == b"through the tunnel"
