"""A certificate authority for one test: servers and clients that trust each other.

It needs trustme (``pip install kubewitness[testing]``), which is imported when a certificate is
made, not before.
"""

import ssl
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import trustme


class Pair(NamedTuple):
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Issues certificates as a cluster's authority does.

    Args:
        ca: The authority behind it; a new one when there is none.
    """

    def __init__(self, ca: "trustme.CA | None" = None) -> None:
        self.ca = ca if ca is not None else _new_ca()

    @property
    def ca_pem(self) -> bytes:
        """The authority's own certificate."""
        return self.ca.cert_pem.bytes()

    def issue_server_certificate(self, *names: str) -> Pair:
        """Return a certificate for a server at these host names and addresses."""
        leaf = self.ca.issue_cert(*(names or ("127.0.0.1", "localhost")))
        chain = b"".join(each.bytes() for each in leaf.cert_chain_pems)
        return Pair(chain, leaf.private_key_pem.bytes())

    def issue_client_certificate(self, common_name: str, organizations: Iterable[str] = ()) -> Pair:
        """Return a certificate of a user (the common name) in groups (the organizations)."""
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(_subject(common_name, organizations), key.public_key())
        return Pair(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def server_context(self, pair: Pair) -> ssl.SSLContext:
        """Return a server's side of TLS, which takes a client certificate when it is given one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _load(context, pair)
        context.load_verify_locations(cadata=self.ca_pem.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        return context

    def client_context(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return a client's side of TLS, with a certificate if there is one."""
        context = ssl.create_default_context(cadata=self.ca_pem.decode())
        if pair is not None:
            _load(context, pair)
        return context

    def _signed(self, subject: Any, public_key: Any) -> Any:
        from cryptography import x509  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415

        issuer = x509.load_pem_x509_certificate(self.ca_pem)
        signer: Any = serialization.load_pem_private_key(self.ca.private_key_pem.bytes(), None)
        builder = x509.CertificateBuilder(issuer.subject, subject, public_key)
        return (
            builder.serial_number(x509.random_serial_number())
            .not_valid_before(issuer.not_valid_before_utc)
            .not_valid_after(issuer.not_valid_after_utc)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
            .sign(signer, hashes.SHA256())
        )


def _new_ca() -> "trustme.CA":
    try:
        import trustme  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("certificates need trustme: pip install kubewitness[testing]") from error
    return trustme.CA()


def _subject(common_name: str, organizations: Iterable[str]) -> Any:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _load(context: ssl.SSLContext, pair: Pair) -> None:
    """Give a context its certificate; the ssl module takes it from a file only."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(pair.key + pair.certificate)
        file.flush()
        context.load_cert_chain(file.name)
