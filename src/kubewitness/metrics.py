"""The counters of an audit pipeline, in Prometheus' terms.

Upstream's own metrics under upstream's names, and beside them, under ``kubewitness_audit_…``, what
upstream cannot tell: which events were dropped and why, how full a queue is, how slow a webhook.
Not here: who counts what (each room does), and the HTTP endpoint that serves them.

Source: audit specification section 11; upstream ``pkg/audit/metrics.go``.
"""

import threading
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of `AuditMetrics.exposition`."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Tally(Collector):
    """A counter without labels at half the cost of the library's, for what every event counts."""

    def __init__(self, name: str, text: str, *, registry: CollectorRegistry) -> None:
        self._name = name
        self._text = text
        self._lock = threading.Lock()
        self._count = 0
        registry.register(self)

    def inc(self, amount: int = 1) -> None:
        """Add to the count."""
        with self._lock:
            self._count += amount

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the count, for the registry."""
        yield CounterMetricFamily(self._name, self._text, value=self._count)


class AuditMetrics:
    """The metrics of one pipeline, in a registry of its own unless one is given.

    Each attribute is a metric of prometheus-client; the text beside its name below is its help.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._upstream()
        self._ours()

    def exposition(self) -> bytes:
        """Return everything in the text format that Prometheus scrapes, see `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    def sums(self, metric: Counter | Gauge | Tally) -> dict[tuple[str, ...], float]:
        """Return a counter's or gauge's values by the values of its labels."""
        return {
            tuple(sample.labels.values()): sample.value
            for family in metric.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    def _upstream(self) -> None:
        self.events = Tally(
            "apiserver_audit_event_total",
            "[ALPHA] Counter of audit events generated and sent to the audit backend.",
            registry=self.registry,
        )
        self.errors = self._counter(
            "apiserver_audit_error_total",
            "[ALPHA] Counter of audit events that failed to be audited properly. "
            "Plugin identifies the plugin affected by the error.",
            "plugin",
        )
        self.levels = self._counter(
            "apiserver_audit_level_total",
            "[ALPHA] Counter of policy levels for audit events (1 per request).",
            "level",
        )
        self.rejected = self._counter(
            "apiserver_audit_requests_rejected_total",
            "[ALPHA] Counter of apiserver requests rejected due to an error in audit logging "
            "backend.",
        )
        self.missing_san = self._counter(
            "apiserver_webhooks_x509_missing_san_total",
            "[ALPHA] Counts the number of requests to servers missing SAN extension in their "
            "serving certificate.",
        )
        self.insecure_sha1 = self._counter(
            "apiserver_webhooks_x509_insecure_sha1_total",
            "[ALPHA] Counts the number of requests to servers with insecure SHA1 signatures in "
            "their serving certificate.",
        )

    def _ours(self) -> None:
        self.dropped = self._counter(
            "kubewitness_audit_events_dropped_total",
            "Events that a backend did not deliver, by the reason.",
            "backend",
            "reason",
        )
        self.truncated = self._counter(
            "kubewitness_audit_events_truncated_total",
            "Events whose recorded objects were left out because they were too large.",
            "backend",
        )
        self.queue_length = self._gauge(
            "kubewitness_audit_queue_length", "Events waiting in a batch backend's buffer."
        )
        self.queue_capacity = self._gauge(
            "kubewitness_audit_queue_capacity", "Events that a batch backend's buffer can hold."
        )
        self.in_flight = self._gauge(
            "kubewitness_audit_batches_in_flight", "Batches that are being sent."
        )
        self.webhook_seconds = Histogram(
            "kubewitness_audit_webhook_request_duration_seconds",
            "How long a POST to the webhook took, by status code; the code of one without an "
            'answer is "error".',
            ["code"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.bytes_written = self._counter(
            "kubewitness_audit_log_bytes_written_total", "Bytes written to the audit log."
        )
        self.rotations = self._counter(
            "kubewitness_audit_log_rotations_total", "Rotations of the audit log by size."
        )
        self.reopened = self._counter(
            "kubewitness_audit_log_reopened_total",
            "Times that the audit log was opened anew because somebody moved or removed it.",
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, ["backend"], registry=self.registry)


class ProxyMetrics:
    """The metrics of the proxy itself, in the registry of its audit metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "kubewitness_proxy_requests_total",
            "Requests by the status code of their answer; 0 when the connection was cut.",
            ["code"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "kubewitness_proxy_requests_in_flight",
            "Requests that are being served, long-running ones included.",
            registry=registry,
        )
        self.upstream_errors = Counter(
            "kubewitness_proxy_upstream_errors_total",
            "Requests that the API server gave no answer to, or only a part of one.",
            registry=registry,
        )
        self.reviews = Counter(
            "kubewitness_proxy_token_reviews_total",
            "Times that the API server was asked whose a token is: known, unknown or error.",
            ["outcome"],
            registry=registry,
        )
        self.reloads = Counter(
            "kubewitness_proxy_reloads_total",
            "Times that a changed file was read again: success, or error when the old one stays.",
            ["file", "outcome"],
            registry=registry,
        )
        self._by_code: dict[int, Counter] = {}

    def count(self, code: int) -> None:
        """Count a request by the code of its answer."""
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self.requests.labels(code)
        counter.inc()
