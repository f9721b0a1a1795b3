"""Several processes that serve one port: started, watched, asked for their counts, ended together.

Each is the same command again, told by a variable that it is a worker and by which descriptor its
supervisor talks to it. That channel carries two things: "I am ready" and, when asked, the worker's
metrics; and when it closes, because the supervisor is gone, the worker ends.

A worker that dies is started again, after a moment. Connections are shared by the kernel.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from kubewitness.capture.proxy.health import HealthServer
from kubewitness.capture.proxy.running import told_to_end

VARIABLE = "KUBEWITNESS_PROXY_WORKER"
"""Holds, in a worker, the descriptor of the channel to its supervisor."""

_READY, _ASK = b"ready\n", b"metrics\n"
_ASK_SECONDS = 5.0
_PAUSE = 1.0
_log = logging.getLogger("kubewitness.proxy")


class Channel:
    """A worker's end of the channel.

    Args:
        descriptor: What `VARIABLE` holds.
        exposition: Returns the worker's metrics.
    """

    def __init__(self, descriptor: int, exposition: Callable[[], bytes]) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._exposition = exposition

    def say_ready(self) -> None:
        """Tell the supervisor that requests are served."""
        self._socket.sendall(_READY)

    async def run(self) -> None:
        """Answer the supervisor until it is gone."""
        reader, writer = await asyncio.open_connection(sock=self._socket)
        try:
            while await reader.readline() == _ASK:
                text = self._exposition()
                writer.write(b"%d\n" % len(text) + text)
                await writer.drain()
        finally:
            writer.close()


class _Worker:
    """The supervisor's view of one worker."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self.is_ready = False
        self.process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                pass_fds=[theirs.fileno()],
                env={**os.environ, VARIABLE: str(theirs.fileno())},
            )
        finally:
            theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)

    async def run(self) -> int:
        """Wait for the worker to be ready, and to end; return its exit code."""
        assert self._reader is not None  # noqa: S101
        assert self._writer is not None  # noqa: S101
        assert self.process is not None  # noqa: S101
        self.is_ready = await self._reader.readline() == _READY
        code = await self.process.wait()
        self.is_ready = False
        self._writer.close()
        return code

    def send(self, number: int) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def exposition(self) -> str:
        """Return the worker's metrics; nothing if it does not answer."""
        if not self.is_ready or self._reader is None or self._writer is None:
            return ""
        try:
            async with self._lock, asyncio.timeout(_ASK_SECONDS):
                self._writer.write(_ASK)
                size = int(await self._reader.readline() or b"0")
                return (await self._reader.readexactly(size)).decode()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            return ""


class Supervisor:
    """Runs workers.

    Args:
        arguments: The arguments that this command was started with.
        count: How many workers there are.
        health: Address and port of the health endpoints.
    """

    def __init__(self, arguments: Sequence[str], *, count: int, health: tuple[str, int]) -> None:
        command = [sys.executable, "-m", "kubewitness.cli", *arguments]
        self._workers = [_Worker(command) for _ in range(count)]
        self._health = health
        self._is_ending = False
        self._was_ready = False

    async def run(self, on_ready: Callable[[int], None]) -> int:
        """Run the workers until this process is told to end; return the exit code.

        Args:
            on_ready: Called with the port of the health endpoints once all workers serve.
        """
        health = HealthServer(self._is_ready, self.exposition)
        port = await health.start(*self._health)
        try:
            async with told_to_end(lambda: self._send(signal.SIGHUP)) as ending:
                tending = [asyncio.create_task(self._tend(each)) for each in self._workers]
                waiting = asyncio.create_task(ending.wait())
                announcing = asyncio.create_task(self._announce(lambda: on_ready(port)))
                await asyncio.wait((waiting, *tending), return_when=asyncio.FIRST_COMPLETED)
                self._is_ending = True
                self._send(signal.SIGTERM)
                codes = await asyncio.gather(*tending)
                for task in (waiting, announcing):
                    task.cancel()
                return max(codes)
        finally:
            await health.stop()

    async def exposition(self) -> bytes:
        """Return the sums of all workers' metrics."""
        texts = await asyncio.gather(*(worker.exposition() for worker in self._workers))
        return summed(texts)

    def _is_ready(self) -> bool:
        return all(worker.is_ready for worker in self._workers)

    def _send(self, number: int) -> None:
        for worker in self._workers:
            worker.send(number)

    async def _announce(self, on_ready: Callable[[], None]) -> None:
        while not self._is_ready():
            await asyncio.sleep(0.01)
        self._was_ready = True
        on_ready()

    async def _tend(self, worker: _Worker) -> int:
        """Keep one worker running; return its exit code when all of this ends."""
        while True:
            await worker.start()
            if self._is_ending:
                worker.send(signal.SIGTERM)
            code = await worker.run()
            if self._is_ending or not self._was_ready:  # what cannot even start will not later
                return abs(code)
            _log.error("a worker ended with %d and is started again", code)
            await asyncio.sleep(_PAUSE)


def summed(expositions: Sequence[str]) -> bytes:
    """Return several processes' metrics as one: each sample is the sum over the processes."""
    registry = CollectorRegistry()
    registry.register(_Sums(expositions))
    return generate_latest(registry)


class _Sums:
    def __init__(self, expositions: Sequence[str]) -> None:
        self._families: dict[str, Metric] = {}
        self._values: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
        for text in expositions:
            for family in text_string_to_metric_families(text):
                self._add(family)

    def _add(self, family: Metric) -> None:
        self._families.setdefault(family.name, family)
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                key = (family.name, sample.name, tuple(sample.labels.items()))
                self._values[key] = self._values.get(key, 0) + sample.value

    def collect(self) -> Iterator[Metric]:
        for name, family in self._families.items():
            total = Metric(name, family.documentation, family.type)
            for (of, sample, labels), value in self._values.items():
                if of == name:
                    total.add_sample(sample, dict(labels), value)
            yield total
