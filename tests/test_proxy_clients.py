"""Real clients through the proxy: curl, the Python client of Kubernetes, kubectl."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from kubernetes.stream import stream

from clocks import until
from kubectl import LOGS, SOON, Kubectl, needs_kubectl
from kubewitness.event import Event, UserInfo
from kubewitness.testing import FakeAPIServer
from proxies import RunningProxy, proxy

TOKEN = "token-of-ann"  # noqa: S105
ANN = UserInfo(username="ann", uid="u-1", groups=("shop", "system:authenticated"))
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def server() -> Iterator[FakeAPIServer]:
    with FakeAPIServer(tokens={TOKEN: ANN}) as running:
        yield running


@pytest.fixture
def running(server: FakeAPIServer, tmp_path: Path) -> Iterator[RunningProxy]:
    with proxy(server, tmp_path) as running:
        yield running


@pytest.fixture
def kubeconfig(server: FakeAPIServer, running: RunningProxy, tmp_path: Path) -> Path:
    """Return the kubeconfig of a user with a certificate, who talks to the proxy."""
    return server.write_kubeconfig(
        tmp_path / "kubeconfig",
        common_name="admin",
        organizations=["system:masters"],
        server=running.url,
    )


def finished(running: RunningProxy, verb: str, resource: str, within: str = "") -> Event:
    """Wait for the last event of a request that has something within its URI, and return it."""

    def found() -> list[Event]:
        return [
            event
            for event in list(running.backend.received)
            if event.stage == "ResponseComplete"
            and event.verb == verb
            and (event.object_ref and event.object_ref.resource) == resource
            and within in event.request_uri
        ]

    until(lambda: bool(found()))
    return found()[-1]


def stages(running: RunningProxy, event: Event) -> list[tuple[str, int]]:
    return [
        (each.stage, each.response_status.code if each.response_status else 0)
        for each in running.backend.received
        if each.audit_id == event.audit_id
    ]


def curl(place: Path, *words: str) -> str:
    done = subprocess.run(
        ["curl", "-sS", "--cacert", str(place / "ca.crt"), *words],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=SOON,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
class TestCurl:
    def test_gets_with_a_token(self, running: RunningProxy, tmp_path: Path) -> None:
        bearer = f"Authorization: Bearer {TOKEN}"
        text = curl(tmp_path, "-i", "-H", bearer, f"{running.url}{MAPS}")

        event = finished(running, "list", "configmaps")
        assert re.search(rf"(?i)^audit-id: {event.audit_id}\r?$", text, re.MULTILINE)
        assert event.user == ANN
        assert event.user_agent.startswith("curl/")
        assert event.source_ips == ("127.0.0.1",)

    def test_posts_a_large_body_after_asking_whether_it_may(
        self, running: RunningProxy, server: FakeAPIServer, tmp_path: Path
    ) -> None:
        (tmp_path / "body").write_bytes(b"x" * 3_000_000)
        text = curl(
            tmp_path, "-v", "--data-binary", f"@{tmp_path / 'body'}",
            "-H", "Expect: 100-continue", f"{running.url}/fake/sink",
        )  # fmt: skip

        assert '"size": 3000000' in text or '"size":3000000' in text
        assert server.requests[-1].size == 3_000_000

    def test_watches(self, running: RunningProxy, tmp_path: Path) -> None:
        url = f"{running.url}{MAPS}?watch=true&timeoutSeconds=1"
        curl(tmp_path, "-H", f"Authorization: Bearer {TOKEN}", url)

        event = finished(running, "watch", "configmaps")
        assert [stage for stage, _ in stages(running, event)] == [
            "RequestReceived",
            "ResponseStarted",
            "ResponseComplete",
        ]


class TestPythonClient:
    @pytest.fixture
    def api(self, kubeconfig: Path) -> Iterator[Any]:
        client = kubernetes.config.new_client_from_config(str(kubeconfig))
        yield kubernetes.client.CoreV1Api(client)
        client.close()
        client.rest_client.pool_manager.clear()  # it leaves its connections open

    def test_creates_reads_and_deletes(self, running: RunningProxy, api: Any) -> None:
        body = {"metadata": {"name": "one"}, "data": {"a": "1"}}
        api.create_namespaced_config_map("default", body)
        assert api.read_namespaced_config_map("one", "default").data == {"a": "1"}
        api.delete_namespaced_config_map("one", "default")

        event = finished(running, "create", "configmaps")
        assert event.user.username == "admin"
        assert event.object_ref is not None
        assert event.object_ref.name == "one"
        assert b'"a":"1"' in bytes(event.request_object)
        assert finished(running, "delete", "configmaps").response_status.status == "Success"  # type: ignore[union-attr]

    def test_sees_the_refusals_of_the_server(self, running: RunningProxy, api: Any) -> None:
        with pytest.raises(kubernetes.client.ApiException) as raised:
            api.read_namespaced_config_map("none", "default")

        assert raised.value.status == 404
        event = finished(running, "get", "configmaps")
        assert event.response_status is not None
        assert event.response_status.reason == "NotFound"

    def test_watches(self, running: RunningProxy, api: Any) -> None:
        watch = kubernetes.watch.Watch()
        api.create_namespaced_config_map("default", {"metadata": {"name": "one"}})
        for found in watch.stream(api.list_namespaced_config_map, "default"):
            assert found["object"].metadata.name == "one"
            watch.stop()
            break
        assert finished(running, "watch", "configmaps").response_status.code == 200  # type: ignore[union-attr]

    def test_executes_by_websocket(self, running: RunningProxy, api: Any) -> None:
        pod = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        api.create_namespaced_pod("default", pod)
        executing = stream(
            api.connect_get_namespaced_pod_exec,
            "web",
            "default",
            command=["echo", "a b"],
            stdout=True,
            _preload_content=False,
        )
        executing.run_forever(SOON)
        assert executing.read_stdout() == "echo a b\n"
        executing.sock.shutdown()  # closing leaves the socket open where the server closed first
        event = finished(running, "get", "pods", "/exec")
        assert stages(running, event) == [
            ("RequestReceived", 0),
            ("ResponseStarted", 101),
            ("ResponseComplete", 101),
        ]


@needs_kubectl
class TestKubectl:
    @pytest.fixture
    def kubectl(self, kubeconfig: Path) -> Kubectl:
        return Kubectl(kubeconfig)

    def test_gets_applies_and_deletes(self, running: RunningProxy, kubectl: Kubectl) -> None:
        assert kubectl.apply_map("one", "1") == "configmap/one created\n"
        assert kubectl.apply_map("one", "2") == "configmap/one configured\n"
        assert kubectl.apply_map("two", "3", "--server-side").endswith("serverside-applied\n")
        assert kubectl("get", "cm", "one", "-o", "jsonpath={.data.a}") == "2"
        assert kubectl("delete", "cm", "one") == 'configmap "one" deleted\n'

        event = finished(running, "patch", "configmaps")
        assert event.user.groups == ("system:masters", "system:authenticated")
        assert event.user_agent.startswith("kubectl/")

    def test_acts_as_another(
        self, running: RunningProxy, kubectl: Kubectl, server: FakeAPIServer
    ) -> None:
        assert "bob" in kubectl("auth", "whoami", "--as=bob", "--as-group=sre")

        event = finished(running, "create", "selfsubjectreviews")
        assert event.impersonated_user is not None
        assert event.impersonated_user.username == "bob"
        assert event.impersonated_user.groups == ("sre", "system:authenticated")
        assert server.requests[-1].user == event.impersonated_user

    def test_watches(self, running: RunningProxy, kubectl: Kubectl) -> None:
        kubectl.apply_map("one", "1")
        with kubectl.running("get", "cm", "-w", "-o", "name") as watching:
            assert watching.stdout is not None
            assert watching.stdout.readline() == "configmap/one\n"
            kubectl.apply_map("two", "2")
            assert watching.stdout.readline() == "configmap/two\n"
        finished(running, "watch", "configmaps")

    def test_reads_and_follows_logs(
        self, running: RunningProxy, kubectl: Kubectl, server: FakeAPIServer
    ) -> None:
        kubectl("run", "web", "--image=fake")
        assert kubectl("logs", "web") == LOGS
        with kubectl.running("logs", "-f", "web") as following:
            assert following.stdout is not None
            assert "".join(following.stdout.readline() for _ in range(3)) == LOGS
            server.release.set()
            assert following.wait(SOON) == 0

        event = finished(running, "get", "pods", "follow=true")
        assert [code for _, code in stages(running, event)] == [0, 200, 200]

    @pytest.mark.parametrize(
        ("websockets", "upgrade", "verb"),
        [("true", "websocket", "get"), ("false", "SPDY/3.1", "create")],
        ids=["as current ones do", "as old ones do"],
    )
    def test_executes(
        self,
        running: RunningProxy,
        kubectl: Kubectl,
        server: FakeAPIServer,
        websockets: str,
        upgrade: str,
        verb: str,
    ) -> None:
        more = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets}
        kubectl("run", "web", "--image=fake")
        assert kubectl("exec", "web", "--", "echo", "a b", more=more) == "echo a b\n"
        assert kubectl("exec", "-i", "web", "--", "cat", say="typed\n", more=more) == "typed\n"

        assert server.requests[-1].header("Upgrade") == [upgrade]
        event = finished(running, verb, "pods", "exec?command=cat")
        assert [code for _, code in stages(running, event)] == [0, 101, 101]

    @pytest.mark.parametrize("websockets", ["true", "false"])
    def test_forwards_ports(self, running: RunningProxy, kubectl: Kubectl, websockets: str) -> None:
        more = {"KUBECTL_PORT_FORWARD_WEBSOCKETS": websockets}
        kubectl("run", "web", "--image=fake")
        with kubectl.running("port-forward", "pod/web", ":80", more=more) as forwarding:
            assert forwarding.stdout is not None
            assert "Forwarding from" in forwarding.stdout.readline()
        finished(running, "get" if websockets == "true" else "create", "pods", "/portforward")
