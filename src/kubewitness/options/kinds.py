"""The kinds of values that flags have: read from text as Go reads them, and written again.

Not here: which flag is of which kind (`flags`).

Source: Go's ``strconv`` and ``time`` packages, by way of ``spf13/pflag``.
"""

import math
import re
import struct
from enum import StrEnum
from fractions import Fraction

from kubewitness.backends import Seconds
from kubewitness.codec.duration import format_duration, parse_duration
from kubewitness.documents import quoted

Value = str | int | float | bool

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
_INTEGER = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<hex>(?:_?[0-9a-fA-F])+)|0[bB](?P<binary>(?:_?[01])+)"
    r"|0(?:[oO](?=_?[0-7]))?(?P<octal>(?:_?[0-7])*)|(?P<decimal>[1-9](?:_?[0-9])*))"
)
_BASES = {"hex": 16, "binary": 2, "octal": 8, "decimal": 10}
_LONGEST_INTEGER = 200
"""More letters than any 64 bits need; int() takes long over thousands of digits."""

_LONGEST_DURATION = (1 << 63) - 1
"""Nanoseconds; as a float of seconds it would come back as one more, which Go cannot read."""

_SINGLE = "<f"
"""A float32; only with a byte order does struct refuse what does not fit."""

_D = r"[0-9](?:_?[0-9])*"
_H = r"[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_DECIMAL = re.compile(rf"[-+]?(?:{_D}\.?(?:{_D})?|\.{_D})(?:[eE][-+]?{_D})?")
_HEXADECIMAL = re.compile(rf"[-+]?0[xX]_?(?:{_H}\.?(?:{_H})?|\.{_H})[pP][-+]?{_D}")
_NO_NUMBERS = re.compile(r"[-+]?inf(inity)?|nan", re.IGNORECASE)


class Kind(StrEnum):
    """What a flag's value is, in pflag's words."""

    STRING = "string"
    BOOL = "bool"
    INT = "int"
    INT64 = "int64"
    FLOAT32 = "float32"
    DURATION = "duration"


def parse_value(kind: Kind, text: str) -> Value:
    """Return the value that a text stands for.

    Raises:
        ValueError: The text is not of that kind; the message says what is.
    """
    match kind:
        case Kind.STRING:
            return _checked(text)
        case Kind.BOOL:
            return _parse_bool(text)
        case Kind.INT | Kind.INT64:
            return _parse_integer(text)
        case Kind.FLOAT32:
            return _parse_float(text)
        case Kind.DURATION:
            return _parse_seconds(text)


def show_value(kind: Kind, value: object) -> str:
    """Return a value as Go prints it, which `parse_value` reads again."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # no flag gives it, but a program may
    if kind is Kind.DURATION and isinstance(value, int | float):
        return format_duration(min(round(Fraction(value) * 1_000_000_000), _LONGEST_DURATION))
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _checked(text: str) -> str:
    if "\0" in text:  # YAML can say it; opening the file would be too late
        raise ValueError(f"{quoted(text)} holds a NUL, which no file's name can")
    return text


def _parse_bool(text: str) -> bool:
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError(f"{quoted(text)} is neither true nor false")


def _parse_integer(text: str) -> int:
    found = _INTEGER.fullmatch(text)
    if found is None:
        raise ValueError(f"{quoted(text)} is not a whole number")
    base = next(name for name in _BASES if found[name] is not None)
    digits = found[base].replace("_", "").lstrip("0") or "0"
    number = int(digits, _BASES[base]) if len(digits) < _LONGEST_INTEGER else 1 << 64
    number = -number if found["sign"] == "-" else number
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{quoted(text)} does not fit into 64 bits")
    return number


def _parse_float(text: str) -> float:
    try:
        if _DECIMAL.fullmatch(text):
            return _rounded(float(text))
        if _HEXADECIMAL.fullmatch(text):
            return _rounded(float.fromhex(text.replace("_", "")))
    except OverflowError:
        raise ValueError(f"{quoted(text)} is too large for 32 bits") from None
    if _NO_NUMBERS.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a finite number")
    raise ValueError(f"{quoted(text)} is not a number")


def _rounded(number: float) -> float:
    """Return what is left of a number in 32 bits, as the shortest decimal that means the same.

    Raises:
        OverflowError: Nothing is left.
    """
    if math.isinf(number):
        raise OverflowError
    kept = struct.pack(_SINGLE, number)
    exact: float = struct.unpack(_SINGLE, kept)[0]
    candidates = (float(f"{exact:.{digits}g}") for digits in range(1, 10))
    return next((each for each in candidates if _is_kept_as(each, kept)), exact)


def _is_kept_as(number: float, kept: bytes) -> bool:
    try:
        return struct.pack(_SINGLE, number) == kept
    except OverflowError:  # rounded up beyond the largest number
        return False


def _parse_seconds(text: str) -> Seconds:
    try:
        return Seconds(parse_duration(text) / 1_000_000_000)
    except ValueError:
        advice = "write a number with its unit: 300ms, 10s, 1m30s, 2h"
        raise ValueError(f"{quoted(text)} is not a duration; {advice}") from None
