"""The command ``kubewitness proxy``: as a process, with its signals, its workers, its mistakes."""

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from command import COMMAND, ENVIRONMENT, run
from kubewitness.testing import FakeAPIServer
from proxy_process import arguments, proxy_process

PODS = "/api/v1/namespaces/default/pods"
METADATA = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"


@pytest.fixture
def server() -> Iterator[FakeAPIServer]:
    with FakeAPIServer() as running:
        yield running


def test_a_request_is_audited_and_the_end_is_in_good_order(
    server: FakeAPIServer, tmp_path: Path
) -> None:
    with proxy_process(server, tmp_path) as running:
        assert running.get("/version")[0] == 200

        assert running.end() == 0

    assert [event["stage"] for event in running.log()] == ["RequestReceived", "ResponseComplete"]
    assert running.log()[-1]["user"]["username"] == "system:anonymous"


def test_sigterm_lets_a_request_end_that_is_under_way(
    server: FakeAPIServer, tmp_path: Path
) -> None:
    with proxy_process(server, tmp_path) as running, contextlib.closing(running.client()) as client:
        client.request("GET", "/fake/slow?after=head")
        server.until_requests(1)
        running.process.send_signal(signal.SIGTERM)
        server.release.set()
        answer = client.getresponse()
        answer.read()

        assert answer.status == 200
        assert running.wait() == 0
    assert running.log()[-1]["responseStatus"]["code"] == 200


def test_sigint_ends_it_too(server: FakeAPIServer, tmp_path: Path) -> None:
    with proxy_process(server, tmp_path) as running:
        assert running.end(signal.SIGINT) == 0


def test_sighup_has_it_look_at_its_files(server: FakeAPIServer, tmp_path: Path) -> None:
    with proxy_process(server, tmp_path, "--reload-interval=1h") as running:
        (tmp_path / "audit.log").rename(tmp_path / "audit.log.1")
        (tmp_path / "policy.yaml").write_text(METADATA)
        running.process.send_signal(signal.SIGHUP)
        running.until_said("policy: read again")
        running.get(PODS)
        assert running.end() == 0

    assert {event["level"] for event in running.log()} == {"Metadata"}


def test_a_changed_policy_is_read_without_a_signal_and_a_broken_one_is_not_used(
    server: FakeAPIServer, tmp_path: Path
) -> None:
    with proxy_process(server, tmp_path, "--reload-interval=10ms") as running:
        (tmp_path / "policy.yaml").write_text("apiVersion: audit.k8s.io/v1\nrules: [{levle: None}]")
        said = running.until_said("^ERROR policy:")
        assert "levle" in said
        assert "what was read before stays in use" in said
        name = 'kubewitness_proxy_reloads_total{file="policy",outcome="error"}'
        assert running.metric(name) == 1
        running.get(PODS)
        running.end()

    assert {event["level"] for event in running.log()} == {"RequestResponse"}


def test_health_and_metrics_are_on_a_port_of_their_own(
    server: FakeAPIServer, tmp_path: Path
) -> None:
    with proxy_process(server, tmp_path, policy=METADATA) as running:
        assert running.health("/livez") == (200, "ok\n")
        assert running.health("/readyz") == (200, "ok\n")
        assert running.health("/healthz") == (200, "ok\n")
        assert running.health("/elsewhere")[0] == 404
        running.get("/version")

        assert running.metric("apiserver_audit_event_total") == 2
        assert running.metric('apiserver_audit_level_total{level="Metadata"}') == 1
        assert running.metric('kubewitness_proxy_requests_total{code="200"}') == 1
        assert running.metric("kubewitness_proxy_requests_in_flight") == 0
    assert len(server.requests) == 1


def test_workers_share_port_log_and_metrics(server: FakeAPIServer, tmp_path: Path) -> None:
    flags = ("--workers=2", "--audit-log-maxsize=1")
    with proxy_process(server, tmp_path, *flags) as running:
        assert len(running.workers()) == 2
        for _ in range(40):
            assert running.get("/fake/status/404")[0] == 404

        assert running.metric("apiserver_audit_event_total") == 80
        assert running.metric('kubewitness_proxy_requests_total{code="404"}') == 40
        assert running.end() == 0

    assert len(running.log()) == 80
    assert len({event["auditID"] for event in running.log()}) == 40


@pytest.mark.parametrize("workers", [1, 2])
def test_an_ipv6_address_is_written_as_in_urls(
    workers: int, server: FakeAPIServer, tmp_path: Path
) -> None:
    flags = ("--bind-address=::1", "--health-bind-address=[::1]:0", f"--workers={workers}")
    with proxy_process(server, tmp_path, *flags) as running:
        said = running.until_said("^auditing ")
        assert f"at https://[::1]:{running.port}" in said
        assert said.endswith(f"at http://[::1]:{running.health_port}")

        for flag in ("--secure-port={}", "--health-bind-address=[::1]:{}"):
            again = run(
                "proxy", *arguments(server, tmp_path), *flags[:1], flag.format(running.port)
            )
            assert again.code == 1
            assert f"cannot listen at [::1]:{running.port}: " in again.err


def test_everything_that_is_wrong_is_said_before_it_listens(
    server: FakeAPIServer, tmp_path: Path
) -> None:
    flags = [
        each
        for each in arguments(server, tmp_path)
        if not each.startswith(("--audit-policy-file", "--upstream"))
    ]
    missing = tmp_path / "missing"

    assert run("proxy", *flags).code == 2
    done = run("proxy", *flags, f"--upstream-kubeconfig={missing}")
    assert done.code == 2
    assert "--audit-policy-file: needed" in done.err
    policy = f"--audit-policy-file={tmp_path / 'policy.yaml'}"
    done = run("proxy", *flags, policy, f"--upstream-kubeconfig={missing}")
    assert done.code == 2
    assert f"--upstream-kubeconfig: cannot read {missing}: No such file or directory" in done.err


@pytest.mark.parametrize(
    ("section", "field", "value", "said"),
    [
        ("clusters", "server", "http://127.0.0.1:1", "server: the proxy needs https here"),
        ("users", "as", "bob", 'as: remove "as"'),
    ],
)
def test_a_kubeconfig_that_would_serve_people_as_others_is_refused(
    section: str, field: str, value: str, said: str, server: FakeAPIServer, tmp_path: Path
) -> None:
    flags = arguments(server, tmp_path)
    path = tmp_path / "proxy.kubeconfig"
    document = yaml.safe_load(path.read_text())
    document[section][0][section.removesuffix("s")][field] = value
    path.write_text(yaml.safe_dump(document))

    done = run("proxy", *flags)
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--health-bind-address=nowhere", "is not an address and a port"),
        ("--request-timeout=5", "not a duration"),
        ("--reload-interval=0s", "too short"),
        ("--authentication-token-webhook-cache-ttl=-1s", "too short"),
        ("--workers=0", "--workers"),
        ("--forward-identity=shout", "--forward-identity"),
        ("--audit-log-mode=later", "--audit-log-mode"),
        ("--audit-policy-file=/no/such/policy", "--audit-policy-file"),
        ("--bind-address=203.0.113.77", "cannot listen at 203.0.113.77"),
        ("--bind-address=not an address", "cannot listen at not an address"),
        ("--tls-private-key-file=/no/such/key", "/no/such/key"),
        ("--client-ca-file=/dev/null", "/dev/null"),
    ],
)
def test_a_wrong_flag_is_refused(
    flag: str, said: str, server: FakeAPIServer, tmp_path: Path
) -> None:
    done = run("proxy", *arguments(server, tmp_path), flag)

    assert done.code in (1, 2)
    assert said in done.err


def test_a_port_that_is_taken_is_refused(server: FakeAPIServer, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for flag in (f"--secure-port={port}", f"--health-bind-address=127.0.0.1:{port}"):
            for workers in ("--workers=1", "--workers=2"):
                done = run("proxy", *arguments(server, tmp_path), flag, workers)
                assert done.code == 1, done.err
                assert f"127.0.0.1:{port}" in done.err


def test_help_has_examples_and_every_flag() -> None:
    done = subprocess.run(
        [*COMMAND, "proxy", "--help"], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )

    assert "Examples:" in done.stdout
    for flag in ("--upstream-kubeconfig", "--workers", "--audit-webhook-config-file"):
        assert flag in done.stdout
