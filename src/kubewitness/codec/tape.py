"""The sliding piece of a stream that `framing` works on, with its place and its line number.

Not here: any knowledge of what the bytes are.
"""

from collections.abc import Iterable


class Tape:
    """The input as far as it is read and not done with; `at` is where the next piece starts."""

    def __init__(self, chunks: Iterable[bytes], *, line: int = 1) -> None:
        self._chunks = iter(chunks)
        self._searched = 0
        self.data = b""
        self.at = 0
        self.line = line
        self.ended = False
        self.reads = 0

    def move(self, to: int) -> None:
        """Be done with everything before a position in `data`."""
        self.line += self.data.count(b"\n", self.at, to)
        self.at = to

    def line_end(self) -> int:
        """Return where the line ends, -1 if that is not read yet. Looks at each byte once."""
        end = self.data.find(b"\n", max(self.at, self._searched))
        self._searched = len(self.data) if end < 0 else end
        return end

    def grow(self, *, to_line_end: bool = False) -> bool:
        """Read on until there is twice as much, or a line's end; False at the end of the input.

        Doubling keeps the work linear for those who start over with each growth.
        """
        pieces = [self.data[self.at :]]
        missing = len(pieces[0])
        for piece in self._chunks:
            pieces.append(piece)
            missing -= len(piece)
            if missing < 0 or (to_line_end and b"\n" in piece):
                break
        else:
            self.ended = True
        self._searched = max(0, self._searched - self.at)
        self.data = b"".join(pieces)
        self.at = 0
        self.reads += 1
        return len(self.data) > len(pieces[0])

    def fill(self, size: int) -> None:
        """Read on until there are so many bytes from `at` on, or the input ends."""
        while len(self.data) - self.at < size and self.grow():
            pass
