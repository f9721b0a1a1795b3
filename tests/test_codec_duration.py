"""Go durations: the printed form, the grammar that is read, Go's messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.codec.duration import format_duration, parse_duration

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [  # the first seven stand in specification 5.11
        (0, "0s"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (501_000_000, "501ms"),
        (701_277_316, "701.277316ms"),
        (MINUTE + 1_005_000_000, "1m1.005s"),
        (HOUR, "1h0m0s"),
        (1, "1ns"),
        (1_000, "1µs"),
        (999_999, "999.999µs"),
        (1_000_000, "1ms"),
        (999_999_999, "999.999999ms"),
        (SECOND, "1s"),
        (SECOND + 1, "1.000000001s"),
        (59 * SECOND + 900_000_000, "59.9s"),
        (MINUTE, "1m0s"),
        (100 * HOUR + 90, "100h0m0.00000009s"),
        (-1_500, "-1.5µs"),
        (-90 * SECOND, "-1m30s"),
        (2**63 - 1, "2562047h47m16.854775807s"),
        (-(2**63), "-2562047h47m16.854775808s"),
    ],
)
def test_durations_print_as_in_go(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("-0", 0),
        ("0h", 0),
        ("000", None),
        ("5s", 5 * SECOND),
        ("+5s", 5 * SECOND),
        ("-5s", -5 * SECOND),
        ("1.5h", 90 * MINUTE),
        (".5m", 30 * SECOND),
        ("2.m", 2 * MINUTE),
        ("1s1m1h", HOUR + MINUTE + SECOND),
        ("3s3s", 6 * SECOND),
        ("7us", 7_000),
        ("7\u00b5s", 7_000),
        ("7\u03bcs", 7_000),
        ("0000000000000000000000001ns", 1),
        ("0.9ns", 0),
        ("1.9999999999999999999999s", 2 * SECOND),  # a double, as in Go
        ("0.4999999999999999999999999999h", 30 * MINUTE),
        ("9223372036854775807ns", 2**63 - 1),
        ("-9223372036854775808ns", -(2**63)),
        ("-9223372036.854775808s", -(2**63)),
    ],
)
def test_the_grammar_that_is_read(text: str, nanoseconds: int | None) -> None:
    if nanoseconds is None:
        with pytest.raises(ValueError, match="missing unit"):
            parse_duration(text)
    else:
        assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", 'time: invalid duration "abc"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("+-5s", 'time: invalid duration "+-5s"'),
        (".", 'time: invalid duration "."'),
        (".s", 'time: invalid duration ".s"'),
        (" 5s", 'time: invalid duration " 5s"'),
        ("5s ", 'time: unknown unit "s " in duration "5s "'),
        ("5s-3s", 'time: unknown unit "s-" in duration "5s-3s"'),
        ("5S", 'time: unknown unit "S" in duration "5S"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1h5", 'time: missing unit in duration "1h5"'),
        ("1.2.3s", 'time: missing unit in duration "1.2.3s"'),
        ("٣s", r'time: invalid duration "\xd9\xa3s"'),
        ('5"', r'time: unknown unit "\"" in duration "5\""'),
        ("5\\", r'time: unknown unit "\\" in duration "5\\"'),
        ("5\n", r'time: unknown unit "\x0a" in duration "5\x0a"'),
        ("5\x7f", 'time: unknown unit "\x7f" in duration "5\x7f"'),
        ("5é", r'time: unknown unit "\xc3\xa9" in duration "5\xc3\xa9"'),
        ("5\udcff", r'time: unknown unit "\xff" in duration "5\xff"'),
        ("5\ud800", r'time: unknown unit "\xef\xbf\xbd" in duration "5\xef\xbf\xbd"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("-9223372036854775809ns", 'time: invalid duration "-9223372036854775809ns"'),
        ("9223372036854775809", 'time: invalid duration "9223372036854775809"'),
        ("9223372036854775808", 'time: missing unit in duration "9223372036854775808"'),
        ("2562048h", 'time: invalid duration "2562048h"'),
        ("2562047h48m", 'time: invalid duration "2562047h48m"'),
        ("9223372036.854775808s", 'time: invalid duration "9223372036.854775808s"'),
        ("99999999999999999999x", 'time: invalid duration "99999999999999999999x"'),
    ],
)
def test_refusals_speak_as_go_does(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^time: ") as caught:
        parse_duration(text)
    assert str(caught.value) == message


def test_endless_digits_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration("9" * 100_000 + "s")
    assert parse_duration("0." + "1" * 100_000 + "s") == 111_111_111


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**10), 10**10))
def test_reading_undoes_printing(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@given(st.text() | st.text("0123456789.+-nuµmsh"))
def test_any_text_is_64_bits_or_a_go_message(text: str) -> None:
    try:
        nanoseconds = parse_duration(text)
    except ValueError as error:
        message, nanoseconds = str(error), 0
    else:
        message = "time: "
    assert message.startswith("time: ")
    assert -(2**63) <= nanoseconds < 2**63
