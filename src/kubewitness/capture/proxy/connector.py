"""aiohttp's connections to the API server, with an end that is one.

aiohttp says goodbye to a TLS peer and forgets the connection, though it stays open until the peer
answers. Here closing means that none is left.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler

_MOST_SECONDS = 1.0


class Connector(aiohttp.TCPConnector):
    """Keeps an eye on its connections until they have ended.

    Args:
        settings: aiohttp's.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._transports: set[asyncio.Transport] = set()
        self._fresh: WeakSet[ResponseHandler] = WeakSet()
        self._changed = asyncio.Event()

    async def _create_connection(self, *arguments: Any) -> ResponseHandler:
        protocol = await super()._create_connection(*arguments)
        self._fresh.add(protocol)
        transport, ended = protocol.transport, protocol.closed
        if transport is not None and ended is not None:
            self._transports.add(transport)
            ended.add_done_callback(lambda ended: self._forget(transport, ended))
        return protocol

    def _forget(self, transport: asyncio.Transport, ended: "asyncio.Future[None]") -> None:
        self._transports.discard(transport)
        self._changed.set()
        if not ended.cancelled():
            ended.exception()  # so that nobody misses it

    def was_kept(self, protocol: ResponseHandler) -> bool:
        """Tell whether a connection has been used before; asked once each time it is used."""
        if protocol in self._fresh:
            self._fresh.discard(protocol)
            return False
        return True

    async def close(self, *, abort_ssl: bool = True) -> None:
        """End all connections, once what was given to those that are closing has been sent."""
        await self._until(lambda: not any(each.is_closing() for each in self._transports))
        await super().close(abort_ssl=abort_ssl)
        for transport in list(self._transports):
            transport.abort()
        await self._until(lambda: not self._transports)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MOST_SECONDS):
                while not is_so():
                    self._changed.clear()
                    await self._changed.wait()
