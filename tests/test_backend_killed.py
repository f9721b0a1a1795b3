"""What is left of a process that is killed: everything that was accepted, in whole lines."""

import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command import ENVIRONMENT
from receiver import Authority, Reply, receiver

SERVER = [sys.executable, str(Path(__file__).parent / "audited.py")]


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*SERVER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )


def accepted_until(
    process: subprocess.Popen[bytes], count: int, deadly: signal.Signals
) -> set[str]:
    """Let so many events be accepted, then send a signal; return all that were accepted."""
    assert process.stdout is not None
    numbers = [process.stdout.readline() for _ in range(count)]
    process.send_signal(deadly)
    numbers += process.stdout.readlines()
    return {line.strip().decode() for line in numbers if line.endswith(b"\n")}


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    assert process.stderr is not None
    assert process.stdout is not None
    err = process.stderr.read().decode()
    process.stderr.close()
    process.stdout.close()
    return process.wait(), err


def lines_of(directory: Path) -> list[list[bytes]]:
    """Return the lines of each log file, the newest last, as they stand between line breaks."""
    paths = [*sorted(directory.glob("audit-*.log")), directory / "audit.log"]
    # The newest is missing when death came between its renaming and the making of the next.
    return [path.read_bytes().split(b"\n") for path in paths if path.exists()]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("maxsize", [0, 1])
def test_sigkill_leaves_whole_lines_but_at_most_the_last(
    tmp_path: Path, seed: int, maxsize: int
) -> None:
    count = random.Random(seed).randrange(1, 1500)  # noqa: S311
    process = start(f"--audit-log-path={tmp_path / 'audit.log'}", f"--audit-log-maxsize={maxsize}")
    accepted = accepted_until(process, count, signal.SIGKILL)
    ended(process)

    files = lines_of(tmp_path)
    *whole, _ = [line for lines in files for line in lines if line or lines is files[-1]]
    assert accepted <= {json.loads(line)["auditID"] for line in whole}
    assert len(accepted) >= count
    assert all(lines[-1] == b"" for lines in files[:-1])


@pytest.mark.parametrize("size", [1, 100])
def test_sigterm_loses_nothing_of_a_buffered_log(tmp_path: Path, size: int) -> None:
    process = start(
        f"--audit-log-path={tmp_path / 'audit.log'}",
        "--audit-log-mode=batch",
        "--audit-log-maxsize=1",
        "--audit-log-batch-buffer-size=1000000",
        f"--audit-log-batch-max-size={size}",
        "--audit-log-batch-max-wait=1h",
    )
    accepted = accepted_until(process, 700, signal.SIGTERM)

    assert ended(process) == (0, "")
    written = [line for lines in lines_of(tmp_path) for line in lines if line]
    assert [json.loads(line)["auditID"] for line in written] == sorted(accepted, key=int)


def test_sigterm_loses_nothing_of_a_buffered_webhook(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with receiver(authority.server_context()) as server:
        server.script = [Reply(503, {"Retry-After": "0"}), Reply(500)]
        process = start(
            f"--audit-webhook-config-file={authority.kubeconfig(server.address)}",
            "--audit-webhook-initial-backoff=10ms",
            "--audit-webhook-batch-buffer-size=1000000",
            "--audit-webhook-batch-max-wait=1h",
        )
        accepted = accepted_until(process, 3000, signal.SIGTERM)

        assert ended(process) == (0, "")
        assert sorted(server.delivered, key=int) == sorted(accepted, key=int)


def test_sigterm_with_a_server_that_never_answers_ends_in_time_and_says_what_is_lost(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path)
    with receiver(authority.server_context()) as server:
        server.script = [Reply(500)] * 100
        process = start(
            f"--audit-webhook-config-file={authority.kubeconfig(server.address)}",
            "--audit-shutdown-timeout=200ms",
            "--events=1000",
        )
        code, err = ended(process)

    named = re.findall(r"affecting (\d+) audit events", err)
    more = re.findall(r"(\d+) events more were lost", err)
    assert code == 1
    assert sum(map(int, named + more)) == 1000
    assert err.count(' AUDIT: id="') >= 20


def test_sighup_after_logrotate_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    process = start(f"--audit-log-path={path}", "--audit-log-maxsize=0")
    assert process.stdout is not None
    numbers = [process.stdout.readline() for _ in range(50)]
    path.rename(tmp_path / "audit.log.1")
    process.send_signal(signal.SIGHUP)
    numbers += [process.stdout.readline() for _ in range(200)]
    accepted = {line.strip().decode() for line in numbers}
    accepted |= accepted_until(process, 0, signal.SIGTERM)

    assert ended(process) == (0, "")
    old, new = (
        [json.loads(line)["auditID"] for line in each.read_bytes().splitlines()]
        for each in (tmp_path / "audit.log.1", path)
    )
    assert new
    assert {*old, *new} == accepted
    assert len(old) + len(new) == len(accepted)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--audit-log-path={place}/file/audit.log", "--audit-policy-file={place}/none.yaml",
             "--audit-webhook-config-file={place}/none.kubeconfig"],
            ["--audit-policy-file: {place}/none.yaml: No such file or directory",
             "--audit-webhook-config-file: {place}/none.kubeconfig: No such file or directory",
             "--audit-log-path: {place}/file: Not a directory"],
        ),
        (
            ["--audit-log-path=x", "--audit-log-maxage=-1", "--audit-log-mode=fast",
             "--audit-log-format=xml", "--audit-webhook-config-file=y",
             "--audit-webhook-batch-buffer-size=0", "--audit-webhook-mod=batch"],
            ["--audit-log-maxage: -1 is negative", "--audit-log-mode: unknown mode",
             "--audit-log-format: unknown format", "--audit-webhook-batch-buffer-size: 0 leaves",
             "--audit-webhook-mod"],
        ),
    ],
)  # fmt: skip
def test_bad_flags_and_files_are_said_all_at_once_before_anything_starts(
    tmp_path: Path, arguments: list[str], told: list[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    process = start(*(each.format(place=tmp_path) for each in arguments))
    assert process.stdout is not None
    assert process.stdout.read() == b""
    code, err = ended(process)

    assert code == 2
    for each in told:
        assert each.format(place=tmp_path) in err
    assert err.count("error: ") == len(told)


def test_a_plain_server_with_credentials_is_warned_of(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with receiver() as server:
        kubeconfig = authority.kubeconfig(server.address, user={"token": "secret-token"})
        process = start(f"--audit-webhook-config-file={kubeconfig}", "--events=3")
        code, err = ended(process)

        assert code == 0
        assert server.delivered == ["0", "1", "2"]
        assert server.requests[0].header("Authorization") == []
    assert "--audit-webhook-config-file: " in err
    assert "not sent" in err
    assert "secret-token" not in err
