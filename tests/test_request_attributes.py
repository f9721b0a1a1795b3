"""What a policy saw, read back from events: the real recordings, text logs and odd ones."""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kubewitness.event import Event, ObjectReference, UserInfo
from kubewitness.request import (
    RequestAttributes,
    attributes,
    attributes_of,
    derive_object_ref,
    resolve,
)
from vectors import POLICIES, recorded, transcript

METHODS = {
    "create": "POST",
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
    "": "OPTIONS",
}
ALICE = UserInfo(username="alice", groups=("devs",))
POD = ObjectReference(resource="pods", namespace="a", name="p", api_version="v1")


def events(policy: str) -> Iterator[Event]:
    for line in recorded(f"{policy}.events.jsonl").split(b"\n"):
        if line:
            yield msgspec.json.decode(line, type=Event)


def method_of(event: Event) -> str:
    return METHODS[event.verb] if event.object_ref else event.verb.upper()


def as_text_log(event: Event) -> Event:
    namespace = event.object_ref.namespace if event.object_ref else ""
    return replace(event, object_ref=ObjectReference(namespace=namespace) if namespace else None)


@pytest.mark.parametrize("policy", POLICIES)
def test_recorded_events_agree_with_their_urls(policy: str) -> None:
    for event in events(policy):
        user = event.user if event.user != UserInfo() else None
        info = resolve(method_of(event), event.request_uri)
        assert attributes_of(event) == RequestAttributes.of_request(info, user), event.audit_id


@pytest.mark.parametrize("policy", POLICIES)
def test_recorded_events_agree_with_the_requests_sent(policy: str) -> None:
    sent = {case["id"]: resolve(case["method"], case["path"]) for case in transcript(policy)}
    seen = set()
    for event in events(policy):
        if event.audit_id in sent:
            expected = RequestAttributes.of_request(sent[event.audit_id], None)
            assert replace(attributes_of(event), user=None, groups=()) == expected, event.audit_id
            seen.add(event.audit_id)
    assert policy != "all" or seen == set(sent)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_text_log_loses_nothing_a_policy_sees(policy: str) -> None:
    for event in events(policy):
        text = as_text_log(event)
        oldest = replace(text, verb=method_of(event))
        for legacy in (text, oldest):
            assert attributes_of(legacy) == attributes_of(event)
            assert attributes_of(derive_object_ref(legacy)) == attributes_of(event)
            assert derive_object_ref(legacy).verb == event.verb


def test_a_derived_object_ref_is_the_recorded_one() -> None:
    for event in events("all"):
        reference = event.object_ref
        derived = derive_object_ref(as_text_log(event)).object_ref
        if reference is None or event.verb == "create":  # a body may have completed it
            continue
        assert derived == replace(reference, uid="", resource_version="")


def test_failed_authentication_has_no_user() -> None:
    event = Event(verb="list", request_uri="/api/v1/pods", object_ref=replace(POD, name=""))
    assert attributes_of(event).user is None
    assert attributes_of(replace(event, user=UserInfo(uid="7"))).user == ""
    assert attributes_of(replace(event, user=ALICE)).user == "alice"
    assert attributes_of(replace(event, user=ALICE)).groups == ("devs",)


def test_a_create_is_seen_before_its_body() -> None:
    event = Event(verb="create", request_uri="/api/v1/namespaces/a/pods?x=1", object_ref=POD)
    assert attributes_of(event) == RequestAttributes(
        verb="create",
        is_resource_request=True,
        api_version="v1",
        resource="pods",
        namespace="a",
        path="/api/v1/namespaces/a/pods",
    )
    elsewhere = attributes_of(replace(event, request_uri="/elsewhere"))
    assert (elsewhere.namespace, elsewhere.name) == ("a", "p")


def test_the_path_is_decoded() -> None:
    event = Event(verb="get", request_uri="/api/v1/namespaces/a/pods/%70?q=%zz", object_ref=POD)
    assert attributes_of(event).path == "/api/v1/namespaces/a/pods/p"
    assert attributes_of(Event(verb="get", request_uri="/%C3%A9?x")).path == "/é"


@pytest.mark.parametrize("verb", ["get", "GET"])
@pytest.mark.parametrize("path", ["/api/v1/pods/%zz", "", "no/slash", "/api/v1/watch"])
def test_a_url_nobody_can_resolve_is_no_resource(verb: str, path: str) -> None:
    event = Event(verb=verb, request_uri=f"{path}?x=%")
    assert attributes_of(event) == RequestAttributes(verb="get", path=path)
    assert derive_object_ref(event).object_ref is None


def test_a_recorded_reference_outlives_a_broken_url() -> None:
    attributes_seen = attributes_of(Event(verb="get", request_uri="/%zz?x", object_ref=POD))
    assert (attributes_seen.path, attributes_seen.resource) == ("/%zz", "pods")


@pytest.mark.parametrize(
    ("verb", "uri", "kubernetes_verb", "name"),
    [
        ("GET", "/api/v1/namespaces/a/pods?watch=true", "watch", ""),
        ("GET", "/api/v1/namespaces/a/pods/p", "get", "p"),
        ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection", ""),
        ("list", "/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dp", "list", "p"),
        ("watch", "/api/v1/watch/namespaces/a/pods?fieldSelector=metadata.name%3Dp", "watch", ""),
        ("create", "/api/v1/namespaces/a/pods", "create", ""),
    ],
)
def test_a_text_log_line_is_completed(verb: str, uri: str, kubernetes_verb: str, name: str) -> None:
    derived = derive_object_ref(Event(verb=verb, request_uri=uri))
    assert derived.verb == kubernetes_verb
    assert derived.object_ref == replace(POD, name=name)


def test_a_recorded_namespace_is_kept() -> None:
    reference = ObjectReference(namespace="recorded")
    event = Event(verb="create", request_uri="/api/v1/namespaces/url/pods", object_ref=reference)
    derived = derive_object_ref(event)
    assert derived.object_ref == ObjectReference("pods", "recorded", api_version="v1")
    assert attributes_of(event).namespace == "url"


def test_other_events_come_back_themselves() -> None:
    for event in (
        Event(verb="get", request_uri="/healthz"),
        Event(verb="create", request_uri="/api/v1/namespaces/a/pods", object_ref=POD),
        Event(verb="get", request_uri="/x", object_ref=ObjectReference(uid="u")),
    ):
        assert derive_object_ref(event) is event
    assert derive_object_ref(Event(verb="HEAD", request_uri="/x")) == Event(
        verb="head", request_uri="/x"
    )


def test_equal_attributes_share_their_strings_and_hash_alike() -> None:
    line = msgspec.json.encode(Event(verb="get", request_uri="/x", user=ALICE, object_ref=POD))
    first, second = (attributes_of(msgspec.json.decode(line, type=Event)) for _ in range(2))
    assert hash(first) == hash(second)
    assert first.groups is second.groups
    for field in ("user", "verb", "api_version", "resource", "namespace"):
        assert getattr(first, field) is getattr(second, field)


def test_caches_are_bounded() -> None:
    for number in range(attributes._MAX_SHARED + 10):
        attributes_of(Event(user=UserInfo(groups=(f"g{number}",)), object_ref=POD))
    assert len(attributes._GROUPS) <= attributes._MAX_SHARED
    long = "/api/v1/namespaces/a/pods/" + "p" * attributes._MAX_CACHED_LENGTH
    attributes._cached_place.cache_clear()
    attributes._cached_recorded_info.cache_clear()
    for event in (Event(verb="get"), Event(verb="create", object_ref=POD)):
        assert attributes_of(replace(event, request_uri=long)).name == "p" * len(long[26:])
    assert attributes._cached_place.cache_info().currsize == 0
    assert attributes._cached_recorded_info.cache_info().currsize == 0


@given(st.text(), st.text(), st.sampled_from([None, POD, ObjectReference(namespace="n")]))
def test_no_event_raises(verb: str, uri: str, reference: ObjectReference | None) -> None:
    event = Event(verb=verb, request_uri=uri, object_ref=reference)
    attributes_of(event)
    derive_object_ref(event)
