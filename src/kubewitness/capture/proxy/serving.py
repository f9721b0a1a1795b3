"""The proxy's own side of TLS: its certificate, and whose client certificates it believes.

Both can be exchanged while it runs: each new connection is moved to the context of the moment.
A TLS session is not resumed across an exchange, for nobody would look at its certificate again.
"""

import ssl
import time
from collections.abc import Callable
from pathlib import Path

from kubewitness.capture.proxy.config import ProxyConfig


class ServingContext:
    """Makes and keeps the TLS context of a server.

    Attributes:
        context: What the server listens with.

    Args:
        config: Names the files.
        now: Unix time in seconds, by which OpenSSL dates its sessions.

    Raises:
        OSError: A file cannot be read, or not be used; the message says which.
    """

    def __init__(self, config: ProxyConfig, *, now: Callable[[], float] = time.time) -> None:
        self._config = config
        self._now = now
        self._exchanged = 0.0
        self._current = _context(config)
        self._authorities = _authorities(self._current)
        self.context = self._current
        self.context.sni_callback = self._move

    def reload(self) -> bool:
        """Read the files again, for the connections that come from now on.

        Returns:
            Whether other authorities are believed than before.
        """
        self._current = _context(self._config)
        self._exchanged = self._now()
        before, self._authorities = self._authorities, _authorities(self._current)
        return self._authorities != before

    def _move(
        self,
        connection: ssl.SSLObject,
        name: str | None,  # noqa: ARG002
        initial: ssl.SSLContext,  # noqa: ARG002
    ) -> ssl.AlertDescription | None:
        """Use the context of now; None lets the handshake go on."""
        if connection.session_reused and not self._is_recent(connection.session):
            return ssl.AlertDescription.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
        connection.context = self._current
        return None

    def _is_recent(self, session: ssl.SSLSession | None) -> bool:
        return session is not None and session.time > self._exchanged


def serving_files(config: ProxyConfig) -> list[Path]:
    """Return the files that a context is made of."""
    files = [config.tls_cert_file, config.tls_private_key_file]
    return files + ([config.client_ca_file] if config.client_ca_file else [])


def _authorities(context: ssl.SSLContext) -> frozenset[bytes]:
    return frozenset(context.get_ca_certs(binary_form=True))


def _context(config: ProxyConfig) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # TLS 1.3 resumes no sessions so; what TLS 1.2 remembers without tickets, `_move` judges.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(config.tls_cert_file, config.tls_private_key_file, _refuse_to_ask)
    except (ssl.SSLError, OSError) as error:
        raise OSError(
            f"{config.tls_cert_file} with {config.tls_private_key_file}: {_reason(error)}"
        ) from None
    if config.client_ca_file is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        _trust(context, config.client_ca_file)
    return context


def _trust(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(cafile=file)
    except (ssl.SSLError, OSError) as error:
        raise OSError(f"{file}: {_reason(error)}") from None
    if not context.get_ca_certs():
        raise OSError(f"{file}: no certificate of an authority is in it")


def _refuse_to_ask() -> str:
    """Stand in for OpenSSL's own prompt on the terminal."""
    raise OSError("the key is encrypted; write one without a password")


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"not a certificate and its key in PEM ({error.reason or error})"
    return error.strerror or str(error)
