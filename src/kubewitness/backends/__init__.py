"""Where events go: a log file, a webhook, and what stands in front of them.

`log` writes lines into a rotated file; `webhook` POSTs EventLists. The others wrap a backend:
`buffered` takes events at once and delivers them later, `truncate` keeps them small,
`ignore_errors` answers for one that fails, `union` is several as one. They know each other only as
`Backend`; `options` composes them. Not here: what is recorded (`policy`, `recorder`), and flags.

Read first: `backend` (what a backend is), `config` (what can be set), `failures` (what happens to
an event that is not delivered).

Source: audit specification sections 6 to 10.
"""

from kubewitness.backends.backend import Backend, Seconds
from kubewitness.backends.clock import Clock, SystemClock
from kubewitness.backends.config import BatchConfig, LogConfig, TruncateConfig, WebhookConfig
from kubewitness.backends.failures import Failures, Reason

__all__ = [
    "Backend",
    "BatchConfig",
    "Clock",
    "Failures",
    "LogConfig",
    "Reason",
    "Seconds",
    "SystemClock",
    "TruncateConfig",
    "WebhookConfig",
]
