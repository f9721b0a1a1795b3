"""A log that others move, remove, replace or empty while it is written to."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from log_files import IS_ROOT, NOBODY, Log, open_log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = open_log(tmp_path / "audit.log")
    log.write(b"one")
    yield log
    log.file.close()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_removed_file_is_made_anew_and_gets_the_line(log: Log) -> None:
    log.path.unlink()
    log.write(b"two")
    log.write(b"three")

    assert log.lines() == [b"two", b"three"]
    assert mode(log.path) == 0o600
    assert log.counted("reopened") == 1


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 300])
def test_lines_written_at_once_into_a_removed_file_are_written_again(log: Log, count: int) -> None:
    lines = [b"%d" % number for number in range(count)]
    log.path.unlink()
    log.write(*lines)
    log.file.reopen()

    assert log.lines() == lines


def test_a_file_removed_in_the_middle_of_a_burst_loses_nothing_later(log: Log) -> None:
    before, after = ([b"%s%d" % (name, number) for number in range(20)] for name in (b"b", b"a"))
    log.write(*before)
    log.path.unlink()
    log.write(*after)
    log.file.close()

    assert log.lines()[-20:] == after


def test_a_renamed_file_keeps_what_it_has_and_the_next_line_goes_to_a_new_one(log: Log) -> None:
    moved = log.path.rename(log.path.with_name("audit.log.1"))
    log.write(b"two")
    log.write(b"three")

    assert moved.read_bytes().split() + log.path.read_bytes().split() == [b"one", b"two", b"three"]
    assert b"three" in log.path.read_bytes()
    assert log.counted("reopened") == 1


def test_a_file_put_in_its_place_is_appended_to(log: Log) -> None:
    log.path.rename(log.path.with_name("audit.log.1"))
    log.path.write_bytes(b"theirs\n")
    log.path.chmod(0o640)
    log.write(b"two")
    log.write(b"three")

    assert log.lines()[0] == b"theirs"
    assert log.lines()[-1] == b"three"
    assert mode(log.path) == 0o640


def test_a_file_replaced_by_one_of_the_same_size_is_noticed(log: Log) -> None:
    other = log.path.with_name("other")
    other.write_bytes(log.path.read_bytes())
    other.replace(log.path)
    log.write(b"two")

    assert log.lines() == [b"one", b"two"]


def test_copytruncate_goes_on_at_the_start_without_a_hole(log: Log) -> None:
    log.write(*[b"x" * 50] * 10)
    os.truncate(log.path, 0)
    log.write(b"two")

    assert log.path.read_bytes() == b"two\n"
    assert log.counted("reopened") == 0


def test_copytruncate_resets_the_size_that_rotation_goes_by(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit.log", max_bytes=100)
    log.write(b"a" * 89)
    os.truncate(log.path, 0)
    log.write(b"b" * 89)

    assert log.lines() == [b"b" * 89]
    assert log.counted("rotations") == 0
    log.file.close()


def test_what_others_append_counts_for_rotation(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit.log", max_bytes=100)
    log.write(b"ours")
    with log.path.open("ab") as theirs:
        theirs.write(b"t" * 89 + b"\n")
    log.write(b"more")
    log.write(b"ours, too")

    assert log.lines() == [b"ours, too"]
    log.file.close()


@pytest.mark.parametrize("gone", [".", ".."])
def test_a_removed_directory_is_made_anew(tmp_path: Path, gone: str) -> None:
    log = open_log(tmp_path / "var" / "log" / "audit.log")
    log.write(b"one")
    (log.path.parent / gone).resolve().rename(tmp_path / "away")
    log.write(b"two")
    log.write(b"three")

    assert log.lines()[-1] == b"three"
    assert mode(log.path.parent) == 0o755
    log.file.close()


def test_what_cannot_be_made_anew_fails_until_it_can(tmp_path: Path) -> None:
    log = open_log(tmp_path / "logs" / "audit.log")
    log.write(b"one")
    log.path.unlink()
    log.path.parent.rmdir()
    log.path.parent.write_text("a file in the way")

    for number in range(3):
        with pytest.raises(OSError, match="Not a directory"):
            log.write(b"lost %d" % number)
    log.path.parent.unlink()
    log.write(b"two")

    assert log.lines()[-1] == b"two"
    log.file.close()


def test_a_rotation_that_fails_fails_one_line_and_is_tried_again(tmp_path: Path) -> None:
    log = open_log(tmp_path / "logs" / "audit.log", max_bytes=10)
    log.write(b"one")
    log.path.parent.rename(tmp_path / "away")
    log.path.parent.write_text("a file in the way")
    with pytest.raises(OSError, match="Not a directory"):
        log.write(b"x" * 9)
    log.path.parent.unlink()
    (tmp_path / "away").rename(log.path.parent)
    log.write(b"two")

    assert log.lines() == [b"two"] or log.lines() == [b"one", b"two"]
    log.file.close()


def test_reopening_makes_the_new_file_at_once(log: Log) -> None:
    log.path.rename(log.path.with_name("audit.log.1"))
    log.file.reopen()
    assert log.path.read_bytes() == b""

    log.file.reopen()
    assert log.counted("reopened") == 1
    log.write(b"two")

    assert log.lines() == [b"two"]


def test_rotation_after_the_file_was_moved_does_not_move_the_new_one(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit.log", max_bytes=20)
    log.write(b"x" * 9)
    moved = log.path.rename(tmp_path / "audit.log.1")
    log.path.write_bytes(b"theirs\n")
    log.file.write(b"y" * 15 + b"\n")

    assert moved.read_bytes() == b"x" * 9 + b"\n"
    assert sorted(each.name[:13] for each in tmp_path.iterdir()) == [
        "audit-2025-11", "audit.log", "audit.log.1",
    ]  # fmt: skip
    assert log.lines() == [b"y" * 15]
    log.file.close()


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_a_file_made_anew_has_the_mode_and_owner_of_the_one_before(log: Log) -> None:
    log.path.chmod(0o640)
    os.chown(log.path, NOBODY, NOBODY)
    log.path.unlink()
    log.write(b"two")
    state = log.path.stat()

    assert (mode(log.path), state.st_uid, state.st_gid) == (0o640, NOBODY, NOBODY)


def test_a_line_torn_by_a_process_that_died_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"whole\nto")
    log = open_log(path)
    log.write(b"one")
    log.write(b"two")

    assert log.lines() == [b"whole", b"to", b"one", b"two"]
    log.file.close()
