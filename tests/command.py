"""Runs the project's command as its users do: as a process of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

COMMAND = [sys.executable, "-m", "kubewitness.cli"]
ENVIRONMENT = {**os.environ, "COLUMNS": "100"}


class Outcome(NamedTuple):
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


def run(*arguments: str | bytes | Path, stdin: bytes = b"", cwd: Path | None = None) -> Outcome:
    """Run the command to its end; a traceback anywhere fails the test."""
    done = subprocess.run(
        [*COMMAND, *map(os.fsdecode, arguments)],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=ENVIRONMENT,
        check=False,
    )
    err = done.stderr.decode()
    assert "Traceback" not in err, err
    return Outcome(done.returncode, done.stdout, err)


class Streamed(NamedTuple):
    code: int
    lines: int
    peak_memory: int
    """Bytes: the process's largest resident set."""


def stream(*arguments: str, chunks: Iterable[bytes]) -> Streamed:
    """Feed the command's standard input piece by piece; count lines, measure its peak memory."""
    read_end, write_end = os.pipe()
    feeder = os.fork()
    if feeder == 0:  # the pieces come from a process of their own, so that none of us waits
        os.close(read_end)
        with os.fdopen(write_end, "wb", buffering=0) as pipe:
            for chunk in chunks:
                pipe.write(chunk)
        os._exit(0)
    os.close(write_end)
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=read_end, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    os.close(read_end)
    assert process.stdout is not None
    lines, peak = 0, 0
    while piece := process.stdout.read(1024 * 1024):
        lines += piece.count(b"\n")
        peak = peak_memory(process.pid) or peak
    process.stdout.close()
    os.waitpid(feeder, 0)
    return Streamed(process.wait(), lines, peak)


def peak_memory(pid: int) -> int:
    """Return a process's largest resident set so far, in bytes; 0 when it has ended.

    Not `ru_maxrss`, which a child starts with at the size of the parent that forked it.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0
