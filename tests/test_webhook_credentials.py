"""What is shown to the webhook's server is always that of the files of now: real TLS handshakes."""

import os
import ssl
import stat
from contextlib import closing
from pathlib import Path
from socket import socketpair
from threading import Thread
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from kubewitness.backends import credentials as room
from kubewitness.backends.credentials import Credentials
from kubewitness.backends.kubeconfig import Kubeconfig
from kubewitness.errors import KubeconfigError, Problem

SECRET = "hunter2"  # noqa: S105
KEY_PLACE = "webhook.yaml:7:5: users[0].user.client_key"
KEPT = "what was read before stays in use"
NOT_THE_KEY = "the key is not that of the client-certificate"
SERVER = "https://audit.example/k8s"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def other() -> trustme.CA:
    return trustme.CA()


class Files:
    """The files that a kubeconfig points to, as they are written and written anew."""

    def __init__(self, directory: Path) -> None:
        self.ca = directory / "ca.pem"
        self.certificate = directory / "client.pem"
        self.key = directory / "client.key"
        self.token = directory / "token"

    def put_client(self, authority: trustme.CA, name: str) -> None:
        issued = authority.issue_cert(common_name=name)
        replace(self.certificate, pem_of(issued))
        replace(self.key, issued.private_key_pem.bytes())

    def kubeconfig(self, **changes: Any) -> Kubeconfig:
        """Return one of a server with client certificate; its fields are said to be in line 7."""
        settings: dict[str, Any] = {
            "server": SERVER,
            "certificate_authority": self.ca,
            "client_certificate": self.certificate,
            "client_key": self.key,
        } | changes
        places = {name: Problem("webhook.yaml", 7, 5, f"users[0].user.{name}") for name in settings}
        return Kubeconfig(**settings, places=places)


def pem_of(issued: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in issued.cert_chain_pems)


def replace(path: Path, data: bytes) -> None:
    """Put another file in a file's place, as careful programs do."""
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").replace(path)


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    files = Files(tmp_path)
    files.ca.write_bytes(authority.cert_pem.bytes())
    files.put_client(authority, "first")
    files.token.write_bytes(b" first\n")
    return files


class Peer:
    """The server's side of one handshake, and what it saw."""

    def __init__(self, authority: trustme.CA, clients: trustme.CA, name: str) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        authority.issue_cert(name).configure_cert(self.context)
        clients.configure_trust(self.context)
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.client = ""

    def shake(self, connection: Any) -> None:
        try:
            with self.context.wrap_socket(connection, server_side=True) as wrapped:
                names: Any = (wrapped.getpeercert() or {}).get("subject", ())
                self.client = dict(pair for part in names for pair in part).get("commonName", "")
                wrapped.sendall(b"!")
        except OSError:
            self.client = "none"


def seen(
    context: ssl.SSLContext | None,
    authority: trustme.CA,
    *,
    clients: trustme.CA | None = None,
    name: str = "audit.example",
) -> str:
    """Shake hands with a server, and return the name in the client certificate that it saw.

    Raises:
        ssl.SSLError: The client does not trust the server.
    """
    assert context is not None
    ours, theirs = socketpair()
    peer = Peer(authority, clients or authority, name)
    thread = Thread(target=peer.shake, args=(theirs,))
    thread.start()
    try:
        with closing(ours), context.wrap_socket(ours, server_hostname="audit.example") as wrapped:
            assert wrapped.selected_alpn_protocol() == "http/1.1"
            assert wrapped.version() in ("TLSv1.2", "TLSv1.3")
            wrapped.recv(1)
    finally:
        thread.join()
        theirs.close()
    return peer.client


def test_the_client_certificate_is_shown(files: Files, authority: trustme.CA) -> None:
    context, _ = Credentials(files.kubeconfig()).current()

    assert seen(context, authority) == "first"


@pytest.mark.parametrize("lend", [room._in_memory, room._on_disk])
def test_openssl_is_lent_a_file_that_nobody_else_can_read(lend: Any) -> None:
    with lend(b"key") as name:
        path = Path(name)
        assert path.read_bytes() == b"key"
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == 0o600 or str(path.readlink()).startswith("/memfd:")

    assert not path.exists()


def test_data_is_as_good_as_files(files: Files, authority: trustme.CA) -> None:
    kubeconfig = Kubeconfig(
        server=SERVER,
        certificate_authority_data=files.ca.read_bytes(),
        client_certificate_data=files.certificate.read_bytes(),
        client_key_data=files.key.read_bytes(),
    )
    context, _ = Credentials(kubeconfig).current()

    assert seen(context, authority) == "first"
    assert "KEY-----" not in repr(kubeconfig)


def test_a_server_of_another_name_or_authority_is_not_trusted(
    files: Files, authority: trustme.CA, other: trustme.CA
) -> None:
    context, _ = Credentials(files.kubeconfig()).current()

    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        seen(context, authority, name="other.example")
    with pytest.raises(ssl.SSLCertVerificationError):
        seen(context, other, clients=authority)


def test_no_authority_means_the_systems(files: Files, other: trustme.CA) -> None:
    context, _ = Credentials(files.kubeconfig(certificate_authority=None)).current()

    with pytest.raises(ssl.SSLCertVerificationError):
        seen(context, other)


def test_insecure_trusts_everybody(files: Files, authority: trustme.CA, other: trustme.CA) -> None:
    kubeconfig = files.kubeconfig(certificate_authority=None, insecure_skip_tls_verify=True)
    context, _ = Credentials(kubeconfig).current()

    assert seen(context, other, clients=authority, name="x.example") == "first"


def test_an_intermediate_certificate_may_be_the_root_as_in_go(
    files: Files, authority: trustme.CA
) -> None:
    middle = authority.create_child_ca()
    files.ca.write_bytes("Übrigens:\n".encode() + middle.cert_pem.bytes() + b"and no more")
    context, _ = Credentials(files.kubeconfig()).current()

    assert seen(context, middle, clients=authority) == "first"


def test_nothing_is_read_when_nothing_changed(files: Files) -> None:
    credentials = Credentials(files.kubeconfig(token_file=files.token))
    context, headers = credentials.current()

    for _ in range(3):
        context_again, headers_again = credentials.current()
        assert context_again is context  # what is read makes another one
        assert headers_again is headers


def test_a_new_client_certificate_is_used(files: Files, authority: trustme.CA) -> None:
    credentials = Credentials(files.kubeconfig())
    before, _ = credentials.current()
    files.put_client(authority, "second")
    after, _ = credentials.current()

    assert after is not before
    assert seen(after, authority) == "second"
    assert seen(before, authority) == "first"


def test_a_new_authority_is_used(files: Files, authority: trustme.CA, other: trustme.CA) -> None:
    credentials = Credentials(files.kubeconfig())
    replace(files.ca, other.cert_pem.bytes())
    context, _ = credentials.current()

    assert seen(context, other, clients=authority) == "first"
    with pytest.raises(ssl.SSLCertVerificationError):
        seen(context, authority)


def test_a_link_that_leads_elsewhere_is_a_change(files: Files, tmp_path: Path) -> None:
    """So the kubelet renews tokens and secrets."""
    first, second, link = tmp_path / "1", tmp_path / "2", tmp_path / "link"
    first.write_text("one")
    second.write_text("two")
    link.symlink_to(first)
    credentials = Credentials(files.kubeconfig(token_file=link))
    link.unlink()
    link.symlink_to(second)

    assert ("Authorization", "Bearer two") in credentials.current()[1]


def test_what_is_half_written_is_not_used_and_said_once(
    files: Files, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = Credentials(files.kubeconfig())
    before, _ = credentials.current()
    whole = authority.issue_cert(common_name="second")
    replace(files.key, whole.private_key_pem.bytes())

    assert {credentials.current()[0] for _ in range(3)} == {before}
    assert caplog.messages == [f"{KEY_PLACE}: {files.key}: {NOT_THE_KEY}; {KEPT}"]
    replace(files.certificate, pem_of(whole)[:300])
    assert {credentials.current()[0] for _ in range(3)} == {before}
    assert "has no end" in caplog.messages[1]
    replace(files.certificate, pem_of(whole))
    assert seen(credentials.current()[0], authority) == "second"
    assert len(caplog.messages) == 2


def test_files_that_come_back_are_used(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    credentials = Credentials(files.kubeconfig(token_file=files.token))
    files.token.unlink()
    assert ("Authorization", "Bearer first") in credentials.current()[1]
    files.token.write_text("second")

    assert ("Authorization", "Bearer second") in credentials.current()[1]
    assert ["No such file" in message for message in caplog.messages] == [True]


def test_a_new_token_needs_no_new_connections(files: Files) -> None:
    credentials = Credentials(files.kubeconfig(token_file=files.token, token="unused"))  # noqa: S106
    context, headers = credentials.current()
    replace(files.token, b"\tsecond \n")
    context_after, headers_after = credentials.current()

    assert (headers, headers_after) == (
        (("Authorization", "Bearer first"),),
        (("Authorization", "Bearer second"),),
    )
    assert context_after is context


HEADERS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, []),
    ({"token": SECRET}, [("Authorization", f"Bearer {SECRET}")]),
    ({"username": "jané", "password": "a:b"}, [("Authorization", "Basic amFuw6k6YTpi")]),
    ({"username": "jane"}, [("Authorization", "Basic amFuZTo=")]),
    (
        {
            "impersonate": "jane",
            "impersonate_uid": "7",
            "impersonate_groups": ("a", "b"),
            "impersonate_extra": (("acme.io/é%", ("x", "y")), ("k", ())),
        },
        [
            ("Impersonate-User", "jane"),
            ("Impersonate-Uid", "7"),
            ("Impersonate-Group", "a"),
            ("Impersonate-Group", "b"),
            ("Impersonate-Extra-acme.io%2F%C3%A9%25", "x"),
            ("Impersonate-Extra-acme.io%2F%C3%A9%25", "y"),
        ],
    ),
]


@pytest.mark.parametrize(("settings", "headers"), HEADERS)
def test_the_headers(settings: dict[str, Any], headers: list[tuple[str, str]]) -> None:
    assert list(Credentials(Kubeconfig(server=SERVER, **settings)).current()[1]) == headers


def test_an_http_server_gets_nothing() -> None:
    kubeconfig = Kubeconfig(server="http://h", token=SECRET, client_key=Path("none"))

    assert Credentials(kubeconfig).current() == (None, ())


def encrypted(files: Files) -> bytes:
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(SECRET.encode()),
    )


def refused(kubeconfig: Kubeconfig) -> list[str]:
    with pytest.raises(KubeconfigError) as error:
        Credentials(kubeconfig)
    assert SECRET not in str(error.value)
    return [problem.message for problem in error.value.problems]


def test_an_encrypted_key_is_refused_and_no_passphrase_asked_for(files: Files) -> None:
    files.key.write_bytes(encrypted(files))

    assert refused(files.kubeconfig()) == [
        f'{files.key}: the key is encrypted; "openssl pkey -in KEY -out NEW" decrypts it'
    ]


BLOCK = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n"
UNUSABLE: list[tuple[str, bytes, str]] = [
    ("ca", b"", "it holds no certificate (-----BEGIN CERTIFICATE-----)"),
    ("ca", SECRET.encode(), "it holds no certificate (-----BEGIN CERTIFICATE-----)"),
    ("ca", BLOCK % b"AA==", "a certificate in it is damaged"),
    ("ca", BLOCK % b"\xff", "a certificate in it is damaged"),
    ("ca", BLOCK[:40], "a certificate in it has no end; the file is not complete"),
    ("certificate", b"", "it holds no certificate (-----BEGIN CERTIFICATE-----)"),
    ("key", b"", "it holds no private key that can be used (-----BEGIN PRIVATE KEY-----)"),
    ("key", b"hunter2", "it holds no private key that can be used (-----BEGIN PRIVATE KEY-----)"),
    ("token", b" \n", "it is empty; write a token into it"),
    ("token", b"hunter2\nhunter2", "it holds what cannot be sent; write only a token into it"),
    ("token", b"hunter2\xff", "it holds what cannot be sent; write only a token into it"),
]


@pytest.mark.parametrize(("name", "data", "message"), UNUSABLE)
def test_a_file_that_cannot_be_used(name: str, data: bytes, message: str, files: Files) -> None:
    file: Path = getattr(files, name)
    file.write_bytes(data)

    assert refused(files.kubeconfig(token_file=files.token)) == [f"{file}: {message}"]


def test_all_problems_come_at_once(files: Files, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    kubeconfig = files.kubeconfig(
        certificate_authority=Path("a\0b"),
        client_certificate=tmp_path,
        client_key=None,
        client_key_data=SECRET.encode(),
        token_file=nowhere,
    )

    assert refused(kubeconfig) == [
        "a\\x00b: embedded null byte",
        f"{tmp_path}: {os.strerror(21)}",
        f"{nowhere}: {os.strerror(2)}",
    ]
