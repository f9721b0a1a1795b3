"""What is shown to the webhook's server, and what it must show: always that of the files of now.

Certificates and tokens are renewed in place, so files are looked at before each request (a few
``stat`` calls) and read when they changed. Files that cannot be used, because somebody is still
writing them, leave what was in use before. Not here: the kubeconfig itself, which is read once.

Source: audit specification section 8.1; upstream client-go ``transport`` (``round_trippers.go``,
``token_source.go``, ``cert_rotation.go``).
"""

import base64
import logging
import os
import re
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Generic, NoReturn, TypeVar
from urllib.parse import quote

from kubewitness.backends.kubeconfig import Kubeconfig
from kubewitness.backends.kubeconfig_rules import is_header_text
from kubewitness.backends.stamps import Stamp, stamp_of
from kubewitness.documents import shown
from kubewitness.errors import KubeconfigError, Problem

Headers = tuple[tuple[str, str], ...]
"""Names and values; a name may come more than once."""

_log = logging.getLogger("kubewitness.backends")

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_NO_KEY = "it holds no private key that can be used (-----BEGIN PRIVATE KEY-----)"
_NOT_THE_KEY = "the key is not that of the client-certificate"
_KEY_FAULTS = {  # by OpenSSL's reason; it gives none for what is no key
    None: _NO_KEY,
    "KEY_VALUES_MISMATCH": _NOT_THE_KEY,
    "NO_CERTIFICATE_ASSIGNED": _NOT_THE_KEY,
}
_LEGAL_IN_NAMES = "!#$&'*+-.^_`|~"
"""What may stand in a header's name beside letters and digits; upstream escapes ``%``, too."""

_T = TypeVar("_T")


class Credentials:
    """The TLS context and the headers for requests to the server of a kubeconfig.

    Raises:
        KubeconfigError: With every problem of the files that the kubeconfig names.
    """

    def __init__(self, kubeconfig: Kubeconfig) -> None:
        self._lock = threading.Lock()
        self._tls = _Watched(_tls_files(kubeconfig), lambda: _context(kubeconfig))
        self._headers = _Watched(_token_files(kubeconfig), lambda: _headers(kubeconfig))
        problems = self._tls.start() + self._headers.start()
        if problems:
            raise KubeconfigError(problems)

    def current(self) -> tuple[ssl.SSLContext | None, Headers]:
        """Return the context, None for an http server, and the headers for the next request.

        Another context than before means that new connections must be made with it.
        """
        with self._lock:
            return self._tls.current(), self._headers.current()


class _Watched(Generic[_T]):
    """A value made of the content of files: made anew when one of them changed."""

    def __init__(self, files: Sequence[Path], make: Callable[[], _T]) -> None:
        self._files = files
        self._make = make
        self._value: _T
        self._used: list[Stamp] = []
        self._refused: list[Stamp] = []

    def start(self) -> tuple[Problem, ...]:
        """Make the first value, and return why it cannot be made."""
        self._used = self._stamps()
        try:
            self._value = self._make()
        except KubeconfigError as error:
            return error.problems
        return ()

    def current(self) -> _T:
        stamps = self._stamps()  # before the files are read: a change meanwhile is seen next time
        if stamps != self._used:
            self._renew(stamps)
        return self._value

    def _renew(self, stamps: list[Stamp]) -> None:
        """Make a new value; while that fails it is tried each time, but said once a change."""
        try:
            self._value = self._make()
            self._used = stamps
        except KubeconfigError as error:
            if stamps != self._refused:
                text = "; ".join(map(str, error.problems))
                _log.warning("%s; what was read before stays in use", text)
            self._refused = stamps

    def _stamps(self) -> list[Stamp]:
        return [stamp_of(file) for file in self._files]


def _tls_files(kubeconfig: Kubeconfig) -> list[Path]:
    files = (kubeconfig.certificate_authority, kubeconfig.client_certificate, kubeconfig.client_key)
    return [file for file in files if file]


def _token_files(kubeconfig: Kubeconfig) -> list[Path]:
    return [kubeconfig.token_file] if kubeconfig.token_file else []


def _is_https(kubeconfig: Kubeconfig) -> bool:
    return kubeconfig.server.lower().startswith("https:")


def _context(kubeconfig: Kubeconfig) -> ssl.SSLContext | None:
    if not _is_https(kubeconfig):
        return None
    material = _Material(kubeconfig)
    roots = material.certificates("certificate_authority")
    chain = material.certificates("client_certificate")
    key = material.read("client_key")
    context = _verifying_context(roots, insecure=kubeconfig.insecure_skip_tls_verify)
    if chain and key is not None:
        material.use_key(context, chain, key)
    material.check()
    return context


def _verifying_context(roots: str, *, insecure: bool) -> ssl.SSLContext:
    """Make a context that trusts these certificates, or the system's, as Go's client does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.hostname_checks_common_name = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # any certificate may be a root in Go
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif roots:
        context.load_verify_locations(cadata=roots)
    else:
        context.load_default_certs()
    return context


def _headers(kubeconfig: Kubeconfig) -> Headers:
    if not _is_https(kubeconfig):
        return ()
    material = _Material(kubeconfig)
    token = material.token()
    material.check()
    return (*_authorization(kubeconfig, token), *_impersonation(kubeconfig))


def _authorization(kubeconfig: Kubeconfig, token: str) -> Iterator[tuple[str, str]]:
    if token:
        yield "Authorization", f"Bearer {token}"
    elif kubeconfig.username or kubeconfig.password:
        pair = f"{kubeconfig.username}:{kubeconfig.password}".encode()
        yield "Authorization", f"Basic {base64.b64encode(pair).decode()}"


def _impersonation(kubeconfig: Kubeconfig) -> Iterator[tuple[str, str]]:
    if kubeconfig.impersonate:
        yield "Impersonate-User", kubeconfig.impersonate
    if kubeconfig.impersonate_uid:
        yield "Impersonate-Uid", kubeconfig.impersonate_uid
    for group in kubeconfig.impersonate_groups:
        yield "Impersonate-Group", group
    for key, values in kubeconfig.impersonate_extra:
        for value in values:
            yield f"Impersonate-Extra-{quote(key, safe=_LEGAL_IN_NAMES)}", value


class _EncryptedKeyError(Exception):
    """OpenSSL asks for a passphrase."""


class _Material:
    """Reads what a kubeconfig holds or points to, and gathers what is wrong with it."""

    def __init__(self, kubeconfig: Kubeconfig) -> None:
        self._kubeconfig = kubeconfig
        self._problems: list[Problem] = []

    def check(self) -> None:
        """Raise what was found to be wrong."""
        if self._problems:
            raise KubeconfigError(tuple(self._problems))

    def read(self, name: str) -> bytes | None:
        """Return the data of an attribute, or of its file; None when there is neither."""
        data: bytes = getattr(self._kubeconfig, f"{name}_data", b"")
        file: Path | None = getattr(self._kubeconfig, name)
        if data or file is None:
            return data or None
        try:
            return file.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: no path can hold such a character
            self._refuse(name, getattr(error, "strerror", None) or str(error))
            return None

    def certificates(self, name: str) -> str:
        """Return the certificates of an attribute in PEM, without what stands between them."""
        data = self.read(name)
        if data is None:
            return ""
        found = _CERTIFICATE.findall(data)
        pem = b"\n".join(found).decode("ascii", "backslashreplace")
        if len(found) < data.count(_BEGIN_CERTIFICATE):
            self._refuse(name, "a certificate in it has no end; the file is not complete")
        elif not found:
            self._refuse(name, "it holds no certificate (-----BEGIN CERTIFICATE-----)")
        elif not _are_certificates(pem):
            self._refuse(name, "a certificate in it is damaged")
        else:
            return pem
        return ""

    def use_key(self, context: ssl.SSLContext, chain: str, key: bytes) -> None:
        """Let a context show a certificate."""
        try:
            with _as_file(chain.encode()) as chain_file, _as_file(key) as key_file:
                context.load_cert_chain(chain_file, key_file, password=_refuse_to_ask)
        except _EncryptedKeyError:
            message = 'the key is encrypted; "openssl pkey -in KEY -out NEW" decrypts it'
            self._refuse("client_key", message)
        except ssl.SSLError as error:
            self._refuse("client_key", _KEY_FAULTS.get(error.reason, f"refused: {error.reason}"))
        except OSError as error:
            self._refuse("client_key", f"no private copy can be made: {error.strerror}")

    def token(self) -> str:
        """Return the token, empty when there is none."""
        data = self.read("token_file")
        if data is None:
            return self._kubeconfig.token
        token = data.decode("utf-8", "replace").strip()
        if not token:
            self._refuse("token_file", "it is empty; write a token into it")
        elif "\ufffd" in token or not is_header_text(token):
            self._refuse("token_file", "it holds what cannot be sent; write only a token into it")
        return token

    def _refuse(self, name: str, message: str) -> None:
        file: Path | None = getattr(self._kubeconfig, name)
        if file is None:
            problem = self._kubeconfig.problem(f"{name}_data", message)
        else:
            problem = self._kubeconfig.problem(name, f"{shown(str(file))}: {message}")
        self._problems.append(problem)


def _are_certificates(pem: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
    except ssl.SSLError:
        return False
    return True


def _refuse_to_ask() -> NoReturn:
    """Stand in for OpenSSL's own prompt on the terminal."""
    raise _EncryptedKeyError


def _as_file(data: bytes) -> AbstractContextManager[str]:
    """Lend OpenSSL, which reads keys only from files, the name of one with this content."""
    has_memory_files = hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir()
    return _in_memory(data) if has_memory_files else _on_disk(data)


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    with open(os.memfd_create("kubewitness"), "wb") as file:  # noqa: PTH123  # no path to open
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


@contextmanager
def _on_disk(data: bytes) -> Iterator[str]:
    descriptor, name = tempfile.mkstemp()  # only its owner may open it
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  # it is open already
            file.write(data)
        yield name
    finally:
        Path(name).unlink()
