"""Tells whether a file is another than before, or has another content, without reading it."""

from pathlib import Path

Stamp = tuple[int, ...] | None
"""What differs between two states of a file; None when there is none."""


def stamp_of(file: Path) -> Stamp:
    """Return the stamp of the file that is at a path now; links are followed."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
