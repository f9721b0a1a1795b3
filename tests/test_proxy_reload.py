"""The proxy's files change while it runs: the policy, its certificate, its clients' authority."""

import http.client
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from asking import ReviewingServer, ask, ask_by, connected, last_event
from clocks import SOON
from kubewitness.capture.proxy import ProxyConfig
from kubewitness.capture.proxy.files import WatchedFiles
from kubewitness.capture.proxy.serving import ServingContext
from kubewitness.event import Level, Stage, UserInfo
from kubewitness.metrics import AuditMetrics, ProxyMetrics
from kubewitness.testing import Authority, Pair
from proxies import EVERYTHING, RunningProxy, files, proxy

METADATA = EVERYTHING.replace("RequestResponse", "Metadata")
REQUEST = EVERYTHING.replace("RequestResponse", "Request")
BROKEN = EVERYTHING.replace("RequestResponse", "Everything")


@pytest.fixture
def server() -> Iterator[ReviewingServer]:
    with ReviewingServer() as running:
        yield running


@pytest.fixture
def running(server: ReviewingServer, tmp_path: Path) -> Iterator[RunningProxy]:
    with proxy(server, tmp_path, reload_interval=3600) as running:
        yield running


def look(running: RunningProxy) -> None:
    """Have the proxy look at its files now."""

    async def reload() -> None:
        running.proxy.reload()

    running.call(reload())


def level(running: RunningProxy) -> Level:
    return Level(last_event(running, ask(running)).level)


def reloads(running: RunningProxy, file: str) -> tuple[float, float]:
    """Return how often reading a file anew went well, and how often not."""

    def count(outcome: str) -> float:
        labels = {"file": file, "outcome": outcome}
        name = "kubewitness_proxy_reloads_total"
        return running.metrics.registry.get_sample_value(name, labels) or 0

    return count("success"), count("error")


def written(path: Path, text: str) -> None:
    path.write_text(text)


def renamed(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


@pytest.mark.parametrize("change", [written, renamed])
def test_a_new_policy_decides_from_the_next_request_on(
    running: RunningProxy, tmp_path: Path, change: Callable[[Path, str], None]
) -> None:
    assert level(running) is Level.REQUEST_RESPONSE

    change(tmp_path / "policy.yaml", METADATA)
    look(running)

    assert level(running) is Level.METADATA
    assert reloads(running, "policy") == (1, 0)


def test_a_request_is_decided_once_by_the_policy_of_its_beginning(
    running: RunningProxy, server: ReviewingServer, tmp_path: Path
) -> None:
    with closing(connected(running)) as connection:
        connection.request("GET", "/fake/slow", headers={"Audit-ID": "slow"})
        server.until_requests(1)
        written(tmp_path / "policy.yaml", METADATA)
        look(running)
        server.release.set()
        assert connection.getresponse().read()

    assert level(running) is Level.METADATA
    slow = [each.level for each in running.backend.received if each.audit_id == "slow"]
    assert slow == [Level.REQUEST_RESPONSE] * 2


def test_a_config_map_is_exchanged_by_a_link(server: ReviewingServer, tmp_path: Path) -> None:
    for name, text in (("..1", EVERYTHING), ("..2", METADATA)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "audit.yaml").write_text(text)
        stamp = (0, 1_700_000_000_000_000_000)  # of both files, as of an image
        os.utime(tmp_path / name / "audit.yaml", ns=stamp)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "audit.yaml").symlink_to("..data/audit.yaml")
    with proxy(server, tmp_path, policy_file=tmp_path / "audit.yaml") as running:
        assert level(running) is Level.REQUEST_RESPONSE

        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        look(running)

        assert level(running) is Level.METADATA


def test_a_broken_policy_keeps_the_old_one_and_says_so_once(
    running: RunningProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path / "policy.yaml", BROKEN)
    with caplog.at_level(logging.WARNING, "kubewitness.proxy"):
        look(running)
        look(running)

    [record] = caplog.records
    text = record.getMessage()
    assert "\n" not in text
    assert text.startswith("policy: ")
    assert "policy.yaml" in text
    assert "Everything" in text
    assert text.endswith("what was read before stays in use")
    assert level(running) is Level.REQUEST_RESPONSE
    assert reloads(running, "policy") == (0, 1)


def test_each_broken_change_is_said_and_a_good_one_ends_it(
    running: RunningProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for text in (BROKEN, "rules: [", "", METADATA):
        written(tmp_path / "policy.yaml", text)
        look(running)

    assert [each.levelname for each in caplog.records].count("ERROR") == 3
    assert level(running) is Level.METADATA
    assert reloads(running, "policy") == (1, 3)


def test_a_removed_policy_stays_in_use_until_there_is_another(
    running: RunningProxy, tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").unlink()
    look(running)
    look(running)
    assert level(running) is Level.REQUEST_RESPONSE
    assert reloads(running, "policy") == (0, 1)

    written(tmp_path / "policy.yaml", REQUEST)
    look(running)
    assert level(running) is Level.REQUEST
    assert reloads(running, "policy") == (1, 1)


def test_files_are_looked_at_by_the_proxy_itself(server: ReviewingServer, tmp_path: Path) -> None:
    with proxy(server, tmp_path, reload_interval=0.01) as running:
        written(tmp_path / "policy.yaml", METADATA)
        while level(running) is not Level.METADATA:  # the event of a request says it
            pass

        assert reloads(running, "policy") == (1, 0)


def test_what_failed_for_no_fault_of_the_file_is_tried_again(tmp_path: Path) -> None:
    faults = [OSError("too many open files"), OSError("too many open files")]
    used: list[str] = []

    def use() -> None:
        if faults:
            raise faults.pop()
        used.append((tmp_path / "file").read_text())

    registry = AuditMetrics().registry
    watched = WatchedFiles("file", [tmp_path / "file"], use, ProxyMetrics(registry))
    (tmp_path / "file").write_text("new")
    for _ in range(4):
        watched.look()

    labels = {"file": "file", "outcome": "error"}
    assert used == ["new"]
    assert registry.get_sample_value("kubewitness_proxy_reloads_total", labels) == 1


def shown(running: RunningProxy, context: ssl.SSLContext) -> bytes | None:
    """Return the certificate that the proxy shows on a new connection."""
    address = ("127.0.0.1", running.port)
    with (
        socket.create_connection(address, timeout=SOON) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        return connection.getpeercert(binary_form=True)


def renew(place: Path, pair: Pair) -> None:
    (place / "tls.crt").write_bytes(pair.certificate)
    (place / "tls.key").write_bytes(pair.key)


def test_a_renewed_certificate_is_shown_on_new_connections_and_old_ones_go_on(
    running: RunningProxy, server: ReviewingServer, tmp_path: Path
) -> None:
    before = shown(running, running.client_context())
    with closing(connected(running)) as old:
        ask_by(old)
        renew(tmp_path, server.issue_server_certificate("127.0.0.1"))
        look(running)

        after = shown(running, running.client_context())
        assert after != before
        kept = old.sock
        assert ask_by(old).status == 200
        assert old.sock is kept
    assert reloads(running, "certificates") == (1, 0)


@pytest.mark.parametrize("half", ["tls.crt", "tls.key"])
def test_a_half_written_pair_leaves_the_old_one(
    running: RunningProxy,
    server: ReviewingServer,
    tmp_path: Path,
    half: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = shown(running, running.client_context())
    pair = server.issue_server_certificate("127.0.0.1")
    new = {"tls.crt": pair.certificate, "tls.key": pair.key}
    for data in (b"", new[half][:100], new[half]):  # the last is whole, but not of the other
        (tmp_path / half).write_bytes(data)
        look(running)
    assert shown(running, running.client_context()) == before
    assert reloads(running, "certificates") == (0, 3)
    assert [each.levelname for each in caplog.records] == ["ERROR"] * 3
    assert all(str(tmp_path / half) in each.getMessage() for each in caplog.records)

    renew(tmp_path, pair)
    look(running)
    assert shown(running, running.client_context()) != before


def test_an_encrypted_key_is_refused_without_asking_on_the_terminal(
    running: RunningProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    key = serialization.load_pem_private_key((tmp_path / "tls.key").read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "tls.key").write_bytes(encrypted)
    look(running)

    assert "without a password" in caplog.text
    assert ask(running).status == 200


def is_served(running: RunningProxy, context: ssl.SSLContext) -> bool:
    try:
        return ask(running, context=context).status == 200
    except OSError:
        return False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_exchanged_authority_counts_from_the_next_connection_on(
    running: RunningProxy, server: ReviewingServer, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    other = Authority()
    old, new = running.user("alice"), server.client_context()
    load(new, other.issue_client_certificate("bob"), tmp_path)
    old.maximum_version = new.maximum_version = version
    assert (is_served(running, old), is_served(running, new)) == (True, False)

    (tmp_path / "ca.crt").write_bytes(other.ca_pem)
    look(running)

    assert (is_served(running, old), is_served(running, new)) == (False, True)
    assert server.reached[-1].user is not None
    assert server.reached[-1].user.username == "bob"


def test_connections_of_clients_with_certificates_end_with_the_authority(
    running: RunningProxy, server: ReviewingServer, tmp_path: Path
) -> None:
    with (
        closing(connected(running, running.user("leaver"))) as certified,
        closing(connected(running)) as nobody,
    ):
        for each in (certified, nobody):
            assert ask_by(each).status == 200
        (tmp_path / "ca.crt").write_bytes(Authority().ca_pem)
        look(running)
        before = len(server.reached)

        with pytest.raises((OSError, http.client.HTTPException)):  # and it may not connect again
            ask_by(certified)
        assert len(server.reached) == before
        kept = nobody.sock
        assert ask_by(nobody).status == 200
        assert nobody.sock is kept


def test_what_is_under_way_goes_on_when_the_authority_is_exchanged(
    running: RunningProxy, server: ReviewingServer, tmp_path: Path
) -> None:
    with closing(connected(running, running.user("alice"))) as client:
        client.request("GET", "/fake/slow")
        server.until(lambda: len(server.reached) == 1)
        (tmp_path / "ca.crt").write_bytes(Authority().ca_pem)
        look(running)
        server.release.set()
        answer = client.getresponse()
        answer.read()

        assert answer.status == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            ask_by(client)
    assert len(server.reached) == 1


def test_a_certificate_that_ends_while_its_connection_lasts_is_refused_from_then_on(
    server: ReviewingServer, tmp_path: Path
) -> None:
    clock = [time.time_ns()]
    with proxy(server, tmp_path, now=lambda: clock[0]) as running:
        with closing(connected(running, running.user("alice"))) as client:
            assert ask_by(client).status == 200
            clock[0] += 1000 * 365 * 24 * 3600 * 1_000_000_000
            asked = ask_by(client)

        assert asked.status == 401
        event = last_event(running, asked)
        assert event.stage is Stage.RESPONSE_STARTED
        assert event.user == UserInfo()
    assert len(server.reached) == 1


def load(context: ssl.SSLContext, pair: Pair, place: Path) -> None:
    (place / "client.pem").write_bytes(pair.key + pair.certificate)
    context.load_cert_chain(place / "client.pem")


class Resuming:
    """A client that resumes its TLS session, as long as it may."""

    def __init__(self, running: RunningProxy, context: ssl.SSLContext) -> None:
        self.session: ssl.SSLSession | None = None
        self._address = ("127.0.0.1", running.port)
        self._context = context

    def ask(self) -> tuple[bool, bytes]:
        """Return whether the session was resumed, and the beginning of the answer, if one comes."""
        try:
            return self._ask()
        except OSError:
            return False, b""

    def _ask(self) -> tuple[bool, bytes]:
        with (
            socket.create_connection(self._address, timeout=SOON) as plain,
            self._context.wrap_socket(
                plain, server_hostname="127.0.0.1", session=self.session
            ) as connection,
        ):
            connection.sendall(b"GET /fake/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
            self.session = self.session or connection.session
            return bool(connection.session_reused), answer[:12]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_outlives_the_authority_that_it_was_begun_under(
    running: RunningProxy, server: ReviewingServer, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    context = running.user("alice")
    context.minimum_version = context.maximum_version = version
    client = Resuming(running, context)
    assert client.ask() == (False, b"HTTP/1.1 200")
    resumed, answer = client.ask()
    assert (resumed, answer) == (version is ssl.TLSVersion.TLSv1_2, b"HTTP/1.1 200")
    count = len(server.reached)

    (tmp_path / "ca.crt").write_bytes(Authority().ca_pem)
    look(running)

    assert client.ask()[1] == b""
    assert len(server.reached) == count


def test_an_emptied_authority_keeps_the_old_one(
    running: RunningProxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = running.user("alice")
    for text in ("", "not a certificate"):
        (tmp_path / "ca.crt").write_text(text)
        look(running)

    assert is_served(running, context)
    assert reloads(running, "certificates") == (0, 2)
    assert "ca.crt" in caplog.text


def test_files_that_cannot_be_used_at_the_start_are_named(
    server: ReviewingServer, tmp_path: Path
) -> None:
    settings = files(server, tmp_path, EVERYTHING)
    for name in ("tls_cert_file", "tls_private_key_file", "client_ca_file"):
        with pytest.raises(OSError, match=r"missing\.pem"):
            ServingContext(ProxyConfig(**{**settings, name: tmp_path / "missing.pem"}))
