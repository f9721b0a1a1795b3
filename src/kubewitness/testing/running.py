"""A loop of its own in a thread: the server's sockets live there, the test lives outside."""

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from kubewitness.testing.wire import Connection

_TLS_GOODBYE = 2.0
"""Seconds that a client has to answer the end of TLS."""


class Loop:
    """Accepts connections at a port of 127.0.0.1, and serves each in a task.

    Args:
        serve: Serves one connection to its end.
        context: TLS; None for plain HTTP.
        attach: Called in the loop when it starts, and with None when it ends.
        changed: Called when a connection was opened or has ended.
    """

    def __init__(
        self,
        serve: Callable[[Connection], Coroutine[Any, Any, None]],
        *,
        context: ssl.SSLContext | None,
        attach: Callable[[asyncio.AbstractEventLoop | None], None],
        changed: Callable[[], None],
    ) -> None:
        self._serve = serve
        self._context = context
        self._attach = attach
        self._changed = changed
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self.opened = 0

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._tasks)

    def start(self, port: int) -> int:
        """Listen at a port (0: a free one), and return it."""
        listener = socket.create_server(("127.0.0.1", port))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted ones inherit it
        listener.setblocking(False)  # noqa: FBT003
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(listener, ready.set)), name="fake API server"
        )
        self._thread.start()
        ready.wait()
        return port or int(listener.getsockname()[1])

    def stop(self) -> None:
        """Go away: nobody listens any more, and connections are torn down."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()
            self._thread = None

    async def _run(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._attach(self._loop)
        with listener:
            accepting = asyncio.create_task(self._accept(listener))
            ready()
            await self._ending.wait()
            await _cancelled({accepting})
        while self._tasks:
            await _cancelled(set(self._tasks))
        self._attach(None)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            plain, _ = await self._loop.sock_accept(listener)
            task = asyncio.create_task(self._attend(plain))
            self.opened += 1
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._ended, plain))
            self._changed()

    async def _attend(self, plain: socket.socket) -> None:
        """Serve a connection, and see to it that it is closed."""
        connection = Connection()
        try:
            await connection.establish(plain, self._context, _TLS_GOODBYE)
        except OSError:  # also of TLS: there never was a connection to speak of
            return
        try:
            await self._serve(connection)
            connection.writer.close()
            await connection.writer.wait_closed()
        except OSError:
            pass  # torn down, by either side
        finally:
            with contextlib.suppress(AttributeError):  # before Python 3.11.5, of what has ended
                connection.writer.transport.abort()

    def _ended(self, plain: socket.socket, task: asyncio.Task[None]) -> None:
        plain.close()  # of a task that was cancelled before it began
        self._tasks.discard(task)
        self._changed()


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
