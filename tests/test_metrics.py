"""The metrics: upstream's names and texts, and a heading in the documents for each."""

import re
from pathlib import Path

from kubewitness.metrics import CONTENT_TYPE, AuditMetrics

DOCUMENT = (Path(__file__).parent.parent / "docs" / "backends.md").read_text()

# Source: audit specification section 11.
UPSTREAM = {
    "apiserver_audit_event_total": (
        "[ALPHA] Counter of audit events generated and sent to the audit backend."
    ),
    "apiserver_audit_error_total": (
        "[ALPHA] Counter of audit events that failed to be audited properly. Plugin identifies the "
        "plugin affected by the error."
    ),
    "apiserver_audit_level_total": (
        "[ALPHA] Counter of policy levels for audit events (1 per request)."
    ),
    "apiserver_audit_requests_rejected_total": (
        "[ALPHA] Counter of apiserver requests rejected due to an error in audit logging backend."
    ),
}


def families(metrics: AuditMetrics) -> dict[str, str]:
    """Return the help of each metric, by its name."""
    text = metrics.exposition().decode()
    found = re.findall(r"^# HELP (\w+) (.*)$", text, re.MULTILINE)
    return {name: help_text for name, help_text in found if not name.endswith("_created")}


def test_upstreams_metrics_have_its_names_and_texts() -> None:
    assert UPSTREAM.items() <= families(AuditMetrics()).items()


def test_every_metric_has_a_heading_and_every_heading_is_a_metric() -> None:
    headings = re.findall(r"^### (\w+)$", DOCUMENT, re.MULTILINE)

    assert sorted(headings) == sorted(families(AuditMetrics()))


def test_counters_without_labels_are_there_from_the_start_and_others_when_used() -> None:
    metrics = AuditMetrics()
    before = metrics.exposition().decode()
    metrics.errors.labels("log").inc(2)

    assert "\napiserver_audit_event_total 0.0\n" in before
    assert "\napiserver_audit_requests_rejected_total 0.0\n" in before
    assert "apiserver_audit_error_total{" not in before
    assert '\napiserver_audit_error_total{plugin="log"} 2.0\n' in metrics.exposition().decode()
    assert CONTENT_TYPE.startswith("text/plain")


def test_pipelines_count_apart() -> None:
    first, second = AuditMetrics(), AuditMetrics()
    first.events.inc()

    assert first.sums(first.events) == {(): 1.0}
    assert second.sums(second.events) == {(): 0.0}
