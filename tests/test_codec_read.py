"""Streams of events: every form, cut anywhere, torn anywhere; what is whole is always read."""

import gzip
import io
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubewitness.codec import Format, decode, encode, encode_legacy, encode_list, read_events
from kubewitness.codec.framing import Frame, frame_again, frame_records
from kubewitness.errors import EncodeError, Problem
from kubewitness.event import Event
from vectors import recorded

LINES = recorded("all.events.jsonl").split(b"\n")[20:60]
EVENTS = [decode(line) for line in LINES]
DOCUMENTS = [json.loads(line) for line in LINES]


def read(data: bytes, accept: Format = Format.AUTO) -> tuple[list[bytes], list[Problem]]:
    """Return the lines of the events in some bytes, and the problems."""
    problems: list[Problem] = []
    reader = read_events(io.BytesIO(data), "f", on_problem=problems.append, accept=accept)
    return [encode(event) for event in reader], problems


def lines_of(events: list[Event]) -> list[bytes]:
    return [encode(event) for event in events]


def indented(indent: int) -> bytes:
    return b"\n".join(json.dumps(each, indent=indent).encode() for each in DOCUMENTS)


def listed(order: tuple[str, ...], indent: int | None = None) -> bytes:
    whole = {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": DOCUMENTS}
    return json.dumps({name: whole[name] for name in order}, indent=indent).encode()


FORMS = {
    "lines": b"\n".join(LINES) + b"\n",
    "lines without an end": b"\n".join(LINES),
    "CRLF": b"\r\n".join(LINES) + b"\r\n",
    "blank lines": b"\n\n  \n".join(LINES) + b"\n\n",
    "byte-order mark": b"\xef\xbb\xbf" + b"\n".join(LINES),
    "UTF-16": b"\n".join(LINES).decode().encode("utf-16"),
    "one line": b"".join(LINES),
    "one line with blanks": b" ".join(LINES),
    "indented by 2": indented(2),
    "indented by 0": indented(0),
    "array": b"[" + b",".join(LINES) + b"]",
    "array by lines": b"[\n" + b",\n".join(LINES) + b"\n]\n",
    "array indented": json.dumps(DOCUMENTS, indent=4).encode(),
    "array indented, CRLF": json.dumps(DOCUMENTS, indent=4).replace("\n", "\r\n").encode(),
    "EventList": encode_list(EVENTS),
    "two EventLists": encode_list(EVENTS[:7]) + encode_list(EVENTS[7:]),
    "List": listed(("kind", "apiVersion", "metadata", "items")),
    "List of kubectl": listed(("apiVersion", "items", "kind", "metadata"), indent=4),
    "List, items first": listed(("items", "kind", "apiVersion")),
    "gzip": gzip.compress(b"\n".join(LINES)),
    "gzip in pieces": gzip.compress(b"\n".join(LINES[:9]) + b"\n")
    + gzip.compress(b"")
    + gzip.compress(b"\n".join(LINES[9:])),
    "gzip, padded": gzip.compress(b"\n".join(LINES)) + b"\0" * 512,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_events(form: str) -> None:
    assert read(FORMS[form]) == (lines_of(EVENTS), [])


class SmallReads(io.RawIOBase):
    """A stream that gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002
        return self._data.read(self._size)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_how_a_stream_arrives_does_not_matter(form: str, size: int) -> None:
    data = FORMS[form]
    if size == 1 and "gzip" not in form:
        data = data[: len(data) // 8]  # enough of it, a byte at a time
    problems: list[Problem] = []
    stream = SmallReads(data, size)
    events = read_events(stream, "f", on_problem=problems.append)  # type: ignore[arg-type]

    assert (lines_of(list(events)), problems) == read(data)


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at, index = 0, 0
    while at < len(data):
        size = sizes[index % len(sizes)]
        yield data[at : at + size]
        at, index = at + size, index + 1


SCRAPS = [
    *(
        b'{"auditID":"x"}',
        b'{"a":[{"b":1}]}',
        b'{"a":"\\"}{"}',
        b"{",
        b"}",
        b"[",
        b"]",
        b"[]",
        b",",
    ),
    *(b"\n", b"\n", b"\n", b'"', b'"a"', b"\\", b"text", b" ", b'{"kind":"Event","auditID":"y"}'),
    *(b'{"kind":"List","items":[', b"{}", b"1", b'{"kind":', b"\xef\xbb\xbf", b"\r\n"),
]


@given(
    st.lists(st.sampled_from(SCRAPS), max_size=30).map(b"".join),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
@settings(max_examples=300)
def test_cutting_chunks_changes_no_frame(data: bytes, sizes: list[int]) -> None:
    assert list(frame_records(pieces(data, sizes))) == list(frame_records([data]))


def torn(cuts: dict[int, int], *, joined: bool = False) -> bytes:
    """Return the lines with some cut short; `joined` to the next line, as after two writers."""
    parts = []
    for index, line in enumerate(LINES):
        whole = index not in cuts
        parts += [line if whole else line[: cuts[index]], b"" if joined and not whole else b"\n"]
    return b"".join(parts)


@given(st.dictionaries(st.integers(0, len(LINES) - 2), st.integers(2, 10_000), max_size=6))
@settings(max_examples=200, deadline=None)
def test_a_torn_line_costs_itself_and_is_reported_at_its_line(cuts: dict[int, int]) -> None:
    cuts = {index: min(cut, len(LINES[index]) - 1) for index, cut in cuts.items()}

    found, problems = read(torn(cuts))

    assert found == lines_of([event for i, event in enumerate(EVENTS) if i not in cuts])
    assert [problem.line for problem in problems] == [index + 1 for index in sorted(cuts)]


@pytest.mark.parametrize("index", [0, 5, 17])
def test_a_line_torn_anywhere_keeps_its_neighbours(index: int) -> None:
    rest = lines_of([event for i, event in enumerate(EVENTS) if i != index])
    for cut in range(1, len(LINES[index]), 3):
        for joined in (False, True):
            found, problems = read(torn({index: cut}, joined=joined))
            assert found == rest, (cut, joined)
            assert [problem.line for problem in problems] == [index + 1], (cut, joined)


@pytest.mark.parametrize("size", [1, 5000])
def test_a_hole_of_zero_bytes_keeps_the_record_behind_it(size: int) -> None:
    data = b"\n".join([*LINES[:3], b"\0" * size + LINES[3], *LINES[4:]])

    found, problems = read(data)

    assert found == lines_of(EVENTS)
    assert [problem.line for problem in problems] == [4]


TEXT_LOG = b"".join(encode_legacy(event) for event in EVENTS[:10])


@pytest.mark.parametrize(
    "junk",
    [
        b"[2024-01-01 12:00] starting server",
        b"[INFO] foo",
        b"[E1] oops",
        b"{not json",
        b"[",
        b'{"kind": "Event",\n  "user": {',
        b'[\n{\n  "kind": "Event",',
        b'{"kind":"Event","requestObject":',
    ],
)
def test_text_after_something_broken_is_read(junk: bytes) -> None:
    found, problems = read(TEXT_LOG + junk + b"\n" + TEXT_LOG + LINES[0])

    assert len(found) == 21
    assert len(problems) == 1


@pytest.mark.parametrize("indent", [1, 2, 4])
def test_an_indented_record_torn_at_the_end_of_a_line_keeps_its_neighbours(indent: int) -> None:
    texts = [json.dumps(each, indent=indent).encode() for each in DOCUMENTS[:8]]
    lines = texts[3].split(b"\n")
    for kept in range(1, len(lines)):
        found, problems = read(b"\n".join([*texts[:3], *lines[:kept], *texts[4:]]))
        assert found == lines_of(EVENTS[:3] + EVENTS[4:8]), kept
        assert len(problems) == 1, kept


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("version", ["v1beta1", "v1alpha1"])
def test_items_have_the_version_of_their_list(version: str, indent: int | None) -> None:
    item = {
        "auditID": "x",
        "stage": "ResponseComplete",
        "timestamp": "2018-01-02T03:04:05Z",
        "metadata": {"creationTimestamp": "2018-01-02T03:04:06Z"},
        "objectRef": {"resource": "deployments", "apiVersion": "apps/v1"},
    }
    whole = {"kind": "EventList", "apiVersion": f"audit.k8s.io/{version}", "items": [item, item]}

    found, problems = read(json.dumps(whole, indent=indent).encode())

    assert problems == []
    event = decode(found[0])
    assert event.request_received_timestamp == "2018-01-02T03:04:05.000000Z"
    assert event.stage_timestamp == "2018-01-02T03:04:06.000000Z"
    assert event.object_ref is not None
    assert event.object_ref.api_version == ("v1" if version == "v1alpha1" else "apps/v1")


def test_several_events_after_a_torn_one_on_its_line() -> None:
    found, problems = read(LINES[0][:200] + LINES[1] + LINES[2] + b"\n" + LINES[3])

    assert found == lines_of(EVENTS[1:4])
    assert [problem.line for problem in problems] == [1]


@pytest.mark.parametrize(
    "start", [b"\0" * 4096, b"caf\xe9 log started\n"], ids=["a hole", "another encoding"]
)
@pytest.mark.parametrize("form", ["text", "sorted"])
def test_a_log_with_an_odd_start_is_not_called_binary(start: bytes, form: str) -> None:
    sorted_lines = b"".join(json.dumps(each, sort_keys=True).encode() + b"\n" for each in DOCUMENTS)

    found, _ = read(start + b"\n" + (TEXT_LOG if form == "text" else sorted_lines))

    assert len(found) == (10 if form == "text" else len(LINES))


def test_a_text_line_of_any_length() -> None:
    event = msgspec.structs.replace(EVENTS[0], request_uri="/x?" + "y" * 9_000_000)
    stream = SmallReads(encode_legacy(event) + TEXT_LOG, 100_000)

    found = list(read_events(stream, "f", on_problem=pytest.fail))  # type: ignore[arg-type]

    assert len(found) == 11
    assert found[0].request_uri == event.request_uri


def test_lines_in_a_large_array_are_counted_once() -> None:
    """Counting from the start of the buffer for every record made this quadratic: 32 s."""
    data = b"[" + b",".join([b'{"auditID":"x","stage":"Panic"}'] * 100_000) + b"]"

    assert sum(1 for _ in frame_records([data])) == 100_000


@pytest.mark.parametrize("data", [b"\n\n", b"\xef\xbb\xbf", b"[]", b" "])
def test_a_file_without_events_is_said_to_be_one(data: bytes) -> None:
    assert read(data) == ([], [Problem("f", 0, 0, "", "holds no events")])


def test_one_bad_element_of_a_list_costs_only_itself() -> None:
    bad = b'{"kind":"Pod","apiVersion":"v1"}'
    for data in (
        encode_list(EVENTS[:5]).replace(b'"items":[', b'"items":[' + bad + b","),
        b"[" + b",".join([*LINES[:2], bad, *LINES[2:5]]) + b"]",
        b'{"kind":"List","apiVersion":"v1","items":[\n' + b",\n".join([bad, *LINES[:5]]) + b"\n]}",
    ):
        found, problems = read(data)
        assert found == lines_of(EVENTS[:5])
        assert [problem.message for problem in problems] == ["not an audit event (v1, Pod)"]


def test_several_bad_elements_of_a_list_are_reported_each() -> None:
    bad = b'"items":[{"kind":"Pod","apiVersion":"v1"},{"kind":"Node","apiVersion":"v1"},'

    found, problems = read(encode_list(EVENTS[:2]).replace(b'"items":[', bad))

    assert found == lines_of(EVENTS[:2])
    assert [problem.message for problem in problems] == [
        "not an audit event (v1, Pod)",
        "not an audit event (v1, Node)",
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty: no events"),
        (gzip.compress(b""), "is empty: no events"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a binary file, not an audit log"),
        (bytes(range(128, 256)) * 20, "is a binary file, not an audit log"),
        (gzip.compress(bytes(range(256))), "is a binary file, not an audit log"),
    ],
)
def test_files_that_are_no_logs(data: bytes, message: str) -> None:
    assert read(data) == ([], [Problem("f", 0, 0, "", message)])


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 40])
def test_damaged_gzip_gives_what_it_still_holds(garbage: bytes) -> None:
    text = b"\n".join(LINES * 20) + b"\n"
    whole = gzip.compress(text)
    for kept in (30, len(whole) // 2, len(whole) - 30):
        found, problems = read(whole[:kept] + garbage)
        held = zlib.decompressobj(wbits=31).decompress(whole[:kept])
        assert len(found) >= held.count(b"\n") - 1
        assert found == (lines_of(EVENTS) * 20)[: len(found)]
        # Damaged data may unpack to some nonsense before the damage shows.
        assert ["gzip" in problem.message for problem in problems] in ([True], [False, True])


def test_a_wrong_checksum_costs_no_event() -> None:
    data = bytearray(gzip.compress(b"\n".join(LINES) + b"\n"))
    data[-8] ^= 1

    found, problems = read(bytes(data))

    assert found == lines_of(EVENTS)
    assert len(problems) == 1


def test_formats_that_are_not_accepted_are_problems() -> None:
    text = b"".join(encode_legacy(event) for event in EVENTS[:2])

    assert len(read(LINES[0], Format.LEGACY)[1]) == 1
    assert len(read(text, Format.JSON)[1]) == 2
    assert len(read(text + LINES[0], Format.AUTO)[0]) == 3


def test_line_numbers_count_lines_of_every_kind() -> None:
    parts = [LINES[0], b"oops", b"", b"[", LINES[1] + b",", b"7,", b"{},", LINES[2], b"]", b"end"]

    found, problems = read(b"\n".join(parts))

    assert found[:2] == lines_of(EVENTS[:2])
    assert [problem.line for problem in problems][:2] == [2, 6]


def test_a_record_longer_than_the_limit_is_skipped() -> None:
    long = b'{"kind":"Event","requestObject":"' + b"x" * 5_000_000 + b'"}'
    data = b"\n".join([LINES[0], long, LINES[1]])

    frames = list(
        frame_records([data[i : i + 9999] for i in range(0, len(data), 9999)], limit=10**6)
    )

    assert [frame.data for frame in frames if not frame.fault] == LINES[:2]
    assert [(f.line, f.fault) for f in frames if f.fault] == [
        (2, "the record is longer than 1000000 bytes")
    ]


@pytest.mark.parametrize("start", [b"x", b'{"a":"', b'{"a":{', b"["])
def test_an_endless_line_does_not_fill_memory(start: bytes) -> None:
    def chunks() -> Iterator[bytes]:
        yield start
        for _ in range(200):
            yield b"x" * 1_000_000
        yield b"\n" + LINES[0] + b"\n"

    tracemalloc.start()
    frames = list(frame_records(chunks(), limit=10**7))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [frame.data for frame in frames if not frame.fault] == LINES[:1]
    assert len([frame for frame in frames if frame.fault]) == 1
    assert peak < 60_000_000


def test_a_line_of_several_documents_is_cut_again() -> None:
    line = Frame(7, b'{"a":1}{"b":"}"} {"c":[]}')
    assert [piece.data for piece in frame_again(line)] == [b'{"a":1}', b'{"b":"}"}', b'{"c":[]}']
    assert all(piece.line == 7 and piece.certain for piece in frame_again(line))
    assert [piece.data for piece in frame_again(Frame(1, b'{"a":1}{'))] == [b'{"a":1}', b""]
    assert frame_again(Frame(1, b'{"a":1}')) == [Frame(1, b'{"a":1}')]


PIECES = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\0", b"\xff", b"null", b"1e9"]


def mutated(data: bytes, random: Random) -> bytes:
    """Return bytes with a few places overwritten, cut out, doubled or filled."""
    for _ in range(random.randint(1, 5)):
        start = random.randrange(len(data) + 1)
        end = min(len(data), start + random.choice([0, 1, 2, 30, 500]))
        cut = data[start:end]
        new = random.choice([b"", cut * 2, random.choice(PIECES), random.randbytes(3), cut[::-1]])
        data = data[:start] + new + data[end:]
    return data


def fuzz(seed: int, rounds: int) -> None:
    random = Random(seed)  # noqa: S311 - chance, not a secret
    text = b"".join(map(encode_legacy, EVENTS[:6]))
    sources = [*(data[:40_000] for data in FORMS.values()), text]
    for _ in range(rounds):
        problems: list[Problem] = []
        data = mutated(random.choice(sources), random)
        for event in read_events(io.BytesIO(data), "f", on_problem=problems.append):
            try:
                encode(event)
                encode_legacy(event)
            except EncodeError:
                continue
        assert all(len(str(problem)) < 500 for problem in problems)
        assert all(str(problem).isprintable() for problem in problems)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_comes_in_events_and_problems_come_out(seed: int) -> None:
    fuzz(seed, 60)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 140))
def test_whatever_comes_in_for_a_long_time(seed: int) -> None:
    fuzz(seed, 1500)
