"""The proxy as a whole: it listens, serves, reads its files again, and ends in good order."""

import asyncio
import contextlib
import socket

from kubewitness.backends.kubeconfig import Kubeconfig
from kubewitness.backends.pipeline import Pipeline
from kubewitness.capture.auditor import Auditor
from kubewitness.capture.proxy.config import ProxyConfig
from kubewitness.capture.proxy.connection import ClientServer
from kubewitness.capture.proxy.files import WatchedFiles
from kubewitness.capture.proxy.relay import Relay
from kubewitness.capture.proxy.serving import ServingContext
from kubewitness.capture.proxy.upstream import Upstream
from kubewitness.metrics import ProxyMetrics
from kubewitness.policy import load_policy

_BACKLOG = 1024


class AuditProxy:
    """Audits the requests to an API server, and passes them on.

    Used within an event loop::

        proxy = AuditProxy(pipeline, kubeconfig, config)
        await proxy.start(listening_socket)
        ...
        await proxy.stop()

    Args:
        pipeline: Where events go, with the policy to start with; run and shut down by the caller.
        kubeconfig: The API server, and the proxy's own credentials.
        config: The settings.
        auditor: Audits for it; made of the pipeline when None.

    Raises:
        KubeconfigError: The files that the kubeconfig names cannot be used.
        OSError: The proxy's certificate, key or authorities cannot be used.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        kubeconfig: Kubeconfig,
        config: ProxyConfig,
        *,
        auditor: Auditor | None = None,
    ) -> None:
        self.auditor = auditor or Auditor(pipeline)
        self.metrics = ProxyMetrics(pipeline.metrics.registry)
        self._config = config
        self._upstream = Upstream(kubeconfig)
        self._serving = ServingContext(config)
        self._relay = Relay(self.auditor, self._upstream, config, self.metrics)
        self._watched = self._files()
        self._server: ClientServer | None = None
        self._listening: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None
        self.is_ready = False

    async def start(self, listening: socket.socket) -> None:
        """Serve the connections that come to a bound socket."""
        loop = asyncio.get_running_loop()
        self._upstream.open()
        self._server = ClientServer(self._relay.serve)
        self._listening = await loop.create_server(
            self._server, sock=listening, ssl=self._serving.context, backlog=_BACKLOG
        )
        self._looking = asyncio.create_task(self._look())
        self.is_ready = True

    async def stop(self) -> None:
        """Accept no more, let what is under way end, and close everything.

        Requests that are not long-running may take their time; long-running ones are cut after the
        time of `ProxyConfig.grace`.
        """
        self.is_ready = False
        if self._listening is not None:
            self._listening.close()
        if self._server is not None:
            await self._server.drain(self._config.request_timeout, grace=self._config.grace)
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        await self._upstream.close()

    def reload(self) -> None:
        """Look now whether files have changed, and use them."""
        for files in self._watched:
            files.look()

    def _files(self) -> list[WatchedFiles]:
        serving = self._serving
        watched = [WatchedFiles("certificates", serving.files, serving.reload, self.metrics)]
        if (policy := self._config.policy_file) is not None:
            watched.append(WatchedFiles("policy", [policy], self._reload_policy, self.metrics))
        return watched

    def _reload_policy(self) -> None:
        path = self._config.policy_file
        assert path is not None  # noqa: S101
        self.auditor.use_policy(load_policy(path.read_bytes(), str(path)))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._config.reload_interval)
            self.reload()
