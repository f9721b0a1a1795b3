"""Keeps the beginning of a body while it passes by."""

from kubewitness.recorder import Body


class Tee:
    """Counts the bytes of a body, and keeps the first of them.

    Attributes:
        has_ended: Whether its end was seen; for the driver to set.
        size: How many bytes have passed by.

    Args:
        limit: How many bytes are kept.
    """

    __slots__ = ("_kept", "_limit", "_pieces", "has_ended", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._kept = 0
        self.size = 0
        self.has_ended = False

    def add(self, piece: bytes) -> None:
        """Take a piece that passes by."""
        self.size += len(piece)
        room = self._limit - self._kept
        if room > 0:
            piece = bytes(piece[:room])
            self._kept += len(piece)
            self._pieces.append(piece)

    def body(self, content_type: str, content_encoding: str = "") -> Body:
        """Return what passed by so far; it counts as cut off unless it `has_ended`."""
        size = self.size if self.has_ended else self.size + 1
        return Body(b"".join(self._pieces), size, content_type, content_encoding, self._limit)
