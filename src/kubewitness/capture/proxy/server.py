"""The proxy as a whole: it listens, serves, reads its files again, and ends in good order."""

import asyncio
import contextlib
import logging
import socket
from functools import partial
from pathlib import Path

from kubewitness.backends.kubeconfig import Kubeconfig
from kubewitness.backends.pipeline import Pipeline
from kubewitness.capture.auditor import Auditor
from kubewitness.capture.proxy.config import Forwarding, ProxyConfig
from kubewitness.capture.proxy.connection import ClientServer
from kubewitness.capture.proxy.files import WatchedFiles
from kubewitness.capture.proxy.relay import Relay
from kubewitness.capture.proxy.serving import ServingContext, serving_files
from kubewitness.capture.proxy.upstream import Upstream
from kubewitness.errors import KubeconfigError
from kubewitness.metrics import ProxyMetrics
from kubewitness.policy import load_policy

_BACKLOG = 1024
_HANDSHAKE_SECONDS = 10.0
_GOODBYE_SECONDS = 30.0
"""How long a client may take to receive what is still to be sent, and to answer the end of TLS."""

_log = logging.getLogger("kubewitness.proxy")


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
        KubeconfigError: The kubeconfig, or a file that it names, cannot be used.
        PolicyError: The policy cannot be used.
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
        _refuse_unfit(kubeconfig, config)
        self.auditor = auditor or Auditor(pipeline)
        self.metrics = ProxyMetrics(pipeline.metrics.registry)
        self._config = config
        self._upstream = Upstream(kubeconfig)
        self._watched = self._files()  # before they are read, so that no change is missed
        self._serving = ServingContext(config)
        if config.policy_file is not None:
            self._reload_policy(config.policy_file)
        self._relay = Relay(self.auditor, self._upstream, config, self.metrics)
        self._server: ClientServer | None = None
        self._listening: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None
        self.is_ready = False

    async def start(self, listening: socket.socket) -> None:
        """Serve the connections that come to a bound socket."""
        loop = asyncio.get_running_loop()
        self._upstream.open()
        self._server = ClientServer(self._relay.serve, head_timeout=self._config.head_timeout)
        self._listening = await loop.create_server(
            self._server,
            sock=listening,
            ssl=self._serving.context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=_GOODBYE_SECONDS,
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
        files, metrics = serving_files(self._config), self.metrics
        watched = [WatchedFiles("certificates", files, self._reload_serving, metrics)]
        if (policy := self._config.policy_file) is not None:
            use = partial(self._reload_policy, policy)
            watched.append(WatchedFiles("policy", [policy], use, metrics))
        return watched

    def _reload_serving(self) -> None:
        if self._serving.reload() and self._server is not None:
            self._server.doubt_certificates()

    def _reload_policy(self, path: Path) -> None:
        self.auditor.use_policy(load_policy(path.read_bytes(), str(path)))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._config.reload_interval)
            try:
                self.reload()
            except Exception:
                _log.exception("the files cannot be looked at")


def _refuse_unfit(kubeconfig: Kubeconfig, config: ProxyConfig) -> None:
    """Refuse credentials by which the API server would act as another than is recorded."""
    problems = []
    if kubeconfig.impersonate:
        message = 'remove "as": the proxy says itself on whose behalf it asks'
        problems.append(kubeconfig.problem("impersonate", message))
    if config.forwarding is Forwarding.FRONT_PROXY and not (
        kubeconfig.client_certificate or kubeconfig.client_certificate_data
    ):
        message = "front-proxy needs a client certificate here; a token makes no front proxy"
        problems.append(kubeconfig.problem("token", message))
    if problems:
        raise KubeconfigError(tuple(problems))
