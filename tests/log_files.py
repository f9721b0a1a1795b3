"""Log files on a real disk: opened for a test, filled with lines, and looked at."""

import gzip
import os
import stat
from pathlib import Path
from typing import NamedTuple

from clocks import SOON, HandClock
from kubewitness.backends import Clock, LogConfig
from kubewitness.backends.files import RotatedFile
from kubewitness.backends.log import LogBackend
from kubewitness.backends.rotation import Cleaner
from kubewitness.metrics import AuditMetrics


class Log(NamedTuple):
    """A file and what it was made with."""

    file: RotatedFile
    path: Path
    cleaner: Cleaner
    metrics: AuditMetrics
    clock: HandClock

    def clean(self) -> None:
        """Wait for the clean-up."""
        self.cleaner.wait(SOON)

    def write(self, *lines: bytes) -> None:
        """Write lines, a moment after whatever was before."""
        self.clock.advance(0.001)
        for line in lines:
            self.file.write(line + b"\n")

    def lines(self) -> list[bytes]:
        """Return the log's lines, without their newlines."""
        return self.path.read_bytes().split(b"\n")[:-1]

    def counted(self, name: str) -> float:
        """Return the value of a metric without labels."""
        return self.metrics.sums(getattr(self.metrics, name))[()]


def open_log(
    path: Path,
    *,
    max_bytes: int = 0,
    max_backups: int = 0,
    max_age: int = 0,
    compress: bool = False,
    clock: HandClock | None = None,
) -> Log:
    clock, metrics = clock or HandClock(), AuditMetrics()
    cleaner = Cleaner(
        path, max_backups=max_backups, max_age=max_age, is_compressing=compress, clock=clock
    )
    file = RotatedFile(path, max_bytes=max_bytes, cleaner=cleaner, metrics=metrics, clock=clock)
    return Log(file, path, cleaner, metrics, clock)


def open_backend(
    path: Path | str,
    *,
    metrics: AuditMetrics | None = None,
    clock: Clock | None = None,
    max_bytes: int = 0,
    log_format: str = "json",
    **settings: bool | int,
) -> LogBackend:
    config = LogConfig(
        path=str(path),
        format=log_format,
        maxsize=max_bytes,
        **settings,  # type: ignore[arg-type]
    )
    return LogBackend(
        config, metrics=metrics or AuditMetrics(), clock=clock or HandClock(), megabyte=1
    )


def content(path: Path) -> bytes:
    """Return a file's content, unpacked if it is gzip."""
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def written_lines(path: Path) -> list[bytes]:
    """Return the lines of a log and of its rotated files; every one of them is whole."""
    found: list[bytes] = []
    for each in path.parent.iterdir():
        data = content(each)
        assert not data or data.endswith(b"\n"), f"{each} ends in the middle of a line"
        found += data.split(b"\n")[:-1]
    return found


def look(root: Path) -> dict[str, dict[str, object]]:
    """Return what is in a directory, in the form of the recorded answers."""
    return {str(path.relative_to(root)): _state(path) for path in root.rglob("*")}


def _state(path: Path) -> dict[str, object]:
    state = path.lstat()
    found: dict[str, object] = {
        "mode": f"{stat.S_IMODE(state.st_mode):04o}",
        "owner": state.st_uid,
        "group": state.st_gid,
        "content": "",
    }
    if path.is_symlink():
        return {**found, "kind": "link"}
    if path.is_dir():
        return {**found, "kind": "directory"}
    if path.read_bytes()[:2] == b"\x1f\x8b":
        found["kind"] = "gzip"
    return {**found, "content": content(path).decode()}


IS_ROOT = os.geteuid() == 0
NOBODY = 12345
"""A user and group without rights."""
