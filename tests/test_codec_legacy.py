"""The text logs: every recorded line, the laws of both formats, what is refused and why."""

import itertools
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubewitness.codec.legacy import (
    MAX_REQUESTS,
    Dialect,
    LegacyReader,
    TwoLineWriter,
    decode_legacy,
    encode_legacy,
)
from kubewitness.codec.times import ZERO_TIME, nano_time
from kubewitness.errors import DecodeError, EncodeError
from kubewitness.event import Event, ObjectReference, Stage, Status, UserInfo
from vectors import POLICIES, recorded, transcript

ALICE = (
    "2026-11-24T00:32:31.925187136Z AUDIT: "
    r'id="d8e3479f-3437-499a-9211-12da201020f0" stage="ResponseComplete" ip="127.0.0.1" '
    r'method="get" user="alice" groups="\"devs\",\"system:authenticated\"" as="bob" '
    r'asgroups="\"g1\",\"g2\",\"system:authenticated\"" user-agent="ua/1" namespace="ns1" '
    'uri="/api/v1/namespaces/ns1/pods/x" response="200"\n'
)
STRANGE = (
    "2020-01-02T03:04:05-01:30 AUDIT: "
    'id="id-x" stage="ResponseComplete" ip="<unknown>" method="get" '
    r'user="\a\v\u00a0\u200b\U0010ffff\u00ad日本" groups="\"a\\\"b\",\"\"" as="u" '
    'asgroups="<lookup>" user-agent="" namespace="<none>" uri="/x" response="0"\n'
)
ASKED = (
    "2017-02-03T10:11:12.5+01:00 AUDIT: "
    'id="6a0f" ip="10.0.0.9" method="POST" user="carol" groups="\\"ops\\"" as="<self>" '
    'asgroups="<lookup>" namespace="web" uri="/api/v1/namespaces/web/pods"\n'
)
ANSWERED = '2017-02-03T10:11:12.75+01:00 AUDIT: id="6a0f" response="201"\n'


def cut(log: bytes) -> list[bytes]:
    return [line + b"\n" for line in log.split(b"\n")[:-1]]


def log_lines(policy: str) -> list[bytes]:
    return cut(recorded(f"{policy}.legacy.log"))


def json_events(policy: str) -> list[Event]:
    return [
        msgspec.json.decode(line, type=Event) for line in cut(recorded(f"{policy}.events.jsonl"))
    ]


def read(log: bytes) -> list[Event]:
    reader = LegacyReader()
    return [reader.decode(line.decode())[0] for line in cut(log)]


def write(events: list[Event]) -> bytes:
    writer = TwoLineWriter()
    return b"".join(map(writer.encode, events))


# One line


def test_the_specification_example_is_read_and_written() -> None:
    event, dialect = decode_legacy(ALICE)
    assert dialect is Dialect.ONE_LINE
    assert event == Event(
        audit_id="d8e3479f-3437-499a-9211-12da201020f0",
        stage="ResponseComplete",
        request_uri="/api/v1/namespaces/ns1/pods/x",
        verb="get",
        user=UserInfo(username="alice", groups=("devs", "system:authenticated")),
        impersonated_user=UserInfo(username="bob", groups=("g1", "g2", "system:authenticated")),
        source_ips=("127.0.0.1",),
        user_agent="ua/1",
        object_ref=ObjectReference(namespace="ns1"),
        response_status=Status(code=200),
        request_received_timestamp="2026-11-24T00:32:31.925187136Z",
    )
    assert encode_legacy(event).decode() == ALICE


def test_the_strange_specification_example_is_read_and_written() -> None:
    event, dialect = decode_legacy(STRANGE)
    assert dialect is Dialect.ONE_LINE
    assert event == Event(
        audit_id="id-x",
        stage="ResponseComplete",
        request_uri="/x",
        verb="get",
        user=UserInfo(
            username="\a\v\u00a0\u200b\U0010ffff\u00ad日本",
            groups=('a"b', ""),
        ),
        impersonated_user=UserInfo(username="u"),
        response_status=Status(code=0),
        request_received_timestamp="2020-01-02T03:04:05-01:30",
    )
    assert encode_legacy(event).decode() == STRANGE


def test_an_empty_event_prints_every_placeholder() -> None:
    line = encode_legacy(Event()).decode()
    assert line == (
        '0001-01-01T00:00:00Z AUDIT: id="" stage="" ip="<unknown>" method="" user="<none>" '
        'groups="<none>" as="<self>" asgroups="<lookup>" user-agent="" namespace="<none>" uri="" '
        'response="<deferred>"\n'
    )
    assert decode_legacy(line) == (Event(), Dialect.ONE_LINE)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_recorded_line_survives(policy: str) -> None:
    for line in log_lines(policy):
        event, dialect = decode_legacy(line.decode())
        assert dialect is Dialect.ONE_LINE
        assert event.level == ""
        assert encode_legacy(event) == line


@pytest.mark.parametrize("policy", POLICIES)
def test_every_recorded_line_survives_without_its_user_agent(policy: str) -> None:
    for line in log_lines(policy):
        before, _, rest = line.partition(b' user-agent="')
        old = before + rest[rest.index(b'" namespace=') + 1 :]
        event, dialect = decode_legacy(old.decode())
        assert dialect is Dialect.ONE_LINE_NO_USER_AGENT
        assert encode_legacy(event, user_agent=False) == old


@pytest.mark.parametrize("policy", POLICIES)
def test_recorded_events_print_as_the_server_printed_them(policy: str) -> None:
    # Two runs of the same requests, one in each format: all but the times and two events agree.
    cases = {case["id"] for case in transcript(policy)}
    printed = {
        (event.audit_id, event.stage): line.partition(b" ")[2]
        for line in log_lines(policy)
        if (event := decode_legacy(line.decode())[0]).audit_id in cases
    }
    ours = {
        (event.audit_id, event.stage): encode_legacy(event).partition(b" ")[2]
        for event in json_events(policy)
        if event.audit_id in cases
    }
    missing = {"cm-patch-badjson", "cm-apply-yaml"} if policy == "all" else set()
    assert {audit_id for audit_id, _ in printed.keys() - ours.keys()} == missing
    assert ours.items() <= printed.items()


def test_a_line_needs_no_newline() -> None:
    assert decode_legacy(ALICE.rstrip("\n")) == decode_legacy(ALICE)


def test_a_user_named_like_no_impersonation_keeps_the_groups() -> None:
    event = Event(impersonated_user=UserInfo(username="<self>", groups=("g",)))
    assert decode_legacy(encode_legacy(event).decode())[0] == event


def test_an_empty_list_of_groups_reads_like_none() -> None:
    line = ALICE.replace(r"\"g1\",\"g2\",\"system:authenticated\"", "")
    event, _ = decode_legacy(line)
    assert event.impersonated_user == UserInfo(username="bob")
    assert b'as="bob" asgroups="<lookup>"' in encode_legacy(event)


def test_a_time_that_is_none_cannot_be_written() -> None:
    event = Event(request_received_timestamp="yesterday", stage_timestamp="yesterday")
    with pytest.raises(EncodeError, match="RFC 3339"):
        encode_legacy(event)
    writer = TwoLineWriter()
    with pytest.raises(EncodeError, match="RFC 3339"):
        writer.encode(msgspec.structs.replace(event, stage=Stage.REQUEST_RECEIVED, verb="get"))
    assert not writer._answered


PLACEHOLDERS = {"<none>", "<self>", "<lookup>", "<unknown>", "<nil>", "<deferred>"}
BYTES = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"])
TEXTS = st.text(st.characters(codec="utf-8") | BYTES | st.sampled_from('"\\\n\r,= ')).filter(
    lambda text: text not in PLACEHOLDERS
)
NAMES = TEXTS.filter(bool)
GROUPS = st.lists(TEXTS, max_size=3).map(tuple)
TIMES = st.sampled_from(
    [None, "2026-11-24T00:24:42.201657Z", "2020-01-02T03:04:05-01:30", "1999-12-31T23:59:59.5Z"]
)
USERS = st.builds(UserInfo, username=NAMES, groups=GROUPS)
EVENTS = st.builds(
    Event,
    audit_id=TEXTS,
    stage=TEXTS | st.sampled_from(Stage),
    request_uri=TEXTS,
    verb=TEXTS,
    user=USERS | st.just(UserInfo()),
    impersonated_user=st.none() | USERS | st.just(UserInfo()),
    source_ips=st.lists(TEXTS, max_size=1).map(tuple),
    user_agent=TEXTS,
    object_ref=st.none() | st.builds(ObjectReference, namespace=NAMES),
    response_status=st.none() | st.builds(Status, code=st.integers(-(2**31), 2**31 - 1)),
    request_received_timestamp=TIMES,
)


@given(EVENTS)
def test_reading_undoes_writing(event: Event) -> None:
    line = encode_legacy(event)
    assert line.count(b"\n") == 1
    read_back, dialect = decode_legacy(line.decode())
    assert dialect is Dialect.ONE_LINE
    assert read_back == msgspec.structs.replace(
        event,
        request_received_timestamp=event.request_received_timestamp
        and nano_time(event.request_received_timestamp),
    )


# Two lines


def test_a_request_line_is_read() -> None:
    event, dialect = decode_legacy(ASKED)
    assert dialect is Dialect.TWO_LINE
    assert event == Event(
        audit_id="6a0f",
        stage=Stage.REQUEST_RECEIVED,
        request_uri="/api/v1/namespaces/web/pods",
        verb="POST",
        user=UserInfo(username="carol", groups=("ops",)),
        source_ips=("10.0.0.9",),
        object_ref=ObjectReference(namespace="web"),
        request_received_timestamp="2017-02-03T10:11:12.5+01:00",
        stage_timestamp="2017-02-03T10:11:12.5+01:00",
    )


def test_a_response_line_alone_is_read() -> None:
    orphan = Event(
        audit_id="6a0f",
        stage=Stage.RESPONSE_COMPLETE,
        response_status=Status(code=201),
        stage_timestamp="2017-02-03T10:11:12.75+01:00",
    )
    assert decode_legacy(ANSWERED) == (orphan, Dialect.TWO_LINE)
    assert LegacyReader().decode(ANSWERED) == (orphan, Dialect.TWO_LINE)
    assert write([orphan]).decode() == ANSWERED


def test_a_reader_joins_the_two_lines() -> None:
    reader = LegacyReader()
    request, _ = reader.decode(ASKED)
    reader.decode(ASKED.replace("6a0f", "other"))
    joined, dialect = reader.decode(ANSWERED)
    assert dialect is Dialect.TWO_LINE
    assert joined == msgspec.structs.replace(
        request,
        stage=Stage.RESPONSE_COMPLETE,
        response_status=Status(code=201),
        stage_timestamp="2017-02-03T10:11:12.75+01:00",
    )
    again, _ = reader.decode(ANSWERED)  # one answer to each request
    assert again.request_uri == ""


def test_a_reader_passes_one_line_events_through() -> None:
    reader = LegacyReader()
    reader.decode(ASKED)
    assert reader.decode(ALICE) == decode_legacy(ALICE)


def test_a_reader_goes_on_after_a_bad_line() -> None:
    reader = LegacyReader()
    reader.decode(ASKED)
    with pytest.raises(DecodeError):
        reader.decode("garbage\n")
    assert reader.decode(ANSWERED)[0].verb == "POST"


def test_the_placeholders_of_two_lines() -> None:
    line = (
        '0001-01-01T00:00:00Z AUDIT: id="" ip="<nil>" method="GET" user="<none>" groups="<none>" '
        'as="<self>" asgroups="<lookup>" namespace="<none>" uri="/"\n'
    )
    event, _ = decode_legacy(line)
    assert event == Event(stage=Stage.REQUEST_RECEIVED, verb="GET", request_uri="/")
    assert write([event]).decode() == line


def test_groups_impersonated_without_a_name() -> None:
    line = ASKED.replace('"<lookup>"', r'"\"g\""')
    event, _ = decode_legacy(line)
    assert event.impersonated_user == UserInfo(groups=("g",))
    assert write([event]).decode() == line


def two_line_log(policy: str) -> list[bytes]:
    """Return the recorded events as two lines each, the answers some lines late."""
    lines = cut(write(json_events(policy)))
    late = {place: place + 1 + place % 7 * 3 for place in range(len(lines))}
    order = sorted(late, key=lambda place: late[place] if b" response=" in lines[place] else place)
    return [lines[place] for place in order]


@pytest.mark.parametrize("policy", POLICIES)
def test_recorded_events_survive_as_two_lines(policy: str) -> None:
    lines = two_line_log(policy)
    asked = [b" uri=" in line for line in lines]
    assert (True, True) in itertools.pairwise(asked)
    assert (False, False) in itertools.pairwise(asked)
    assert write(read(b"".join(lines))) == b"".join(lines)


@pytest.mark.parametrize("policy", POLICIES)
def test_each_recorded_request_is_asked_and_answered_once(policy: str) -> None:
    events = json_events(policy)
    requests = {(e.audit_id, e.request_received_timestamp) for e in events}
    answered = {(e.audit_id, e.request_received_timestamp) for e in events if e.response_status}
    lines = two_line_log(policy)
    assert sum(b" uri=" in line for line in lines) == len(requests)
    assert sum(b" response=" in line for line in lines) == len(answered)


@pytest.mark.parametrize("policy", POLICIES)
def test_orphans_and_unanswered_requests_survive(policy: str) -> None:
    lines = [line for line in two_line_log(policy) if zlib.crc32(line) % 10 < 7]
    events = read(b"".join(lines))
    assert any(not event.request_uri for event in events)
    assert write(events) == b"".join(lines)


POOL = [line for policy in ("features", "gce") for line in two_line_log(policy)[:40]]


@given(st.lists(st.sampled_from(POOL)))
def test_any_order_of_lines_survives(lines: list[bytes]) -> None:
    assert write(read(b"".join(lines))) == b"".join(lines)


ASKING = Event(
    audit_id="a",
    stage=Stage.REQUEST_RECEIVED,
    verb="create",
    request_uri="/api/v1/namespaces/n/pods",
    object_ref=ObjectReference(namespace="n"),
    request_received_timestamp="2026-11-24T00:00:01.000000Z",
    stage_timestamp="2026-11-24T00:00:01.000000Z",
)
STARTED = msgspec.structs.replace(
    ASKING,
    stage=Stage.RESPONSE_STARTED,
    response_status=Status(code=200),
    stage_timestamp="2026-11-24T00:00:02.000000Z",
)
COMPLETE = msgspec.structs.replace(STARTED, stage=Stage.RESPONSE_COMPLETE)
PANICKED = msgspec.structs.replace(STARTED, stage=Stage.PANIC)


@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        ([ASKING], ["request"]),
        ([ASKING, COMPLETE], ["request", "response"]),
        ([ASKING, STARTED, COMPLETE], ["request", "response", ""]),
        ([ASKING, STARTED, PANICKED], ["request", "response", ""]),
        ([ASKING, PANICKED], ["request", "response"]),
        ([COMPLETE], ["request+response"]),
        ([STARTED, COMPLETE], ["request+response", ""]),
        (
            [ASKING, msgspec.structs.replace(STARTED, response_status=None), COMPLETE],
            ["request", "", "response"],
        ),
        ([msgspec.structs.replace(COMPLETE, response_status=None)], ["request"]),
        (
            [ASKING, msgspec.structs.replace(COMPLETE, request_received_timestamp=ZERO_TIME)],
            ["request", "request+response"],
        ),
        ([Event(audit_id="a", stage=Stage.PANIC)], [""]),
    ],
)
def test_which_stages_write_which_lines(events: list[Event], kinds: list[str]) -> None:
    writer = TwoLineWriter()
    for event, kind in zip(events, kinds, strict=True):
        lines = writer.encode(event).decode().splitlines()
        seen = ["request" if " uri=" in line else "response" for line in lines]
        assert "+".join(seen) == kind


def test_each_line_has_its_own_time_or_the_other() -> None:
    lines = TwoLineWriter().encode(COMPLETE).splitlines()
    assert [line[:20] for line in lines] == [b"2026-11-24T00:00:01Z", b"2026-11-24T00:00:02Z"]
    late = msgspec.structs.replace(COMPLETE, request_received_timestamp=None)
    lines = TwoLineWriter().encode(late).splitlines()
    assert [line[:20] for line in lines] == [b"2026-11-24T00:00:02Z"] * 2
    early = msgspec.structs.replace(COMPLETE, stage_timestamp=None)
    lines = TwoLineWriter().encode(early).splitlines()
    assert [line[:20] for line in lines] == [b"2026-11-24T00:00:01Z"] * 2


@pytest.mark.parametrize(
    ("verb", "uri", "method"),
    [
        ("get", "/api/v1/nodes/n", "GET"),
        ("list", "/api/v1/nodes", "GET"),
        ("watch", "/apis/apps/v1/deployments", "GET"),
        ("proxy", "/api/v1/proxy/nodes/n", "GET"),
        ("create", "/api/v1/nodes", "POST"),
        ("update", "/api/v1/nodes/n", "PUT"),
        ("patch", "/api/v1/nodes/n", "PATCH"),
        ("delete", "/api/v1/nodes/n", "DELETE"),
        ("deletecollection", "/api/v1/nodes", "DELETE"),
        ("PROPFIND", "/api/v1/nodes", "PROPFIND"),
        ("get", "/healthz", "GET"),
        ("post", "/version", "POST"),
        ("watch", "/healthz", "WATCH"),  # outside resources a verb is a method
    ],
)
def test_methods_are_found_from_verbs(verb: str, uri: str, method: str) -> None:
    event = Event(stage=Stage.REQUEST_RECEIVED, verb=verb, request_uri=uri)
    assert f' method="{method}" '.encode() in TwoLineWriter().encode(event)


def test_a_reference_marks_a_resource_request() -> None:
    event = msgspec.structs.replace(ASKING, verb="watch", request_uri="/elsewhere")
    assert b' method="GET" ' in TwoLineWriter().encode(event)


def test_the_reader_forgets_the_oldest_request() -> None:
    reader = LegacyReader(max_requests=3)
    for number in range(10):
        reader.decode(ASKED.replace("6a0f", str(number)))
    assert len(reader._requests) == 3
    found = [
        reader.decode(ANSWERED.replace("6a0f", str(number)))[0].verb == "POST"
        for number in range(10)
    ]
    assert found == [False] * 7 + [True] * 3
    assert not reader._requests


def test_the_writer_forgets_the_request_unused_for_longest() -> None:
    writer = TwoLineWriter(max_requests=3)
    for name in ("x", "y", "z"):
        writer.encode(msgspec.structs.replace(ASKING, audit_id=name))
    writer.encode(msgspec.structs.replace(STARTED, audit_id="x"))
    writer.encode(msgspec.structs.replace(ASKING, audit_id="w"))
    assert [audit_id for audit_id, _ in writer._answered] == ["z", "x", "w"]
    assert writer.encode(msgspec.structs.replace(COMPLETE, audit_id="y")).count(b"\n") == 2
    assert writer.encode(msgspec.structs.replace(COMPLETE, audit_id="x")) == b""


def test_answered_requests_are_forgotten_at_once() -> None:
    reader, writer = LegacyReader(), TwoLineWriter()
    for number in range(1000):
        writer.encode(reader.decode(ASKED.replace("6a0f", str(number)))[0])
        writer.encode(reader.decode(ANSWERED.replace("6a0f", str(number)))[0])
    assert not reader._requests
    assert not writer._answered


def test_the_bound_holds_for_endless_unanswered_requests() -> None:
    writer = TwoLineWriter()
    for number in range(MAX_REQUESTS + 500):
        writer.encode(msgspec.structs.replace(ASKING, audit_id=str(number)))
    assert len(writer._answered) == MAX_REQUESTS


# Refusals


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "it starts with ''"),
        ("\n", "it starts with"),
        ('{"kind":"Event"}\n', "it starts with"),
        (ALICE[:30], "it starts with"),
        (ALICE[:200], "from column 198 on"),
        (ALICE.replace("\n", " \n"), "from column 333 on"),
        (ALICE + "\n", "from column"),
        (ALICE + ALICE, "from column"),
        (ALICE.replace("alice", 'al"ice'), "from column"),
        (ALICE.replace("alice", "al\nice"), "from column"),
        (ALICE.replace(' response="200"', ""), "it ends before the key response"),
        ("2026-11-24T00:32:31Z AUDIT:", "it ends before the key id"),
        ('2026-11-24T00:32:31Z AUDIT: id="x"', "it ends before the key stage"),
        (ASKED.replace(' uri="/api/v1/namespaces/web/pods"', ""), "ends before the key uri"),
        (ALICE.replace(" uri=", " url="), "unknown key url"),
        (ALICE.replace("\n", ' level="x"\n'), "unknown key level"),
        (ALICE.replace(' method="get"', ""), "no dialect has these keys"),
        (ALICE.replace("alice", r"al\qice"), r"bad escape or bare quote near 'al"),
        (ALICE.replace("alice", r"al\ud800ice"), "bad escape"),
        (ALICE.replace(r"\"devs\",", r"\"devs\""), "not part of a list"),
        (ALICE.replace('"bob" asgroups="', '"bob" asgroups="g'), "not part of a list"),
        (ALICE.replace("2026-11-24", "2026-11-31"), "not a date and time"),
        (ALICE.replace("2026-11-24T", "yesterday"), "not an RFC 3339 time"),
        (ALICE.replace('"200"', '"OK"'), 'response="OK" is no status code'),
        (ALICE.replace('"200"', '"٢٠٠"'), "is no status code"),
        (ALICE.replace('"200"', '""'), "is no status code"),
        (ALICE.replace('"200"', '"20000000000"'), "is no status code"),
        (ANSWERED.replace('"201"', '"<deferred>"'), "is no status code"),
        (ANSWERED.replace("10:11", "10:61"), "not a date and time"),
        (ASKED.replace("+01:00", "+25:00"), "not an RFC 3339 time"),
    ],
)
def test_a_refusal_says_why(line: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=r"^not a legacy audit line: ") as caught:
        decode_legacy(line)
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "line",
    [
        ALICE[:-2] + ' x="y"' * 200_000,
        "2026-11-24T00:32:31Z AUDIT:" + ' a="b"' * 200_000,
        '2026-11-24T00:32:31Z AUDIT: id="' + r"\"" * 500_000,
        ALICE.replace("alice", "\\" * 999_999),
        "x" * 1_000_000,
    ],
)
def test_a_hostile_line_is_refused_in_one_pass(line: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_legacy(line)
    assert len(str(caught.value)) < 300


SEEDS = [ALICE, STRANGE, ASKED, ANSWERED]
PIECES = st.sampled_from(['"', "\\", "\n", " ", "=", ",", '"<none>"', ' id="x"', r"\x9", r"\u00"])
EDITS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 40), PIECES | st.text(max_size=3) | st.just("")),
    min_size=1,
    max_size=3,
)


@given(st.sampled_from(SEEDS), EDITS)
@settings(max_examples=500)
def test_a_damaged_line_is_read_or_refused(line: str, edits: list[tuple[int, int, str]]) -> None:
    for place, length, piece in edits:
        line = line[:place] + piece + line[place + length :]
    try:
        event, dialect = decode_legacy(line)
    except DecodeError:
        return
    assert isinstance(event, Event)
    if dialect is not Dialect.TWO_LINE:
        # A user without a name is written without groups, as upstream writes them.
        user = event.user if event.user.username else UserInfo()
        assert decode_legacy(encode_legacy(event).decode())[0].user == user
