"""Bodies as they go over the wire: what of them gets into events, and what does not."""

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.codec import decode, encode
from kubewitness.event import NO_OBJECT, Event, UserInfo
from kubewitness.policy import load_policy
from kubewitness.recorder import Body, Headers, IncomingRequest, Recorder, RequestAudit, objects
from kubewitness.request import RequestInfo

JSON = "application/json"
PROTOBUF = "application/vnd.kubernetes.protobuf"
MAPS = "/api/v1/namespaces/shop/configmaps"
OBJECT = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"one","uid":"u"}}'
ANN = UserInfo(username="ann")


def opened(level: str, method: str, target: str = MAPS, **settings: Any) -> RequestAudit:
    policy = load_policy(f"apiVersion: audit.k8s.io/v1\nrules: [{{level: {level}}}]\n".encode())
    request = IncomingRequest(
        method=method,
        target=target,
        headers=Headers(()),
        remote_address="192.0.2.1:9",
        received=1_790_000_000_000_000_000,
    )
    audit = Recorder(policy, **settings).receive(request, audit_id="id")
    audit.begin(ANN)
    return audit


def body(data: bytes, kind: str = JSON, encoding: str = "", *, cut: int = 0) -> Body:
    return Body(data, len(data) + cut, kind, encoding, limit=1000)


def ended(audit: RequestAudit, code: int = 200) -> Event:
    return (audit.respond(code, 1) + audit.complete(2))[-1]


def status(code: int, message: str, reason: str = "Failed", **details: str) -> bytes:
    document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    given = {"details": details} if details else {}
    return json.dumps(
        {**document, "message": message, "reason": reason, **given, "code": code}
    ).encode()


def refused(
    audit: RequestAudit, code: int, message: str, reason: str = "Failed", **details: str
) -> Event:
    audit.record_response_body(body(status(code, message, reason, **details)))
    return ended(audit, code)


@pytest.mark.parametrize(
    ("method", "level", "asked"),
    [
        ("POST", "Metadata", "for"),
        ("PUT", "Metadata", "for"),
        ("PATCH", "Metadata", "not for"),
        ("PATCH", "Request", "for"),
        ("DELETE", "Metadata", "not for"),
        ("DELETE", "Request", "for"),
        ("GET", "RequestResponse", "not for"),
        ("HEAD", "RequestResponse", "not for"),
    ],
)
def test_only_bodies_that_may_be_recorded_are_asked_for(
    method: str, level: str, asked: str
) -> None:
    assert opened(level, method, f"{MAPS}/one").keeps_request_body is (asked == "for")


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward", "proxy/x"])
def test_bodies_that_are_no_objects_are_not_asked_for(subresource: str) -> None:
    pod = "/api/v1/namespaces/shop/pods/web"
    assert not opened("RequestResponse", "POST", "/version").keeps_request_body
    assert not opened("RequestResponse", "POST", f"{pod}/{subresource}").keeps_request_body
    assert opened("RequestResponse", "POST", f"{pod}/eviction").keeps_request_body


@pytest.mark.parametrize(
    ("level", "method", "code", "kind", "asked"),
    [
        ("Metadata", "GET", 200, JSON, "not for"),
        ("Metadata", "GET", 404, JSON, "for"),
        ("Metadata", "GET", 404, "text/plain", "not for"),
        ("Metadata", "DELETE", 200, JSON, "for"),
        ("Metadata", "POST", 201, JSON, "for"),
        ("RequestResponse", "GET", 200, JSON, "for"),
        ("RequestResponse", "GET", 200, PROTOBUF, "for"),
        ("RequestResponse", "GET", 200, "application/yaml", "for"),
        ("RequestResponse", "GET", 200, "text/plain", "not for"),
        ("None", "GET", 404, JSON, "not for"),
    ],
)
def test_only_answers_that_may_be_recorded_are_asked_for(
    level: str, method: str, code: int, kind: str, asked: str
) -> None:
    assert opened(level, method, f"{MAPS}/one").keeps_response_body(code, kind) is (asked == "for")


def test_an_object_of_the_client_completes_the_reference_and_is_recorded() -> None:
    audit = opened("Request", "POST")
    audit.record_request_body(body(OBJECT))
    event = ended(audit, 201)

    assert event.object_ref is not None
    assert (event.object_ref.name, event.object_ref.uid) == ("one", "u")
    assert bytes(event.request_object) == OBJECT


def test_the_body_of_a_delete_names_no_object() -> None:
    audit = opened("Request", "DELETE")
    audit.record_request_body(body(b'{"kind":"DeleteOptions","metadata":{"name":"planted"}}'))
    event = ended(audit)

    assert event.object_ref is not None
    assert event.object_ref.name == ""
    assert b"planted" in bytes(event.request_object)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (401, "Unauthorized"),
        (405, "the server does not allow this method on the requested resource"),
        (413, "Request entity too large: limit is 3145728"),
        (415, "the body of the request was in an unknown format"),
        (403, 'pods is forbidden: User "ann" cannot create resource "pods" in API group ""'),
        (404, "the server could not find the requested resource"),
        (400, 'Secret in version "v1" cannot be handled as a ConfigMap: unknown conversion'),
        (400, "the object provided is unrecognized (must be of type ConfigMap): no kind"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_the_server_never_read_is_not_recorded(method: str, code: int, message: str) -> None:
    audit = opened("RequestResponse", method)
    audit.record_request_body(body(OBJECT))
    event = refused(audit, code, message)

    assert event.request_object is NO_OBJECT
    assert event.object_ref is not None
    assert event.object_ref.name == ""
    assert event.response_status is not None
    assert event.response_status.message == message


def test_what_admission_refused_was_read() -> None:
    audit = opened("Request", "POST")
    audit.record_request_body(body(OBJECT))
    event = refused(audit, 403, 'configmaps "one" is forbidden: violates PodSecurity')

    assert bytes(event.request_object) == OBJECT


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (403, 'configmaps "x cannot create resource \\"y\\"" is forbidden: violates PodSecurity'),
        (403, 'configmaps "one" is forbidden: it says: User "x" cannot create resource "y"'),
        (404, 'namespaces "the server could not find the requested resource" not found'),
        (400, 'the name of the object (A in version "v1" cannot be handled as a B) is another'),
        (400, "the name of the object (the object provided is unrecognized (x)) is another"),
    ],
)
def test_a_name_that_reads_like_a_refusal_hides_no_body(code: int, message: str) -> None:
    audit = opened("Request", "POST")
    audit.record_request_body(body(OBJECT))
    assert bytes(refused(audit, code, message).request_object) == OBJECT


def test_a_refusal_of_an_object_with_a_quoted_name_is_known() -> None:
    audit = opened("Request", "PATCH")
    audit.record_request_body(body(OBJECT))
    message = 'configmaps "a\\"b" is forbidden: User "a\\"nn" cannot patch resource "configmaps" in'
    assert refused(audit, 403, message).request_object is NO_OBJECT


@pytest.mark.parametrize("code", [200, 500])
def test_an_impersonation_that_upstream_judged_is_noted_unless_it_refused(code: int) -> None:
    audit = opened("Metadata", "GET")
    audit.impersonate_if_allowed(UserInfo(username="bob"))
    assert ended(audit, code).impersonated_user == UserInfo(username="bob")


def wanting_to_be_bob() -> RequestAudit:
    audit = opened("Metadata", "GET")
    audit.impersonate_if_allowed(UserInfo(username="bob"))
    return audit


AUTHENTICATION = "authentication.k8s.io"


@pytest.mark.parametrize(
    ("verb", "kind", "group", "name"),
    [
        ("impersonate", "users", "", "bob"),
        ("impersonate", "groups", "", 'o"p\\s'),
        ("impersonate", "serviceaccounts", "", "robot"),
        ("impersonate", "userextras", AUTHENTICATION, "edit"),
        ("impersonate:user-info", "users", AUTHENTICATION, "kubernetes-admin"),
        ("impersonate:user-info", "uids", AUTHENTICATION, "u-1"),
        ("impersonate:user-info", "groups", AUTHENTICATION, ""),
        ("impersonate:serviceaccount", "serviceaccounts", AUTHENTICATION, "robot"),
        ("impersonate:arbitrary-node", "nodes", AUTHENTICATION, "n1"),
        ("impersonate:associated-node", "nodes", AUTHENTICATION, "*"),
        ("impersonate-on:user-info:create", "pods", "", "web"),
        ("impersonate-on:arbitrary-node:list", "deployments", "apps", ""),
    ],
)
def test_an_impersonation_that_upstream_refused_is_not_noted(
    verb: str, kind: str, group: str, name: str
) -> None:
    what = f"{kind}.{group}" if group else kind
    named = f" {json.dumps(name)}" if name else ""
    message = (
        f'{what}{named} is forbidden: User "an\\"n" cannot {verb} resource "{kind}" in API group'
        f' "{group}" at the cluster scope'
    )
    details = {"name": name, "group": group, "kind": kind}
    event = refused(wanting_to_be_bob(), 403, message, "Forbidden", **details)
    assert event.impersonated_user is None


def test_an_impersonation_refused_for_a_path_is_not_noted() -> None:
    message = 'forbidden: User "ann" cannot impersonate-on:user-info:get path "/metrics"'
    event = refused(wanting_to_be_bob(), 403, message, "Forbidden")
    assert event.impersonated_user is None


WORDS = 'users "x" is forbidden: User "ann" cannot impersonate resource "users" in API group ""'


@pytest.mark.parametrize(
    ("message", "reason", "details"),
    [
        (
            'pods "x cannot impersonate resource y" is forbidden: User "b" cannot get resource "a"',
            "Forbidden",
            {"kind": "pods", "name": "x cannot impersonate resource y"},
        ),
        (f'{WORDS} is forbidden: User "bob" cannot get resource "x"', "Forbidden", {"kind": WORDS}),
        (
            'users "" is forbidden: User "b\\" cannot impersonate resource \\"" cannot get path ""',
            "Forbidden",
            {"kind": "users"},
        ),
        ('forbidden: User "bob" cannot impersonate path "/x"', "Forbidden", {}),
        (WORDS, "Forbidden", {"kind": "pods"}),
        (WORDS, "Forbidden", {"kind": "users", "group": "example.org"}),
        (WORDS, "Forbidden", {}),
        (WORDS, "Invalid", {"kind": "users"}),
        (f"x{WORDS}", "Forbidden", {"kind": "users"}),
    ],
)
def test_a_refusal_that_only_reads_like_one_hides_no_impersonation(
    message: str, reason: str, details: dict[str, str]
) -> None:
    event = refused(wanting_to_be_bob(), 403, message, reason, **details)
    assert event.impersonated_user == UserInfo(username="bob")


def test_nobody_acts_as_another_without_being_known() -> None:
    event = refused(wanting_to_be_bob(), 401, "Unauthorized", "Unauthorized")
    assert event.impersonated_user is None


def test_nobody_acts_as_another_where_upstream_did_not_answer() -> None:
    audit = wanting_to_be_bob()
    audit.withdraw_impersonation()
    assert ended(audit, 502).impersonated_user is None
    assert wanting_to_be_bob().panic("x", 1)[-1].impersonated_user is None


def test_what_was_judged_is_not_withdrawn() -> None:
    audit = opened("Metadata", "GET")
    audit.impersonate(UserInfo(username="bob"))
    audit.withdraw_impersonation()
    assert ended(audit, 502).impersonated_user == UserInfo(username="bob")


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip.compress(OBJECT), "gzip"),
        (gzip.compress(OBJECT), "X-GZIP"),
        (zlib.compress(OBJECT), "deflate"),
        (OBJECT, "identity"),
    ],
)
def test_an_encoded_answer_is_decoded_for_the_record(packed: bytes, encoding: str) -> None:
    audit = opened("RequestResponse", "GET")
    audit.record_response_body(body(packed, encoding=encoding))
    assert bytes(ended(audit).response_object) == OBJECT


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "gzip, br"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_request_hides_nothing_by_an_encoding_that_the_server_does_not_look_at(
    encoding: str, method: str
) -> None:
    audit = opened("Request", method)
    audit.record_request_body(body(OBJECT, encoding=encoding))
    event = ended(audit, 201)

    assert bytes(event.request_object) == OBJECT
    assert event.object_ref is not None
    assert event.object_ref.name == ("one" if method == "POST" else "")
    assert event.annotations == {}


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_request_that_was_encoded_is_decoded(encoding: str) -> None:
    packed = gzip.compress(OBJECT) if encoding == "gzip" else zlib.compress(OBJECT)
    audit = opened("Request", "POST")
    audit.record_request_body(body(packed, encoding=encoding))
    event = ended(audit, 201)

    assert bytes(event.request_object) == OBJECT
    assert event.object_ref is not None
    assert event.object_ref.name == "one"


def test_an_answer_is_what_its_encoding_says() -> None:
    audit = opened("RequestResponse", "GET")
    audit.record_response_body(body(b"k8s\0", PROTOBUF, "br"))
    assert ended(audit).response_object is NO_OBJECT


def test_blanks_before_an_object_do_not_hide_that_there_was_one() -> None:
    audit = opened("Request", "POST")
    audit.record_request_body(body(b" " * 50, cut=45))
    event = ended(audit, 201)

    assert event.annotations == {"kubewitness.io/truncated": "requestObject: the first 50 bytes"}
    assert json.loads(bytes(event.request_object)) == " " * 50


@pytest.mark.parametrize("level", ["Metadata", "Request"])
def test_blanks_alone_are_no_object(level: str) -> None:
    audit = opened(level, "POST")
    audit.record_request_body(body(b" \n"))
    event = ended(audit, 201)
    assert (event.request_object, event.annotations) == (NO_OBJECT, {})

    audit = opened("Metadata", "POST")
    audit.record_request_body(body(b" " * 50, cut=45))
    assert ended(audit, 201).annotations == {}


def nested(levels: int) -> bytes:
    inner = levels - 1
    return b'{"kind":"X","in":' + b"[" * inner + b"]" * inner + b"}"


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_as_deep_as_every_reader_goes_a_document_stays_what_it_is(brackets: str) -> None:
    inner, more = nested(objects.DEEPEST), nested(objects.DEEPEST + 1)
    if brackets == "{}":
        inner, more = (
            each.replace(b"[]", b"0").replace(b"[", b'{"a":').replace(b"]", b"}")
            for each in (inner.replace(b"[]", b"[[]]"), more.replace(b"[]", b"[[]]"))
        )
    assert bytes(objects.recordable(inner)) == inner
    assert json.loads(bytes(objects.recordable(more))) == more.decode()


@pytest.mark.parametrize("levels", [objects.DEEPEST + 1, 2000, 100_000])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_document_nested_deeper_than_readers_go_is_text(levels: int, method: str) -> None:
    data = nested(levels)
    audit = opened("RequestResponse", method)
    audit.record_request_body(body(data))
    audit.record_response_body(body(data))
    event = ended(audit, 201)

    assert json.loads(bytes(event.request_object)) == data.decode()
    assert json.loads(bytes(event.response_object)) == data.decode()
    assert event.annotations == {}
    assert json.loads(encode(event))["auditID"] == "id"

    audit = opened("RequestResponse", "POST")
    audit.record_request_object(data)
    audit.record_response_object(data)
    event = ended(audit, 201)
    assert json.loads(bytes(event.request_object)) == data.decode()
    assert json.loads(bytes(event.response_object)) == data.decode()


@pytest.mark.parametrize(
    "text",
    [
        b'["' + b"[" * 2000 + b'"]',
        b'["' + b'\\"[' * 2000 + b'"]',
        b'["' + b"\\\\" * 3 + b'",' + b"[]," * 2000 + b"0]",
        b'["[","[",' + b'["[","]"],' * 2000 + b"0]",
        b'{"a":[' + b'{"[":"{"},' * 2000 + b"0]}",
    ],
)
def test_what_is_only_wide_is_not_deep(text: bytes) -> None:
    assert bytes(objects.recordable(text)) == text


@given(
    st.recursive(
        st.text('a"\\[]{}', max_size=4) | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"[{\\'), inner),
        max_leaves=30,
    ),
    st.integers(objects.DEEPEST - 4, objects.DEEPEST + 1),
)
def test_depth_is_counted_as_a_reader_of_values_would(value: Any, levels: int) -> None:
    def depth(value: Any) -> int:
        if not isinstance(value, list | dict):
            return 0
        items = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth, items), default=0)

    inner = json.dumps(value, ensure_ascii=False).encode()
    document = b'["\\"",' * levels + inner + b"]" * levels
    assert objects.is_deep(document) is (levels + depth(value) > objects.DEEPEST)


@pytest.mark.parametrize(
    ("sent", "recorded"),
    [
        (b'{"a":"?\xff?\xfe"}', rb'{"a":"?\ufffd?\ufffd"}'),
        (b'{"a":"\xff\xe2\x82"}', rb'{"a":"\ufffd\ufffd\ufffd"}'),
        (b'{"\xc0": "\xc3\xa9"}', '{"\\ufffd":"é"}'.encode()),
        (b'{"a":"\xed\xa0\x80"}', rb'{"a":"\ufffd\ufffd\ufffd"}'),
        (rb'{"a":"\ud800"}', rb'{"a":"\ufffd"}'),
        (rb'{"a":"\udc00\ud83d\ude00\\ud800"}', rb'{"a":"\ufffd\ud83d\ude00\\ud800"}'),
        (b'{"a":"\xff", "b":"\\uD800\\u0041"}', rb'{"a":"\ufffd","b":"\ufffd\u0041"}'),
        (b'{"a": "\xff', '"{\\"a\\": \\"\ufffd"'.encode()),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_is_no_text_in_a_document_is_replaced_as_go_does(
    sent: bytes, recorded: bytes, method: str
) -> None:
    audit = opened("Request", method)
    audit.record_request_body(body(sent))
    event = ended(audit, 201)

    assert bytes(event.request_object) == recorded
    encode(event).decode("utf-8")


@pytest.mark.parametrize("text", [b"a: \xff\n", b"\1\xff", b"k8s\0\xff", b"caf\xc3"])
def test_other_bytes_that_are_no_text_are_left_out(text: bytes) -> None:
    assert objects.recordable(text) is NO_OBJECT


def test_a_long_document_with_a_bad_byte_is_cut_like_any_other() -> None:
    audit = opened("Request", "POST")
    audit.record_request_body(body(b'{"a":"\xff\xe2\x82', cut=9))
    event = ended(audit, 201)

    assert json.loads(bytes(event.request_object)) == '{"a":"\ufffd'
    assert event.annotations == {"kubewitness.io/truncated": "requestObject: the first 9 bytes"}


@pytest.mark.parametrize(
    "data",
    [
        b'{"metadata":{"name":"one","uid":null,"labels":5},"x":[{}]}',
        b'{"metadata":{"name":"one","uid":null},"x":"\xff"}',
        b'{"metadata":{"name":"one","generateName":"\\ud800"},"x":"\\udc00"}',
    ],
)
def test_nothing_beside_it_hides_the_name_of_an_object(data: bytes) -> None:
    reference = objects.reference_of(data)
    assert reference is not None
    assert (reference.name, reference.uid) == ("one", "")


@pytest.mark.parametrize(
    "data", [b"5", b"{}", b'{"metadata":null}', b'{"metadata":{"name":5}}', b'{"metadata":[]}']
)
def test_what_has_no_metadata_names_nothing(data: bytes) -> None:
    assert objects.reference_of(data) is None


@pytest.mark.parametrize(
    ("packed", "encoding", "reason"),
    [
        (b"no gzip\xff", "gzip", "not gzip, as its Content-Encoding says"),
        (b"\x8b\xff", "br", "Content-Encoding br"),
    ],
)
def test_what_cannot_be_decoded_is_left_out(packed: bytes, encoding: str, reason: str) -> None:
    audit = opened("Request", "POST")
    audit.record_request_body(body(packed, encoding=encoding))
    event = ended(audit, 201)

    assert event.request_object is NO_OBJECT
    assert event.annotations == {"kubewitness.io/not-recorded": f"requestObject: {reason}"}


def test_a_decoded_answer_is_bounded_like_any_other() -> None:
    document = b'{"kind":"List","items":["' + b"x" * 1_000_000 + b'"]}'
    audit = opened("RequestResponse", "GET")
    audit.record_response_body(body(gzip.compress(document), encoding="gzip"))
    event = ended(audit)

    assert len(bytes(event.response_object)) < 1100
    assert event.annotations == {"kubewitness.io/truncated": "responseObject: the first 1000 bytes"}


def test_both_bodies_in_protobuf_are_named() -> None:
    audit = opened("RequestResponse", "POST")
    audit.record_request_body(body(b"k8s\0\n\x02v1", PROTOBUF))
    audit.record_response_body(body(b"k8s\0\n\x02v1", PROTOBUF))
    event = ended(audit, 201)

    assert event.request_object is event.response_object is NO_OBJECT
    reasons = event.annotations["kubewitness.io/not-recorded"].split("; ")
    assert sorted(reasons) == [f"requestObject: {PROTOBUF}", f"responseObject: {PROTOBUF}"]


def test_a_list_that_was_cut_is_a_string_of_its_beginning() -> None:
    audit = opened("RequestResponse", "GET")
    data = '{"kind":"ConfigMapList","items":["é'.encode()[:-1]
    audit.record_response_body(body(data, cut=9))
    event = ended(audit)

    assert json.loads(bytes(event.response_object)) == '{"kind":"ConfigMapList","items":["'
    told = f"responseObject: the first {len(data)} bytes"
    assert event.annotations == {"kubewitness.io/truncated": told}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"major":"1"}', JSON),
        (b'{"type":"ADDED","object":{"kind":"Pod"}}', JSON),
        (b"[1]", JSON),
        (b"ok", "text/plain"),
        (b"swagger: 2.0", "application/yaml"),
        (b"\n\x0f\n\x03sha", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"),
    ],
)
def test_what_no_object_writer_wrote_is_not_recorded(data: bytes, kind: str) -> None:
    audit = opened("RequestResponse", "GET", "/version")
    audit.record_response_body(body(data, kind))
    event = ended(audit)

    assert event.response_object is NO_OBJECT
    assert event.annotations == {}


def test_of_a_stream_only_a_refusal_is_recorded() -> None:
    log = "/api/v1/namespaces/shop/pods/web/log"
    audit = opened("RequestResponse", "GET", log)
    audit.record_response_body(body(OBJECT))
    assert ended(audit).response_object is NO_OBJECT

    audit = opened("RequestResponse", "GET", log)
    event = refused(audit, 404, 'pods "web" not found')
    assert event.response_object is not NO_OBJECT


def test_a_server_of_another_kind_may_have_all_its_json_recorded() -> None:
    audit = opened("RequestResponse", "POST", "/orders", records_any_json=True)
    assert audit.keeps_request_body
    audit.record_request_body(body(b'{"id": 1}'))
    audit.record_response_body(body(b"[2]"))
    event = ended(audit, 404)

    assert bytes(event.request_object) == b'{"id":1}'
    assert bytes(event.response_object) == b"[2]"


def test_what_a_request_is_may_follow_other_rules() -> None:
    info = RequestInfo(is_resource_request=True, verb="create", resource="orders", path="/orders")
    audit = opened("Metadata", "POST", "/orders", resolve=lambda _method, _target: info)
    event = ended(audit, 201)

    assert event.verb == "create"
    assert event.object_ref is not None
    assert event.object_ref.resource == "orders"


@given(
    data=st.binary(max_size=200),
    kind=st.sampled_from([JSON, PROTOBUF, "application/yaml", "text/plain", "", "\0;=", "a+json"]),
    encoding=st.sampled_from(["", "gzip", "deflate", "identity", "br"]),
    cut=st.integers(0, 3),
    method=st.sampled_from(["POST", "PATCH", "DELETE"]),
    code=st.sampled_from([200, 400, 404, 500]),
)
def test_whatever_comes_the_event_can_be_written_and_read(
    data: bytes, kind: str, encoding: str, cut: int, method: str, code: int
) -> None:
    audit = opened("RequestResponse", method, records_any_json=True)
    audit.record_request_body(body(data, kind, encoding, cut=cut))
    audit.record_response_body(body(data, kind, encoding, cut=cut))
    event = ended(audit, code)

    line = encode(event)
    json.loads(line.decode("utf-8"))
    assert encode(decode(line)) == line
