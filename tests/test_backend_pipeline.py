"""A pipeline over the life of a process: its end without a goodbye, forks, writes that hang."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clocks import HandClock
from collecting import events
from command import ENVIRONMENT
from kubewitness.backends import LogConfig, Reason
from kubewitness.backends.log import LogBackend
from kubewitness.metrics import AuditMetrics
from kubewitness.options import AuditOptions, build_pipeline
from receiver import receiver

START = """
import os, sys
sys.path.insert(0, {tests!r})
from collecting import events
from kubewitness.options import AuditOptions, build_pipeline
pipeline = build_pipeline(AuditOptions.from_arguments(sys.argv[1:]))
pipeline.run()
"""
FORGETFUL = START + "pipeline.process_events(events(1, 2, 3))"
FORKING = (
    START
    + """
pipeline.process_events(events(1))
if os.fork() == 0:
    assert pipeline.process_events(events(2)) is True
    pipeline.shutdown()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
pipeline.process_events(events(3))
pipeline.shutdown()
"""
)


def run(
    code: str, *arguments: str, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    script = code.format(tests=str(Path(__file__).parent))
    return subprocess.run(
        [sys.executable, "-W", "ignore:This process", "-c", script, *arguments],
        env=ENVIRONMENT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )


def run_unread(code: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script whose standard output is a pipe that nobody reads, so that it fills up."""
    reading, writing = os.pipe()
    try:
        return run(code, *arguments, stdout=writing)
    finally:
        os.close(writing)
        os.close(reading)


def webhook(directory: Path, address: str, *arguments: str) -> list[str]:
    path = directory / "kubeconfig"
    path.write_text(
        f"current-context: c\nclusters: [{{name: c, cluster: {{server: '{address}'}}}}]\n"
        "contexts: [{name: c, context: {cluster: c}}]\n"
    )
    return [f"--audit-webhook-config-file={path}", *arguments]


def test_a_program_that_forgets_to_shut_down_loses_nothing_of_a_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    done = run(FORGETFUL, f"--audit-log-path={path}", "--audit-log-mode=batch")

    assert (done.returncode, done.stderr) == (0, b"")
    assert path.read_bytes().count(b"\n") == 3


def test_a_program_that_forgets_to_shut_down_loses_nothing(tmp_path: Path) -> None:
    with receiver() as server:
        done = run(FORGETFUL, *webhook(tmp_path, server.address))

        assert (done.returncode, done.stderr) == (0, b"")
        assert server.delivered == ["1", "2", "3"]


@pytest.mark.parametrize("mode", ["batch", "blocking"])
def test_a_forked_child_delivers_its_own_events_and_the_parent_its_own(
    tmp_path: Path, mode: str
) -> None:
    with receiver() as server:
        flags = webhook(tmp_path, server.address, f"--audit-webhook-mode={mode}")
        done = run(FORKING, *flags)

        assert (done.returncode, done.stderr) == (0, b"")
        assert sorted(server.delivered) == ["1", "2", "3"]


HANGING = (
    START
    + """
import select, threading, time
from collecting import event
from msgspec import Raw
large = [event(0, request_object=Raw(b'"%s"' % (b"x" * 100_000)))]  # more than a pipe holds
threading.Thread(target=pipeline.process_events, args=(large,), daemon=True).start()
while select.select([], [1], [], 0)[1]:
    time.sleep(0.001)
pipeline.process_events(large) if sys.argv[-1] == "--audit-log-mode=batch" else None
pipeline.shutdown()
print(sum(pipeline.statistics().dropped.values()), file=sys.stderr)
os._exit(0)
"""
)


TWO_ENDS = """
from collecting import event
from msgspec import Raw
pipeline.process_events([event(0, request_object=Raw(b'"%s"' % (b"x" * 100_000)))])
pipeline.process_events(events(1, 2))
pipeline.shutdown()
os._exit(0)
"""


@pytest.mark.parametrize(("mode", "lost"), [("batch", b"2\n"), ("blocking", b"1\n")])
def test_a_write_that_hangs_does_not_hang_the_end(mode: str, lost: bytes) -> None:
    flags = ["--audit-log-path=-", "--audit-shutdown-timeout=100ms", f"--audit-log-mode={mode}"]
    done = run_unread(HANGING, *flags)

    assert done.returncode == 0
    assert b"a write to the audit log hangs" in done.stderr
    assert done.stderr.endswith(lost)


def test_who_shuts_down_second_waits_for_the_first(tmp_path: Path) -> None:
    with receiver() as server:
        server.script = ["stall"]
        options = AuditOptions.from_arguments(
            webhook(tmp_path, server.address, "--audit-webhook-batch-max-size=1")
        )
        pipeline = build_pipeline(options)
        pipeline.run()
        pipeline.process_events(events(1))
        server.until_requests(1)
        first = threading.Thread(target=pipeline.shutdown, args=(0.3,))
        first.start()
        first.join(0.05)
        pipeline.shutdown()
        assert pipeline.statistics().dropped == {("webhook", Reason.DEADLINE): 1}
        first.join()
        server.released.set()


def test_an_end_that_hangs_does_not_use_up_the_time_of_another(tmp_path: Path) -> None:
    with receiver() as server:
        flags = webhook(
            tmp_path, server.address, "--audit-log-path=-", "--audit-log-mode=batch",
            "--audit-shutdown-timeout=500ms",
        )  # fmt: skip
        done = run_unread(START + TWO_ENDS, *flags)

        assert done.returncode == 0
        assert server.delivered == ["0", "1", "2"]


def test_the_longest_timeout_is_no_error(tmp_path: Path) -> None:
    options = AuditOptions.from_arguments(
        [
            f"--audit-log-path={tmp_path / 'audit.log'}",
            "--audit-log-mode=batch",
            "--audit-shutdown-timeout=2562047h47m16s",
        ]
    )
    with build_pipeline(options) as pipeline:
        pipeline.process_events(events(1))

    assert pipeline.statistics().dropped == {}
    assert (tmp_path / "audit.log").read_bytes().count(b"\n") == 1


def test_late_events_do_not_wait_for_a_clean_up(tmp_path: Path) -> None:
    metrics = AuditMetrics()
    config = LogConfig(path=str(tmp_path / "audit.log"))
    log = LogBackend(config, metrics=metrics, clock=HandClock())
    log.shutdown(0.0)
    answers: list[bool] = []
    late = threading.Thread(target=lambda: answers.append(log.process_events(events(1))))
    late.start()
    late.join(10)

    assert answers == [False]
    assert metrics.sums(metrics.dropped) == {("log", Reason.SHUT_DOWN): 1}
