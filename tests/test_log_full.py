"""Disks that are full, pipes that are closed, processes that are killed: no line is ever torn."""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clocks import SOON
from command import ENVIRONMENT
from kubewitness.backends.standard_output import StandardOutput
from kubewitness.metrics import AuditMetrics
from log_files import IS_ROOT, NOBODY, open_log, written_lines

WITH_LOG = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
OPEN = "from pathlib import Path\nfrom log_files import open_log\n"


def script(text: str, *arguments: str | Path) -> str:
    """Run a script that can use the tests' modules, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", WITH_LOG + OPEN + text, *map(str, arguments)],
        capture_output=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


LIMITED = """
import resource
log = open_log(Path(sys.argv[1]), max_bytes=int(sys.argv[2]))

def write(line):
    try:
        log.write(line)
    except OSError as error:
        print(error.strerror)

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

write(b"one")
limit(10)
write(b"does not fit any more")
write(b"six..")
write(b"full")
limit(resource.RLIM_INFINITY)
write(b"goes on")
log.file.close()
"""


@pytest.mark.parametrize("max_bytes", [0, 1000])
def test_the_half_of_a_line_that_fits_is_taken_back(tmp_path: Path, max_bytes: int) -> None:
    told = script(LIMITED, tmp_path / "audit.log", str(max_bytes))

    assert told == "File too large\n" * 2
    assert written_lines(tmp_path / "audit.log") == [b"one", b"six..", b"goes on"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_device_fails_each_line_and_is_not_rotated() -> None:
    log = open_log(Path("/dev/full"), max_bytes=10)
    for _ in range(5):
        with pytest.raises(OSError, match="No space left"):
            log.write(b"12345")
    log.file.close()

    assert log.counted("bytes_written") == 0
    assert log.counted("rotations") == 0


def small_pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    return reading, writing


def read_all(descriptor: int, into: list[bytes]) -> threading.Thread:
    def read() -> None:
        while data := os.read(descriptor, 1000):
            into.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


@pytest.mark.parametrize("is_blocking", [True, False])
def test_a_line_that_a_pipe_takes_in_pieces_comes_out_whole(*, is_blocking: bool) -> None:
    reading, writing = small_pipe()
    os.set_blocking(writing, is_blocking)
    output = StandardOutput(metrics=AuditMetrics(), descriptor=writing)
    lines = [bytes([letter]) * 50_000 + b"\n" for letter in b"abc"]
    received: list[bytes] = []
    thread = read_all(reading, received)

    for line in lines:
        output.write(line)
    os.close(writing)
    thread.join(SOON)
    os.close(reading)

    assert b"".join(received) == b"".join(lines)


def test_a_line_torn_by_a_pipe_is_ended_before_the_next(tmp_path: Path) -> None:
    reading, writing = small_pipe()
    target = os.open(tmp_path / "rest", os.O_CREAT | os.O_RDWR, 0o600)
    output = StandardOutput(metrics=AuditMetrics(), descriptor=writing)
    first: list[bytes] = []

    def read_a_little_and_leave() -> None:
        first.append(os.read(reading, 1000))
        os.close(reading)

    thread = threading.Thread(target=read_a_little_and_leave)
    thread.start()
    with pytest.raises(BrokenPipeError):
        output.write(b"x" * 50_000 + b"\n")
    thread.join(SOON)
    with pytest.raises(BrokenPipeError):
        output.write(b"lost\n")
    os.dup2(target, writing)  # somebody reads again
    output.write(b"two\n")
    output.write(b"three\n")

    assert first[0].startswith(b"xxx")
    assert (tmp_path / "rest").read_bytes() == b"\ntwo\nthree\n"
    os.close(target)
    os.close(writing)


def test_standard_output_without_a_reader_fails_lines_and_nothing_else() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    output = StandardOutput(metrics=AuditMetrics(), descriptor=writing)

    for _ in range(2):
        with pytest.raises(BrokenPipeError) as caught:
            output.write(b"lost\n")
        assert caught.value.errno == errno.EPIPE
    output.reopen()
    output.close()
    output.settle(0)
    os.close(writing)


TO_DEVICE = """
log = open_log(Path("/dev/stdout"), max_bytes=2000)
try:
    while True:
        log.write(b"x" * 999)
except BrokenPipeError:
    sys.exit(7)
"""


def test_a_path_that_is_a_pipe_tells_that_its_reader_has_gone() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WITH_LOG + OPEN + TO_DEVICE], stdout=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(5000) == (b"x" * 999 + b"\n") * 5
        process.stdout.close()
        try:
            assert process.wait(SOON) == 7
        finally:
            process.kill()


AS_NOBODY = """
import os
from log_files import NOBODY
log = open_log(Path(sys.argv[1]), max_bytes=60)
os.setgid(NOBODY)
os.setuid(NOBODY)
for number in range(12):
    log.write(b"%06d" % number * 4)
log.file.close()
"""


@pytest.mark.skipif(not IS_ROOT, reason="needs another user")
@pytest.mark.parametrize("mode", [0o400, 0o666])
def test_a_file_of_another_user_costs_no_event(tmp_path: Path, mode: int) -> None:
    """One that does not open is moved out of the way; one that does is followed by one of ours."""
    for each in (*tmp_path.parents[:3], tmp_path):
        each.chmod(each.stat().st_mode | 0o001)
    place = tmp_path / "logs"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    (place / "audit.log").write_bytes(b"")
    (place / "audit.log").chmod(mode)

    assert script(AS_NOBODY, place / "audit.log") == ""
    assert sorted(written_lines(place / "audit.log")) == [b"%06d" % n * 4 for n in range(12)]
    assert (place / "audit.log").stat().st_uid == NOBODY


KILLED = """
log = open_log(Path(sys.argv[1]), max_bytes=2000, max_backups=0, compress=True)
number = 0
while True:
    log.write(b"%06d" % number * 20)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_process_leaves_every_acknowledged_line_whole(tmp_path: Path, seed: int) -> None:
    count = random.Random(seed).randrange(1, 800)  # noqa: S311
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_LOG + OPEN + KILLED, str(tmp_path / "audit.log")],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(count)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    for unfinished in tmp_path.glob(".*.gz.*"):  # it may have died while compressing
        unfinished.unlink()

    written = set(written_lines(tmp_path / "audit.log"))
    numbers = [int(line) for line in acknowledged if line.endswith(b"\n")]
    assert {b"%06d" % number * 20 for number in numbers} <= written
    assert {len(line) for line in written} == {120}
