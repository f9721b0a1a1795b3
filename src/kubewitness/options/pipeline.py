"""Options to a pipeline: the one place that knows every concrete backend.

The composition is upstream's: the log and the webhook, each inside its mode (``batch`` is
`buffered`, ``blocking`` is `ignore_errors`, ``blocking-strict`` is bare), that inside `truncate` if
it is enabled, and both in a union.

Unlike upstream, the backends are built without a policy, too, so that events made by hand arrive;
a server records nothing then. And every file is looked at, so that all faults are said at once.

Source: audit specification section 6.1; upstream ``pkg/server/options/audit.go``, ``ApplyTo``.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from kubewitness.backends import Backend, Clock, SystemClock
from kubewitness.backends.buffered import BufferedBackend
from kubewitness.backends.ignore_errors import IgnoreErrorsBackend
from kubewitness.backends.log import LogBackend
from kubewitness.backends.pipeline import Pipeline
from kubewitness.backends.truncate import TruncateBackend
from kubewitness.backends.union import UnionBackend
from kubewitness.errors import OptionsError, Problem
from kubewitness.metrics import AuditMetrics
from kubewitness.options.flags import FLAG_OF
from kubewitness.options.model import AuditOptions, LogOptions, WebhookOptions
from kubewitness.options.opening import (
    CONFIG_FILE,
    LOG_PATH,
    at_flag,
    attempt,
    open_kubeconfig,
    open_policy,
)
from kubewitness.options.origin import Origin, origin_of
from kubewitness.options.validate import validate

_T = TypeVar("_T")
_NO_ORIGINS: Mapping[str, Origin] = {}

_log = logging.getLogger("kubewitness.options")


def build_pipeline(
    options: AuditOptions,
    *,
    origins: Mapping[str, Origin] = _NO_ORIGINS,
    metrics: AuditMetrics | None = None,
    clock: Clock | None = None,
) -> Pipeline:
    """Return the policy and the backends that options ask for, not yet started.

    The log file, and directories on the way to it, are made. What is merely odd about the
    kubeconfig goes to the logger ``kubewitness.options`` as a warning.

    Args:
        options: The options; `load_options` and `AuditOptions.from_arguments` make them.
        origins: Where they came from, for messages: `Loaded.origins`.
        metrics: The counters; new ones when None.
        clock: The clock; the machine's when None.

    Raises:
        OptionsError: The options, or the files that they name, cannot be used; holds every problem.
    """
    if problems := validate(options, origins):
        raise OptionsError(problems)
    builder = _Builder(options, origins, metrics or AuditMetrics(), clock or SystemClock())
    return builder.pipeline()


class _Builder:
    """Builds the parts, and gathers what keeps them from being built."""

    def __init__(
        self,
        options: AuditOptions,
        origins: Mapping[str, Origin],
        metrics: AuditMetrics,
        clock: Clock,
    ) -> None:
        self._options = options
        self._origins = origins
        self._metrics = metrics
        self._clock = clock
        self._problems: list[Problem] = []

    def pipeline(self) -> Pipeline:
        policy = self._try(lambda: open_policy(self._options, self._origins))
        webhook = self._try(self._webhook)  # before the log, which leaves a file behind
        log = self._try(self._log)
        if self._problems:
            raise OptionsError(tuple(self._problems))
        return Pipeline(
            policy,
            _united([each for each in (log, webhook) if each is not None]),
            metrics=self._metrics,
            clock=self._clock,
            shutdown_timeout=self._options.shutdown_timeout,
        )

    def _try(self, build: Callable[[], _T]) -> _T | None:
        try:
            return build()
        except OptionsError as error:
            self._problems += error.problems
            return None

    def _log(self) -> Backend | None:
        settings = self._options.log
        if not settings.path:
            return None
        log = attempt(
            LOG_PATH,
            self._origins,
            lambda: LogBackend(settings, metrics=self._metrics, clock=self._clock),
        )
        return self._wrapped(log, settings, in_flight=0)

    def _webhook(self) -> Backend | None:
        settings = self._options.webhook
        kubeconfig = open_kubeconfig(self._options, self._origins)
        if kubeconfig is None:
            return None
        # Here, so that a log alone loads no HTTP client: that takes a quarter of a second.
        from kubewitness.backends.webhook import WebhookBackend  # noqa: PLC0415

        webhook = attempt(
            CONFIG_FILE,
            self._origins,
            lambda: WebhookBackend(kubeconfig, settings, metrics=self._metrics, clock=self._clock),
        )
        origin = origin_of(FLAG_OF[CONFIG_FILE], self._origins)
        for warning in at_flag(origin, kubeconfig.warnings):
            _log.warning("%s", warning)
        return self._wrapped(webhook, settings, in_flight=settings.max_in_flight)

    def _wrapped(
        self, backend: Backend, settings: LogOptions | WebhookOptions, *, in_flight: int
    ) -> Backend:
        name = repr(backend)
        if settings.mode == "batch":
            backend = BufferedBackend(
                backend,
                settings.batch,
                backend=name,
                in_flight=in_flight,
                metrics=self._metrics,
                clock=self._clock,
            )
        elif settings.mode == "blocking":
            backend = IgnoreErrorsBackend(backend)
        if settings.truncate.enabled:
            backend = TruncateBackend(
                backend,
                settings.truncate,
                backend=name,
                metrics=self._metrics,
                clock=self._clock,
            )
        return backend


def _united(backends: list[Backend]) -> Backend | None:
    """Return several backends as one; a union of one is that one."""
    if len(backends) > 1:
        return UnionBackend(backends)
    return backends[0] if backends else None
