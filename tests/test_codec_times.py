"""RFC 3339 text and moments: Go's two spellings, the integers between them, what is refused."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubewitness.codec.times import (
    ZERO_TIME,
    canonical_micro_time,
    is_micro_time,
    micro_time,
    nano_time,
    to_nanoseconds,
)

FIRST = -62_135_596_800 * 10**9  # the first nanosecond of year 1
LAST = 253_402_300_800 * 10**9 - 1  # the last one of year 9999

MOMENTS = st.integers(FIRST, LAST)
ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))

NO_TIMES = [
    "",
    "2026-11-24",
    "2026-11-24T00:24:42",
    "2026-11-24T00:24Z",
    "2026-11-24 00:24:42Z",
    "2026-11-24t00:24:42Z",
    "2026-11-24T00:24:42z",
    "2026-11-24T00:24:42.Z",
    "2026-11-24T00:24:42,201657Z",
    "2026-11-24T00:24:42.201657",
    "2026-11-24T00:24:42.201657Z ",
    "2026-11-24T00:24:42.201657Z\n",
    "2026-11-24T00:24:42.201657+0100",
    "2026-11-24T00:24:42.201657+01",
    "2026-11-24T00:24:42.201657+24:00",
    "2026-11-24T00:24:42.201657+01:60",
    "2026-11-24T24:00:00.000000Z",
    "2026-11-24T23:60:00.000000Z",
    "2026-11-24T23:59:60.000000Z",
    "2026-02-29T00:00:00.000000Z",
    "2026-13-01T00:00:00.000000Z",
    "2026-00-01T00:00:00.000000Z",
    "2026-01-00T00:00:00.000000Z",
    "0000-01-01T00:00:00.000000Z",
    "2026-W48-2T00:24:42.201657Z",
    "20261124T002442.201657Z",
    "2026-11-24T00:24:42.20165\u0667Z",
    "2026-11-24T00:24:42.20165\u00b2Z",
    "2026-11-24T00:24:42.201657\u00b2Z",
    "2026-11-24T00:24:42.201657xZ",
    "2026-11-24T00:24:42.20Z657Z",
    "2026-11-24T00:24:42.+01:00Z",
    "+026-11-24T00:24:42.201657Z",
    "02026-11-24T00:24:42.20165Z",
    "0001-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59-00:01",
]


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_is_refused_everywhere(text: str) -> None:
    assert not is_micro_time(text)
    for read in (to_nanoseconds, canonical_micro_time, nano_time):
        with pytest.raises(ValueError, match=r"RFC 3339|not a date and time|outside the years"):
            read(text)


def test_a_refusal_quotes_only_the_start_of_the_text() -> None:
    with pytest.raises(ValueError, match="RFC 3339") as caught:
        to_nanoseconds("9" * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "micro", "nano"),
    [
        (  # specification 1.3
            "2020-01-02T03:04:05.123456999+01:00",
            "2020-01-02T02:04:05.123456Z",
            "2020-01-02T03:04:05.123456999+01:00",
        ),
        ("2020-01-02T03:04:05-01:30", "2020-01-02T04:34:05.000000Z", "2020-01-02T03:04:05-01:30"),
        (
            "2026-11-24T00:32:31.925187136Z",
            "2026-11-24T00:32:31.925187Z",
            "2026-11-24T00:32:31.925187136Z",
        ),
        (
            "2026-11-24T00:24:42.201650Z",
            "2026-11-24T00:24:42.201650Z",
            "2026-11-24T00:24:42.20165Z",
        ),
        ("2026-11-24T00:24:42.000000Z", "2026-11-24T00:24:42.000000Z", "2026-11-24T00:24:42Z"),
        ("2026-11-24T00:24:42.5Z", "2026-11-24T00:24:42.500000Z", "2026-11-24T00:24:42.5Z"),
        (
            "2026-11-24T00:24:42.100000000+00:00",
            "2026-11-24T00:24:42.100000Z",
            "2026-11-24T00:24:42.1+00:00",
        ),
        (
            "2026-11-24T00:24:42.1234567891234Z",
            "2026-11-24T00:24:42.123456Z",
            "2026-11-24T00:24:42.123456789Z",
        ),
        (
            "2026-12-31T23:30:00.000000001-01:00",
            "2027-01-01T00:30:00.000000Z",
            "2026-12-31T23:30:00.000000001-01:00",
        ),
        (ZERO_TIME, "0001-01-01T00:00:00.000000Z", ZERO_TIME),
        ("0001-01-01T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z", ZERO_TIME),
    ],
)
def test_the_two_spellings_of_a_moment(text: str, micro: str, nano: str) -> None:
    assert canonical_micro_time(text) == micro
    assert nano_time(text) == nano
    assert to_nanoseconds(nano) == to_nanoseconds(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("2001-09-09T01:46:40.123456789Z", 1_000_000_000_123_456_789),
        (ZERO_TIME, FIRST),
        ("9999-12-31T23:59:59.999999999Z", LAST),
    ],
)
def test_nanoseconds_are_counted_from_1970(text: str, nanoseconds: int) -> None:
    assert to_nanoseconds(text) == nanoseconds


def test_a_micro_time_is_returned_as_it_is() -> None:
    text = "2026-11-24T00:24:42.201657Z"
    assert canonical_micro_time(text) is text
    assert nano_time(text) is text


@pytest.mark.parametrize("nanoseconds", [FIRST - 1, LAST + 1, 10**40, -(10**40)])
def test_a_moment_outside_the_calendar_has_no_text(nanoseconds: int) -> None:
    with pytest.raises(ValueError, match="outside the years"):
        micro_time(nanoseconds)


@given(MOMENTS)
@example(-1)
@example(FIRST)
@example(LAST)
def test_micro_time_rounds_down_to_the_microsecond(nanoseconds: int) -> None:
    text = micro_time(nanoseconds)
    assert is_micro_time(text)
    assert to_nanoseconds(text) == nanoseconds // 1000 * 1000


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=ZONES))
def test_moments_agree_with_the_standard_library(moment: datetime) -> None:
    text = moment.isoformat(timespec="microseconds")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert to_nanoseconds(text) == since // timedelta(microseconds=1) * 1000
    assert canonical_micro_time(text)[:26] == moment.astimezone(UTC).isoformat(
        timespec="microseconds"
    ).removesuffix("+00:00")


@given(MOMENTS, st.sampled_from(["Z", "+00:00", "-00:00"]))
def test_nano_time_keeps_the_moment_and_is_its_own_nano_time(nanoseconds: int, zone: str) -> None:
    digits = f"{nanoseconds % 10**9:09}"
    text = f"{micro_time(nanoseconds)[:19]}.{digits}{zone}"
    nano = nano_time(text)
    assert to_nanoseconds(nano) == nanoseconds
    assert nano == nano_time(nano)
    assert re.fullmatch(r".{19}(\.[0-9]{0,8}[1-9])?" + re.escape(zone), nano)


MUTATIONS = st.lists(
    st.tuples(st.integers(0, 26), st.characters() | st.sampled_from("0123459:-+.,TWZz ")),
    max_size=3,
)


@given(MOMENTS, MUTATIONS)
def test_is_micro_time_is_exact(nanoseconds: int, mutations: list[tuple[int, str]]) -> None:
    characters = list(micro_time(nanoseconds))
    for place, character in mutations:
        characters[place] = character
    text = "".join(characters)
    assert is_micro_time(text) == spelt_out(text)
    try:
        assert (canonical_micro_time(text) == text) == is_micro_time(text)
    except ValueError:
        assert not is_micro_time(text)


def spelt_out(text: str) -> bool:
    """Say what a micro time is the slow way."""
    match = re.fullmatch(
        r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{6})Z", text
    )
    if match is None:
        return False
    try:
        datetime(*map(int, match.groups()))  # type: ignore[arg-type]
    except ValueError:
        return False
    return True
