"""The JSON of events: upstream's bytes, laws, and what only other tools or old servers write."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_strategies import EVENTS
from kubewitness.codec import compact, decode, decode_all, encode, encode_list
from kubewitness.codec.decode import _decode_patiently
from kubewitness.codec.grammar import check, tighten
from kubewitness.errors import DecodeError, EncodeError
from kubewitness.event import NO_OBJECT, Event, ObjectReference, Status, StatusDetails, UserInfo
from vectors import POLICIES, cluster_log, recorded

HEAD = b'{"kind":"Event","apiVersion":"audit.k8s.io/v1",'
TAIL = b',"requestReceivedTimestamp":null,"stageTimestamp":null}\n'


def head(text: bytes) -> bytes:
    """Return an event's line from the members after apiVersion."""
    return HEAD + text


def members(event: Event) -> bytes:
    """Return the members of an otherwise empty event that come after its user."""
    start = head(b'"level":"","auditID":"","stage":"","requestURI":"","verb":"","user":{}')
    line = encode(event)
    assert line.startswith(start)
    assert line.endswith(TAIL)
    return line.removeprefix(start).removesuffix(TAIL)


@pytest.mark.parametrize("name", POLICIES)
def test_every_recorded_line_comes_back_as_it_was(name: str) -> None:
    for line in recorded(f"{name}.events.jsonl").split(b"\n")[:-1]:
        assert encode(decode(line)) == line + b"\n"


def test_both_ways_of_decoding_agree_on_a_cluster() -> None:
    for line in cluster_log().split(b"\n")[:-1:40]:
        event = decode(line)
        assert encode(event) == line + b"\n"
        assert _decode_patiently(line) == [event]


def test_an_empty_event() -> None:
    assert encode(Event()) == (
        b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"","auditID":"","stage":"",'
        b'"requestURI":"","verb":"","user":{},"requestReceivedTimestamp":null,'
        b'"stageTimestamp":null}\n'
    )


def test_a_typical_event() -> None:
    event = Event(
        level="Metadata",
        audit_id="my-id",
        stage="ResponseComplete",
        request_uri="/api/v1/namespaces/ns1/pods/p1?x=<a>&b=1",
        verb="get",
        user=UserInfo(
            username="alice",
            uid="u-1",
            groups=("devs", "system:authenticated"),
            extra={"example.com/z": ("1", "2"), "a": None},
        ),
        source_ips=("1.2.3.4", "127.0.0.1"),
        user_agent="ua/1",
        object_ref=ObjectReference(resource="pods", namespace="ns1", name="p1", api_version="v1"),
        response_status=Status(code=200),
        request_received_timestamp="2026-11-24T00:30:46.436714Z",
        stage_timestamp="2026-11-24T00:30:46.437198Z",
        annotations={
            "authorization.k8s.io/reason": "because",
            "authorization.k8s.io/decision": "allow",
        },
    )
    assert encode(event) == (
        b'{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"my-id",'
        b'"stage":"ResponseComplete","requestURI":"/api/v1/namespaces/ns1/pods/p1?x=\\u003ca\\u003e'
        b'\\u0026b=1","verb":"get","user":{"username":"alice","uid":"u-1","groups":["devs",'
        b'"system:authenticated"],"extra":{"a":null,"example.com/z":["1","2"]}},"sourceIPs":'
        b'["1.2.3.4","127.0.0.1"],"userAgent":"ua/1","objectRef":{"resource":"pods","namespace":'
        b'"ns1","name":"p1","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200},'
        b'"requestReceivedTimestamp":"2026-11-24T00:30:46.436714Z","stageTimestamp":'
        b'"2026-11-24T00:30:46.437198Z","annotations":{"authorization.k8s.io/decision":"allow",'
        b'"authorization.k8s.io/reason":"because"}}\n'
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<>&", b"\\u003c\\u003e\\u0026"),
        ("\u2028\u2029", b"\\u2028\\u2029"),
        ('"\\/', b'\\"\\\\/'),
        ("\b\f\n\r\t", b"\\b\\f\\n\\r\\t"),
        ("\x00\x1f\x7f", b"\\u0000\\u001f\x7f"),
        ("é日😀", "é日😀".encode()),
        ("a\udcffb\udc80", b"a\\ufffdb\\ufffd"),
        ("\ufffd\udcff", b"\xef\xbf\xbd\\ufffd"),
        ("\ufdd0\udcff", b"\xef\xb7\x90\\ufffd"),
    ],
)
def test_strings_are_escaped_as_go_does(text: str, written: bytes) -> None:
    assert members(Event(user_agent=text)) == b',"userAgent":"' + written + b'"'


def test_broken_text_anywhere_in_an_event() -> None:
    bad = "\udcff"
    event = Event(
        audit_id=bad,
        user=UserInfo(username=bad, groups=(bad,), extra={bad: (bad, "x"), "n": None}),
        request_object=msgspec.Raw(b'{"a":1}'),
        annotations={"k": bad},
    )
    line = encode(event)

    assert line.count(b"\\ufffd") == 6
    assert b'"requestObject":{"a":1}' in line
    json.loads(line)


@pytest.mark.parametrize(
    ("event", "written"),
    [
        (Event(object_ref=ObjectReference()), b',"objectRef":{}'),
        (Event(impersonated_user=UserInfo()), b',"impersonatedUser":{}'),
        (
            Event(response_status=Status(details=StatusDetails())),
            b',"responseStatus":{"metadata":{},"details":{}}',
        ),
        (Event(response_status=Status()), b',"responseStatus":{"metadata":{}}'),
        (Event(source_ips=()), b""),
        (Event(request_object=msgspec.Raw(b"null")), b""),
        (Event(request_object=msgspec.Raw(b'""')), b',"requestObject":""'),
    ],
)
def test_what_is_left_out_and_what_is_not(event: Event, written: bytes) -> None:
    assert members(event) == written


@pytest.mark.parametrize(
    ("document", "written"),
    [
        (
            b'{ "b" : 1.0e5 , "a":"<\\/", "a":[ ] }\n',
            b'{"b":1.0e5,"a":"\\u003c\\/","a":[]}',
        ),
        (b"12345678901234567890123", b"12345678901234567890123"),
        (b' [1,\t2,\r\n{"x y" : " z "}] ', b'[1,2,{"x y":" z "}]'),
        (b'"\\u003c\\ud83d\\ude00"', b'"\\u003c\\ud83d\\ude00"'),
        (b'{"half": "\\ud800"}', b'{"half":"\\ud800"}'),
        (b'"\xe2\x80\xa8 & \xff"', b'"\\u2028 \\u0026 \xff"'),
        (b"[" * 5000 + b" 1 " + b"]" * 5000, b"[" * 5000 + b"1" + b"]" * 5000),
    ],
)
def test_recorded_objects_are_compacted_and_nothing_else(document: bytes, written: bytes) -> None:
    event = Event(response_object=msgspec.Raw(document))

    assert members(event) == b',"responseObject":' + written


@pytest.mark.parametrize(
    "document",
    [
        b"{",
        b"a: b",
        b"{} {}",
        b"NaN",
        b"01",
        b'{"a":1,}',
        b"[1 2]",
        b'"\x01"',
        b'"\\x"',
        b"[}",
        b" ",
    ],
)
def test_what_is_not_json_cannot_be_written(document: bytes) -> None:
    with pytest.raises(EncodeError, match="not JSON"):
        encode(Event(request_object=msgspec.Raw(document)))
    with pytest.raises(EncodeError, match="not JSON"):
        compact(document)


@pytest.mark.parametrize(
    ("time", "written"),
    [
        ("2020-01-02T03:04:05.123456999+01:00", b"2020-01-02T02:04:05.123456Z"),
        ("0001-01-01T00:00:00.000Z", b"null"),
        ("2020-01-02T03:04:05Z", b"2020-01-02T03:04:05.000000Z"),
        ("2020-01-02T03:04:05.123456789Z", b"2020-01-02T03:04:05.123456Z"),
    ],
)
def test_times_are_written_in_utc_microseconds(time: str, written: bytes) -> None:
    line = encode(Event(stage_timestamp=time))

    value = written if written == b"null" else b'"' + written + b'"'
    assert b'"stageTimestamp":' + value in line


def test_a_time_that_is_none_cannot_be_written() -> None:
    with pytest.raises(EncodeError, match="noon"):
        encode(Event(stage_timestamp="noon"))


def test_an_event_list() -> None:
    events = [Event(audit_id="a"), Event(audit_id="b")]
    item = encode(events[0]).removeprefix(HEAD).strip()
    data = encode_list(events)

    assert data.startswith(
        b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[{' + item
    )
    assert data.endswith(b"}]}\n")
    assert decode_all(data) == events
    assert decode_all(encode_list([])) == []


def plain(event: Event) -> Event:
    """Return an event as it is after a round: absent values in their one form."""
    empty = (b"", b"null")
    return msgspec.structs.replace(
        event,
        request_object=NO_OBJECT if bytes(event.request_object) in empty else event.request_object,
        response_object=NO_OBJECT
        if bytes(event.response_object) in empty
        else event.response_object,
    )


def same(first: Event, second: Event) -> bool:
    """Compare events; recorded objects by what they say, for escapes may differ in spelling."""
    objects = ("request_object", "response_object")
    for name in objects:
        texts = [bytes(getattr(event, name)) for event in (first, second)]
        if texts[0] != texts[1] and json.loads(texts[0]) != json.loads(texts[1]):
            return False
    blank = dict.fromkeys(objects, NO_OBJECT)
    return msgspec.structs.replace(first, **blank) == msgspec.structs.replace(second, **blank)


@given(EVENTS)
def test_decode_undoes_encode(event: Event) -> None:
    line = encode(event)
    (patient,) = _decode_patiently(line)

    assert same(decode(line), plain(event))
    assert same(patient, plain(event))
    assert encode(decode(line)) == line
    assert encode(patient) == line


@given(st.lists(EVENTS, max_size=3))
def test_lists_decode_to_what_they_were_made_of(events: list[Event]) -> None:
    data = encode_list(events)

    assert [encode(event) for event in decode_all(data)] == [encode(event) for event in events]
    assert encode_list(_decode_patiently(data)) == data


SCALARS = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.recursive(SCALARS, st.lists).map(json.dumps))
def test_the_grammar_accepts_json(text: str) -> None:
    check(text.encode())
    assert json.loads(tighten(text.encode())) == json.loads(text)


@given(st.text(alphabet='[]{}",:\\u0123truefalsn.eE+- \n\x00', max_size=12))
def test_the_grammar_refuses_what_is_not_json(text: str) -> None:
    try:
        json.loads(text, parse_constant=int)  # int("NaN") is a ValueError
        is_json = True
    except ValueError:
        is_json = False
    try:
        check(text.encode())
        accepted = True
    except DecodeError:
        accepted = False
    assert accepted == is_json


OLD = {
    "metadata": {"creationTimestamp": "2018-01-02T03:04:06Z"},
    "level": "Metadata",
    "timestamp": "2018-01-02T03:04:05Z",
    "auditID": "id",
    "stage": "ResponseComplete",
    "requestURI": "/x",
    "verb": "get",
    "user": {"username": "ann", "groups": None},
    "objectRef": {"resource": "deployments", "apiVersion": "apps/v1"},
    "requestReceivedTimestamp": None,
    "responseObject": {"b": 1, "a": 2},
}


def old(version: str, **changes: Any) -> bytes:
    document = {"kind": "Event", "apiVersion": f"audit.k8s.io/{version}", **OLD, **changes}
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("version", "group", "api_version"), [("v1beta1", "", "apps/v1"), ("v1alpha1", "apps", "v1")]
)
def test_old_versions(version: str, group: str, api_version: str) -> None:
    event = decode(old(version))

    assert event.request_received_timestamp == "2018-01-02T03:04:05Z"
    assert event.stage_timestamp == "2018-01-02T03:04:06Z"
    assert event.object_ref == ObjectReference(
        resource="deployments", api_group=group, api_version=api_version
    )
    assert b'"responseObject":{"b":1,"a":2}' in encode(event)
    assert b'"stageTimestamp":"2018-01-02T03:04:06.000000Z"' in encode(event)


def test_old_events_that_have_the_new_times_keep_them() -> None:
    time = "2018-01-02T03:04:05.123456Z"
    event = decode(old("v1beta1", requestReceivedTimestamp=time, stageTimestamp=time))

    assert (event.request_received_timestamp, event.stage_timestamp) == (time, time)


@pytest.mark.parametrize(
    ("text", "event"),
    [
        (b'"verb":null,"user":null,"sourceIPs":null}', Event()),
        (b'"user":{"groups":[null],"extra":{"a":null,"b":[null]}}}', None),
        (b'"annotations":{"a":null}}', Event(annotations={"a": ""})),
        (b'"requestObject":null}', Event()),
        (b'"userAgent":"\xff\xfe"}', Event(user_agent="\ufffd\ufffd")),
        (b'"userAgent":"\\ud800x"}', Event(user_agent="\ufffdx")),
        (b'"userAgent":"\\ud83d\\ude00"}', Event(user_agent="😀")),
        (b'"verb":"a","verb":"b"}', Event(verb="b")),
        (b'"unknown":{"a":[1]},"verb":"a"}', Event(verb="a")),
        (b'"stageTimestamp":"2018-01-02T03:04:05+01:00"}', None),
    ],
)
def test_what_go_reads_is_read(text: bytes, event: Event | None) -> None:
    found = decode(head(text))

    assert event is None or found == event
    encode(found)


def test_null_lists_in_extra_are_kept() -> None:
    found = decode(head(b'"user":{"groups":[null],"extra":{"a":null,"b":[null]}}}'))

    assert found.user == UserInfo(groups=("",), extra={"a": None, "b": ("",)})


@pytest.mark.parametrize(
    "document",
    [
        b'{"a":"\\ud800"}',
        b'{"a":"\xff\xe2\x80"}',
        b"[" * 20_000 + b"]" * 20_000,
        b'{"b":1,"a":2,"b":1.50}',
    ],
)
def test_recorded_objects_are_taken_over_as_bytes(document: bytes) -> None:
    line = head(b'"level":"Request","auditID":"x","requestObject":' + document + b"}")

    event = decode(line)
    assert bytes(event.request_object) == document
    assert b'"requestObject":' + document in encode(event)


def test_members_in_any_order_and_with_blanks() -> None:
    line = cluster_log().split(b"\n")[0]
    document = json.loads(line)
    turned = dict(reversed(document.items()))

    assert decode(json.dumps(turned, indent=2).encode()) == decode(line)
    assert decode(b"\xef\xbb\xbf" + line) == decode(line)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"7",
        b"null",
        b'{"kind":"Event","apiVersion":"v1","auditID":"x","stage":"y"}',
        b'{"kind":"Event","apiVersion":"events.k8s.io/v1"}',
        b'{"kind":"Event","apiVersion":"audit.k8s.io/v2"}',
        b'{"kind":"Policy","apiVersion":"audit.k8s.io/v1"}',
        b'{"kind":"List","apiVersion":"v1","items":[{"kind":"Pod","apiVersion":"v1"}]}',
        b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":{}}',
        head(b'"level":1}'),
        head(b'"level":"a"} x'),
        head(b'"user":[]}'),
        head(b'"stageTimestamp":"2018-13-02T03:04:05Z"}'),
        head(b'"responseStatus":{"code":"200"}}'),
        head(b'"level":' + b"[" * 100_000),
        head(b'"requestObject":{nope}}'),
    ],
)
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError) as refused:
        decode(data)
    assert len(str(refused.value)) < 400


def test_items_without_kind_are_events_when_they_look_like_one() -> None:
    assert decode(b'{"auditID":"x","stage":"Panic"}') == Event(audit_id="x", stage="Panic")
    assert decode_all(b'[{"auditID":"x","stage":"Panic"}]') == [Event(audit_id="x", stage="Panic")]


def test_a_v1_list_of_events() -> None:
    line = cluster_log().split(b"\n")[0]
    data = b'{"apiVersion":"v1","items":[' + line + b'],"kind":"List","metadata":{}}'

    assert decode_all(data) == [decode(line)]


@pytest.mark.parametrize("zero", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"])
def test_the_zero_time_is_written_as_null(zero: str) -> None:
    event = Event(request_received_timestamp=zero, stage_timestamp=zero)
    assert encode(event) == encode(Event())


def test_text_that_was_not_utf8_is_written_whatever_else_the_event_holds() -> None:
    every = "".join(map(chr, range(0xFDD0, 0xFDF0))) + "\x00\ue000\ufffd"
    event = Event(verb=every + "\udc80", request_object=msgspec.Raw(f'"{every[:32]}"'.encode()))
    expected = (every + "?").encode().replace(b"\0", b"\\u0000").replace(b"?", b"\\ufffd")
    assert b'"verb":"' + expected + b'"' in encode(event)
    assert b'"requestObject":"' + every[:32].encode() + b'"' in encode(event)


def test_keys_that_were_not_utf8_are_in_the_order_of_their_bytes() -> None:
    values = {"\u00e9": "3", "\udc80": "2", "a": "1", "\ue000": "4"}
    extra: dict[str, tuple[str, ...] | None] = {name: (each,) for name, each in values.items()}
    line = encode(Event(annotations=values, user=UserInfo(extra=extra)))
    assert list(json.loads(line)["annotations"].values()) == ["1", "2", "3", "4"]
    assert list(json.loads(line)["user"]["extra"].values()) == [["1"], ["2"], ["3"], ["4"]]


_BLANKS = st.text(alphabet=" \t\r\n", max_size=2).map(str.encode)
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s"{}\[\],:]+|[{}\[\],:]')


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(alphabet='a ,:{}[]"\\\n', max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(" ,:a", max_size=3), inner)
        ),
        max_leaves=6,
    ),
    data=st.data(),
)
def test_white_space_between_tokens_and_only_there_is_left_out(
    value: object, data: st.DataObject
) -> None:
    tight = msgspec.json.encode(value)
    loose = b"".join(
        data.draw(_BLANKS) + token + data.draw(_BLANKS) for token in _TOKENS.findall(tight)
    )

    written = members(Event(request_object=msgspec.Raw(loose)))
    assert written == (b"" if value is None else b',"requestObject":' + tight)


@pytest.mark.parametrize("user_agent", ["", "\udcff"])
@pytest.mark.parametrize(
    "fields",
    [
        {"annotations": {1: "a"}},
        {"request_object": {"a": 1}},
        {"request_received_timestamp": 17},
        {"user": object()},
    ],
)
def test_a_field_of_a_wrong_type_is_told(user_agent: str, fields: dict[str, Any]) -> None:
    with pytest.raises(EncodeError, match=r"wrong type|not JSON"):
        encode(Event(user_agent=user_agent, **fields))
