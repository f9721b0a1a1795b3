"""Every setting of auditing as one frozen value; the flags are made from its fields.

A flag's name is the path to its field: ``log.batch.max_size`` is ``--audit-log-batch-max-size``. So
a setting is declared once, here or beside the backend it is for. Not here: how flags are spelled
(`flags`), where values come from (`arguments`, `sources`), which of them go together (`validate`).

Source: audit specification section 12; upstream ``pkg/server/options/audit.go``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from kubewitness.backends import BatchConfig, LogConfig, TruncateConfig, WebhookConfig
from kubewitness.backends.backend import Seconds

API_VERSION = "audit.k8s.io/v1"
MODES = ("batch", "blocking", "blocking-strict")

# What upstream sets for the log where `BatchConfig` has the webhook's values.
_LOG_BATCH = BatchConfig(
    max_size=1, max_wait=Seconds(0), throttle_enable=False, throttle_qps=0.0, throttle_burst=0
)
_TRUNCATE = TruncateConfig()
_WEBHOOK_BATCH = BatchConfig()


@dataclass(frozen=True, kw_only=True)
class LogOptions(LogConfig):
    """The log file, and how events get there: ``--audit-log-…``."""

    version: Annotated[
        str, "API version that events are written in; there is one, audit.k8s.io/v1."
    ] = API_VERSION
    mode: Annotated[
        str,
        "How events are handed on: blocking (written while the request waits), blocking-strict "
        "(the same, and a request whose first event cannot be written is refused) or batch "
        "(written later, from a buffer).",
    ] = "blocking"
    batch: BatchConfig = _LOG_BATCH
    truncate: TruncateConfig = _TRUNCATE


@dataclass(frozen=True, kw_only=True)
class WebhookOptions(WebhookConfig):
    """The webhook, and how events get there: ``--audit-webhook-…``."""

    version: Annotated[
        str, "API version that events are sent in; there is one, audit.k8s.io/v1."
    ] = API_VERSION
    mode: Annotated[
        str,
        "How events are handed on: batch (sent later, from a buffer), blocking (sent while the "
        "request waits) or blocking-strict (the same, and a request whose first event cannot be "
        "sent is refused).",
    ] = "batch"
    batch: BatchConfig = _WEBHOOK_BATCH
    truncate: TruncateConfig = _TRUNCATE


_LOG = LogOptions()
_WEBHOOK = WebhookOptions()


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """All of ``--audit-…``; the defaults are those of kube-apiserver."""

    policy_file: Annotated[
        str, "File with the audit policy: what is recorded. Empty: nothing is."
    ] = ""
    log: LogOptions = _LOG
    webhook: WebhookOptions = _WEBHOOK
    shutdown_timeout: Annotated[
        Seconds,
        "How long pending events are delivered for when the process ends; below the 30 s that "
        "Kubernetes gives a pod. kube-apiserver has no such flag.",
    ] = Seconds(20)

    @classmethod
    def from_arguments(cls, arguments: Sequence[str]) -> Self:
        """Return the options that command-line arguments set; other arguments are ignored.

        Raises:
            OptionsError: They cannot be used; it holds every problem.
        """
        # Here, because everything about flags is made from this class.
        from kubewitness.options.load import load_options  # noqa: PLC0415

        options = load_options(arguments).options
        return cls(**{name: getattr(options, name) for name in cls.__dataclass_fields__})
