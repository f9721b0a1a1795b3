"""Who the webhook's server is, and who we are to it: certificates, tokens, names, proxies."""

import base64
import datetime
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from collecting import events
from kubewitness.backends import Reason
from receiver import Authority, Receiver, Reply, receiver
from vectors import DATA
from webhooks import Sender

SHA1 = DATA / "sha1"
"""A server's certificate for 127.0.0.1, signed with SHA-1, and its authority; until 2126."""

CERTIFICATE = {"client-certificate": "client.crt", "client-key": "client.key"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Iterator[Receiver]:
    with receiver(authority.server_context()) as running:
        yield running


def is_delivered(kubeconfig: Path, **settings: object) -> tuple[bool, Sender]:
    """Send an event to the server of a kubeconfig."""
    sender = Sender(kubeconfig, **settings)  # type: ignore[arg-type]
    well = sender.backend.process_events(events(1))
    sender.end()
    return well, sender


def test_a_server_of_another_authority_gets_nothing(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    stranger.issue_cert("127.0.0.1").configure_cert(context)
    with receiver(context) as impostor:
        well, sender = is_delivered(authority.kubeconfig(impostor.address))

        assert well is False
        assert impostor.requests == []
    assert sender.dropped == {("webhook", Reason.NOT_ACCEPTED): 1}
    assert "its certificate is not trusted" in caplog.text


def test_without_a_client_certificate_the_server_refuses(
    authority: Authority, server: Receiver
) -> None:
    well, _ = is_delivered(authority.kubeconfig(server.address, user={"token": "t"}))

    assert well is False
    assert server.requests == []


def test_certificates_as_data(authority: Authority, server: Receiver) -> None:
    def data(name: str) -> str:
        return base64.b64encode((authority.directory / name).read_bytes()).decode()

    kubeconfig = authority.kubeconfig(
        "",
        cluster={"server": server.address, "certificate-authority-data": data("ca.crt")},
        user={
            "client-certificate-data": data("client.crt"),
            "client-key-data": data("client.key"),
        },
    )

    assert is_delivered(kubeconfig)[0] is True


def test_the_name_in_the_certificate_counts_unless_another_is_given(authority: Authority) -> None:
    with receiver(authority.server_context("audit.example.com")) as server:
        cluster = {"server": server.address, "certificate-authority": "ca.crt"}
        assert is_delivered(authority.kubeconfig("", cluster=cluster))[0] is False
        cluster["tls-server-name"] = "audit.example.com"
        assert is_delivered(authority.kubeconfig("", cluster=cluster))[0] is True
        cluster["tls-server-name"] = "other.example.com"
        assert is_delivered(authority.kubeconfig("", cluster=cluster))[0] is False


def test_verification_can_be_given_up(authority: Authority) -> None:
    with receiver(authority.server_context("somebody.else")) as server:
        cluster = {"server": server.address, "insecure-skip-tls-verify": True}

        assert is_delivered(authority.kubeconfig("", cluster=cluster))[0] is True


def test_a_certificate_without_names_is_counted_and_explained(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "server.pem").write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (tmp_path / "ca.crt").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with receiver(context) as server:
        well, sender = is_delivered(authority.kubeconfig(server.address))

    assert well is False
    assert sender.metrics.sums(sender.metrics.missing_san) == {(): 5}
    assert "it names no host (subjectAltName)" in caplog.text


@pytest.mark.parametrize(
    ("user", "headers"),
    [
        ({"token": "abc"}, {"Authorization": ["Bearer abc"]}),
        ({"username": "ann", "password": "pw"}, {"Authorization": ["Basic YW5uOnB3"]}),
        (
            {"token": "abc", "as": "bob", "as-groups": ["sre", "oncall"]},
            {
                "Authorization": ["Bearer abc"],
                "Impersonate-User": ["bob"],
                "Impersonate-Group": ["sre", "oncall"],
            },
        ),
    ],
)
def test_credentials_are_in_the_headers(
    authority: Authority,
    server: Receiver,
    user: dict[str, object],
    headers: dict[str, list[str]],
) -> None:
    assert is_delivered(authority.kubeconfig(server.address, user={**CERTIFICATE, **user}))[0]

    for name, values in headers.items():
        assert server.requests[0].header(name) == values


def test_a_plain_server_is_sent_no_credentials(authority: Authority) -> None:
    with receiver() as server:
        kubeconfig = authority.kubeconfig(server.address, user={"token": "abc", "as": "bob"})

        assert is_delivered(kubeconfig)[0] is True
        assert server.requests[0].header("Authorization") == []
        assert server.requests[0].header("Impersonate-User") == []


def test_compression_of_answers_can_be_declined(authority: Authority, server: Receiver) -> None:
    cluster = {
        "server": server.address, "certificate-authority": "ca.crt", "disable-compression": True,
    }  # fmt: skip

    assert is_delivered(authority.kubeconfig("", cluster=cluster))[0] is True
    assert server.requests[0].header("Accept-Encoding") == ["identity"]


def test_a_new_token_is_used_at_the_next_request(authority: Authority, server: Receiver) -> None:
    token = authority.directory / "token"
    token.write_text("first\n")
    user = {**CERTIFICATE, "tokenFile": "token"}
    sender = Sender(authority.kubeconfig(server.address, user=user))
    sender.backend.process_events(events(1))
    token.write_text("the second\n")
    sender.backend.process_events(events(2))
    sender.end()

    tokens = [request.header("Authorization") for request in server.requests]
    assert tokens == [["Bearer first"], ["Bearer the second"]]


def test_a_renewed_certificate_is_shown_on_a_new_connection(
    authority: Authority, server: Receiver
) -> None:
    sender = Sender(authority.kubeconfig(server.address))
    sender.backend.process_events(events(1))
    renewed = authority.ca.issue_cert("audit-client-2@example.com")
    renewed.private_key_pem.write_to_path(authority.client_key)
    sender.backend.process_events(events(2))  # the key is there, its certificate not yet
    renewed.cert_chain_pems[0].write_to_path(authority.client_certificate)
    sender.backend.process_events(events(3))
    sender.end()

    assert server.delivered == ["1", "2", "3"]
    assert server.connections == 2


def test_another_server_gets_the_events_but_no_credentials(
    authority: Authority, server: Receiver
) -> None:
    with receiver(authority.server_context()) as other:
        server.script = [Reply(307, {"Location": other.address + "/x"})]
        user = {**CERTIFICATE, "token": "abc"}
        well, _ = is_delivered(authority.kubeconfig(server.address, user=user))

        assert well is True
        assert other.delivered == ["1"]
        assert other.requests[0].header("Authorization") == []
        assert server.requests[0].header("Authorization") == ["Bearer abc"]


class Proxy:
    """A proxy on loopback that connects to whatever it is asked to, and remembers what."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.asked: list[bytes] = []
        self._refuses = refuses
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        client, _ = self._listening.accept()
        if self._refuses:
            self._refuse(client)
            return
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.asked.append(head)
        host, _, port = head.split()[1].decode().rpartition(":")
        target = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        back = threading.Thread(target=self._copy, args=(target, client))
        back.start()
        self._copy(client, target)
        back.join()
        client.close()
        target.close()

    def _refuse(self, client: socket.socket) -> None:
        for _ in range(5):
            self.asked.append(client.recv(4096))
            client.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            client.close()
            if len(self.asked) < 5:
                client, _ = self._listening.accept()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self._threads[0].join(10)
        self._listening.close()


def test_a_proxy_of_the_kubeconfig_is_gone_through(authority: Authority, server: Receiver) -> None:
    proxy = Proxy()
    cluster = {
        "server": server.address,
        "certificate-authority": "ca.crt",
        "proxy-url": proxy.address.replace("//", "//user:secret@"),
    }
    well, _ = is_delivered(authority.kubeconfig("", cluster=cluster))
    proxy.close()

    assert well is True
    assert proxy.asked[0].startswith(b"CONNECT 127.0.0.1:%d" % server.port)
    assert b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=" in proxy.asked[0]
    assert server.delivered == ["1"]


def test_the_password_of_a_proxy_is_in_no_message(
    authority: Authority, server: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy(refuses=True)
    cluster = {
        "server": server.address,
        "certificate-authority": "ca.crt",
        "proxy-url": proxy.address.replace("//", "//bob:s3cret@"),
    }
    well, _ = is_delivered(authority.kubeconfig("", cluster=cluster))
    proxy.close()

    assert well is False
    assert "407" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_certificate_that_is_signed_with_sha1_is_counted_and_explained(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT@SECLEVEL=0")  # or it would not even be loaded
    context.load_cert_chain(SHA1 / "server.pem")
    authority.ca_file.write_bytes((SHA1 / "ca.crt").read_bytes())
    with receiver(context) as server:
        well, sender = is_delivered(authority.kubeconfig(server.address))

    assert well is False
    assert sender.metrics.sums(sender.metrics.insecure_sha1) == {(): 5}
    assert "its signature uses SHA-1" in caplog.text


def test_a_server_without_names_is_looked_at_once_and_not_for_long(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver(authority.server_context("somebody.else")) as server:
        well, sender = is_delivered(authority.kubeconfig(server.address))

    assert well is False
    assert sender.metrics.sums(sender.metrics.missing_san) == {(): 0}
    assert "Hostname mismatch" in caplog.text or "IP address mismatch" in caplog.text
    assert server.connections == 6  # five attempts, and one look


def test_what_is_on_this_machine_is_not_proxied_by_the_environment(
    authority: Authority, server: Receiver
) -> None:
    environment = {"HTTPS_PROXY": "http://127.0.0.1:1"}

    assert is_delivered(authority.kubeconfig(server.address), environment=environment)[0] is True
