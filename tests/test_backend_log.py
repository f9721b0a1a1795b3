"""The log backend: what it writes, and what becomes of an event that it cannot write."""

import logging
import os
import subprocess
import sys
import threading
from itertools import chain
from pathlib import Path

import pytest
from msgspec import Raw
from msgspec.structs import replace

from clocks import SOON, HandClock
from collecting import event, events
from command import ENVIRONMENT
from kubewitness.backends import Backend, LogConfig, SystemClock
from kubewitness.backends.log import LogBackend
from kubewitness.codec import TwoLineWriter, decode, encode, encode_legacy
from kubewitness.event import Event, Stage
from kubewitness.metrics import AuditMetrics
from log_files import IS_ROOT, NOBODY, content, open_backend, written_lines
from vectors import POLICIES, cluster_log, recorded

BROKEN = Raw(b"{not JSON")


@pytest.fixture
def metrics() -> AuditMetrics:
    return AuditMetrics()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def decoded(log: bytes) -> list[Event]:
    return [decode(line) for line in log.split(b"\n") if line]


def soon() -> float:
    """Return a deadline that is never reached."""
    return SystemClock().monotonic() + SOON


def dropped(metrics: AuditMetrics) -> dict[tuple[str, ...], float]:
    return metrics.sums(metrics.dropped)


def test_it_is_called_log_and_never_waits(path: Path) -> None:
    backend: Backend = open_backend(path)
    backend.run()

    assert repr(backend) == "log"
    assert backend.waits is False
    backend.shutdown(0)


@pytest.mark.parametrize("name", [None, *POLICIES])
@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_every_recorded_line_is_written_byte_for_byte(
    path: Path, name: str | None, batch: int
) -> None:
    log = cluster_log() if name is None else recorded(f"{name}.events.jsonl")
    backend = open_backend(path)
    found = decoded(log)
    for start in range(0, len(found), batch):
        assert backend.process_events(found[start : start + batch])
    backend.shutdown(0)

    assert path.read_bytes() == log


def test_a_rotated_log_holds_the_same_bytes(path: Path, metrics: AuditMetrics) -> None:
    log = cluster_log()
    backend = open_backend(path, metrics=metrics, clock=SystemClock(), max_bytes=500_000)
    assert backend.process_events(decoded(log))
    backend.shutdown(0)

    files = [*sorted(path.parent.glob("audit-*")), path]
    assert b"".join(map(content, files)) == log
    assert metrics.sums(metrics.bytes_written) == {(): len(log)}
    assert metrics.sums(metrics.rotations) == {(): len(files) - 1}


def test_legacy_lines(path: Path) -> None:
    found = decoded(recorded("all.events.jsonl"))
    backend = open_backend(path, log_format="legacy")
    assert backend.process_events(found)
    backend.shutdown(0)

    assert path.read_bytes() == b"".join(map(encode_legacy, found))


def test_two_lines_a_request(path: Path) -> None:
    found = decoded(cluster_log())
    backend = open_backend(path, log_format="two-line")
    for each in found:
        assert backend.process_events((each,))
    backend.shutdown(0)

    writer = TwoLineWriter()
    assert path.read_bytes() == b"".join(map(writer.encode, found))


def test_a_request_line_and_its_response_are_joined_across_calls(path: Path) -> None:
    backend = open_backend(path, log_format="two-line")
    asked = event(1, request_uri="/api", verb="get")
    for stage in (Stage.REQUEST_RECEIVED, Stage.RESPONSE_COMPLETE):
        backend.process_events([replace(asked, stage=stage)])
    backend.shutdown(0)

    assert path.read_bytes().count(b'uri="/api"') == 1


def test_an_unknown_format_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="xml"):
        open_backend(path, log_format="xml")


def test_the_file_is_there_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "var" / "log" / "audit.log"
    open_backend(path).shutdown(0)

    assert path.read_bytes() == b""
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.stat().st_mode & 0o777 for each in list(path.parents)[:2]] == [0o700] * 2


def test_an_existing_file_keeps_its_mode_and_lines(path: Path) -> None:
    path.write_bytes(b"{}\n")
    path.chmod(0o644)
    backend = open_backend(path)
    backend.process_events([event(1)])
    backend.shutdown(0)

    assert path.read_bytes() == b"{}\n" + encode(event(1))
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("place", "told"),
    [("file/audit.log", "Not a directory: '{}/file'"), ("directory", "Is a directory: '{}/dir")],
)
def test_a_place_where_no_file_can_be_is_an_error_that_names_it(
    tmp_path: Path, place: str, told: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()

    with pytest.raises(OSError, match=told.format(tmp_path)):
        open_backend(tmp_path / place)


UNPRIVILEGED = """
import os, sys
from kubewitness.backends import LogConfig, SystemClock
from kubewitness.backends.log import LogBackend
from kubewitness.metrics import AuditMetrics
os.setgid(int(sys.argv[1])), os.setuid(int(sys.argv[1]))
try:
    LogBackend(LogConfig(path=sys.argv[2]), metrics=AuditMetrics(), clock=SystemClock())
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(not IS_ROOT, reason="needs another user")
def test_a_directory_without_permission_is_an_error_that_names_it(tmp_path: Path) -> None:
    place = tmp_path / "logs" / "audit.log"
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(NOBODY), str(place)],
        capture_output=True,
        env=ENVIRONMENT,
        check=True,
    )

    assert b"Permission denied: '%s" % bytes(tmp_path) in done.stdout


def test_an_event_without_a_json_form_fails_alone(
    path: Path, metrics: AuditMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    backend = open_backend(path, metrics=metrics)

    assert backend.process_events([event(1), event(2, request_object=BROKEN), event(3)]) is False
    backend.shutdown(0)

    assert path.read_bytes() == encode(event(1)) + encode(event(3))
    assert dropped(metrics) == {("log", "unencodable"): 1}
    assert metrics.sums(metrics.errors) == {("log",): 1}
    assert "Error in audit plugin 'log' affecting 1 audit events" in caplog.text
    assert 'AUDIT: id="2"' in caplog.text


def test_an_event_larger_than_the_file_may_be_fails_alone(
    path: Path, metrics: AuditMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    backend = open_backend(path, metrics=metrics, max_bytes=500)
    large = event(2, request_object=Raw(b'"%s"' % (b"x" * 500)))

    assert backend.process_events([event(1), large, event(3)]) is False
    backend.shutdown(0)

    assert written_lines(path) == [encode(event(1))[:-1], encode(event(3))[:-1]]
    size = len(encode(large))
    assert f"write length {size} exceeds maximum file size 500" in caplog.text
    assert dropped(metrics) == {("log", "write_failed"): 1}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_counted_for_each_event_and_told_once_a_minute(
    metrics: AuditMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock()
    backend = open_backend("/dev/full", metrics=metrics, clock=clock)
    for number in range(1000):
        assert backend.process_events([event(number)]) is False
    assert dropped(metrics) == {("log", "write_failed"): 1000}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "No space left on device" in caplog.text

    clock.advance(60)
    backend.process_events([event(1000)])
    assert len(caplog.records) == 2
    assert "999 events more were lost since the last report" in caplog.text
    backend.shutdown(0)


def test_events_after_the_end_are_failures(path: Path, metrics: AuditMetrics) -> None:
    backend = open_backend(path, metrics=metrics)
    backend.process_events([event(1)])
    backend.shutdown(0)
    backend.shutdown(0)
    backend.reopen()

    assert backend.process_events(events(2, 3)) is False
    assert backend.process_events([]) is True
    assert path.read_bytes() == encode(event(1))
    assert dropped(metrics) == {("log", "shut_down"): 2}


def test_the_end_waits_for_the_clean_up(path: Path) -> None:
    backend = open_backend(path, max_bytes=1000, clock=SystemClock(), compress=True)
    backend.process_events(events(*range(100)))
    backend.shutdown(soon())

    rotated = set(path.parent.iterdir()) - {path}
    assert rotated
    assert {each.suffix for each in rotated} == {".gz"}
    assert len(written_lines(path)) == 100


def test_an_event_that_comes_late_does_not_wait_for_the_clean_up(
    path: Path, metrics: AuditMetrics
) -> None:
    pipe = path.with_name("audit-2026-01-01T00-00-00.000.log")
    os.mkfifo(pipe)  # whoever reads it to compress it hangs
    backend = open_backend(
        path, metrics=metrics, clock=SystemClock(), max_bytes=1000, compress=True
    )
    backend.process_events([event(1)])
    end = threading.Thread(target=backend.shutdown, args=(soon(),))
    end.start()
    while backend.process_events([event(2)]):
        pass

    assert end.is_alive()
    assert dropped(metrics) == {("log", "shut_down"): 1}
    pipe.write_bytes(b"that was all\n")
    end.join(SOON)
    assert not end.is_alive()


def test_reopen_goes_on_in_a_new_file(path: Path) -> None:
    backend = open_backend(path)
    backend.process_events([event(1)])
    moved = path.rename(path.with_name("audit.log.1"))
    backend.reopen()
    backend.process_events([event(2)])
    backend.shutdown(0)

    assert moved.read_bytes() == encode(event(1))
    assert path.read_bytes() == encode(event(2))


def test_a_reopening_that_fails_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "logs" / "audit.log"
    backend = open_backend(path)
    backend.process_events([event(1)])
    path.unlink()
    path.parent.rmdir()
    path.parent.touch()
    backend.reopen()
    assert caplog.messages == [
        f"the audit log cannot be opened anew: {path.parent}: Not a directory"
    ]
    path.parent.unlink()
    backend.reopen()
    backend.process_events([event(2)])
    backend.shutdown(0)

    assert encode(event(2)) in path.read_bytes()


def test_every_line_of_many_threads_is_whole_and_none_is_lost(
    path: Path, metrics: AuditMetrics
) -> None:
    backend = open_backend(path, metrics=metrics, clock=SystemClock(), max_bytes=3000, maxbackup=0)
    numbers = [range(each, 4000, 8) for each in range(8)]
    failed: list[int] = []

    def write(mine: range) -> None:
        failed.extend(number for number in mine if not backend.process_events([event(number)]))

    threads = [threading.Thread(target=write, args=(mine,)) for mine in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON * 3)
    backend.shutdown(soon())

    expected = [encode(event(number))[:-1] for number in chain(*numbers)]
    assert failed == []
    assert sorted(written_lines(path)) == sorted(expected)
    assert metrics.sums(metrics.bytes_written) == {(): sum(map(len, expected)) + 4000}
    assert max(each.stat().st_size for each in path.parent.iterdir()) <= 3000


def test_threads_lose_nothing_while_somebody_else_rotates(path: Path) -> None:
    backend = open_backend(path, clock=SystemClock())
    done = threading.Event()

    def write(mine: range) -> None:
        for number in mine:
            assert backend.process_events([event(number)])

    def rotate() -> None:
        number = 0
        while not done.is_set():
            if path.exists():
                path.rename(path.with_name(f"audit.log.{(number := number + 1)}"))
            backend.reopen()

    other = threading.Thread(target=rotate)
    threads = [threading.Thread(target=write, args=(range(n, 2000, 4),)) for n in range(4)]
    for thread in (other, *threads):
        thread.start()
    for thread in threads:
        thread.join(SOON * 3)
    done.set()
    other.join(SOON)
    backend.shutdown(0)

    lines = sorted(written_lines(path))
    assert lines == sorted(encode(event(number))[:-1] for number in range(2000))


def test_standard_output_is_neither_rotated_nor_closed(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = LogConfig(path="-", maxsize=1)
    backend = LogBackend(config, metrics=AuditMetrics(), clock=HandClock(), megabyte=10)
    backend.run()
    assert backend.process_events(events(1, 2))
    backend.reopen()
    assert backend.process_events(events(3))
    backend.shutdown(0)
    assert backend.process_events(events(4)) is False
    os.write(1, b"still open\n")

    written = b"".join(encode(each) for each in events(1, 2, 3))
    assert capfdbinary.readouterr().out == written + b"still open\n"
    assert list(tmp_path.iterdir()) == []
