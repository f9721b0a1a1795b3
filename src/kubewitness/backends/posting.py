"""One POST to the webhook's server: connections, TLS, redirects, and what an answer means.

The connections live in an event loop of their own thread, so that callers of any kind (threads,
other event loops, plain programs) share them and none of them has to drive it. Not here: when to
try again (`webhook`), which server it is and with what credentials (`kubeconfig`, `credentials`).

Unlike upstream's client, a redirect that would turn the POST into a GET (301, 302, 303) is a
failure: following it loses the events while everything looks well. 307 and 308 are followed, never
from https to http, and to another server without token, password and impersonation.

Source: audit specification sections 8.2 and 8.3; upstream client-go ``rest/request.go``.
"""

import asyncio
import base64
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from enum import StrEnum
from types import SimpleNamespace
from typing import NamedTuple
from weakref import WeakSet

import aiohttp
import uvloop
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from multidict import CIMultiDict
from yarl import URL

from kubewitness.backends.credentials import Credentials
from kubewitness.backends.kubeconfig import Kubeconfig, post_url, proxy_of

KEEP_ALIVE = 90.0
"""Seconds that an idle connection is kept, as Go's transport does."""

MOST_REDIRECTS = 10

_CLOSING_ROUNDS = 1000
_MOST_READ = 64 * 1024
_BODY_SECONDS = 1.0
_PROBE_SECONDS = 5.0
_MOST_HEADER = 1024 * 1024
_MOST_SHOWN = 200
_CHUNK = 256 * 1024
_POST_AGAIN_CODES = (307, 308)
_WEAK_DIGEST = 68  # OpenSSL's X509_V_ERR_CA_MD_TOO_WEAK
_NAME_MISMATCHES = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_SUBJECT_ALT_NAME = bytes.fromhex("0603551d11")  # the extension's object identifier, in DER


class CertificateFault(StrEnum):
    """What can be wrong with a server's certificate that upstream has a metric for."""

    MISSING_SAN = "it names no host (subjectAltName)"
    SHA1 = "its signature uses SHA-1"


class Answer(NamedTuple):
    """What came of one POST.

    Attributes:
        code: The HTTP status; 0 when there was no answer.
        problem: Why the body does not count as delivered; empty when it does.
        retry_after: Seconds that the server asks to wait for, if it does.
        fault: The fault of the server's certificate, if that was the reason.
    """

    code: int
    problem: str = ""
    retry_after: int | None = None
    fault: CertificateFault | None = None


class Poster:
    """Sends bodies to one server, over connections that are kept.

    Args:
        kubeconfig: The server.
        credentials: What is shown to it; looked at anew for each POST.
        environment: Where the names of proxies are looked up.
    """

    def __init__(
        self, kubeconfig: Kubeconfig, credentials: Credentials, *, environment: Mapping[str, str]
    ) -> None:
        self._kubeconfig = kubeconfig
        self._credentials = credentials
        self._url = URL(post_url(kubeconfig), encoded=True)
        self._proxy, self._proxy_headers = _proxy(proxy_of(kubeconfig, environment))
        self._has_probed = False
        self._names_hosts = True
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._session: aiohttp.ClientSession | None = None
        self._posts: set[Future[Answer]] = set()
        self._inherited: list[object] = []
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def post(self, body: bytes, *, timeout: float) -> Answer:
        """Send a body and wait for the answer; whatever goes wrong is in the answer.

        Args:
            body: A JSON document.
            timeout: Seconds for all of it, the reading of the answer included.
        """
        try:
            post = self._begin(body, timeout)
        except RuntimeError as error:  # the machine has no thread left
            return Answer(0, self._told(str(error)))
        try:
            return post.result()
        except CancelledError:
            return Answer(0, self._told("given up, the process shuts down"))
        finally:
            self._posts.discard(post)

    def _begin(self, body: bytes, timeout: float) -> "Future[Answer]":
        with self._lock:
            loop = self._loop or self._start()
            post = asyncio.run_coroutine_threadsafe(self._post(body, timeout), loop)
            self._posts.add(post)
        return post

    def abort(self) -> None:
        """Give up every POST that is under way."""
        for post in tuple(self._posts):
            post.cancel()

    def start(self) -> None:
        """Start the thread, which `post` does, too: a process that ends can start none."""
        with self._lock, suppress(RuntimeError):  # what cannot be now, `post` tries again
            if self._loop is None:
                self._start()

    def close(self, timeout: float) -> None:
        """Close the connections and end the thread.

        Args:
            timeout: Seconds. What hangs for longer, as the name resolution of a server may, is left
                to the end of the process.
        """
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._close_session(), loop).result(timeout)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout)
        if not thread.is_alive():  # closing waits for name resolutions
            closing = threading.Thread(target=loop.close, daemon=True)
            with suppress(RuntimeError):  # a process that ends may start no thread, nor needs to
                closing.start()
                closing.join(timeout)

    def after_fork(self) -> None:
        """Start afresh in a child process; the parent's connections are kept, but not used."""
        self._inherited.append((self._loop, self._thread, self._session))
        self._lock = threading.Lock()
        self._loop = self._thread = self._session = None
        self._posts = set()
        self._sockets = WeakSet()

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = uvloop.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="audit-webhook", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            loop.close()
            raise
        self._loop, self._thread = loop, thread
        return loop

    async def _close_session(self) -> None:
        """Close all connections, also those whose TLS waits for a server that says nothing."""
        if self._session is None:
            return
        await self._session.close()
        self._session = None
        open_sockets = [each for each in self._sockets if each.fileno() != -1]
        for each in open_sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for _ in range(_CLOSING_ROUNDS):
            await asyncio.sleep(0)
            if all(each.fileno() == -1 for each in open_sockets):
                break

    async def _post(self, body: bytes, timeout: float) -> Answer:
        try:
            async with asyncio.timeout(timeout):
                try:
                    return await self._follow(body)
                except aiohttp.ClientConnectorCertificateError as error:
                    return await self._distrust(error)
        except TimeoutError:
            return Answer(0, self._told(f"no answer within {timeout:g} seconds"))
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or type(error.os_error).__name__
            where = f"{error.host}:{error.port}"
            return Answer(0, self._told(f"cannot connect to {where}: {reason}"))
        except aiohttp.ClientResponseError as error:  # its own text may hold a proxy's password
            return Answer(0, self._told(f"no usable answer ({error.status}): {error.message}"))
        except Exception as error:
            return Answer(0, self._told(str(error) or type(error).__name__))

    async def _follow(self, body: bytes) -> Answer:
        """POST, and again where the server says so."""
        url = self._url
        for _ in range(MOST_REDIRECTS + 1):
            code, headers, text = await self._exchange(url, body)
            location = headers.get("Location")
            if code not in _POST_AGAIN_CODES or location is None:
                return self._judge(code, headers, text)
            url, previous = url.join(URL(location)), url
            if previous.scheme == "https" and url.scheme != "https":
                return Answer(code, self._told(f"redirected to {url}, which is not https"))
        return Answer(code, self._told(f"redirected more than {MOST_REDIRECTS} times"))

    async def _exchange(self, url: URL, body: bytes) -> tuple[int, Mapping[str, str], str]:
        """Send one request, again at once for as long as kept connections turn out to be dead."""
        while True:
            connection = SimpleNamespace(is_reused=False)
            try:
                return await self._request(url, body, connection)
            except aiohttp.ClientConnectionError:
                if not connection.is_reused:
                    raise

    async def _request(
        self, url: URL, body: bytes, connection: SimpleNamespace
    ) -> tuple[int, Mapping[str, str], str]:
        context, credentials = self._credentials.current()
        own = url.origin() == self._url.origin()
        session = self._session or self._open_session()
        async with session.post(
            url,
            data=_Body(body),
            headers=self._headers(credentials if own else ()),
            ssl=context or True,
            server_hostname=(self._kubeconfig.tls_server_name or None) if own else None,
            proxy=self._proxy,
            proxy_headers=self._proxy_headers if self._proxy else None,
            allow_redirects=False,
            trace_request_ctx=connection,
        ) as response:
            text = await _start_of(response.content)
            if not response.content.at_eof():
                response.close()
            return response.status, response.headers, text.decode("utf-8", "replace")

    def _open_session(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEP_ALIVE, socket_factory=self._open_socket
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trace_configs=[trace],
            auto_decompress=False,
            max_line_size=_MOST_HEADER,
            max_field_size=_MOST_HEADER,
        )
        return self._session

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        opened = socket.socket(*address[:3])
        self._sockets.add(opened)
        return opened

    def _headers(self, credentials: Sequence[tuple[str, str]]) -> CIMultiDict[str]:
        encoding = "identity" if self._kubeconfig.disable_compression else "gzip"
        return CIMultiDict(
            [
                ("Accept", "application/json, */*"),
                ("Accept-Encoding", encoding),
                ("User-Agent", "kubewitness"),
                *credentials,
            ]
        )

    def _judge(self, code: int, headers: Mapping[str, str], text: str) -> Answer:
        if 200 <= code <= 206:
            return Answer(code)
        problem = f"the server answered {code}"
        if "Location" in headers:
            problem += f" to {headers['Location']}; name the final address in the kubeconfig"
        elif text.strip():
            problem += f": {text.strip()[:_MOST_SHOWN]}"
        wait = headers.get("Retry-After", "")
        asks = (code == 429 or code >= 500) and wait.isascii() and wait.isdigit()
        return Answer(code, self._told(problem), int(wait[:9]) if asks else None)

    async def _distrust(self, error: aiohttp.ClientConnectorCertificateError) -> Answer:
        """Say what is wrong with the server's certificate."""
        fault = await self._fault_of(error)
        told = f"its certificate is not trusted: {error.certificate_error}"
        return Answer(0, self._told(f"{told}; {fault}" if fault else told), fault=fault)

    async def _fault_of(
        self, error: aiohttp.ClientConnectorCertificateError
    ) -> CertificateFault | None:
        code = getattr(error.certificate_error, "verify_code", 0)
        if code == _WEAK_DIGEST:
            return CertificateFault.SHA1
        if code in _NAME_MISMATCHES and self._proxy is None:
            if not self._has_probed:
                self._has_probed = True
                self._names_hosts = await _names_hosts(error.host, error.port)
            return None if self._names_hosts else CertificateFault.MISSING_SAN
        return None

    def _told(self, problem: str) -> str:
        return f"POST {self._url.with_query(None)}: {problem}"


async def _start_of(answer: aiohttp.StreamReader) -> bytes:
    """Return what comes of an answer's body soon; what it says matters less than its code."""
    text = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            while len(text) < _MOST_READ and (piece := await answer.readany()):
                text += piece
    return text


class _Body(Payload):
    """A JSON body, handed to the connection in pieces that it can buffer without much copying."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, content_type="application/json")
        self._size = len(data)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        text: str = self._value.decode(encoding, errors)
        return text

    async def write(self, writer: AbstractStreamWriter) -> None:
        view = memoryview(self._value)
        for start in range(0, len(view), _CHUNK):
            await writer.write(view[start : start + _CHUNK])

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002
    ) -> None:
        await self.write(writer)


async def _names_hosts(host: str, port: int | None) -> bool:
    """Tell whether a server's certificate has names at all; nothing is sent to the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError:  # a timeout is one
        return True  # not known, so nothing is said
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return _SUBJECT_ALT_NAME in certificate


def _proxy(address: str | None) -> tuple[URL | None, dict[str, str]]:
    """Take the password out of a proxy's URL and into a header, so that no error can show it."""
    if address is None:
        return None, {}
    url = URL(address)
    if url.user is None:
        return url, {}
    secret = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    return url.with_user(None), {"Proxy-Authorization": f"Basic {secret}"}


async def _note_reuse(
    session: aiohttp.ClientSession,  # noqa: ARG001
    context: SimpleNamespace,
    params: aiohttp.TraceConnectionReuseconnParams,  # noqa: ARG001
) -> None:
    context.trace_request_ctx.is_reused = True
