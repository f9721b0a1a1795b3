"""How values that somebody else chose are put into our sentences.

A key of a file, a user's name or a path may hold anything: control characters that a terminal
obeys, or a megabyte of one letter. So every sentence with somebody else's words quotes with these.
"""

import difflib
from collections.abc import Iterable

_LONGEST = 80


def shown(text: str) -> str:
    """Return a text fit for a message: what cannot be printed is escaped, what is long is cut."""
    cut = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def quoted(text: str) -> str:
    """Return a text fit for a message, in double quotes."""
    return f'"{shown(text)}"'


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a misspelt one most likely means; letter case does not count."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name[:_LONGEST].lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None
