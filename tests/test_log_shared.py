"""Several processes write to one log and rotate it: nothing is lost, nothing is torn."""

import gzip
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from clocks import HandClock, until
from collecting import event
from command import ENVIRONMENT
from kubewitness.backends import LogConfig
from kubewitness.backends.log import LogBackend
from kubewitness.metrics import AuditMetrics

SERVER = [sys.executable, str(Path(__file__).parent / "audited.py")]
MEGABYTE = 1024 * 1024


def start(place: Path, *flags: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*SERVER, f"--audit-log-path={place / 'audit.log'}", "--audit-log-shared", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )


def contents(place: Path) -> dict[str, bytes]:
    found = {}
    for path in place.iterdir():
        data = path.read_bytes()
        found[path.name] = gzip.decompress(data) if path.suffix == ".gz" else data
    return found


def logged(place: Path) -> Counter[str]:
    """Return how often each event is in all files together; whole lines only."""
    return Counter(
        json.loads(line)["auditID"]
        for data in contents(place).values()
        for line in data.split(b"\n")
        if line
    )


@pytest.mark.parametrize("compress", ["true", "false"])
def test_rotation_by_several_processes_loses_nothing(tmp_path: Path, compress: str) -> None:
    flags = ("--events=2000", "--audit-log-maxsize=1", f"--audit-log-compress={compress}")
    writers = [start(tmp_path, *flags) for _ in range(3)]
    for writer in writers:
        writer.communicate()

    assert all(writer.returncode == 0 for writer in writers)
    counts = logged(tmp_path)
    assert len(counts) == 2000
    assert set(counts.values()) == {3}
    sizes = [len(data) for data in contents(tmp_path).values()]
    assert len(sizes) > 10
    assert max(sizes) <= MEGABYTE


def test_a_process_that_is_killed_leaves_the_lock_and_whole_lines(tmp_path: Path) -> None:
    flags = ("--events=2000", "--audit-log-maxsize=1")
    victim, other = start(tmp_path, *flags), start(tmp_path, *flags)
    assert victim.stdout is not None
    accepted = [victim.stdout.readline() for _ in range(300)]
    victim.send_signal(signal.SIGKILL)
    accepted += victim.stdout.readlines()
    other.communicate()
    victim.communicate()

    assert other.returncode == 0
    counts = logged(tmp_path)
    assert len(counts) == 2000
    assert all(counts[number.strip().decode()] == 2 for number in accepted if number.strip())


def test_a_writer_goes_on_in_the_file_that_another_has_made(tmp_path: Path) -> None:
    config = LogConfig(path=str(tmp_path / "audit.log"), maxsize=1, shared=True)
    one, other = (
        LogBackend(config, metrics=AuditMetrics(), clock=HandClock(), megabyte=1500)
        for _ in range(2)
    )
    for number in range(8):
        assert one.process_events([event(number)])
        assert other.process_events([event(number)])
    until(lambda: set(logged(tmp_path).values()) == {2})

    one.shutdown(10)
    other.shutdown(10)
    assert all(len(data) <= 1500 for data in contents(tmp_path).values())
