"""What can be set about the backends: frozen values, each field with its text for `--help`.

A field's annotation is its type and its help; its default is upstream's for the webhook or, where
the two differ, is set by `options`. From these fields `options` makes flags, variables and the
flag reference, so each setting is declared once, here.

Source: audit specification section 12; upstream ``pkg/server/options/audit.go``.
"""

from dataclasses import dataclass
from typing import Annotated

from kubewitness.backends.backend import Seconds


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """A log file: ``--audit-log-…``."""

    path: Annotated[
        str, 'File that events are written to, a line each; "-" is standard output. Empty: no log.'
    ] = ""
    maxage: Annotated[
        int, "Days that rotated files are kept, by the time in their names; 0 keeps them all."
    ] = 366
    maxbackup: Annotated[int, "Rotated files that are kept at most; 0 keeps them all."] = 100
    maxsize: Annotated[
        int, "Megabytes (of 1048576 bytes) at which the file is rotated; 0 never rotates it."
    ] = 100
    compress: Annotated[bool, "Compress rotated files with gzip."] = False
    format: Annotated[
        str,
        "How events are written: json (an event a line), legacy (a line of text an event) or "
        "two-line (text as before Kubernetes 1.12; kube-apiserver does not have it).",
    ] = "json"
    shared: Annotated[
        bool,
        "Several processes write to this log: each takes a lock for every line, so that lines stay "
        "whole and they rotate it together. kube-apiserver has no such flag.",
    ] = False


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """The buffer of mode batch: ``--audit-…-batch-…``."""

    buffer_size: Annotated[
        int, "Events that wait at most; when they are that many, further ones are dropped."
    ] = 10_000
    max_size: Annotated[int, "Events in one batch at most."] = 400
    max_wait: Annotated[
        Seconds, "How long a batch that is not full waits for more events, since the last batch."
    ] = Seconds(30)
    throttle_enable: Annotated[bool, "Whether the rate of batches is limited."] = True
    throttle_qps: Annotated[float, "Batches a second on average, when throttled."] = 10.0
    throttle_burst: Annotated[
        int, "Batches that may go at once after a time of less than the average rate."
    ] = 15


@dataclass(frozen=True, kw_only=True)
class TruncateConfig:
    """The limits of size: ``--audit-…-truncate-…``."""

    enabled: Annotated[
        bool,
        "Leave request and response objects out of events that are too large, and split batches "
        "that are.",
    ] = False
    max_event_size: Annotated[
        int,
        "Bytes of an event at most; a larger one loses its objects, and is dropped if that does "
        "not help.",
    ] = 102_400
    max_batch_size: Annotated[
        int, "Bytes of the events that are handed on at once; at least the size of one event."
    ] = 10_485_760


@dataclass(frozen=True, kw_only=True)
class WebhookConfig:
    """A webhook server: ``--audit-webhook-…``."""

    config_file: Annotated[
        str,
        "Kubeconfig file that names the server that events are sent to, and the credentials. "
        "Empty: no webhook.",
    ] = ""
    initial_backoff: Annotated[
        Seconds,
        "How long to wait before a failed request is sent again for the first time; later waits "
        "are longer.",
    ] = Seconds(10)
    max_in_flight: Annotated[
        int,
        "Batches that are sent at once at most, in mode batch; while they are that many, events "
        "wait in the buffer. kube-apiserver has no limit and no such flag.",
    ] = 16
