"""Where records end: torn in every place and every layout, in chunks of every size."""

import gzip
import io
import json
from collections.abc import Callable, Iterator
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubewitness.codec import EventReader, decode, encode, encode_list
from kubewitness.codec.framing import Frame, frame_records
from kubewitness.errors import Problem
from vectors import cluster_log, recorded

LINES = sorted(cluster_log().split(b"\n")[:300], key=len)[1:40:10]
A, B, C, D = LINES
FAKE = B.replace(decode(B).audit_id.encode(), b"forged")
LEGACY = recorded("gce.legacy.log").split(b"\n")[:3]


def read(
    data: bytes, size: int = 1 << 20, *, limit: int = 1 << 28
) -> tuple[list[bytes], list[int]]:
    """Return the lines of the events in some bytes, and the line numbers of the problems."""
    problems: list[Problem] = []
    stream = Pieces(data, size)
    reader = EventReader(
        stream,  # type: ignore[arg-type]
        "f",
        on_problem=problems.append,
        limit=limit,
    )
    found = [encode(event).rstrip() for event in reader]
    assert all(str(problem).isprintable() and len(str(problem)) < 320 for problem in problems)
    return found, [problem.line for problem in problems]


class Pieces(io.RawIOBase):
    """A stream that gives so many bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, self._size))


def keys_sorted(line: bytes) -> bytes:
    return json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")).encode()


def indented(line: bytes, indent: int) -> bytes:
    return json.dumps(json.loads(line), indent=indent).encode()


STYLES: dict[str, Callable[[bytes], bytes]] = {"as written": bytes, "keys sorted": keys_sorted}


@pytest.mark.parametrize("style", STYLES)
def test_a_line_torn_anywhere_costs_itself_and_is_reported_once(style: str) -> None:
    a, b, c, d = map(STYLES[style], LINES)
    hole = b"\0" * 50
    for cut in range(1, len(b), 2):
        start, end = b[:cut], b[cut:]
        for torn, kept, lines in (
            ([a, start, c, d], [A, C, D], [2]),  # and a newline
            ([a, start + c, d], [A, C, D], [2]),  # directly followed by the next
            ([a, start + hole + c, d], [A, C, D], [2]),
            ([a, start + hole + c[cut:], d], [A, D], [2]),
            ([a, start, c[: min(cut, len(c) - 1)], d], [A, D], [2, 3]),  # two in a row
            ([a, start, c[: min(cut, len(c) - 1)] + d], [A, D], [2, 3]),
            ([a, end, c, d], [A, C, D], [2]),  # its start is missing
            ([a, start + b"\r", *LEGACY[:1], d], [A, None, D], [2]),
            ([a, c, start], [A, C], [3]),
        ):
            found, reported = read(b"\n".join(torn))
            assert reported == lines, (cut, torn)
            assert len(found) == len(kept), (cut, torn)
            assert all(w in (None, f) for f, w in zip(found, kept, strict=True)), (cut, torn)


@pytest.mark.parametrize("indent", [0, 1, 2, 4])
def test_an_indented_record_torn_anywhere_costs_itself(indent: int) -> None:
    a, b, c, d = (indented(line, indent) for line in LINES)
    for cut in range(1, len(b), 3):
        assert read(b"\n".join([a, b[:cut], c, d]))[0] == [A, C, D], cut
        assert len(read(b"\n".join([a, b[:cut], c, d]))[1]) == 1, cut
        assert read(b"\n".join([a, b[cut:], c, d]))[0] == [A, C, D], cut
        if indent:
            assert read(b"\n".join([a, b[:cut], c[:cut], d]))[0] == [A, D], cut


@pytest.mark.parametrize(
    ("start", "end"), [(b"[\n", b"\n]\n"), (b'{"kind":"List","apiVersion":"v1","items":[\n', b"]}")]
)
def test_an_element_torn_anywhere_costs_itself(start: bytes, end: bytes) -> None:
    for cut in range(1, len(B), 2):
        for glue in (b",\n", b"\n"):
            data = start + A + b",\n" + B[:cut] + glue + C + b",\n" + D + end
            found, reported = read(data)
            assert found == [A, C, D], cut
            assert reported == [3], cut


def test_an_element_of_one_line_with_a_hole_costs_itself() -> None:
    items = encode_list(map(decode, LINES))
    whole, _ = read(items)
    for at in range(items.index(b"auditID", len(A)), items.index(whole[1][-60:]), 7):
        found, reported = read(items[:at] + b"\0\0\0" + items[at + 3 :])
        assert found == [A, C, D], at
        assert reported == [1], at


def test_every_bad_element_of_a_line_is_reported() -> None:
    line = b"[" + b",".join([A, b"5", b"null", B, b'"x"', b"[1]", b'{"a":1}', C]) + b"]\n" + D
    assert read(line) == ([A, B, C, D], [1, 1, 1, 1, 1])


def test_a_list_that_is_not_closed_is_reported_at_its_start() -> None:
    for data, lines in (
        (b"[" + A + b",\n" + B, [1]),
        (A + b"\n[" + B + b"," + C + b"\n" + D + b"\n", [2]),
        (encode_list([decode(A)])[:-3] + b"\n" + encode_list([decode(B)]), [1]),
    ):
        assert read(data)[1] == lines


def nested(fake: bytes) -> list[bytes]:
    """Return damaged lines in which a recorded object looks like an event."""
    event = B[:-1] + b',"requestObject":' + fake + b',"responseObject":{"a":[' + fake + b"]}}"
    tail = event[event.index(b'"requestObject"') - 9 :]
    return [tail, b"\0" * 30 + tail, b'{"a"' + tail, event[:40] + b"\0\0" + event[45:], b"[" + tail]


@pytest.mark.parametrize("index", range(5))
def test_what_was_recorded_within_a_damaged_line_is_not_taken_for_an_event(index: int) -> None:
    found, reported = read(b"\n".join([A, nested(FAKE)[index], C]))
    assert found == [A, C]
    assert reported[:1] == [2]


def test_items_of_old_lists_are_modernised_whatever_comes_first() -> None:
    item = (
        '{"metadata":{"creationTimestamp":"2018-01-02T03:04:06Z"},"level":"Metadata",'
        '"timestamp":"2018-01-02T03:04:05Z","auditID":"x","stage":"Panic","requestURI":"/",'
        '"verb":"get","user":{},"objectRef":{"resource":"d","apiVersion":"apps/v1"}}'
    )
    version = '"kind":"EventList","apiVersion":"audit.k8s.io/v1alpha1"'
    for text in (f'{{{version},"items":[{item}]}}', f'{{"items":[{item}],{version}}}'):
        (event,) = read(text.encode())[0]
        assert b'"apiGroup":"apps","apiVersion":"v1"' in event
        assert b'"requestReceivedTimestamp":"2018-01-02T03:04:05.000000Z"' in event
        assert b'"stageTimestamp":"2018-01-02T03:04:06.000000Z"' in event


def test_a_foreign_list_is_one_problem() -> None:
    items = b",".join([b'{"metadata":{"name":"p"}}'] * 500)
    for kind in (b'"kind":"PodList","apiVersion":"v1"', b'"kind":"EventList","apiVersion":"v1"'):
        assert read(b"{" + kind + b',"items":[' + items + b"]}\n" + A) == ([A], [1])


def test_lines_longer_than_the_limit_are_reported_and_skipped() -> None:
    long = A[:-1] + b',"requestObject":"' + b"x" * 5000 + b'"}'
    for record in (long, long[:-1], b"y" * 6000, indented(long, 2), b"[" + long + b"]"):
        found, reported = read(b"\n".join([B, record, C]), limit=4000)
        assert found == [B, C]
        assert reported[0] == 2
        assert len(reported) <= 2  # a list that was not closed either


# Chunks

RANDOM_FORMS = (
    b"\n".join,
    b"".join,
    lambda lines: b"\r\n".join(map(keys_sorted, lines)),
    lambda lines: b"\n".join(indented(line, 2) for line in lines),
    lambda lines: b"\n".join(indented(line, 0) for line in lines),
    lambda lines: b"[\n" + b",\n".join(lines) + b"\n]",
    lambda lines: json.dumps(list(map(json.loads, lines)), indent=4).encode(),
    lambda lines: encode_list(map(decode, lines)),
    lambda lines: json.dumps({"items": list(map(json.loads, lines)), "kind": "List"}).encode(),
    lambda _: b"\n".join(LEGACY),
    lambda lines: b"2026 stdout F ".join([b"", *lines]),
)
SCRAPS = (b"\n", b"{", b"}", b'"', b"\\", b"\0" * 9, b"]", b"[", b",", b"\n{", b'\n{"', A[:60])


def documents(random: Random) -> bytes:
    """Return some documents one after the other, mostly with a few places damaged."""
    parts = [random.choice(RANDOM_FORMS)(random.choices(LINES, k=2)) for _ in range(3)]
    data = random.choice([b"", b"\n"]).join(parts)
    for _ in range(random.choice([0, 1, 1, 2, 4])):
        start = random.randrange(len(data))
        end = start + random.choice([0, 0, 1, 3, 300])
        data = data[:start] + random.choice([b"", *SCRAPS]) + data[end:]
    return data


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@given(st.randoms(use_true_random=False), st.integers(1, 3000), st.sampled_from([60, 900, 10**9]))
@settings(max_examples=120, deadline=None)
def test_chunks_change_nothing(random: Random, size: int, limit: int) -> None:
    data = documents(random)
    whole = list(frame_records([data], limit=limit))
    for each in (1, 7, size):
        assert list(frame_records(pieces(data, each), limit=limit)) == whole
    assert read(data, size, limit=limit) == read(data, limit=limit)


def test_chunks_change_nothing_around_the_longest_line_that_is_kept() -> None:
    for length in range(1024 * 1024 - 2, 1024 * 1024 + 3):
        record = b'{"a":"' + b"x" * (length - 8) + b'"}'
        for data in (record + b"\n" + A, record, b"x" * length + A + b"\n" + B, record[:-1]):
            whole = list(frame_records([data]))
            assert list(frame_records(pieces(data, 1000))) == whole
            assert whole[0].line == 1


def test_frames_say_where_they_lie() -> None:
    data = b'[{"a":1},\n7]\n{"b":2}\n'
    assert list(frame_records([data])) == [
        Frame(1, b'{"a":1}', listed=True),
        Frame(2, b"7", listed=True),
        Frame(3, b'{"b":2}'),
    ]


# Packed

PACKED = gzip.compress(b"\n".join(LINES) + b"\n")


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize(
    ("data", "count", "lines"),
    [
        (PACKED + PACKED, 8, []),
        (PACKED + b"\0" * 700 + PACKED, 8, []),
        (PACKED + b"no gzip", 4, [0]),
        (PACKED[:-8] + b"checksum", 4, [0]),
        (PACKED[:-1], 4, [0]),
        (PACKED[:2], 0, [0]),
        (PACKED[:2] + b"nonsense", 0, [0]),
    ],
)
def test_packed_data_with_odd_ends(data: bytes, count: int, lines: list[int], size: int) -> None:
    found, reported = read(data, size)
    assert found == (LINES * 2)[:count]
    assert reported == lines


def test_a_record_is_kept_alive_by_nothing_but_its_own_bytes() -> None:
    line = A[:-1] + b',"requestObject":{"a":1}}'
    (event,) = map(decode, [line])
    assert bytes(msgspec.Raw(event.request_object)) == b'{"a":1}'
