"""One process that serves: from its start, through signals, to its end.

SIGTERM and SIGINT end it in good order; SIGHUP has it look at its files now, and open its log anew.
None of them kills it: to a worker, one that comes before it can be heard waits; and one that comes
after the end is ignored.
"""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from kubewitness.backends.pipeline import Pipeline
from kubewitness.capture.proxy.health import HealthServer
from kubewitness.capture.proxy.server import AuditProxy

ENDING = (signal.SIGTERM, signal.SIGINT)
"""The signals that end a process in good order."""

_HEARD = (*ENDING, signal.SIGHUP)
_GOODBYE_SECONDS = 1.0


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


@contextmanager
def signals_wait() -> Iterator[None]:
    """Have signals wait; for a process started within, until it is in `told_to_end`.

    Only for the main thread, and not across an ``await`` that others of its kind run beside.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


@asynccontextmanager
async def told_to_end(on_hangup: Callable[[], None]) -> AsyncIterator[asyncio.Event]:
    """Give an event that is set when this process is told to end.

    Afterwards it is ending, and these signals are ignored for good.
    """
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    for number in ENDING:
        loop.add_signal_handler(number, ending.set)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)  # those that have waited come now
    try:
        yield ending
    finally:
        with signals_wait():
            for number in _HEARD:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)


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

    async def is_ready() -> bool:
        return proxy.is_ready

    async def exposition() -> bytes:
        return pipeline.metrics.exposition()

    server = HealthServer(is_ready, exposition)
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
    """Serve until this process is told to end, or until something else is over.

    Args:
        proxy: The proxy.
        pipeline: Where its events go: run here, and shut down.
        listening: The bound socket.
        on_ready: Called once requests are served.
        until: The something else; it runs to the very end, and is cancelled there.
    """

    def look() -> None:
        pipeline.reopen()
        proxy.reload()

    async with told_to_end(look) as ending:
        pipeline.run()
        await proxy.start(listening)
        on_ready()
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(ending.wait())]
        if until is not None:
            waits.append(asyncio.ensure_future(until()))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        await proxy.stop()
        await asyncio.to_thread(pipeline.shutdown)
        for each in waits:
            each.cancel()
        await asyncio.wait(waits, timeout=_GOODBYE_SECONDS)
