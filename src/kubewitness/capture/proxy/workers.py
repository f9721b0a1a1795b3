"""Several processes that serve one port: started, watched, asked for their counts, ended together.

Each is the same command again, told by a variable that it is a worker and by which descriptor its
supervisor talks to it. When that channel closes, because the supervisor is gone, the worker ends.

On the channel are questions, lines ``KIND NUMBER``, and answers, lines ``KIND NUMBER SIZE`` with so
many bytes after them. The kinds: ``ready`` (does it serve?) and ``metrics`` (what has it counted?).
Unasked, as number 0, a worker says when it is ready first, and at its end what it has counted.

A worker that dies is started again, after a moment. Connections are shared by the kernel.
"""

import asyncio
import contextlib
import copy
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from kubewitness.capture.proxy.health import HealthServer
from kubewitness.capture.proxy.running import ENDING, signals_wait, told_to_end

VARIABLE = "KUBEWITNESS_PROXY_WORKER"
"""Holds, in a worker, the descriptor of the channel to its supervisor."""

_READY, _METRICS = b"ready", b"metrics"
_UNASKED = b"0"
_ANSWER_SECONDS = 2.0
_MOST_UNANSWERED = 100
"""A worker that has so many questions to answer is not asked more: it may never answer."""
_PAUSE = 1.0
_LASTING = ("counter", "histogram", "summary")
"""Types of metrics whose values go on when the process that counted is gone."""

_Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by the name and the labels of their samples."""

_log = logging.getLogger("kubewitness.proxy")


class Channel:
    """A worker's end of the channel.

    Args:
        descriptor: What `VARIABLE` holds.
        is_ready: Returns whether the worker serves.
        exposition: Returns the worker's metrics.
    """

    def __init__(
        self, descriptor: int, *, is_ready: Callable[[], bool], exposition: Callable[[], bytes]
    ) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._is_ready = is_ready
        self._exposition = exposition

    def say_ready(self) -> None:
        """Tell the supervisor that requests are served."""
        self._socket.sendall(self._answer(_READY, _UNASKED))

    async def run(self) -> None:
        """Answer the supervisor until it is gone, or until this is cancelled."""
        reader, writer = await asyncio.open_connection(sock=self._socket)
        with contextlib.suppress(ConnectionError):
            try:
                while (question := await reader.readline()).endswith(b"\n"):
                    writer.write(self._answer(*question.split()))
                    await writer.drain()
            finally:
                writer.write(self._answer(_METRICS, _UNASKED))
                writer.close()
                await writer.wait_closed()

    def _answer(self, kind: bytes, number: bytes) -> bytes:
        text = self._exposition() if kind == _METRICS else b"yes" if self._is_ready() else b"no"
        return b"%b %b %d\n%b" % (kind, number, len(text), text)


class _Worker:
    """The supervisor's view of one worker, from its start to its end.

    Attributes:
        has_served: Set once it has said that it is ready.
        counts: Its metrics, as it has last told them.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.has_served = asyncio.Event()
        self.counts = ""
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[bytes | None]] = {}

    async def start(self) -> None:
        """Start the process. A signal that comes before it listens to signals is not lost."""
        ours, theirs = socket.socketpair()
        try:
            with signals_wait():
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, VARIABLE: str(theirs.fileno())},
                )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=ours)

    async def run(self) -> int:
        """Take what the worker says, until it ends; return its exit code."""
        assert self._process is not None  # noqa: S101
        with contextlib.suppress(OSError, EOFError):
            await self._listen()
        self._hang_up()
        return await self._process.wait()

    def send(self, number: int) -> None:
        """Send a signal, if the process is there."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def ask(self, kind: bytes) -> bytes | None:
        """Return the worker's answer; None if there is none within a short time."""
        is_asked = self._writer is not None and self.has_served.is_set()
        if not is_asked or len(self._asked) >= _MOST_UNANSWERED:
            return None
        assert self._writer is not None  # noqa: S101
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._writer.write(b"%b %d\n" % (kind, number))
        await asyncio.wait((answer,), timeout=_ANSWER_SECONDS)
        return answer.result() if answer.done() else None

    async def _listen(self) -> None:
        assert self._reader is not None  # noqa: S101
        while (line := await self._reader.readline()).endswith(b"\n"):
            kind, number, size = line.split()
            text = await self._reader.readexactly(int(size))
            if kind == _METRICS:
                self.counts = text.decode()
            else:
                self.has_served.set()
            if (answer := self._asked.pop(int(number), None)) is not None:
                answer.set_result(text)

    def _hang_up(self) -> None:
        assert self._writer is not None  # noqa: S101
        self._writer.close()
        self._writer = None
        for answer in self._asked.values():
            answer.set_result(None)
        self._asked.clear()


class Supervisor:
    """Runs workers; made within an event loop, or before it.

    Args:
        arguments: The arguments that this command was started with.
        count: How many workers there are.
        health: Address and port of the health endpoints.
        end_within: Seconds that a worker may take to end; one that takes longer hangs.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        count: int,
        health: tuple[str, int],
        end_within: float,
    ) -> None:
        command = [sys.executable, "-m", "kubewitness.cli", *arguments]
        self._workers = [_Worker(command) for _ in range(count)]
        self._command = command
        self._health = health
        self._end_within = end_within
        self._gone = Sums()
        self._starting = asyncio.Lock()
        self._ending = asyncio.Event()
        self._was_ready = False

    async def run(self, on_ready: Callable[[int], None]) -> int:
        """Run the workers until this process is told to end; return the exit code.

        Args:
            on_ready: Called with the port of the health endpoints once all workers serve.
        """
        health = HealthServer(self._is_ready, self.exposition)
        port = await health.start(*self._health)
        try:
            async with told_to_end(lambda: self._send(signal.SIGHUP)) as self._ending:
                tending = [asyncio.create_task(self._tend(at)) for at in range(len(self._workers))]
                announcing = asyncio.create_task(self._announce(lambda: on_ready(port)))
                waiting = asyncio.create_task(self._ending.wait())
                await asyncio.wait((waiting, *tending), return_when=asyncio.FIRST_COMPLETED)
                self._ending.set()
                announcing.cancel()
                return await self._end(tending)
        finally:
            await health.stop()

    async def exposition(self) -> bytes:
        """Return the sums of all workers' metrics, of those that are gone, too.

        One that does not answer counts with what it has last told.
        """
        await asyncio.gather(*(worker.ask(_METRICS) for worker in self._workers))
        sums = copy.deepcopy(self._gone)
        for worker in self._workers:
            sums.add(worker.counts)
        return sums.exposition()

    async def _is_ready(self) -> bool:
        answers = await asyncio.gather(*(worker.ask(_READY) for worker in self._workers))
        return all(answer == b"yes" for answer in answers)

    def _send(self, number: int) -> None:
        for worker in self._workers:
            worker.send(number)

    async def _announce(self, on_ready: Callable[[], None]) -> None:
        for worker in self._workers:
            await worker.has_served.wait()
        self._was_ready = True
        on_ready()

    async def _tend(self, at: int) -> int:
        """Keep one worker running; return the exit code that it means when all of this ends."""
        while True:
            worker = self._workers[at]
            code = await self._run(worker)
            self._workers[at] = _Worker(self._command)
            self._gone.add(worker.counts, is_gone=True)
            if self._ending.is_set():
                return 0 if -code in ENDING else _exit_code(code)
            if not self._was_ready:  # what cannot even start will not later
                _log.error("a worker ended with %d while all were started", code)
                return _exit_code(code) or 1
            _log.error("a worker ended with %d and is started again", code)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _PAUSE)
                return 0

    async def _run(self, worker: _Worker) -> int:
        async with self._starting:  # one by one, for their signals wait meanwhile
            await worker.start()
        if self._ending.is_set():
            worker.send(signal.SIGTERM)
        return await worker.run()

    async def _end(self, tending: Sequence[asyncio.Task[int]]) -> int:
        """End the workers, those that hang by force; return the exit code."""
        self._send(signal.SIGTERM)
        _, hanging = await asyncio.wait(tending, timeout=self._end_within)
        if hanging:
            count, seconds = len(hanging), self._end_within
            _log.error("%d workers did not end within %g s and are killed", count, seconds)
            self._send(signal.SIGKILL)
        return max(await asyncio.gather(*tending))


def _exit_code(code: int) -> int:
    """Return the exit code for that of a worker, which is negative when a signal killed it."""
    return code if code in (0, 1, 2) else 1


class Sums(Collector):
    """Several processes' metrics as one: each sample is the sum over the processes."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[Metric, _Values]] = {}

    def add(self, exposition: str, *, is_gone: bool = False) -> None:
        """Add a process's metrics; of one that is gone only what it has counted."""
        for family in text_string_to_metric_families(exposition):
            if family.name.endswith("_created") or (is_gone and family.type not in _LASTING):
                continue
            _, values = self._families.setdefault(family.name, (family, {}))
            for sample in family.samples:
                key = (sample.name, tuple(sample.labels.items()))
                values[key] = values.get(key, 0) + sample.value

    def exposition(self) -> bytes:
        """Return the sums in the text format that Prometheus scrapes."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the sums, for the registry."""
        for name, (family, values) in self._families.items():
            total = Metric(name, family.documentation, family.type)
            for (sample, labels), value in values.items():
                total.add_sample(sample, dict(labels), value)
            yield total
