"""Go durations: how flags, annotations and messages of Kubernetes spell a span of time.

A duration is an int of nanoseconds here; Go keeps it in 64 bits, which `parse_duration` enforces.
What is *not* here: moments (see `codec.times`), and units above the hour, which Go does not have.

Source: audit specification section 5.11; Go's ``time.Duration``.
"""

import re

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, the micro sign: what Go writes
    "μs": 1_000,  # U+03BC, the Greek letter: read, never written
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_LIMIT = 1 << 63
_TERM = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^.0-9]*)")
_NOT_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def format_duration(ns: int) -> str:
    """Return a number of nanoseconds as Go prints it: ``1.5µs``, ``1m1.005s``, ``0s``."""
    if ns < 0:
        return "-" + format_duration(-ns)
    if ns < 1_000_000_000:
        return _below_second(ns)
    minutes, rest = divmod(ns, _UNITS["m"])
    seconds = _decimal(rest, _UNITS["s"]) + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def parse_duration(text: str) -> int:
    """Return the nanoseconds of a Go duration: ``1h15m30.918s``, ``-1.5h``, ``+5µs``, ``0``.

    Raises:
        ValueError: The text is not one, or does not fit into 64 bits; the message is Go's.
    """
    body = text[1:] if text[:1] in {"-", "+"} else text
    if body == "0":
        return 0
    terms = [term for term in _TERM.finditer(body) if term[0]]
    total = 0
    for term in terms:
        total += _term_value(term, text)
        if total > _LIMIT:
            raise _invalid(text)
    if not terms or (total == _LIMIT and text[0] != "-"):
        raise _invalid(text)
    return -total if text[0] == "-" else total


def _below_second(ns: int) -> str:
    for unit in ("ms", "µs"):
        if ns >= _UNITS[unit]:
            return _decimal(ns, _UNITS[unit]) + unit
    return f"{ns}ns" if ns else "0s"


def _decimal(ns: int, unit: int) -> str:
    """Return ns in units as a decimal number without trailing zeros."""
    whole, rest = divmod(ns, unit)
    digits = f"{rest:0{len(str(unit)) - 1}}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)


def _term_value(term: re.Match[str], text: str) -> int:
    """Return the nanoseconds of one number with its unit, at most `_LIMIT`."""
    digits, fraction, unit = term.groups("")
    # Longer digit strings are not given to int(): it refuses thousands of them its own way.
    significant = digits.lstrip("0")
    whole = int(significant or "0") if len(significant) < 20 else _LIMIT + 1
    if whole > _LIMIT or not (digits or fraction):
        raise _invalid(text)
    if not unit:
        raise ValueError(f"time: missing unit in duration {_quote(text)}")
    if unit not in _UNITS:
        raise ValueError(f"time: unknown unit {_quote(unit)} in duration {_quote(text)}")
    value = whole * _UNITS[unit] + _fraction_value(fraction, _UNITS[unit])
    if value > _LIMIT:
        raise _invalid(text)
    return value


def _fraction_value(digits: str, unit: int) -> int:
    """Return the nanoseconds of a fraction of a unit, rounded down from a double as in Go."""
    numerator, scale = 0, 1.0
    for digit in digits:
        following = numerator * 10 + int(digit)
        if following > _LIMIT:
            break
        numerator, scale = following, scale * 10
    return int(float(numerator) * (unit / scale))


def _invalid(text: str) -> ValueError:
    return ValueError(f"time: invalid duration {_quote(text)}")


def _quote(text: str) -> str:
    r"""Return the text as Go's time package quotes it: every byte outside ASCII as ``\xNN``."""
    raw = _NOT_BYTES.sub("\ufffd", text).encode("utf-8", "surrogateescape")
    raw = raw.replace(b"\\", rb"\\").replace(b'"', rb"\"")
    body = "".join(chr(byte) if 0x20 <= byte < 0x80 else rf"\x{byte:02x}" for byte in raw)
    return f'"{body}"'
