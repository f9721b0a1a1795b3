"""RFC 3339 text and moments: the three spellings of a time that audit data uses.

- *micro time*, in JSON: ``2026-11-24T00:24:42.201657Z``; UTC, always six digits, truncated.
- *nano time*, in the legacy text logs: any zone, up to nine digits, no trailing zeros.
- *nanoseconds*, for arithmetic: an int, counted from 1970-01-01T00:00:00Z.

An event keeps the text it was read with, so nothing is parsed before somebody needs the moment.
Like Go, these functions want an upper-case ``T`` and ``Z`` and know no leap second; the moment must
lie in the years 1 to 9999 of UTC. What is *not* here: clocks (time is an argument everywhere) and
durations (see `codec.duration`).

Source: audit specification sections 1.3 and 6.3.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

ZERO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time as text logs print it: "not known", which JSON writes as ``null``."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_RFC_3339 = re.compile(
    # The hour is bounded here because newer Pythons read 24:00 as the next midnight.
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]+))?"
    r"(Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)


def to_nanoseconds(text: str) -> int:
    """Return the moment of an RFC 3339 text in nanoseconds since 1970, negative before it.

    Of the fraction nine digits count, further ones are dropped.

    Raises:
        ValueError: The text is no RFC 3339 time; the sentence says what is wrong with it.
    """
    moment, fraction, _ = _parse(text)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int(f"{fraction[:9]:0<9}")


def micro_time(nanoseconds: int) -> str:
    """Return the micro time of a moment, rounded down to its microsecond.

    Raises:
        ValueError: The moment lies outside the years 1 to 9999.
    """
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    try:
        return f"{_second(seconds)}.{rest // 1000:06}Z"
    except OverflowError:
        raise ValueError(f"{nanoseconds} ns lies outside the years 1 to 9999") from None


def exact_time(nanoseconds: int) -> str:
    """Return a moment as UTC text with all nine digits, for the times of new events.

    Raises:
        ValueError: The moment lies outside the years 1 to 9999.
    """
    return f"{micro_time(nanoseconds)[:-1]}{nanoseconds % 1000:03}Z"


def canonical_micro_time(text: str) -> str:
    """Return the micro time of an RFC 3339 text: the same object when it is one already.

    Raises:
        ValueError: As `to_nanoseconds`.
    """
    return _cut(text) or micro_time(to_nanoseconds(text))


def nano_time(text: str) -> str:
    """Return the nano time of an RFC 3339 text, its zone kept as it is written.

    Raises:
        ValueError: As `to_nanoseconds`.
    """
    if text[-2:-1] != "0" and len(text) <= 30 and _cut(text):
        return text
    _, fraction, zone = _parse(text)
    digits = fraction[:9].rstrip("0")
    return f"{text[:19]}.{digits}{zone}" if digits else text[:19] + zone


def is_micro_time(text: str) -> bool:
    """Return whether the text is the micro time of a real moment. Cheap: for every event."""
    # The separators stand three apart from character 4 on. Hour 24: see _RFC_3339.
    if len(text) != 27 or text[4:20:3] != "--T::." or text[26] != "Z":
        return False
    if text[11] == "2" and text[12] > "3":
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=8)  # the moments of a busy server share their second
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(0, seconds)).isoformat()


def _cut(text: str) -> str:
    """Return the micro time of a UTC text with six digits or more, "" for all other texts."""
    if len(text) == 27:
        return text if is_micro_time(text) else ""
    micro, rest = text[:26] + "Z", text[26:-1]
    if text[-1:] == "Z" and rest.isdigit() and rest.isascii() and is_micro_time(micro):
        return micro
    return ""


def _parse(text: str) -> tuple[datetime, str, str]:
    """Return the moment in UTC (naive, whole seconds), the digits of the fraction, the zone."""
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text[:48]!r} is not an RFC 3339 time such as 2026-11-24T00:24:42.201657Z"
        )
    seconds, fraction, zone = match.groups("")
    try:
        moment = datetime.fromisoformat(seconds)
        return moment if zone == "Z" else moment - _offset(zone), fraction, zone
    except ValueError as error:
        raise ValueError(f"{text[:48]!r} is not a date and time: {error}") from None
    except OverflowError:
        raise ValueError(f"{text[:48]!r} lies outside the years 1 to 9999 of UTC") from None


def _offset(zone: str) -> timedelta:
    """Return how far the clocks of a zone like ``+01:00`` are ahead of UTC."""
    minutes = int(zone[1:3]) * 60 + int(zone[4:])
    return timedelta(minutes=minutes if zone[0] == "+" else -minutes)
