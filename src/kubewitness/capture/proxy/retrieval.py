"""Requests without a body, on the shortest way through aiohttp: its connections and its parser.

Most requests to an API server are such, and aiohttp's session, which can do so much more, takes as
long for one as all the rest of the proxy. What has a body goes through the session, in `upstream`.
"""

import asyncio
import ssl
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from kubewitness.capture.proxy.connector import Connector
from kubewitness.capture.proxy.forwarding import HeaderLines

METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
"""What is sent here. It is sent again, once, if a kept connection turns out to be dead and nothing
of an answer has come, unless it asks for another protocol; nothing else is ever sent twice.
"""

MOST_HEADER = 1024 * 1024
MOST_HEADERS = 1000

_BUFFER = 64 * 1024


class NoHTTPError(aiohttp.ClientError):
    """What came is no answer of HTTP."""


class _DeadConnectionError(aiohttp.ServerDisconnectedError):
    """A connection that was kept has ended before anything of an answer came."""


class Retrieved:
    """An answer whose head is there.

    Attributes:
        status: The HTTP status.
        reason: What it is called in the answer.
        headers: The header lines.
        content: The body, to be read as it comes.
        connection: What it comes by; None once it is released.
    """

    __slots__ = ("connection", "content", "headers", "reason", "status")

    def __init__(self, message: Any, content: aiohttp.StreamReader, connection: Connection) -> None:
        self.status: int = message.code
        self.reason: str = message.reason
        self.headers: CIMultiDictProxy[str] = message.headers
        self.content = content
        self.connection: Connection | None = connection

    def release(self) -> None:
        """Give the connection back; it is closed if the answer was not read to its end."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.release()


class Retrieval:
    """Sends requests to one server over a connector's connections.

    Args:
        connector: Has the connections.
        base: The URL of the server, with the path that comes before every target.
        context: The TLS context, None for http.
        server_hostname: Whom the server's certificate must name, if not the host of the URL.
        proxy: The proxy before the server, if there is one.
        timeout: How long connecting may take.
    """

    def __init__(
        self,
        connector: Connector,
        base: URL,
        *,
        context: ssl.SSLContext | None,
        server_hostname: str | None,
        proxy: str | None,
        timeout: aiohttp.ClientTimeout,
    ) -> None:
        self._connector = connector
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._prefix = base.raw_path.rstrip("/")
        # It says where to connect to, and is never sent.
        self._model = aiohttp.ClientRequest(
            "GET",
            base,
            loop=self._loop,
            ssl=context or True,
            server_hostname=server_hostname,
            proxy=URL(proxy) if proxy is not None else None,
        )
        self._host = self._model.headers["Host"]

    async def send(self, method: str, target: str, headers: HeaderLines) -> Retrieved:
        """Send a request, and return the answer as soon as its head is there.

        Raises:
            aiohttp.ClientError: There is no answer.
            OSError: The same.
            ValueError: A header line cannot be sent.
        """
        line = f"{method} {self._prefix}{target} HTTP/1.1"
        lines = CIMultiDict([("Host", self._host), *headers])
        try:
            return await self._exchange(method, line, lines)
        except _DeadConnectionError:
            if "Upgrade" in lines:
                raise
            return await self._exchange(method, line, lines)

    async def _exchange(self, method: str, line: str, lines: CIMultiDict[str]) -> Retrieved:
        connection = await self._connector.connect(self._model, [], self._timeout)
        protocol = connection.protocol
        assert protocol is not None  # noqa: S101
        was_kept = self._connector.was_kept(protocol)
        try:
            protocol.set_response_params(
                skip_payload=method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=_BUFFER,
                max_line_size=MOST_HEADER,
                max_field_size=MOST_HEADER,
                max_headers=MOST_HEADERS,
            )
            writer = StreamWriter(protocol, self._loop)
            await writer.write_headers(line, lines)
            writer.set_eof()
            message, content = await _head(protocol)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            connection.close()
            if was_kept and not _has_begun(error):
                raise _DeadConnectionError(str(error)) from None
            raise
        except BaseException:
            connection.close()
            raise
        return Retrieved(message, content, connection)


def _has_begun(error: aiohttp.ClientError) -> bool:
    """Tell whether a part of an answer has come."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and isinstance(
        error.message, RawResponseMessage
    )


async def _head(protocol: ResponseHandler) -> tuple[Any, aiohttp.StreamReader]:
    """Return the head of the answer, past what is only informational, and its body."""
    try:
        while True:
            message, content = await protocol.read()
            if message.code == 101 or not 100 <= message.code < 200:
                return message, content
    except HttpProcessingError as error:
        raise NoHTTPError(f"the answer is not HTTP: {error.message}") from None
