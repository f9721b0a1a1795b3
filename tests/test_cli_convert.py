"""``kubewitness convert`` against recordings, in every format, and against bad input."""

import gzip
import json
import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from command import COMMAND, run, stream
from vectors import POLICIES, cluster_log, recorded, transcript

CASES = [case["id"] for case in transcript()]
# The real server lost the last event of these in its JSON run, but not in its text run.
LOST = {"cm-apply-yaml", "cm-patch-badjson"}
TIME = re.compile(rb"^\S+ ", re.MULTILINE)
USER_AGENT = re.compile(rb' user-agent="(?:[^"\\]|\\.)*"')


def lines_by_case(text: bytes) -> dict[str, list[bytes]]:
    """Return the lines of each case without their times."""
    cases: dict[str, list[bytes]] = defaultdict(list)
    for line in text.split(b"\n"):
        for found in re.findall(rb' AUDIT: id="([^"]*)"', line):
            cases[found.decode()].append(TIME.sub(b"", line))
    return cases


@pytest.mark.parametrize("name", POLICIES)
def test_json_to_json_is_the_identity(name: str) -> None:
    data = recorded(f"{name}.events.jsonl")

    done = run("convert", "--from", "json", "--to", "json", stdin=data)

    assert done == (0, data, "")


def test_json_to_json_is_the_identity_for_a_cluster() -> None:
    data = cluster_log()

    assert run("convert", "--to", "json", "-", stdin=data) == (0, data, "")


@pytest.mark.parametrize("name", POLICIES)
def test_json_to_legacy_gives_the_servers_own_text(name: str) -> None:
    ours = lines_by_case(
        run("convert", "--to", "legacy", stdin=recorded(f"{name}.events.jsonl")).out
    )
    theirs = lines_by_case(recorded(f"{name}.legacy.log"))

    for case in CASES:
        lost = name == "all" and case in LOST
        assert ours[case] == (theirs[case][:-1] if lost else theirs[case]), case


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("since", ["1.22", "before"])
def test_legacy_to_legacy_is_the_identity(name: str, since: str) -> None:
    data = recorded(f"{name}.legacy.log")
    if since == "before":
        data = USER_AGENT.sub(b"", data)

    assert run("convert", "--from", "legacy", "--to", "legacy", stdin=data) == (0, data, "")


@pytest.mark.parametrize("name", POLICIES)
def test_two_line_to_two_line_is_the_identity(name: str) -> None:
    made = run("convert", "--to", "two-line", stdin=recorded(f"{name}.events.jsonl"))

    assert made.code == 0
    assert made.out.count(b' response="') > 100
    assert run("convert", "--to", "two-line", stdin=made.out) == (0, made.out, "")


@pytest.mark.parametrize("target", ["legacy", "two-line"])
def test_text_converted_to_json_says_which_object(target: str) -> None:
    """The objectRef derived from the URL is the one that the server resolved."""
    data = recorded("all.events.jsonl")
    text = run("convert", "--to", target, stdin=data).out
    derived = [
        json.loads(line) for line in run("convert", "--to", "json", stdin=text).out.splitlines()
    ]
    received = {
        event["auditID"]: event
        for event in map(json.loads, data.decode().split("\n")[:-1])
        if event["stage"] == "RequestReceived"
    }
    compared = 0
    for event in derived:
        original = received.get(event["auditID"])
        if original is not None and event["stage"] == "RequestReceived":
            # Text has no HEAD and no OPTIONS once the verb was recorded.
            if target == "two-line" and original["verb"] not in KNOWN_VERBS:
                continue
            compared += 1
            assert event.get("objectRef") == original.get("objectRef"), original["auditID"]
            assert event["verb"] == original["verb"], original["auditID"]
    assert compared > 300


KNOWN_VERBS = {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}


def test_what_text_does_not_say_stays_empty() -> None:
    line = recorded("all.legacy.log").split(b"\n")[0]

    event = json.loads(run("convert", "--to", "json", stdin=line).out)

    assert event["level"] == ""
    assert event["stageTimestamp"] is None
    assert "requestObject" not in event


def test_files_directories_and_gzip_in_the_order_of_a_rotated_log(tmp_path: Path) -> None:
    lines = recorded("gce.events.jsonl").splitlines(keepends=True)
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "audit-2026-11-24T00-37-23.869.log.gz").write_bytes(
        gzip.compress(b"".join(lines[:10]))
    )
    (folder / "audit-2026-11-24T00-39-23.869.log").write_bytes(b"".join(lines[10:20]))
    (folder / "audit.log").write_bytes(b"".join(lines[20:30]))
    (tmp_path / "more.json").write_bytes(b"[" + b",".join(lines[30:40]) + b"]")

    done = run("convert", "--to", "json", folder, tmp_path / "more.json")

    assert done == (0, b"".join(lines[:40]), "")


@pytest.mark.parametrize("form", ["json", "legacy"])
def test_a_live_log_is_not_held_back(form: str) -> None:
    name = "gce.events.jsonl" if form == "json" else "gce.legacy.log"
    line = recorded(name).split(b"\n")[0] + b"\n"
    with subprocess.Popen(
        [*COMMAND, "convert", "--to", form], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(3):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        process.stdin.close()


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_bytes(cluster_log())
    command = f"{' '.join(COMMAND)} convert --to json {tmp_path}/audit.log | head -n 1"

    done = subprocess.run(command, shell=True, capture_output=True, check=False)  # noqa: S602

    assert done.stdout == cluster_log().split(b"\n")[0] + b"\n"
    assert done.stderr == b""


def test_an_output_that_cannot_be_written_is_said() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "convert", "--to", "json"],
            input=cluster_log(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"Error: cannot write the output: No space left on device\n"


def test_an_input_that_cannot_be_read_on_is_said_and_left(tmp_path: Path) -> None:
    (tmp_path / "good.log").write_bytes(b"".join(GOOD))

    done = run("convert", "--to", "json", "/proc/self/mem", tmp_path / "good.log")

    assert done.code == 1
    assert done.out == b"".join(GOOD)
    assert done.err.startswith("/proc/self/mem: cannot be read on: ")


def test_a_link_that_leads_nowhere_is_said(tmp_path: Path) -> None:
    (tmp_path / "good.log").write_bytes(b"".join(GOOD))
    (tmp_path / "gone.log").symlink_to(tmp_path / "nothing")

    done = run("convert", "--to", "json", tmp_path)

    assert done.out == b"".join(GOOD)
    assert done.err == f"{tmp_path}/gone.log: No such file or directory\n"


def test_an_empty_name_is_not_the_current_directory() -> None:
    done = run("convert", "--to", "json", "")

    assert done.code == 2
    assert "an empty file name" in done.err


def test_a_file_of_the_wrong_kind_does_not_flood_the_terminal() -> None:
    done = run("convert", "--to", "json", stdin=b"oops\n" * 5000 + GOOD[0])

    assert done.out == GOOD[0]
    assert done.err.count("\n") == 101
    assert done.err.endswith("-: 4900 more problems\n")


GOOD = recorded("gce.events.jsonl").splitlines(keepends=True)[:6]

BAD_INPUT: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "binary": (b"\x7fELF\x02\x01\x01\0\0\0" + bytes(range(256)) * 50, "is a binary file"),
    "truncated gzip": (gzip.compress(b"".join(GOOD))[:-20], "gzip"),
    "no gzip": (b"\x1f\x8bnonsense", "gzip"),
    "no event": (b'{"kind":"Pod","apiVersion":"v1"}\n', "not an audit event (v1, Pod)"),
    "an Event of the core group": (b'{"kind":"Event","apiVersion":"v1"}\n', "not an audit event"),
    "a list of numbers": (b"[1, 2, 3]\n", "not an audit event"),
    "not JSON": (b"{nonsense}\n", "not JSON"),
    "text": (b"Once upon a time\n", "not an audit event"),
    "half a line": (GOOD[0][:300], "cut off"),
    "deep nesting": (b'{"kind":' + b"[" * 100_000 + b"}\n", "not"),
    "a wrong type": (GOOD[0].replace(b'"verb":"', b'"verb":1,"x":"'), "`$.verb`"),
    "a wrong time": (re.sub(rb'stageTimestamp":"[^"]*', b'stageTimestamp":"noon', GOOD[0]), "noon"),
    "half a legacy line": (recorded("all.legacy.log").split(b"\n")[0][:150], "legacy audit line"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_clear_line_and_nothing_else_is_lost(name: str, tmp_path: Path) -> None:
    data, message = BAD_INPUT[name]
    (tmp_path / "before.log").write_bytes(b"".join(GOOD[:3]))
    (tmp_path / "bad.log").write_bytes(data)
    (tmp_path / "later.log").write_bytes(b"".join(GOOD[3:]))

    done = run("convert", "--to", "json", "before.log", "bad.log", "later.log", cwd=tmp_path)

    assert done.code == 1
    assert done.err.startswith("bad.log:")
    assert message in done.err
    assert done.err.count("\n") == 1
    assert len(done.err) < 500
    kept = done.out.splitlines(keepends=True)
    assert kept[:3] == GOOD[:3]
    assert kept[-3:] == GOOD[3:]


# The others are whole files that are bad; as a line of a good file they are just text.
BAD_RECORDS = [
    name
    for name, (data, _) in BAD_INPUT.items()
    if data.endswith(b"\n") and name not in ("binary", "truncated gzip")
]


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_bad_record_costs_only_itself(name: str) -> None:
    data, message = BAD_INPUT[name]
    done = run("convert", "--to", "json", stdin=b"".join(GOOD[:3]) + data + b"".join(GOOD[3:]))

    assert done.out == b"".join(GOOD)
    assert done.err.startswith("-:4: ")
    assert message in done.err


def test_what_cannot_be_opened_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "good.log").write_bytes(b"".join(GOOD))
    (tmp_path / "nothing").mkdir()

    done = run("convert", "--to", "json", "missing.log", "nothing", "good.log", cwd=tmp_path)

    assert done.code == 1
    assert done.out == b"".join(GOOD)
    assert done.err.splitlines() == [
        "missing.log: No such file or directory",
        "nothing: is a directory without files",
    ]


@pytest.mark.parametrize("start", [b"x", b'{"kind":"', b"[" * 8])
def test_a_line_of_200_mb_is_one_clear_line(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    with path.open("wb") as file:
        file.writelines([*GOOD[:3], start])
        for _ in range(200):
            file.write(b"x" * 1_000_000)
        file.writelines([b"\n", *GOOD[3:]])

    done = run("convert", "--to", "json", path)

    assert done.code == 1
    assert done.out == b"".join(GOOD)
    assert done.err.startswith(f"{path}:4: ")
    assert done.err.count("\n") == 1
    assert len(done.err) < 500


def test_an_event_of_many_megabytes_is_an_event() -> None:
    line = GOOD[0].replace(
        b'"requestReceived', b'"requestObject":["' + b"x" * 20_000_000 + b'"],"requestReceived'
    )

    assert run("convert", "--to", "json", stdin=line) == (0, line, "")


def test_wrong_usage() -> None:
    assert run("convert").code == 2
    assert run("convert", "--to", "xml").code == 2
    done = run("convert", "--from", "json", "--to", "json", stdin=recorded("all.legacy.log")[:1000])
    assert done.code == 1
    assert "not an audit event" in done.err


def endless(megabytes: int, *, start: bytes = b"", between: bytes = b"", end: bytes = b"") -> Any:
    log = cluster_log().rstrip(b"\n").replace(b"\n", between + b"\n" if between else b"\n")
    yield start
    for index in range(megabytes * 1_000_000 // len(log) + 1):
        yield (between + b"\n" if index else b"") + log
    yield end + b"\n"


FORMS: dict[str, dict[str, bytes]] = {
    "lines": {},
    "one array": {"start": b"[", "between": b",", "end": b"]"},
}


@pytest.mark.parametrize("form", FORMS)
def test_memory_does_not_grow_with_the_input(form: str) -> None:
    done = stream("convert", "--to", "legacy", chunks=endless(100, **FORMS[form]))

    assert done.code == 0
    assert done.lines >= 3 * 9843
    assert done.peak_memory < 100_000_000


@pytest.mark.soak
@pytest.mark.parametrize("form", FORMS)
def test_a_gigabyte_in_100_mb(form: str) -> None:
    done = stream("convert", "--to", "legacy", chunks=endless(1000, **FORMS[form]))

    assert done.code == 0
    assert done.lines >= 31 * 9843
    assert done.peak_memory < 100_000_000
