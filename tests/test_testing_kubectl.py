"""A real kubectl against the fake API server."""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from kubewitness.testing import FakeAPIServer

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")

SOON = 60
MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME, namespace: default}
data: {a: "VALUE"}
"""
LOGS = "line 1 of web\nline 2 of web\nline 3 of web\n"


class Kubectl:
    """kubectl with a kubeconfig of its own."""

    def __init__(self, server: FakeAPIServer, directory: Path) -> None:
        self.server = server
        path = server.write_kubeconfig(
            directory / "kubeconfig", common_name="admin", organizations=["system:masters"]
        )
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "KUBECONFIG": str(path),
        }

    def __call__(self, *words: str, say: str = "", more: Mapping[str, str] = {}) -> str:
        """Run a command to its end, and return what it prints."""
        done = subprocess.run(
            ["kubectl", *words],  # noqa: S607
            input=say,
            capture_output=True,
            text=True,
            timeout=SOON,
            env={**self._environment, **more},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def running(self, *words: str, more: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[str]]:
        """Run a command beside the test; it is killed when it takes too long."""
        with subprocess.Popen(
            ["kubectl", *words],  # noqa: S607
            stdout=subprocess.PIPE,
            text=True,
            env={**self._environment, **more},
        ) as process:
            guard = threading.Timer(SOON, process.kill)
            guard.start()
            try:
                yield process
            finally:
                guard.cancel()
                process.kill()


@pytest.fixture
def kubectl(tmp_path: Path) -> Iterator[Kubectl]:
    with FakeAPIServer() as server:
        yield Kubectl(server, tmp_path)


def applied(kubectl: Kubectl, name: str, value: str, *words: str) -> str:
    document = MAP.replace("NAME", name).replace("VALUE", value)
    return kubectl("apply", *words, "-f", "-", say=document)


def test_get_apply_and_delete(kubectl: Kubectl) -> None:
    assert kubectl("get", "namespaces", "-o", "name").split() == [
        "namespace/default",
        "namespace/kube-system",
    ]
    assert applied(kubectl, "one", "1") == "configmap/one created\n"
    assert applied(kubectl, "one", "2") == "configmap/one configured\n"
    assert applied(kubectl, "two", "3", "--server-side") == "configmap/two serverside-applied\n"
    assert kubectl("get", "cm", "one", "-o", "jsonpath={.data.a}") == "2"
    assert kubectl("delete", "cm", "one") == 'configmap "one" deleted\n'
    assert kubectl("get", "cm", "-o", "name") == "configmap/two\n"
    assert {request.user.username for request in kubectl.server.requests if request.user} == {
        "admin"
    }


def test_who_am_i(kubectl: Kubectl) -> None:
    assert "[system:masters system:authenticated]" in kubectl("auth", "whoami")


def test_get_and_watch(kubectl: Kubectl) -> None:
    applied(kubectl, "one", "1")
    with kubectl.running("get", "cm", "-w", "-o", "name") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "configmap/one\n"
        applied(kubectl, "two", "2")
        assert watching.stdout.readline() == "configmap/two\n"


def test_logs(kubectl: Kubectl) -> None:
    assert kubectl("run", "web", "--image=fake") == "pod/web created\n"
    assert kubectl("logs", "web") == LOGS

    with kubectl.running("logs", "-f", "web") as following:
        assert following.stdout is not None
        assert "".join(following.stdout.readline() for _ in range(3)) == LOGS
        kubectl.server.release.set()
        assert following.wait(SOON) == 0


@pytest.mark.parametrize(("websockets", "upgrade"), [("true", "websocket"), ("false", "SPDY/3.1")])
def test_exec(kubectl: Kubectl, websockets: str, upgrade: str) -> None:
    more = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets}
    kubectl("run", "web", "--image=fake")

    assert kubectl("exec", "web", "--", "echo", "a b", more=more) == "echo a b\n"
    assert kubectl("exec", "-i", "web", "--", "cat", say="typed\n", more=more) == "typed\n"
    assert kubectl.server.requests[-1].header("Upgrade") == [upgrade]


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
