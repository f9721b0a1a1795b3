"""A lock that several processes take by a directory that all of them know; it leaves no file."""

import fcntl
import os
from pathlib import Path


class DirectoryLock:
    """Held within ``with``, by one process at a time; threads need a lock of their own.

    Args:
        directory: It must exist.

    Raises:
        OSError: The directory cannot be opened.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = self._open()

    def __enter__(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def after_fork(self) -> None:
        """Take the lock apart from the parent's, which a child inherits."""
        os.close(self._descriptor)
        self._descriptor = self._open()

    def close(self) -> None:
        """Give up the directory."""
        os.close(self._descriptor)

    def _open(self) -> int:
        return os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
