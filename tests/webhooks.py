"""Webhook backends on real receivers, on a clock whose waits take no time."""

from collections.abc import Callable
from pathlib import Path

from clocks import HandClock
from kubewitness.backends import Seconds, WebhookConfig
from kubewitness.backends.kubeconfig import load_kubeconfig
from kubewitness.backends.webhook import WebhookBackend
from kubewitness.metrics import AuditMetrics


class Sender:
    """A webhook backend with all that is around it."""

    def __init__(
        self,
        kubeconfig: Path,
        *,
        clock: HandClock | None = None,
        jitter: Callable[[], float] = lambda: 0.0,
        attempt_seconds: float = 30.0,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.clock = clock or HandClock(jumping=True)
        self.metrics = AuditMetrics()
        loaded = load_kubeconfig(
            kubeconfig.read_bytes(), str(kubeconfig), directory=kubeconfig.parent
        )
        self.backend = WebhookBackend(
            loaded,
            WebhookConfig(initial_backoff=Seconds(10)),
            metrics=self.metrics,
            clock=self.clock,
            jitter=jitter,
            attempt_seconds=attempt_seconds,
            environment=environment or {},
        )

    def end(self) -> None:
        self.backend.shutdown(self.clock.monotonic() + 60)

    @property
    def dropped(self) -> dict[tuple[str, ...], float]:
        return self.metrics.sums(self.metrics.dropped)

    def timed(self) -> dict[str, float]:
        """Return how many requests were timed, by their code."""
        return {
            sample.labels["code"]: sample.value
            for family in self.metrics.webhook_seconds.collect()
            for sample in family.samples
            if sample.name.endswith("_count")
        }
