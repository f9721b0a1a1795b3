"""POSTs events to a webhook server, and tries again until it has them or there is no hope.

One call is one EventList. An attempt has 30 seconds, within which a server that answers 429 or 5xx
with ``Retry-After`` is asked again when it says; five attempts are made, with growing waits between
them. The caller waits for all of that: for mode batch, `buffered` calls from threads of its own.

Source: audit specification section 8; upstream ``plugin/pkg/audit/webhook/webhook.go``.
"""

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from kubewitness.backends.clock import Clock
from kubewitness.backends.config import WebhookConfig
from kubewitness.backends.credentials import Credentials
from kubewitness.backends.failures import Failures, Reason
from kubewitness.backends.kubeconfig import Kubeconfig
from kubewitness.backends.posting import Answer, CertificateFault, Poster
from kubewitness.codec import encode, encode_list
from kubewitness.errors import EncodeError
from kubewitness.event import Event
from kubewitness.metrics import AuditMetrics

ATTEMPTS = 5
ATTEMPT_SECONDS = 30.0
RESENDS = 10
"""How often a server's ``Retry-After`` is followed within one attempt."""

_GROWTH = 1.5
_JITTER = 0.2
_GRACE = 1.0


class WebhookBackend:
    """Delivers events to the server of a kubeconfig.

    Args:
        kubeconfig: The server and the credentials.
        config: `initial_backoff` is used.
        metrics: Where requests are timed, and failures counted.
        clock: For the waits.
        jitter: Returns a number from 0 to 1 that makes a wait up to a fifth longer.
        attempt_seconds: For tests that cannot wait for `ATTEMPT_SECONDS`.
        environment: Where ``HTTPS_PROXY`` and the like are looked up.

    Raises:
        KubeconfigError: A file that the kubeconfig names cannot be used.
    """

    def __init__(
        self,
        kubeconfig: Kubeconfig,
        config: WebhookConfig,
        *,
        metrics: AuditMetrics,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        attempt_seconds: float = ATTEMPT_SECONDS,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._jitter = jitter
        self._attempt_seconds = attempt_seconds
        self._failures = Failures("webhook", backend="webhook", metrics=metrics, clock=clock)
        self._poster = Poster(kubeconfig, Credentials(kubeconfig), environment=environment)
        self._condition = threading.Condition()
        self._callers = 0
        self._ending = False

    def __repr__(self) -> str:
        return "webhook"

    @property
    def waits(self) -> bool:
        """True: a call returns when the server has the events, or after the last attempt."""
        return True

    def process_events(self, events: Sequence[Event]) -> bool:
        """Deliver the events as one list; those that have no JSON form are left out of it."""
        if not events:
            return True
        if not self._enter():
            self._failures(events, Reason.SHUT_DOWN, "the webhook backend has been shut down")
            return False
        try:
            body, sent = self._encode(events)
            return self._deliver(body, sent) and len(sent) == len(events)
        finally:
            self._leave()

    def run(self) -> None:
        """Start the thread of the connections; those are made when there is something to send."""
        self._poster.start()

    def reopen(self) -> None:
        """Do nothing: there are no files."""

    def shutdown(self, deadline: float) -> None:
        """Let the deliveries under way end until the deadline; the others are given up."""
        with self._condition:
            while self._callers and self._clock.monotonic() < deadline:
                self._clock.wait(self._condition, deadline - self._clock.monotonic())
            self._ending = True
            self._condition.notify_all()
            while self._callers:  # those given up return at once, whatever the clock says
                self._poster.abort()
                self._condition.wait(0.1)
        self._poster.close(_GRACE)
        self._failures.sum_up()

    def after_fork(self) -> None:
        """Send over connections of our own; what the parent is sending is its matter."""
        self._condition = threading.Condition()
        self._callers = 0
        self._failures.after_fork()
        self._poster.after_fork()

    def _enter(self) -> bool:
        with self._condition:
            self._callers += not self._ending
            return not self._ending

    def _leave(self) -> None:
        with self._condition:
            self._callers -= 1
            self._condition.notify_all()

    def _encode(self, events: Sequence[Event]) -> tuple[bytes, Sequence[Event]]:
        try:
            return encode_list(events), events
        except EncodeError as error:
            sound: list[Event] = []
            unsound: list[Event] = []
            for event in events:
                (sound if _is_sound(event) else unsound).append(event)
            self._failures(unsound, Reason.UNENCODABLE, str(error))
            return encode_list(sound), sound

    def _deliver(self, body: bytes, events: Sequence[Event]) -> bool:
        if not events:
            return True
        answer = self._attempt(body)
        for wait in self._waits():
            if not answer.problem or not self._pause(wait):
                break
            answer = self._attempt(body)
        if answer.problem:
            reason = Reason.DEADLINE if self._ending else Reason.NOT_ACCEPTED
            self._failures(events, reason, answer.problem)
        return not answer.problem

    def _waits(self) -> Iterator[float]:
        wait: float = self._config.initial_backoff
        for _ in range(ATTEMPTS - 1):
            yield wait * (1 + _JITTER * self._jitter())
            wait *= _GROWTH

    def _attempt(self, body: bytes) -> Answer:
        """Send the body, and again for as long as the server asks for it and there is time."""
        until = self._clock.monotonic() + self._attempt_seconds
        answer = self._post(body, self._attempt_seconds)
        for _ in range(RESENDS):
            left = until - self._clock.monotonic()
            if answer.retry_after is None or not self._pause(min(answer.retry_after, left)):
                break
            if answer.retry_after >= left:
                break
            answer = self._post(body, left - answer.retry_after)
        return answer

    def _post(self, body: bytes, seconds: float) -> Answer:
        start = self._clock.monotonic()
        answer = self._poster.post(body, timeout=seconds)
        took = self._clock.monotonic() - start
        self._metrics.webhook_seconds.labels(answer.code or "error").observe(took)
        if answer.fault is CertificateFault.MISSING_SAN:
            self._metrics.missing_san.inc()
        elif answer.fault is CertificateFault.SHA1:
            self._metrics.insecure_sha1.inc()
        return answer

    def _pause(self, seconds: float) -> bool:
        """Wait; False, and at once, when there is no time for another attempt any more."""
        until = self._clock.monotonic() + seconds
        with self._condition:
            while not self._ending and (left := until - self._clock.monotonic()) > 0:
                self._clock.wait(self._condition, left)
            return not self._ending


def _is_sound(event: Event) -> bool:
    try:
        encode(event)
    except EncodeError:
        return False
    return True
