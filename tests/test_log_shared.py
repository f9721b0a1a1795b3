"""Several processes write to one log and rotate it: nothing is lost, nothing is torn."""

import fcntl
import gzip
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clocks import SOON, HandClock, until
from collecting import event
from command import ENVIRONMENT
from kubewitness.backends import LogConfig
from kubewitness.backends.log import LogBackend
from kubewitness.backends.rotation import Cleaner
from kubewitness.backends.standard_output import StandardOutput
from kubewitness.backends.write_lock import WriteLock, lock_file
from kubewitness.metrics import AuditMetrics

SERVER = [sys.executable, str(Path(__file__).parent / "audited.py")]
HERE = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
MEGABYTE = 1024 * 1024
STUCK = "lines are written without the lock, and nothing is rotated"


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


def shared(path: Path | str, clock: HandClock, **settings: bool) -> LogBackend:
    config = LogConfig(path=str(path), maxsize=1, shared=True, **settings)  # type: ignore[arg-type]
    return LogBackend(config, metrics=AuditMetrics(), clock=clock, megabyte=1500)


def test_a_line_in_a_file_that_another_has_compressed_is_not_written_again(tmp_path: Path) -> None:
    one, other = (shared(tmp_path / "audit.log", HandClock(), compress=True) for _ in range(2))
    assert one.process_events([event(0), event(1)])
    assert other.process_events([event(number) for number in range(2, 20)])
    other.shutdown(10)
    until(lambda: not list(tmp_path.glob("audit-*.log")))
    assert one.process_events([event(20)])
    one.shutdown(10)

    assert logged(tmp_path) == {str(number): 1 for number in range(21)}


@contextmanager
def locked_elsewhere(path: Path) -> Iterator[None]:
    """Have another process hold a lock, and stop it."""
    text = "import fcntl; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True)"
    command = [sys.executable, "-c", f"{HERE}{text}; sys.stdin.read()", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"\n"
        holder.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            holder.kill()


def test_a_process_stopped_with_the_lock_stops_no_line_only_rotation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = HandClock(jumping=True)
    log = shared(tmp_path / "audit.log", clock)
    for _ in range(2):
        caplog.clear()
        before = clock.monotonic()
        with locked_elsewhere(tmp_path / ".audit.log.lock"):
            for number in range(20):
                assert log.process_events([event(number)])
            assert len(list(tmp_path.glob("audit*"))) == 1
        assert 1 <= clock.monotonic() - before < 1.2
        assert len(caplog.messages) == 1
        assert STUCK in caplog.text
        assert log.process_events([event(20)])
        assert len(list(tmp_path.glob("audit*"))) == 2
        next(tmp_path.glob("audit-*")).unlink()
    log.shutdown(10)


def test_only_the_owner_can_take_the_lock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = shared(tmp_path / "audit.log", HandClock(jumping=True))
    assert stat.S_IMODE((tmp_path / ".audit.log.lock").stat().st_mode) == 0o600
    with locked_elsewhere(tmp_path / "audit.log"):
        directory = os.open(tmp_path, os.O_RDONLY)
        fcntl.flock(directory, fcntl.LOCK_EX)
        assert log.process_events([event(1)])
        os.close(directory)

    assert caplog.messages == []
    log.shutdown(10)


def test_the_lock_is_no_way_to_somebody_elses_file(tmp_path: Path) -> None:
    (tmp_path / ".audit.log.lock").symlink_to(tmp_path / "theirs")

    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        shared(tmp_path / "audit.log", HandClock())
    assert not (tmp_path / "theirs").exists()


def test_the_lock_moves_on_with_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = shared(tmp_path / "logs" / "audit.log", HandClock(jumping=True))
    assert log.process_events([event(1)])
    (tmp_path / "logs").rename(tmp_path / "away")
    assert log.process_events([event(2), event(3)])

    lock = tmp_path / "logs" / ".audit.log.lock"
    with locked_elsewhere(tmp_path / "away" / lock.name):
        assert log.process_events([event(4)])
    assert STUCK not in caplog.text
    assert lock.exists()
    log.shutdown(10)


def test_a_child_does_not_have_the_lock_of_its_parent(tmp_path: Path) -> None:
    lock = WriteLock.of_file(tmp_path / "audit.log", clock=HandClock(jumping=True))
    with lock as is_held:
        assert is_held
        child = os.fork()
        if child == 0:
            lock.after_fork()
            os._exit(lock.__enter__())
        assert os.waitpid(child, 0)[1] == 0
    with lock as is_held:
        assert is_held
    lock.close()


WRITE = """
from clocks import SOON
from collecting import event
from kubewitness.backends import LogConfig, SystemClock
from kubewitness.backends.log import LogBackend
from kubewitness.metrics import AuditMetrics
from msgspec import Raw
config = LogConfig(path=sys.argv[1], shared=True, maxsize=0)
log = LogBackend(config, metrics=AuditMetrics(), clock=SystemClock())
body = Raw(b'"%s"' % (sys.argv[2].encode() * 12_000))
for number in range(150):
    assert log.process_events([event(number, request_object=body)])
"""


def channel(kind: str) -> tuple[int, int]:
    """Return a reading and a writing end."""
    if kind == "pipe":
        return os.pipe()
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


@pytest.mark.parametrize(
    ("path", "kind"), [("-", "pipe"), ("-", "socket"), ("/dev/stdout", "pipe")]
)
def test_long_lines_of_several_processes_on_one_pipe_stay_whole(
    tmp_path: Path, path: str, kind: str
) -> None:
    reading, writing = channel(kind)
    environment = {**ENVIRONMENT, "XDG_RUNTIME_DIR": str(tmp_path)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", HERE + WRITE, path, letter], stdout=writing, env=environment
        )
        for letter in "abc"
    ]
    os.close(writing)
    received, pause = b"", threading.Event()
    while data := os.read(reading, 8000):
        received += data
        pause.wait(0.0005)
    os.close(reading)

    assert [writer.wait() for writer in writers] == [0, 0, 0]
    bodies = Counter(json.loads(line)["requestObject"] for line in received.splitlines())
    assert bodies == {letter * 12_000: 150 for letter in "abc"}


def test_a_full_pipe_is_waited_for_as_long_as_it_takes() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    clock = HandClock(jumping=True)
    mine, theirs = (WriteLock.of_output(writing, clock=clock) for _ in range(2))
    found: list[bool] = []
    waiting = threading.Thread(target=lambda: found.append(mine.__enter__()))

    with theirs:
        os.write(writing, b"x" * 100_000)
        waiting.start()
        until(lambda: clock.monotonic() > 5)
    waiting.join(SOON)

    assert found == [True]
    for lock in (mine, theirs):
        lock.close()
    os.close(reading)
    os.close(writing)


def test_a_line_without_the_lock_starts_on_a_line_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reading, writing = os.pipe()
    clock = HandClock(jumping=True)
    mine, theirs = (WriteLock.of_output(writing, clock=clock) for _ in range(2))
    output = StandardOutput(metrics=AuditMetrics(), descriptor=writing, lock=mine)
    with theirs:
        os.write(writing, b"tor")
        output.write(b"one\n")
    output.write(b"two\n")

    assert os.read(reading, 100) == b"tor\none\ntwo\n"
    assert caplog.messages == [f"standard output: {STUCK}: another process does not give it back"]
    output.close()
    theirs.close()
    os.close(writing)
    assert os.read(reading, 100) == b""
    os.close(reading)


@pytest.mark.parametrize("is_foreign", [True, False])
def test_no_place_for_a_lock_costs_no_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    is_foreign: bool,
) -> None:
    place = tmp_path / f"kubewitness-{os.geteuid()}"
    if is_foreign:
        place.mkdir()
        place.chmod(0o777)
    else:
        place.write_bytes(b"")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    reading, writing = channel("socket")
    lock = WriteLock.of_output(writing, clock=HandClock(jumping=True))
    output = StandardOutput(metrics=AuditMetrics(), descriptor=writing, lock=lock)
    output.write(b"one\n")
    output.write(b"two\n")

    assert os.read(reading, 100).split() == [b"one", b"two"]
    assert len(caplog.messages) == 1
    assert str(place) in caplog.text
    output.close()
    os.close(writing)
    os.close(reading)


CLEAN = """
from clocks import SOON, HandClock
from pathlib import Path
from kubewitness.backends.rotation import Cleaner
cleaner = Cleaner(Path(sys.argv[1]), max_backups=0, max_age=0, is_compressing=True,
                  clock=HandClock(), is_shared=sys.argv[2] == "True")
sys.stdin.read()
cleaner.start()
cleaner.wait(6 * SOON)
"""


@pytest.mark.parametrize("is_shared", [True, False])
def test_several_processes_that_clean_up_lose_no_rotated_file(
    tmp_path: Path, *, is_shared: bool
) -> None:
    """Not even those that do not know of one another."""
    names = [f"audit-2026-01-01T00-{i // 60:02}-{i % 60:02}.000.log" for i in range(400)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode() * 50)
    command = [sys.executable, "-c", HERE + CLEAN, str(tmp_path / "audit.log"), str(is_shared)]
    cleaners = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    for cleaner in cleaners:
        assert cleaner.stdin is not None
        cleaner.stdin.close()
        cleaner.stdin = None
    told = b"".join(cleaner.communicate()[1] for cleaner in cleaners)

    found = contents(tmp_path)
    assert found.pop(".audit.log.cleaning", b"") == b""
    assert {name.removesuffix(".gz"): data for name, data in found.items()} == {
        name: name.encode() * 50 for name in names
    }
    assert not is_shared or (told == b"" and all(name.endswith(".gz") for name in found))


def test_a_clean_up_waits_for_that_of_another_process_and_no_line_does(tmp_path: Path) -> None:
    log = shared(tmp_path / "audit.log", HandClock(), compress=True)
    theirs = lock_file(tmp_path / "audit.log", "cleaning")
    fcntl.flock(theirs, fcntl.LOCK_EX)
    for number in range(20):
        assert log.process_events([event(number)])
    log.shutdown(0.2)  # it gives the clean-up this time, and does not wait longer
    plain = list(tmp_path.glob("audit-*.log"))
    assert len(plain) > 1
    assert not list(tmp_path.glob("*.gz"))

    os.close(theirs)
    until(lambda: not list(tmp_path.glob("audit-*.log")))
    assert len(logged(tmp_path)) == 20


def test_a_child_forked_while_its_parent_cleans_up_does_not_keep_the_lock(tmp_path: Path) -> None:
    cleaner = Cleaner(
        tmp_path / "audit.log",
        max_backups=0,
        max_age=0,
        is_compressing=True,
        clock=HandClock(),
        is_shared=True,
    )
    pipe = tmp_path / "audit-2026-01-01T00-00-00.000.log"
    os.mkfifo(pipe)  # compressing it waits for a writer
    cleaner.start()
    writing = os.open(pipe, os.O_WRONLY)
    reading, gate = os.pipe()
    child = os.fork()
    if child == 0:
        cleaner.after_fork()
        os.close(gate)
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(writing)
    cleaner.wait(SOON)

    lock = lock_file(tmp_path / "audit.log", "cleaning")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for descriptor in (lock, gate, reading):
        os.close(descriptor)
    os.waitpid(child, 0)
