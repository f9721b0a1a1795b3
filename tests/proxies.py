"""A proxy on loopback, in a thread, in front of a fake API server: real sockets, real TLS.

Its events are kept by a `CollectingBackend`; `AuditProxy` is what the command runs, too.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from clocks import SOON, HandClock
from collecting import CollectingBackend
from kubewitness.backends.kubeconfig import load_kubeconfig
from kubewitness.backends.pipeline import Pipeline
from kubewitness.capture import Auditor
from kubewitness.capture.proxy import AuditProxy, ProxyConfig
from kubewitness.event import Event
from kubewitness.metrics import AuditMetrics
from kubewitness.policy import load_policy
from kubewitness.testing import FakeAPIServer, Pair

EVERYTHING = """\
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: RequestResponse
"""


class RunningProxy:
    """A proxy that serves. `backend` has its events, `metrics` its counters."""

    def __init__(self, proxy: AuditProxy, pipeline: Pipeline, server: FakeAPIServer) -> None:
        assert isinstance(pipeline.backend, CollectingBackend)
        self.proxy = proxy
        self.pipeline = pipeline
        self.server = server
        self.backend = pipeline.backend
        self.metrics = pipeline.metrics
        self.left_over: list[str] = []
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._started = threading.Event()
        self._ended: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def client_context(self, pair: Pair | None = None) -> ssl.SSLContext:
        return self.server.client_context(pair)

    def user(self, name: str, *groups: str) -> ssl.SSLContext:
        """Return a client's side of TLS with the certificate of a user."""
        return self.client_context(self.server.issue_client_certificate(name, groups))

    def events(self, count: int) -> list[Event]:
        """Wait for so many events, and return all there are."""
        self.backend.until_batches(count)
        return list(self.backend.received)

    def call(self, action: Any) -> Any:
        """Run a coroutine in the proxy's loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(action, self._loop).result(SOON)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(SOON)

    def stop(self) -> None:
        if self._loop is not None and self._ended is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(SOON)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        await self.proxy.start(self._listening)
        self._started.set()
        await self._ended.wait()
        await self.proxy.stop()
        me = asyncio.current_task()
        self.left_over = [repr(task) for task in asyncio.all_tasks() if task is not me]
        self._listening.close()


@contextlib.contextmanager
def proxy(
    server: FakeAPIServer, place: Path, *, policy: str = EVERYTHING, **settings: Any
) -> Iterator[RunningProxy]:
    """Run a proxy in front of a server, its files in a directory; it leaves no task behind."""
    running = built(server, place, policy=policy, **settings)
    running.start()
    try:
        yield running
    finally:
        running.stop()
    assert running.left_over == []


def built(
    server: FakeAPIServer,
    place: Path,
    *,
    policy: str = EVERYTHING,
    kubeconfig: Path | None = None,
    backend: CollectingBackend | None = None,
    now: Callable[[], int] = time.time_ns,
    **settings: Any,
) -> RunningProxy:
    config = ProxyConfig(**{**files(server, place, policy), **settings})
    path = kubeconfig or server.write_kubeconfig(place / "proxy.kubeconfig")
    pipeline = Pipeline(
        load_policy(policy.encode()),
        backend or CollectingBackend(),
        metrics=AuditMetrics(),
        clock=HandClock(),
        shutdown_timeout=10,
    )
    upstream = load_kubeconfig(path.read_bytes(), str(path), directory=place)
    auditor = Auditor(pipeline, now=now)
    audited = AuditProxy(pipeline, upstream, config, auditor=auditor)
    return RunningProxy(audited, pipeline, server)


def files(server: FakeAPIServer, place: Path, policy: str) -> dict[str, Any]:
    """Write the files of a proxy, and return the settings that name them."""
    certificate, key = server.issue_server_certificate("127.0.0.1")
    (place / "tls.crt").write_bytes(certificate)
    (place / "tls.key").write_bytes(key)
    (place / "ca.crt").write_bytes(server.ca_pem)
    (place / "policy.yaml").write_text(policy)
    return {
        "tls_cert_file": place / "tls.crt",
        "tls_private_key_file": place / "tls.key",
        "client_ca_file": place / "ca.crt",
        "policy_file": place / "policy.yaml",
    }
