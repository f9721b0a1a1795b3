"""What must be so for a server to start, judged of every setting at once.

As upstream, only a backend that is on is judged, batch settings only in mode batch, and the sizes
of truncation also when it is off. Unlike upstream, which stops at the first fault of each kind,
this reports them all, each where the value came from. What is merely odd, `advice` says.

Source: audit specification section 12; upstream ``pkg/server/options/audit.go``, ``Validate``.
"""

from collections.abc import Collection, Mapping

from kubewitness.documents import closest, quoted
from kubewitness.errors import Problem
from kubewitness.options.flags import FLAG_OF
from kubewitness.options.model import (
    API_VERSION,
    MODES,
    AuditOptions,
    LogOptions,
    WebhookOptions,
)
from kubewitness.options.origin import Origin, origin_of

FORMATS = ("json", "legacy", "two-line")


def validate(
    options: AuditOptions,
    origins: Mapping[str, Origin] | None = None,
    *,
    refused: Collection[str] = (),
) -> tuple[Problem, ...]:
    """Return everything that keeps the options from being used.

    Args:
        options: The options.
        origins: Where values came from, by flag name; nothing for those that are defaults.
        refused: Names of flags whose values are known to be wrong, and not in the options.
    """
    judge = _Judge(origins or {}, refused)
    if options.log.path:
        _judge_backend(judge, "log", options.log)
        _judge_log(judge, options.log)
    if options.webhook.config_file:
        _judge_backend(judge, "webhook", options.webhook)
        if options.webhook.mode == "batch":
            number = options.webhook.max_in_flight
            message = f"{number} lets nothing be sent; write 1 or more"
            judge.require(number > 0, "audit-webhook-max-in-flight", message)
    seconds = FLAG_OF["audit-shutdown-timeout"].shown(options.shutdown_timeout)
    message = f"{seconds} is negative; 0s does not wait"
    judge.require(options.shutdown_timeout >= 0, "audit-shutdown-timeout", message)
    return tuple(judge.problems)


class _Judge:
    """Gathers problems, each at the origin of the setting that it is about."""

    def __init__(self, origins: Mapping[str, Origin], refused: Collection[str]) -> None:
        self.problems: list[Problem] = []
        self._origins = origins
        self._refused = refused

    def knows(self, name: str) -> bool:
        """Tell whether the value of a flag is the one that was meant."""
        return name not in self._refused

    def is_given(self, name: str) -> bool:
        """Tell whether the value of a flag is not its default."""
        return name in self._origins

    def require(self, condition: object, name: str, message: str) -> None:
        """Report a flag unless a condition holds."""
        if not condition:
            self.refuse(name, message)

    def refuse(self, name: str, message: str) -> None:
        """Report a flag, unless its value is known to be wrong anyway."""
        if self.knows(name):
            self.problems.append(origin_of(FLAG_OF[name], self._origins).problem(message))


def _judge_backend(judge: _Judge, backend: str, settings: LogOptions | WebhookOptions) -> None:
    prefix = f"audit-{backend}"
    judge.require(settings.mode in MODES, f"{prefix}-mode", _unknown("mode", settings.mode, MODES))
    if settings.mode == "batch":
        _judge_batch(judge, prefix, settings)
    _judge_truncate(judge, prefix, settings)
    message = f"unknown version {quoted(settings.version)}; there is one, {API_VERSION}"
    judge.require(settings.version == API_VERSION, f"{prefix}-version", message)


def _judge_batch(judge: _Judge, prefix: str, settings: LogOptions | WebhookOptions) -> None:
    batch, name = settings.batch, f"{prefix}-batch"
    message = f"{batch.buffer_size} leaves events no room to wait; write 1 or more"
    judge.require(batch.buffer_size > 0, f"{name}-buffer-size", message)
    message = f"{batch.max_size} is no size for a batch; write 1 or more"
    judge.require(batch.max_size > 0, f"{name}-max-size", message)
    if batch.throttle_enable:
        qps, off = f"{name}-throttle-qps", f"or --{name}-throttle-enable=false"
        message = (
            f"{FLAG_OF[qps].shown(batch.throttle_qps)} lets no batch through; write more, {off}"
        )
        judge.require(batch.throttle_qps > 0, qps, message)
        message = f"{batch.throttle_burst} lets no batch through; write 1 or more, {off}"
        judge.require(batch.throttle_burst > 0, f"{name}-throttle-burst", message)


def _judge_truncate(judge: _Judge, prefix: str, settings: LogOptions | WebhookOptions) -> None:
    truncate = settings.truncate
    event, batch = f"{prefix}-truncate-max-event-size", f"{prefix}-truncate-max-batch-size"
    message = f"{truncate.max_event_size} is no size for an event; write 1 or more"
    judge.require(truncate.max_event_size > 0, event, message)
    if truncate.max_batch_size >= truncate.max_event_size or not judge.knows(event):
        return
    if judge.is_given(batch) or not judge.is_given(event):
        message = f"{truncate.max_batch_size} is less than one event may have, "
        judge.refuse(batch, f"{message}{truncate.max_event_size} (--{event})")
    elif judge.knows(batch):
        message = f"{truncate.max_event_size} is more than a batch may have, "
        judge.refuse(event, f"{message}{truncate.max_batch_size} (--{batch})")


def _judge_log(judge: _Judge, log: LogOptions) -> None:
    message = _unknown("format", log.format, FORMATS)
    judge.require(log.format in FORMATS, "audit-log-format", message)
    for name, number, meaning in (
        ("audit-log-maxage", log.maxage, "keeps rotated files for ever"),
        ("audit-log-maxbackup", log.maxbackup, "keeps any number of rotated files"),
        ("audit-log-maxsize", log.maxsize, "never rotates the file"),
    ):
        judge.require(number >= 0, name, f"{number} is negative; 0 {meaning}")


def _unknown(what: str, found: str, known: tuple[str, ...]) -> str:
    meant = closest(found, known)
    hint = f", did you mean {quoted(meant)}?" if meant else f"; one of {', '.join(known)}"
    return f"unknown {what} {quoted(found)}{hint}"
