"""What ``kubewitness proxy`` runs: one process that serves, or a supervisor and its workers."""

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import uvloop

from kubewitness.backends.kubeconfig import Kubeconfig
from kubewitness.backends.pipeline import Pipeline
from kubewitness.capture.proxy import AuditProxy, Forwarding, ProxyConfig, TokenIdentity
from kubewitness.capture.proxy.health import authority
from kubewitness.capture.proxy.running import listen, run_alone, serve
from kubewitness.capture.proxy.workers import VARIABLE, Channel, Supervisor
from kubewitness.cli.audit_flags import open_pipeline
from kubewitness.options import Loaded

_END_SECONDS = 30.0
"""What an end takes at most beside the times that the flags give: clients say goodbye slowly."""


class Process:
    """The process that the command runs in.

    Args:
        audit: The audit options.
        kubeconfig: The API server.
        settings: The command's other options.
    """

    def __init__(self, audit: Loaded, kubeconfig: Kubeconfig, settings: Mapping[str, Any]) -> None:
        self._audit = audit
        self._kubeconfig = kubeconfig
        self._settings = settings
        self._config = _config(audit, settings)

    def run(self) -> int:
        """Serve until told to end; return the exit code.

        Raises:
            OSError: An address is taken, or a file cannot be used.
            KubeconfigError: The files that the kubeconfig names cannot be used.
        """
        pipeline = open_pipeline(self._audit)
        _collect_rarely()
        if VARIABLE in os.environ:
            return self._work(pipeline)
        if self._settings["workers"] > 1:
            return self._supervise(pipeline)
        return self._serve(pipeline)

    def _proxy(self, pipeline: Pipeline) -> AuditProxy:
        return AuditProxy(pipeline, self._kubeconfig, self._config)

    def _serve(self, pipeline: Pipeline) -> int:
        with self._listen() as listening:
            uvloop.run(
                run_alone(
                    lambda: self._proxy(pipeline),
                    pipeline,
                    listening,
                    self._settings["health"],
                    on_ready=self._announce,
                )
            )
        return _code(pipeline)

    def _supervise(self, pipeline: Pipeline) -> int:
        """Hold the port, and have the workers serve it. The pipeline was built to find faults."""
        self._proxy(pipeline)
        with self._listen(is_shared=True) as held:
            port = held.getsockname()[1]
            arguments = [*sys.argv[1:], f"--secure-port={port}"]
            supervisor = Supervisor(
                arguments,
                count=self._settings["workers"],
                health=self._settings["health"],
                end_within=self._end_within(),
            )
            # Not in uvloop, which starts processes that no signal waits for.
            return asyncio.run(supervisor.run(lambda health: self._announce(port, health)))

    def _work(self, pipeline: Pipeline) -> int:
        descriptor = int(os.environ.pop(VARIABLE))
        with self._listen(is_shared=True) as listening:
            uvloop.run(self._work_until_told(pipeline, descriptor, listening))
        return _code(pipeline)

    def _end_within(self) -> float:
        """Return how long a worker may take to end."""
        times = (self._config.request_timeout, self._config.grace)
        return sum(times) + self._audit.options.shutdown_timeout + _END_SECONDS

    def _listen(self, *, is_shared: bool = False) -> socket.socket:
        address, port = self._settings["bind_address"], self._settings["secure_port"]
        try:
            return listen(address, port, is_shared=is_shared)
        except OSError as error:
            where = authority(address, port)
            raise OSError(f"cannot listen at {where}: {error.strerror or error}") from None

    async def _work_until_told(self, pipeline: Pipeline, descriptor: int, listening: Any) -> None:
        proxy = self._proxy(pipeline)
        channel = Channel(
            descriptor, is_ready=lambda: proxy.is_ready, exposition=pipeline.metrics.exposition
        )
        await serve(
            proxy,
            pipeline,
            listening,
            on_ready=channel.say_ready,
            until=channel.run,
        )

    def _announce(self, port: int, health_port: int) -> None:
        where = authority(self._settings["bind_address"], port)
        health = authority(self._settings["health"][0], health_port)
        workers = self._settings["workers"]
        click.echo(
            f"auditing {self._kubeconfig.server} at https://{where}"
            f"{f' with {workers} workers' if workers > 1 else ''}; "
            f"health and metrics at http://{health}",
            err=True,
        )


def _config(audit: Loaded, settings: Mapping[str, Any]) -> ProxyConfig:
    return ProxyConfig(
        tls_cert_file=settings["tls_cert_file"],
        tls_private_key_file=settings["tls_private_key_file"],
        client_ca_file=settings["client_ca_file"],
        policy_file=Path(audit.options.policy_file),
        forwarding=Forwarding(settings["forward_identity"]),
        token_identity=TokenIdentity(settings["token_identity"]),
        token_ttl=settings["token_ttl"],
        anonymous_auth=settings["anonymous_auth"],
        request_timeout=settings["request_timeout"],
        grace=settings["grace"],
        max_body=settings["max_body"],
        reload_interval=settings["reload_interval"],
    )


def _collect_rarely() -> None:
    """Spare the garbage collector what is here to stay: that is a tenth of a request's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _code(pipeline: Pipeline) -> int:
    """Return 1 if an event was lost, which the log has told."""
    return 1 if pipeline.statistics().dropped else 0
