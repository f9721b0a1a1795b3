"""Files that are read again when they change: certificates, authorities, the audit policy.

Looked at every few seconds. What cannot be used, because somebody is still writing it or made a
mistake, leaves what was in use before, and is said once a change: in the log, and as a metric. It
is tried again at each look, for what failed may have been this machine.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from kubewitness.backends.stamps import Stamp, stamp_of
from kubewitness.errors import KubewitnessError
from kubewitness.metrics import ProxyMetrics

_log = logging.getLogger("kubewitness.proxy")


class WatchedFiles:
    """Some files that are used together.

    Args:
        name: What they are, for the log and the metric.
        files: Their paths.
        use: Reads and uses them.
        metrics: Where it is counted.
    """

    def __init__(
        self, name: str, files: Sequence[Path], use: Callable[[], None], metrics: ProxyMetrics
    ) -> None:
        self._name = name
        self._files = files
        self._use = use
        self._metrics = metrics
        self._used = self._stamps()
        self._refused: list[Stamp] = []

    def look(self) -> None:
        """Use the files again if one of them has changed since they were used."""
        stamps = self._stamps()  # before they are read: a change meanwhile is seen next time
        if stamps == self._used:
            self._refused = []
            return
        try:
            self._use()
        except (KubewitnessError, OSError, ValueError) as error:
            if stamps != self._refused:
                self._count("error")
                text = _one_line(error)
                _log.error("%s: %s; what was read before stays in use", self._name, text)
            self._refused = stamps
        else:
            self._used, self._refused = stamps, []
            self._count("success")
            _log.info("%s: read again, for it has changed", self._name)

    def _count(self, outcome: str) -> None:
        self._metrics.reloads.labels(self._name, outcome).inc()

    def _stamps(self) -> list[Stamp]:
        return [stamp_of(file) for file in self._files]


def _one_line(error: BaseException) -> str:
    return "; ".join(str(error).splitlines())
