"""Union, ignoreErrors and truncate: what they pass on, and what they answer."""

import logging

import pytest
from msgspec import Raw
from msgspec.structs import replace

from clocks import HandClock
from collecting import CollectingBackend, event, events
from kubewitness.backends import Reason, TruncateConfig
from kubewitness.backends.ignore_errors import IgnoreErrorsBackend
from kubewitness.backends.truncate import TRUNCATED, TruncateBackend
from kubewitness.backends.union import UnionBackend
from kubewitness.codec import encode
from kubewitness.event import NO_OBJECT, Event, Level
from kubewitness.metrics import AuditMetrics

BIG = Raw(b'"%s"' % (b"x" * 1000))


@pytest.fixture
def metrics() -> AuditMetrics:
    return AuditMetrics()


def truncate(
    metrics: AuditMetrics, delegate: CollectingBackend, event_size: int, batch_size: int = 10_000
) -> TruncateBackend:
    config = TruncateConfig(enabled=True, max_event_size=event_size, max_batch_size=batch_size)
    return TruncateBackend(delegate, config, backend="log", metrics=metrics, clock=HandClock())


def test_a_union_gives_every_event_to_all_even_after_a_failure() -> None:
    first, second = CollectingBackend(answer=False), CollectingBackend()

    assert UnionBackend([first, second]).process_events(events(1, 2)) is False
    assert first.batches == second.batches == [["1", "2"]]


@pytest.mark.parametrize(("one", "other"), [(True, True), (True, False), (False, False)])
def test_a_union_is_well_when_all_are(*, one: bool, other: bool) -> None:
    union = UnionBackend([CollectingBackend(answer=one), CollectingBackend(answer=other)])

    assert union.process_events(events(1)) is (one and other)


def test_a_union_passes_everything_else_on_in_order() -> None:
    parts = [CollectingBackend(name="log"), CollectingBackend(name="webhook")]
    union = UnionBackend(parts)
    union.run()
    union.reopen()
    union.shutdown(7.0)

    assert repr(union) == "union[log,webhook]"
    assert [part.calls for part in parts] == [["run", "reopen", "shutdown"]] * 2
    assert [part.deadline for part in parts] == [7.0, 7.0]
    assert union.waits is False
    parts[1].waits = True
    assert union.waits is True


class _Broken(CollectingBackend):
    def run(self) -> None:
        super().run()
        raise OSError("no room for " + repr(self))


def test_a_union_starts_all_and_reports_every_one_that_does_not_start() -> None:
    parts = [_Broken(name="a"), CollectingBackend(), _Broken(name="b")]

    with pytest.raises(ExceptionGroup) as caught:
        UnionBackend(parts).run()

    assert [str(error) for error in caught.value.exceptions] == ["no room for a", "no room for b"]
    assert [part.calls for part in parts] == [["run"]] * 3


def test_ignored_errors_change_the_answer_only() -> None:
    delegate = CollectingBackend(answer=False, name="log")
    backend = IgnoreErrorsBackend(delegate)
    delegate.waits = True
    backend.run()
    backend.reopen()

    assert backend.process_events(events(1)) is True
    backend.shutdown(3.0)
    assert repr(backend) == "ignoreErrors<log>"
    assert backend.waits is True
    assert delegate.calls == ["run", "reopen", "process_events", "shutdown"]
    assert delegate.deadline == 3.0


def test_a_small_event_passes_truncate_as_it_is(metrics: AuditMetrics) -> None:
    delegate = CollectingBackend()
    small = event(1)

    assert truncate(metrics, delegate, len(encode(small))).process_events([small])
    assert delegate.received[0] is small


@pytest.mark.parametrize("level", [Level.REQUEST, Level.REQUEST_RESPONSE])
@pytest.mark.parametrize("annotations", [{}, {"a": "b"}])
def test_a_large_event_loses_its_objects_and_says_so(
    metrics: AuditMetrics, level: Level, annotations: dict[str, str]
) -> None:
    delegate = CollectingBackend()
    large = replace(
        event(1, annotations=annotations), level=level, request_object=BIG, response_object=BIG
    )
    size = len(encode(large))

    assert truncate(metrics, delegate, size - 1).process_events([large])
    assert delegate.received == [
        replace(
            large,
            request_object=NO_OBJECT,
            response_object=NO_OBJECT,
            annotations={**annotations, TRUNCATED: "true"},
        )
    ]
    assert TRUNCATED not in large.annotations  # upstream lets the mark leak into other backends
    assert metrics.sums(metrics.truncated) == {("log",): 1}
    assert metrics.sums(metrics.dropped) == {}


@pytest.mark.parametrize("level", [Level.METADATA, Level.REQUEST, Level.REQUEST_RESPONSE])
def test_an_event_too_large_without_objects_is_dropped_and_the_call_is_well(
    metrics: AuditMetrics, level: Level, caplog: pytest.LogCaptureFixture
) -> None:
    delegate = CollectingBackend()
    large = replace(event(2, user_agent="u" * 2000), level=level)

    assert truncate(metrics, delegate, 1000).process_events([event(1), large, event(3)]) is True
    assert delegate.batches == [["1", "3"]]
    assert metrics.sums(metrics.dropped) == {("log", Reason.TOO_LARGE): 1}
    assert metrics.sums(metrics.errors) == {("truncate",): 1}
    assert "Error in audit plugin 'truncate' affecting 1 audit events: event is too" in caplog.text
    assert 'AUDIT: id="2"' in caplog.text


def test_an_event_without_a_json_form_is_dropped_and_the_others_pass(
    metrics: AuditMetrics,
) -> None:
    delegate = CollectingBackend()
    broken = replace(event(2), request_object=Raw(b"{"), level=Level.REQUEST)

    assert truncate(metrics, delegate, 1000).process_events([event(1), broken, event(3)]) is True
    assert delegate.batches == [["1", "3"]]
    assert metrics.sums(metrics.dropped) == {("log", Reason.UNENCODABLE): 1}


def test_batches_are_split_before_they_are_too_large(metrics: AuditMetrics) -> None:
    delegate = CollectingBackend()
    size = len(encode(event(1)))

    backend = truncate(metrics, delegate, size, 2 * size)
    assert backend.process_events(events(1, 2, 3, 4, 5))
    assert delegate.batches == [["1", "2"], ["3", "4"], ["5"]]


def test_an_event_larger_than_a_batch_is_a_batch_of_its_own(metrics: AuditMetrics) -> None:
    delegate = CollectingBackend()
    size = len(encode(event(1)))
    large = event(2, user_agent="u" * 100)

    assert truncate(metrics, delegate, 10 * size, size).process_events([event(1), large, event(3)])
    assert delegate.batches == [["1"], ["2"], ["3"]]


def test_truncate_answers_what_the_backend_answers_for_all_batches(metrics: AuditMetrics) -> None:
    delegate = CollectingBackend(answer=False, name="webhook")
    size = len(encode(event(1)))
    backend = truncate(metrics, delegate, size, size)

    assert backend.process_events(events(1, 2)) is False
    assert delegate.batches == [["1"], ["2"]]
    assert repr(backend) == "truncate<webhook>"


def test_nothing_is_handed_on_when_there_is_nothing(metrics: AuditMetrics) -> None:
    delegate = CollectingBackend()

    assert truncate(metrics, delegate, 1000).process_events([]) is True
    assert delegate.batches == []


def test_reports_name_the_first_events_once_a_minute_and_count_the_rest(
    metrics: AuditMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    config = TruncateConfig(enabled=True, max_event_size=10)
    backend = TruncateBackend(
        CollectingBackend(), config, backend="webhook", metrics=metrics, clock=clock
    )

    def reported(*numbers: int) -> list[str]:
        caplog.clear()
        backend.process_events(events(*numbers))
        return [record.getMessage() for record in caplog.records]

    (first,) = reported(*range(25))
    assert "affecting 25 audit events" in first
    assert first.count(" AUDIT: ") == 20
    assert "and 5 more" in first
    clock.advance(59)
    assert reported(30, 31, 32) == []
    clock.advance(1)
    (second,) = reported(33)
    assert "affecting 1 audit events" in second
    assert "3 events more were lost since the last report (too_large)" in second
    assert reported(34, 35) == []
    caplog.clear()
    backend.shutdown(0.0)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "2 events more" in caplog.text
    assert metrics.sums(metrics.dropped) == {("webhook", Reason.TOO_LARGE): 31}


def test_a_report_cannot_be_forged_by_what_is_in_an_event(
    metrics: AuditMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    forged = Event(audit_id='1"\nError in audit plugin', stage_timestamp="no time")
    unsayable = replace(forged, request_received_timestamp="no time either")

    truncate(metrics, CollectingBackend(), 10).process_events([forged, unsayable])

    assert sum(line.startswith("Error in") for line in caplog.messages[0].split("\n")) <= 1
