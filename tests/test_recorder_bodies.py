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
from kubewitness.recorder import Body, Headers, IncomingRequest, Recorder, RequestAudit
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


def status(code: int, message: str, reason: str = "Failed") -> bytes:
    document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return json.dumps({**document, "message": message, "reason": reason, "code": code}).encode()


def refused(audit: RequestAudit, code: int, message: str) -> Event:
    audit.record_response_body(body(status(code, message)))
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


@pytest.mark.parametrize("code", [200, 500])
def test_an_impersonation_that_upstream_judged_is_noted_unless_it_refused(code: int) -> None:
    audit = opened("Metadata", "GET")
    audit.impersonate_if_allowed(UserInfo(username="bob"))
    assert ended(audit, code).impersonated_user == UserInfo(username="bob")


@pytest.mark.parametrize("verb", ["impersonate", "impersonate:user-info"])
def test_an_impersonation_that_upstream_refused_is_not_noted(verb: str) -> None:
    audit = opened("Metadata", "GET")
    audit.impersonate_if_allowed(UserInfo(username="bob"))
    message = f'users "bob" is forbidden: User "ann" cannot {verb} resource "users" in API group ""'
    assert refused(audit, 403, message).impersonated_user is None


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


@pytest.mark.parametrize(
    ("packed", "encoding", "reason"),
    [
        (b"no gzip", "gzip", "not gzip, as its Content-Encoding says"),
        (OBJECT, "br", "Content-Encoding br"),
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
    json.loads(line)
    assert encode(decode(line)) == line
