"""One process that serves: from its start, through signals, to its end.

SIGTERM and SIGINT end it in good order; SIGHUP has it look at its files now, and open its log anew.
"""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from kubewitness.backends.pipeline import Pipeline
from kubewitness.capture.proxy.health import HealthServer
from kubewitness.capture.proxy.server import AuditProxy

_ENDING = (signal.SIGTERM, signal.SIGINT)


def listen(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Return a bound socket.

    Args:
        host: An address of this machine.
        port: 0 takes a free one.
        is_shared: Whether other processes bind the same port, to share its connections.

    Raises:
        OSError: The address is taken, or not this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening


@asynccontextmanager
async def told_to_end(on_hangup: Callable[[], None]) -> AsyncIterator[asyncio.Event]:
    """Give an event that is set when this process is told to end."""
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    for number in _ENDING:
        loop.add_signal_handler(number, ending.set)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    try:
        yield ending
    finally:
        for number in (*_ENDING, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def run_alone(
    make: Callable[[], AuditProxy],
    pipeline: Pipeline,
    listening: socket.socket,
    health: tuple[str, int],
    *,
    on_ready: Callable[[int, int], None],
) -> None:
    """Serve in this one process until it is told to end, then deliver what is pending.

    Args:
        make: Makes the proxy, within the event loop.
        pipeline: Where events go.
        listening: The bound socket.
        health: Address and port of the health endpoints.
        on_ready: Called with both ports once requests are served.
    """
    proxy = make()

    async def exposition() -> bytes:
        return pipeline.metrics.exposition()

    server = HealthServer(lambda: proxy.is_ready, exposition)
    health_port = await server.start(*health)
    try:
        await serve(
            proxy,
            pipeline,
            listening,
            on_ready=lambda: on_ready(listening.getsockname()[1], health_port),
        )
    finally:
        await server.stop()


async def serve(
    proxy: AuditProxy,
    pipeline: Pipeline,
    listening: socket.socket,
    *,
    on_ready: Callable[[], None],
    until: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Serve until this process is told to end, or until something else is over."""

    def look() -> None:
        pipeline.reopen()
        proxy.reload()

    pipeline.run()
    async with told_to_end(look) as ending:
        await proxy.start(listening)
        on_ready()
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(ending.wait())]
        if until is not None:
            waits.append(asyncio.ensure_future(until()))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        await proxy.stop()
        await asyncio.to_thread(pipeline.shutdown)
