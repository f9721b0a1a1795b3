"""Rotation and clean-up, compared with what lumberjack 2.2.1 did with the same files and lines."""

import gzip
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clocks import HandClock
from kubewitness.backends.rotation import Backup, backup_path, backups_of, surplus
from kubewitness.codec.times import to_nanoseconds
from log_files import IS_ROOT, Log, look, open_log
from vectors import vectors

OURS = {
    "two rotations in a millisecond",
    "a name that is taken",
    "a name that is taken by a compressed file",
    "a name that is taken by a directory",
}
"""Where lumberjack overwrites a rotated file or fails, we take the next free name."""

CASES = {case["name"]: case for case in vectors("lumberjack")}
NOW = to_nanoseconds("2026-11-24T00:37:23.869123456Z")
DAY = 86_400 * 1_000_000_000


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def lay(root: Path, file: dict[str, Any]) -> None:
    path = root / file["path"]
    if file.get("kind") == "directory":
        path.mkdir()
    elif file.get("kind") == "link":
        path.symlink_to(file["target"])
    else:
        path.write_text((file["letter"] * file["size"])[1:] + "\n" * bool(file.get("size")))
        path.chmod(int(file["mode"], 8))
        if file.get("owner"):
            os.chown(path, file["owner"], file["owner"])


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


class Replay:
    """One recorded scenario, done again by us."""

    def __init__(self, root: Path, case: dict[str, Any]) -> None:
        self.root = root
        self.case = case
        self.clock = HandClock()
        self.letters = iter("abcdefghijklmnopqrstuvwxyz")
        for file in case.get("files", ()):
            lay(root, {"size": 0, **file})
        os.umask(int(case["umask"], 8))
        self.log = self.start()

    def start(self) -> Log:
        case = self.case
        return open_log(
            self.root / case["path"],
            max_bytes=case["max_bytes"],
            max_backups=case["max_backups"],
            max_age=case["max_age"],
            compress=case["compress"],
            clock=self.clock,
        )

    def do(self, step: dict[str, Any]) -> str | None:
        if step["do"] == "write":
            self.clock.turn_to(to_nanoseconds(step["time"]))
            return self.write((next(self.letters) * (step["length"] - 1) + "\n").encode())
        if step["do"] == "restart":
            self.log.file.close()
            self.log = self.start()
        else:
            remove(self.root / step["path"])
        return None

    def write(self, line: bytes) -> str | None:
        try:
            self.log.file.write(line)
        except OSError as error:
            return error.strerror
        finally:
            self.log.clean()
        return None


@pytest.mark.skipif(not IS_ROOT, reason="recorded as root")
@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("name", sorted(CASES.keys() - OURS))
def test_lumberjack_did_the_same(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    replay = Replay(tmp_path, case)

    for step, after in zip(case["steps"], case["after"], strict=True):
        assert replay.do(step) == after.get("error")
        assert look(tmp_path) == after["files"], step
    replay.log.file.close()


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("name", sorted(OURS))
def test_a_rotated_file_is_never_overwritten(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    replay = Replay(tmp_path, case)
    before = {str(file["content"]) for file in look(tmp_path).values()}

    assert [replay.do(step) for step in case["steps"]] == [None] * len(case["steps"])
    replay.log.file.close()

    found = look(tmp_path)
    lines = "".join(str(file["content"]) for file in found.values())
    assert found != case["after"][-1]["files"]
    assert all(content in lines for content in before)
    assert sum(step["length"] for step in case["steps"]) + sum(map(len, before)) == len(lines)


@pytest.mark.parametrize("taken", ["audit-2026-11-24T00-37-23.869.log{}", "{0}"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_next_free_name(tmp_path: Path, taken: str, ending: str) -> None:
    (tmp_path / taken.format(ending)).mkdir(parents=True, exist_ok=True)
    (tmp_path / "audit-2026-11-24T00-37-23.870.log.gz").touch()
    is_taken = taken != "{0}"

    name = backup_path(tmp_path / "audit.log", NOW).name

    assert name == f"audit-2026-11-24T00-37-23.{871 if is_taken else 869}.log"


def backups(*names: str) -> list[Backup]:
    return [Backup(NOW - day * DAY, Path(name)) for day, name in enumerate(names)]


def test_the_pure_rule_of_what_is_surplus() -> None:
    found = backups("a.log", "b.log", "b.log.gz", "c.log", "d.log.gz")

    def kept(max_backups: int, max_age: int) -> str:
        gone = set(surplus(found, max_backups=max_backups, max_age=max_age, now=NOW))
        return "".join(each.path.name[0] for each in found if each not in gone)

    assert kept(0, 0) == "abbcd"
    assert [kept(number, 0) for number in (1, 2, 3, 4, 5)] == ["a", "abb", "abbc", "abbcd", "abbcd"]
    assert [kept(0, days) for days in (1, 2, 3, 4)] == ["ab", "abb", "abbc", "abbcd"]
    assert kept(3, 2) == "abb"


def test_a_directory_without_rotated_files(tmp_path: Path) -> None:
    (tmp_path / "audit.log").touch()

    assert backups_of(tmp_path / "audit.log") == []


def rotated(log: Log, times: int = 3) -> None:
    """Write lines that fill a file each."""
    for number in range(times):
        log.clock.advance(1)
        log.file.write(b"%d%s\n" % (number, b"x" * 8))
    log.clean()


def test_what_cannot_be_removed_is_told_and_the_rest_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stubborn = tmp_path / "audit-2026-01-01T00-00-00.000.log"
    log = open_log(tmp_path / "audit.log", max_bytes=10, compress=True)
    rotated(log)
    (tmp_path / f"{stubborn.name}.gz").mkdir()  # no file can be made there
    stubborn.write_bytes(b"old\n")
    rotated(log)

    assert stubborn.read_bytes() == b"old\n"
    assert len(list(tmp_path.glob("audit-*T*.log.gz"))) == 7
    assert f"{stubborn} cannot be compressed: Is a directory" in caplog.messages
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    log.file.close()


def test_an_unreadable_directory_is_told_and_fails_no_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(tmp_path / "logs" / "audit.log", max_bytes=10, max_backups=1)
    log.write(b"one")
    log.clean()
    (tmp_path / "logs").rename(tmp_path / "away")

    log.cleaner.start()
    log.clean()

    assert caplog.messages == [f"cannot clean up beside {log.path}: No such file or directory"]
    log.file.close()


def test_a_half_compressed_file_of_a_process_that_died_is_made_anew(tmp_path: Path) -> None:
    plain = tmp_path / "audit-2026-11-20T00-00-00.000.log"
    plain.write_bytes(b"whole\n")
    torn = tmp_path / f"{plain.name}.gz"
    torn.write_bytes(gzip.compress(b"whole\n")[:11])
    log = open_log(tmp_path / "audit.log", max_bytes=10, compress=True)
    rotated(log, times=1)

    assert not plain.exists()
    assert gzip.decompress(torn.read_bytes()) == b"whole\n"
    log.file.close()


def test_what_is_left_of_a_compression_is_removed_and_nothing_else(tmp_path: Path) -> None:
    name = ".audit-2026-11-20T00-00-00.000.log.gz"
    left = tmp_path / f"{name}.0123456789abcdef"
    others = [
        tmp_path / f"{name}.0123456789abcdeg",
        tmp_path / name,
        tmp_path / ".audit-now.log.gz.0123456789abcdef",
        tmp_path / ".other-2026-11-20T00-00-00.000.log.gz.0123456789abcdef",
    ]
    for each in (left, *others):
        each.write_bytes(b"half")
    log = open_log(tmp_path / "audit.log", max_bytes=10, compress=True)
    rotated(log, times=1)

    assert not left.exists()
    assert all(each.read_bytes() == b"half" for each in others)
    log.file.close()


COMPRESS_ON_A_FULL_DISK = """
import errno, resource, sys
from pathlib import Path
from kubewitness.backends.rotation import compress
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    compress(Path(sys.argv[1]))
except OSError as error:
    sys.exit(error.errno != errno.EFBIG)
"""


def test_a_disk_that_fills_while_compressing_costs_nothing(tmp_path: Path) -> None:
    plain = tmp_path / "audit-2026-11-20T00-00-00.000.log"
    content = os.urandom(100_000)
    plain.write_bytes(content)
    subprocess.run([sys.executable, "-c", COMPRESS_ON_A_FULL_DISK, str(plain)], check=True)

    assert plain.read_bytes() == content
    assert list(tmp_path.iterdir()) == [plain]


def test_a_restart_cleans_up_before_anything_is_rotated(tmp_path: Path) -> None:
    for day in (1, 2, 3):
        (tmp_path / f"audit-2026-11-0{day}T00-00-00.000.log").write_bytes(b"old\n")
    log = open_log(tmp_path / "audit.log", max_bytes=1000, max_backups=1)
    log.write(b"one")
    log.clean()

    assert [each.path.name for each in backups_of(log.path)] == [
        "audit-2026-11-03T00-00-00.000.log"
    ]
    assert log.counted("rotations") == 0
    log.file.close()


def test_rotations_and_bytes_are_counted(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit.log", max_bytes=10)
    rotated(log, times=4)
    log.file.close()

    assert log.counted("rotations") == 4  # the empty file, too: the first line would fill it
    assert log.counted("bytes_written") == 40
    assert log.counted("reopened") == 0
