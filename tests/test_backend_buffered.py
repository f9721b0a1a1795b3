"""The buffer of mode batch on a clock turned by hand: what is sent and when, and what is not."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocks import HandClock
from collecting import CollectingBackend, event, events
from kubewitness.backends import BatchConfig, Reason, Seconds, SystemClock
from kubewitness.backends.buffered import BufferedBackend
from kubewitness.backends.throttle import TokenBucket
from kubewitness.event import Event
from kubewitness.metrics import AuditMetrics

FAR = 1e9
CONFIG = BatchConfig(buffer_size=10, max_size=3, max_wait=Seconds(30), throttle_enable=False)


class Bench:
    """A buffered backend with all that is around it."""

    def __init__(
        self, config: BatchConfig = CONFIG, *, in_flight: int = 0, clock: HandClock | None = None
    ) -> None:
        self.clock = clock or HandClock()
        self.metrics = AuditMetrics()
        self.delegate = CollectingBackend(name="webhook")
        self.backend = BufferedBackend(
            self.delegate,
            config,
            backend="webhook",
            metrics=self.metrics,
            clock=self.clock,
            in_flight=in_flight,
        )

    def put(self, *numbers: int) -> bool:
        return self.backend.process_events(events(*numbers))

    def start(self) -> None:
        """Start, and wait until the thread collects."""
        self.backend.run()
        self.clock.until_waiting()

    def end(self, seconds: float = FAR) -> None:
        self.backend.shutdown(self.clock.monotonic() + seconds)

    @property
    def dropped(self) -> dict[tuple[str, ...], float]:
        return self.metrics.sums(self.metrics.dropped)

    @property
    def waiting(self) -> float:
        return self.metrics.sums(self.metrics.queue_length)["webhook",]


def test_a_full_batch_is_sent_at_once() -> None:
    bench = Bench()
    bench.start()
    bench.put(1, 2, 3)
    bench.delegate.until_batches(1)

    assert bench.delegate.batches == [["1", "2", "3"]]
    bench.end()


def test_a_batch_that_is_not_full_is_sent_when_the_wait_is_over_and_not_before() -> None:
    bench = Bench()
    bench.start()
    bench.put(1)
    bench.clock.advance(29.9)
    bench.clock.until_waiting(timed=True)
    assert bench.delegate.batches == []
    bench.clock.advance(0.1)
    bench.delegate.until_batches(1)

    assert bench.delegate.batches == [["1"]]
    bench.end()


def test_the_wait_starts_with_the_collecting_and_not_with_the_first_event() -> None:
    bench = Bench()
    bench.start()
    bench.clock.advance(20)
    bench.clock.until_waiting(timed=True)
    bench.put(1)
    bench.clock.advance(10)
    bench.delegate.until_batches(1)

    assert bench.delegate.batches == [["1"]]
    bench.end()


def test_without_events_nothing_is_sent_and_no_token_is_used() -> None:
    config = replace(CONFIG, throttle_enable=True, throttle_qps=0.001, throttle_burst=1)
    bench = Bench(config)
    bench.start()
    for _ in range(5):
        bench.clock.advance(30)
        bench.clock.until_waiting(timed=True)
    bench.put(1, 2, 3)
    bench.delegate.until_batches(1)

    assert bench.delegate.batches == [["1", "2", "3"]]
    bench.end()


def test_with_batches_of_one_every_event_is_sent_at_once() -> None:
    bench = Bench(replace(CONFIG, max_size=1, max_wait=Seconds(0)))
    bench.start()
    bench.put(1, 2)
    bench.delegate.until_batches(2)

    assert bench.delegate.batches == [["1"], ["2"]]
    bench.end()


@pytest.mark.parametrize("max_wait", [0.0, -1.0])
def test_without_a_wait_a_batch_is_what_there_is_and_nothing_spins(max_wait: float) -> None:
    bench = Bench(replace(CONFIG, max_wait=Seconds(max_wait)))
    bench.put(1, 2)
    bench.start()
    bench.delegate.until_batches(1)
    bench.clock.until_waiting()
    bench.put(3)
    bench.delegate.until_batches(2)

    assert bench.delegate.batches == [["1", "2"], ["3"]]
    assert bench.clock.waits == []  # with a timeout, that is
    bench.end()


def test_a_full_buffer_drops_the_rest_of_the_call_and_all_is_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()  # not started: nothing leaves the buffer

    assert bench.put(*range(8)) is True
    assert bench.put(8, 9, 10, 11) is True
    assert bench.put(12) is True
    assert bench.waiting == 10
    assert bench.dropped == {("webhook", Reason.BUFFER_FULL): 3}
    assert bench.metrics.sums(bench.metrics.errors) == {("buffered",): 3}
    assert "affecting 2 audit events: audit buffer queue blocked" in caplog.text
    assert 'AUDIT: id="10"' in caplog.text
    assert 'AUDIT: id="11"' in caplog.text
    bench.end()
    assert [number for batch in bench.delegate.batches for number in batch] == [
        str(number) for number in range(10)
    ]


def test_what_came_before_the_start_is_delivered() -> None:
    bench = Bench()
    bench.put(1, 2, 3, 4)
    bench.backend.run()
    bench.delegate.until_batches(1)

    assert bench.delegate.batches[0] == ["1", "2", "3"]
    bench.end()
    assert bench.delegate.batches[1:] == [["4"]]


def test_shutdown_sends_what_there_is_in_full_batches_and_ends_the_delegate_last() -> None:
    bench = Bench()
    bench.start()
    bench.put(1, 2)
    bench.delegate.gate.clear()
    bench.put(3)
    bench.delegate.until_at_once(1)
    bench.put(4, 5, 6, 7, 8)
    bench.delegate.gate.set()
    bench.end()

    assert bench.delegate.batches == [["1", "2", "3"], ["4", "5", "6"], ["7", "8"]]
    assert bench.delegate.calls[0] == "run"
    assert bench.delegate.calls[-1] == "shutdown"
    assert bench.dropped == {}


def test_events_after_the_end_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.start()
    bench.end()

    assert bench.put(1, 2) is False
    assert bench.dropped == {("webhook", Reason.SHUT_DOWN): 2}
    assert "audit backend shut down" in caplog.text


def test_a_backend_that_was_never_started_delivers_all_the_same() -> None:
    bench = Bench()
    bench.put(1)
    bench.end()

    assert bench.delegate.batches == [["1"]]


def test_the_rate_of_batches_is_limited_after_the_burst() -> None:
    config = replace(CONFIG, max_size=1, throttle_enable=True, throttle_qps=2.0, throttle_burst=3)
    bench = Bench(config)
    bench.start()
    bench.put(1, 2, 3, 4, 5)
    bench.delegate.until_batches(3)
    bench.clock.until_waiting(timed=True)
    assert len(bench.delegate.batches) == 3
    bench.clock.advance(0.5)
    bench.delegate.until_batches(4)
    bench.clock.until_waiting(timed=True)
    assert len(bench.delegate.batches) == 4
    bench.clock.advance(0.5)
    bench.delegate.until_batches(5)
    bench.end()


def test_shutdown_gives_up_at_its_deadline_and_names_what_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = replace(CONFIG, max_size=1, throttle_enable=True, throttle_qps=0.1, throttle_burst=1)
    bench = Bench(config, clock=HandClock(jumping=True))
    bench.put(1, 2, 3, 4)
    bench.end(15)

    assert bench.delegate.batches == [["1"], ["2"]]
    assert bench.dropped == {("webhook", Reason.DEADLINE): 2}
    assert (
        "affecting 1 audit events: the time to shut down was over before their turn" in caplog.text
    )
    assert 'AUDIT: id="3"' in caplog.text
    assert "1 events more were lost since the last report (deadline)" in caplog.text
    assert bench.delegate.calls[-1] == "shutdown"


def test_batches_are_sent_at_once_up_to_a_number() -> None:
    bench = Bench(replace(CONFIG, max_size=1), in_flight=2)
    bench.start()
    bench.delegate.gate.clear()
    bench.put(1, 2, 3, 4)
    bench.delegate.until_at_once(2)
    bench.clock.until_waiting()  # for a free sender

    assert bench.metrics.sums(bench.metrics.in_flight) == {("webhook",): 2}
    assert bench.waiting == 1  # the third has been taken out, and waits to be sent
    bench.delegate.gate.set()
    bench.end()
    assert bench.delegate.most_at_once == 2
    assert sorted(bench.delegate.batches) == [["1"], ["2"], ["3"], ["4"]]


def test_a_stalled_delegate_stops_neither_the_callers_nor_the_shutdown() -> None:
    bench = Bench(replace(CONFIG, max_size=1), in_flight=1)
    bench.start()
    bench.delegate.gate.clear()
    assert all(bench.put(number) for number in range(40))
    bench.delegate.until_at_once(1)
    ended = threading.Thread(target=bench.end, args=(5.0,))
    ended.start()
    bench.clock.until_waiting(timed=True)
    bench.clock.advance(5)
    ended.join(10)
    bench.delegate.gate.set()

    assert not ended.is_alive()
    lost = sum(bench.dropped.values())
    assert lost == 39
    assert {reason for _, reason in bench.dropped} == {Reason.BUFFER_FULL, Reason.DEADLINE}


class _Bug(CollectingBackend):
    def process_events(self, events: Sequence[Event]) -> bool:
        if events[0].audit_id == "1":
            super().process_events(events)
            raise ZeroDivisionError
        return super().process_events(events)


@pytest.mark.parametrize("in_flight", [0, 2])
def test_the_thread_outlives_a_bug_in_the_delegate(
    in_flight: int, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(replace(CONFIG, max_size=1))
    bench.delegate = _Bug()
    bench.backend = BufferedBackend(
        bench.delegate,
        replace(CONFIG, max_size=1),
        backend="webhook",
        metrics=bench.metrics,
        clock=bench.clock,
        in_flight=in_flight,
    )
    bench.start()
    bench.put(1, 2)
    bench.delegate.until_batches(2)
    bench.end()

    assert bench.dropped == {("webhook", Reason.BUG): 1}
    assert "ZeroDivisionError" in caplog.text


def test_many_threads_lose_and_double_nothing() -> None:
    config = replace(CONFIG, buffer_size=100_000, max_size=7)
    bench = Bench(config, in_flight=3)
    bench.start()

    def produce(first: int) -> None:
        for number in range(first, first + 1000):
            bench.put(number)

    threads = [threading.Thread(target=produce, args=(1000 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bench.end()

    sent = [int(number) for batch in bench.delegate.batches for number in batch]
    assert sorted(sent) == list(range(8000))
    assert max(map(len, bench.delegate.batches)) == 7
    assert bench.dropped == {}


def test_its_name_and_what_it_passes_on() -> None:
    bench = Bench()
    bench.delegate.waits = True
    bench.backend.reopen()

    assert repr(bench.backend) == "buffered<webhook>"
    assert bench.backend.waits is False
    assert bench.delegate.calls == ["reopen"]
    assert bench.metrics.sums(bench.metrics.queue_capacity) == {("webhook",): 10}


@given(
    calls=st.lists(st.lists(st.integers(0, 99), max_size=7), max_size=12),
    buffer_size=st.integers(1, 12),
    max_size=st.integers(1, 5),
)
def test_every_event_is_delivered_in_order_or_counted(
    calls: list[list[int]], buffer_size: int, max_size: int
) -> None:
    bench = Bench(replace(CONFIG, buffer_size=buffer_size, max_size=max_size))
    for numbers in calls:
        bench.put(*numbers)
    bench.end()

    given_numbers = [str(number) for numbers in calls for number in numbers]
    sent = [number for batch in bench.delegate.batches for number in batch]
    assert sent == given_numbers[: len(sent)]
    assert len(sent) + sum(bench.dropped.values()) == len(given_numbers)
    assert len(sent) == min(buffer_size, len(given_numbers))
    assert all(1 <= len(batch) <= max_size for batch in bench.delegate.batches)


@given(
    rate=st.floats(0.01, 1000),
    burst=st.integers(1, 50),
    gaps=st.lists(st.floats(0, 100), max_size=80),
)
def test_a_bucket_never_gives_more_than_its_rate_and_burst(
    rate: float, burst: int, gaps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    now = 0.0
    used: list[float] = []
    for gap in gaps:
        now += gap
        used.append(now + bucket.reserve(now))
        now = used[-1]

    for first, start in enumerate(used):
        for last in range(first, len(used)):
            assert last - first + 1 <= burst + rate * (used[last] - start) + 1e-6


def test_a_bucket_starts_full_and_fills_up_again() -> None:
    bucket = TokenBucket(10.0, 2, 0.0)

    assert [bucket.reserve(0.0) for _ in range(3)] == [0.0, 0.0, pytest.approx(0.1)]
    assert [bucket.reserve(1000.0) for _ in range(3)] == [0.0, 0.0, pytest.approx(0.1)]


def test_an_event_is_shared_and_not_copied() -> None:
    bench = Bench()
    mine = event(1)
    bench.backend.process_events([mine])
    bench.end()

    assert bench.delegate.received[0] is mine


def test_waits_longer_than_the_machine_can_are_shortened() -> None:
    condition = threading.Condition()
    ready = threading.Event()

    def wait() -> None:
        with condition:
            ready.set()
            SystemClock().wait(condition, 1e300)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert ready.wait(10)
    with condition:
        condition.notify_all()
    waiting.join(10)
    assert not waiting.is_alive()


def test_when_the_machine_has_no_thread_left_batches_are_sent_one_after_the_other() -> None:
    bench = Bench(replace(CONFIG, max_size=1), in_flight=2)
    bench.start()
    usual = threading.stack_size(1 << 46)  # which no machine can give
    try:
        bench.put(1, 2, 3)
        bench.delegate.until_batches(3)
    finally:
        threading.stack_size(usual)
    bench.end()

    assert bench.delegate.batches == [["1"], ["2"], ["3"]]
    assert bench.delegate.most_at_once == 1
