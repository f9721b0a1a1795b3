"""What every backend and every composition of backends keeps to, with real files and servers."""

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Raw
from msgspec.structs import replace

from collecting import event, events
from kubewitness.backends import Backend, Reason
from kubewitness.codec import decode
from kubewitness.event import Event
from kubewitness.options import AuditOptions, build_pipeline, composition
from receiver import Authority, Receiver, receiver
from vectors import cluster_log

# Where the events of a composition arrive, and the flags that make it.
LOG, WEBHOOK = "log", "webhook"
COMPOSITIONS = {
    "log": ["--audit-log-mode=blocking-strict"],
    "ignoreErrors<log>": [],
    "buffered<log>": ["--audit-log-mode=batch"],
    "truncate<log>": ["--audit-log-mode=blocking-strict", "--audit-log-truncate-enabled"],
    "truncate<buffered<log>>": [
        "--audit-log-mode=batch", "--audit-log-truncate-enabled", "--audit-log-batch-max-size=7",
    ],
    "webhook": ["--audit-webhook-mode=blocking-strict"],
    "ignoreErrors<webhook>": ["--audit-webhook-mode=blocking"],
    "buffered<webhook>": ["--audit-webhook-batch-throttle-enable=false"],
    "truncate<buffered<webhook>>": [
        "--audit-webhook-batch-throttle-enable=false", "--audit-webhook-truncate-enabled",
    ],
    "union[log,buffered<webhook>]": [
        "--audit-log-mode=blocking-strict", "--audit-webhook-batch-throttle-enable=false",
    ],
    "union[truncate<ignoreErrors<log>>,truncate<webhook>]": [
        "--audit-log-truncate-enabled", "--audit-webhook-truncate-enabled",
        "--audit-webhook-mode=blocking-strict",
    ],
}  # fmt: skip

STRICT = {
    "log",
    "truncate<log>",
    "webhook",
    "union[log,buffered<webhook>]",
    "union[truncate<ignoreErrors<log>>,truncate<webhook>]",
}
"""Those that answer False when events are not delivered."""


class Stand:
    """A composition with its file and its server."""

    def __init__(self, name: str, directory: Path, server: Receiver, kubeconfig: Path) -> None:
        self.name = name
        self.path = directory / "logs" / "audit.log"
        self.server = server
        arguments = [*COMPOSITIONS[name], "--audit-webhook-initial-backoff=0s"]
        if LOG in name:
            arguments.append(f"--audit-log-path={self.path}")
        if WEBHOOK in name:
            arguments.append(f"--audit-webhook-config-file={kubeconfig}")
        self.options = AuditOptions.from_arguments(arguments)
        self.pipeline = build_pipeline(self.options)

    @property
    def backend(self) -> Backend:
        assert self.pipeline.backend is not None
        return self.pipeline.backend

    def arrived(self) -> list[list[str]]:
        """Return the JSON of what arrived at each end."""
        ends = []
        if LOG in self.name:
            ends.append(self.path.read_text().splitlines())
        if WEBHOOK in self.name:
            lists = [json.loads(request.body)["items"] for request in self.server.requests]
            ends.append([json.dumps(item) for items in lists for item in items])
        return ends


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=COMPOSITIONS)
def stand(request: pytest.FixtureRequest, tmp_path: Path, authority: Authority) -> Iterator[Stand]:
    with receiver(authority.server_context()) as server:
        kubeconfig = authority.kubeconfig(server.address)
        stand = Stand(request.param, tmp_path, server, kubeconfig)
        yield stand
        stand.pipeline.shutdown()


def members(line: str) -> dict[str, object]:
    """Return an event's members, but those that only a line of its own has."""
    return {
        name: value
        for name, value in json.loads(line).items()
        if name not in {"kind", "apiVersion"}
    }


def test_its_name_is_its_composition(stand: Stand) -> None:
    assert repr(stand.pipeline) == repr(stand.backend) == stand.name
    assert composition(stand.options) == stand.name
    assert stand.backend.waits is (WEBHOOK in stand.name and "buffered<webhook" not in stand.name)


def test_every_event_arrives_at_every_end_once_and_in_order(stand: Stand) -> None:
    lines = [
        line for line in cluster_log().split(b"\n")[:2000] if len(line) < 100_000
    ][::23]  # fmt: skip
    sent = [decode(line) for line in lines]
    with stand.pipeline as pipeline:
        assert all(pipeline.process_events([each]) for each in sent)

    expected = [members(line.decode()) for line in lines]
    for end in stand.arrived():
        assert sorted(map(members, end), key=str) == sorted(expected, key=str)
        if "buffered<webhook" not in stand.name:  # whose batches go at once
            assert list(map(members, end)) == expected
    assert stand.pipeline.statistics().dropped == {}
    assert stand.pipeline.statistics().events == len(sent)


def test_events_of_one_call_stay_together(stand: Stand) -> None:
    with stand.pipeline as pipeline:
        assert pipeline.process_events(events(*range(50)))

    for end in stand.arrived():
        assert [json.loads(line)["auditID"] for line in end] == [str(n) for n in range(50)]


def test_nothing_in_nothing_out(stand: Stand) -> None:
    with stand.pipeline as pipeline:
        assert pipeline.process_events([]) is True

    assert all(end == [] for end in stand.arrived())
    assert stand.server.requests == []


def test_an_event_is_never_changed(stand: Stand) -> None:
    mine = event(1, annotations={"a": "b"})
    with stand.pipeline as pipeline:
        pipeline.process_events((mine,))

    assert mine == event(1, annotations={"a": "b"})


def test_many_threads_lose_and_double_nothing(stand: Stand) -> None:
    def produce(first: int) -> None:
        for number in range(first, first + 25):
            assert stand.backend.process_events([event(number)])

    with stand.pipeline:
        threads = [threading.Thread(target=produce, args=(25 * index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for end in stand.arrived():
        assert sorted(int(json.loads(line)["auditID"]) for line in end) == list(range(200))


def test_reopening_harms_nobody(stand: Stand) -> None:
    with stand.pipeline as pipeline:
        for number in range(4):
            pipeline.reopen()
            assert pipeline.process_events([event(number)])

    for end in stand.arrived():
        assert len(end) == 4


def test_after_the_end_events_are_refused_counted_and_named(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    with stand.pipeline as pipeline:
        pass
    well = pipeline.process_events(events(1, 2))

    assert well is stand.name.startswith("ignoreErrors")
    ends = {end for end in (LOG, WEBHOOK) if end in stand.name}
    assert pipeline.statistics().dropped == {(end, Reason.SHUT_DOWN): 2 for end in ends}
    assert 'AUDIT: id="1"' in caplog.text
    assert all(end == [] for end in stand.arrived())


def test_it_ends_once_however_often_it_is_told(stand: Stand) -> None:
    stand.pipeline.run()
    stand.pipeline.process_events(events(1))
    for _ in range(3):
        stand.pipeline.shutdown()

    assert all(len(end) == 1 for end in stand.arrived())


def test_an_end_before_the_start_is_an_end(stand: Stand) -> None:
    stand.pipeline.process_events(events(1))
    stand.pipeline.shutdown()

    assert all(len(end) == 1 for end in stand.arrived())


ILL_TYPED: list[dict[str, object]] = [
    {"request_object": Raw(b"{")},
    {"request_object": {"a": 1}},
    {"annotations": {1: "a"}},
    {"request_received_timestamp": 17},
    {"user": object()},
    {"source_ips": (b"\xff", object())},
]


def _spoil(event: Event, draw: random.Random) -> Event:
    return replace(event, **draw.choice(ILL_TYPED)) if draw.random() < 0.3 else event


def test_events_without_a_json_form_cost_only_themselves(stand: Stand) -> None:
    draw = random.Random(7)  # noqa: S311
    sent = [_spoil(event(number), draw) for number in range(60)]
    sound = [each.audit_id for each in sent if each == event(int(each.audit_id))]
    with stand.pipeline as pipeline:
        answers = [pipeline.process_events([each]) for each in sent]

    for end in stand.arrived():
        assert sorted(json.loads(line)["auditID"] for line in end) == sorted(sound)
    ends = {end for end in (LOG, WEBHOOK) if end in stand.name}
    assert pipeline.statistics().dropped == {
        (end, Reason.UNENCODABLE): len(sent) - len(sound) for end in ends
    }
    tells = stand.name in STRICT and "truncate" not in stand.name  # which drops them before
    assert answers.count(False) == (len(sent) - len(sound) if tells else 0)


def _remove_directory(stand: Stand) -> None:
    stand.path.parent.rename(stand.path.parent.parent / "elsewhere")
    stand.path.parent.write_text("in the way")


def test_what_cannot_be_delivered_is_counted_and_named(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    if LOG in stand.name:
        _remove_directory(stand)
    stand.server.stop()
    with stand.pipeline as pipeline:
        well = pipeline.process_events(events(1, 2, 3))
    stand.server.start()

    ends = {
        end: reason
        for end, reason in ((LOG, Reason.WRITE_FAILED), (WEBHOOK, Reason.NOT_ACCEPTED))
        if end in stand.name
    }
    assert pipeline.statistics().dropped == dict.fromkeys(ends.items(), 3)
    assert well is (stand.name not in STRICT)
    assert 'AUDIT: id="1"' in caplog.text
