"""The fake API server's small stateful API, asked by a raw client."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from kubewitness.testing import FakeAPIServer
from kubewitness.testing.merging import merged, selects
from test_testing_server import Answered, ask, connected, dialled, sent

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


@pytest.fixture
def server() -> Iterator[FakeAPIServer]:
    with FakeAPIServer(tls=False) as running:
        yield running


def send(
    server: FakeAPIServer, method: str, target: str, document: object, kind: str = ""
) -> Answered:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {"Content-Type": kind or "application/json"}
    return ask(server, target, method, body=body, headers=headers)


def create(server: FakeAPIServer, name: str, target: str = MAPS, **more: Any) -> Any:
    answer = send(server, "POST", target, {"metadata": {"name": name}, **more})
    assert answer.status == 201, answer
    return answer.document


def test_discovery_names_what_is_kept(server: FakeAPIServer) -> None:
    assert ask(server, "/api").document["versions"] == ["v1"]
    assert [group["name"] for group in ask(server, "/apis").document["groups"]] == ["apps"]
    assert ask(server, "/apis/apps").document["name"] == "apps"
    core = {each["name"] for each in ask(server, "/api/v1").document["resources"]}
    assert {"configmaps", "namespaces", "pods", "pods/exec", "pods/log", "secrets"} <= core
    apps = ask(server, "/apis/apps/v1").document["resources"]
    assert [each["name"] for each in apps] == ["deployments", "deployments/status"]
    assert ask(server, "/version").document["major"] == "1"
    assert ask(server, "/healthz").body == b"ok"


def test_what_is_created_can_be_got(server: FakeAPIServer) -> None:
    created = create(server, "one", data={"a": "1"})

    assert created["kind"] == "ConfigMap"
    assert created["apiVersion"] == "v1"
    assert created["data"] == {"a": "1"}
    assert created["metadata"]["namespace"] == "default"
    assert created["metadata"]["uid"].startswith("00000000-0000-4000-8000-")
    assert ask(server, f"{MAPS}/one").document == created


def test_yaml_is_taken_too(server: FakeAPIServer) -> None:
    body = b"metadata: {name: one}\ndata: {a: b}\n"
    assert send(server, "POST", MAPS, body, "application/yaml").document["data"] == {"a": "b"}


def test_names_are_generated(server: FakeAPIServer) -> None:
    answers = [
        send(server, "POST", MAPS, {"metadata": {"generateName": "gen-"}}).document
        for _ in range(2)
    ]
    names = [answer["metadata"]["name"] for answer in answers]
    assert all(name.startswith("gen-") for name in names)
    assert len(set(names)) == 2


def test_a_dry_run_keeps_nothing(server: FakeAPIServer) -> None:
    answer = send(server, "POST", f"{MAPS}?dryRun=All", {"metadata": {"name": "one"}})
    assert answer.status == 201
    assert ask(server, f"{MAPS}/one").status == 404


def test_lists_have_a_version_and_heed_selectors(server: FakeAPIServer) -> None:
    create(server, "two")
    labels = {"metadata": {"name": "one", "labels": {"app": "web"}}}
    version = send(server, "POST", MAPS, labels).document["metadata"]["resourceVersion"]

    def names(target: str) -> list[str]:
        document = ask(server, target).document
        assert document["kind"] == "ConfigMapList"
        assert document["metadata"]["resourceVersion"] == version
        return [each["metadata"]["name"] for each in document["items"]]

    assert names(MAPS) == ["one", "two"]
    assert names("/api/v1/configmaps") == ["one", "two"]
    assert names("/api/v1/namespaces/kube-system/configmaps") == []
    assert names(f"{MAPS}?labelSelector=app%3Dweb") == ["one"]
    assert names(f"{MAPS}?labelSelector=%21app") == ["two"]
    assert names(f"{MAPS}?fieldSelector=metadata.name%3Dtwo") == ["two"]


def test_an_update_replaces(server: FakeAPIServer) -> None:
    created = create(server, "one", data={"a": "1"})

    updated = send(server, "PUT", f"{MAPS}/one", {"metadata": {}, "data": {"b": "2"}}).document

    assert updated["data"] == {"b": "2"}
    assert updated["metadata"]["uid"] == created["metadata"]["uid"]
    assert updated["metadata"]["resourceVersion"] != created["metadata"]["resourceVersion"]


def test_an_update_of_an_old_version_is_a_conflict(server: FakeAPIServer) -> None:
    created = create(server, "one")
    assert send(server, "PUT", f"{MAPS}/one", created).status == 200

    answer = send(server, "PUT", f"{MAPS}/one", created)

    assert (answer.status, answer.document["reason"]) == (409, "Conflict")


@pytest.mark.parametrize("kind", [MERGE, STRATEGIC, APPLY])
def test_a_patch_merges(server: FakeAPIServer, kind: str) -> None:
    create(server, "one", data={"a": "1", "b": "2"})

    answer = send(server, "PATCH", f"{MAPS}/one", {"data": {"a": None, "c": "3"}}, kind)

    assert answer.document["data"] == {"b": "2", "c": "3"}
    assert ask(server, f"{MAPS}/one").document == answer.document


def test_applying_creates(server: FakeAPIServer) -> None:
    body = b"metadata: {name: one}\ndata: {a: b}\n"
    assert send(server, "PATCH", f"{MAPS}/one", body, APPLY).status == 201
    assert send(server, "PATCH", f"{MAPS}/two", {}, MERGE).status == 404
    assert send(server, "PATCH", f"{MAPS}/one", [], "application/json-patch+json").status == 415


def test_what_is_deleted_is_gone(server: FakeAPIServer) -> None:
    uid = create(server, "one")["metadata"]["uid"]

    answer = ask(server, f"{MAPS}/one", "DELETE")

    assert answer.document == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {"name": "one", "kind": "configmaps", "uid": uid},
    }
    assert ask(server, f"{MAPS}/one").status == 404


def test_a_collection_can_be_deleted(server: FakeAPIServer) -> None:
    create(server, "one")
    create(server, "two")

    gone = ask(server, f"{MAPS}?fieldSelector=metadata.name%3Done", "DELETE").document["items"]

    assert [each["metadata"]["name"] for each in gone] == ["one"]
    assert len(ask(server, MAPS).document["items"]) == 1


def test_with_a_namespace_goes_what_is_in_it(server: FakeAPIServer) -> None:
    create(server, "team", "/api/v1/namespaces")
    create(server, "one", "/api/v1/namespaces/team/configmaps")
    create(server, "one")

    assert ask(server, "/api/v1/namespaces/team", "DELETE").status == 200

    assert ask(server, "/api/v1/namespaces/team/configmaps/one").status == 404
    assert ask(server, f"{MAPS}/one").status == 200


def test_deployments_are_of_the_apps_group(server: FakeAPIServer) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    assert create(server, "web", path)["apiVersion"] == "apps/v1"
    assert ask(server, f"{path}/none").document["message"] == 'deployments.apps "none" not found'


def test_pods_run_at_once(server: FakeAPIServer) -> None:
    pod = create(server, "web", PODS)
    assert pod["status"]["phase"] == "Running"
    assert [each["name"] for each in pod["spec"]["containers"]] == ["main"]
    assert ask(server, f"{PODS}/web/status").document["status"] == pod["status"]


@pytest.mark.parametrize(
    ("method", "target", "body", "code", "reason"),
    [
        ("GET", f"{MAPS}/none", b"", 404, "NotFound"),
        ("DELETE", f"{MAPS}/none", b"", 404, "NotFound"),
        ("GET", f"{MAPS}/one/nothing", b"", 404, "NotFound"),
        ("GET", f"{MAPS}/one/status/more", b"", 404, "NotFound"),
        ("GET", "/api/v1/widgets", b"", 404, "NotFound"),
        ("GET", "/api/v2/configmaps", b"", 404, "NotFound"),
        ("GET", f"{PODS}/none/log", b"", 404, "NotFound"),
        ("POST", "/api/v1/namespaces/none/configmaps", b'{"metadata":{}}', 404, "NotFound"),
        ("POST", MAPS, b'{"metadata":{"name":"one"}}', 409, "AlreadyExists"),
        ("POST", MAPS, b'{"metadata":{}}', 422, "Invalid"),
        ("POST", MAPS, b'{"kind":"Secret"}', 400, "BadRequest"),
        ("POST", MAPS, b'{"metadata":{"namespace":"other"}}', 400, "BadRequest"),
        ("POST", MAPS, b"{", 400, "BadRequest"),
        ("POST", MAPS, b"[]", 400, "BadRequest"),
        ("POST", MAPS, b'"' + b"x" * (1 << 20) + b'"', 413, "RequestEntityTooLarge"),
        ("PUT", f"{MAPS}/one", b'{"metadata":{"name":"two"}}', 400, "BadRequest"),
        ("REPORT", MAPS, b"", 405, "MethodNotAllowed"),
        ("GET", f"{MAPS}?watch=true&resourceVersion=x", b"", 400, "BadRequest"),
        ("GET", "/api/v1/watch", b"", 400, "BadRequest"),
    ],
)
def test_what_cannot_be_is_a_status(
    server: FakeAPIServer, method: str, target: str, body: bytes, code: int, reason: str
) -> None:
    create(server, "one")

    answer = ask(server, target, method, body=body)

    assert (answer.status, answer.document["code"]) == (code, code)
    assert (answer.document["kind"], answer.document["reason"]) == ("Status", reason)


def test_a_body_of_protobuf_is_not_taken(server: FakeAPIServer) -> None:
    kind = "application/vnd.kubernetes.protobuf"
    assert send(server, "POST", MAPS, b"k8s\0", kind).status == 415


def test_a_watch_tells_what_is_and_what_happens(server: FakeAPIServer) -> None:
    create(server, "one")
    with closing(connected(server)) as connection:
        connection.request("GET", f"{MAPS}?watch=true")
        response = connection.getresponse()

        def event() -> tuple[str, str]:
            document = json.loads(response.readline())
            return document["type"], document["object"]["metadata"]["name"]

        assert event() == ("ADDED", "one")
        create(server, "two")
        create(server, "other", "/api/v1/namespaces/kube-system/configmaps")
        create(server, "web", PODS)
        send(server, "PATCH", f"{MAPS}/two", {"data": {"a": "b"}}, MERGE)
        ask(server, f"{MAPS}/two", "DELETE")
        assert [event() for _ in range(3)] == [
            ("ADDED", "two"),
            ("MODIFIED", "two"),
            ("DELETED", "two"),
        ]
        response.close()

    server.until(lambda: server.open_connections == 0)


def test_a_watch_goes_on_from_a_version(server: FakeAPIServer) -> None:
    version = create(server, "one")["metadata"]["resourceVersion"]
    create(server, "two")

    target = f"{MAPS}?watch=true&resourceVersion={version}&timeoutSeconds=1"
    with closing(connected(server)) as connection:
        connection.request("GET", target)
        response = connection.getresponse()
        assert json.loads(response.readline())["object"]["metadata"]["name"] == "two"
        assert response.read() == b"", "the watch ends in good order"


def test_logs_are_lines(server: FakeAPIServer) -> None:
    create(server, "web", PODS)
    assert ask(server, f"{PODS}/web/log").body == b"line 1 of web\nline 2 of web\nline 3 of web\n"


def test_followed_logs_end_with_the_release(server: FakeAPIServer) -> None:
    create(server, "web", PODS)
    with closing(connected(server)) as connection:
        connection.request("GET", f"{PODS}/web/log?follow=true")
        response = connection.getresponse()
        lines = [response.readline() for _ in range(3)]
        server.release.set()
        assert (len(lines), response.read()) == (3, b"")


def test_followed_logs_end_with_the_client(server: FakeAPIServer) -> None:
    create(server, "web", PODS)
    with closing(dialled(server)) as connection:
        sent(connection, f"{PODS}/web/log?follow=true")
        assert connection.recv(12) == b"HTTP/1.1 200"

    server.until(lambda: server.open_connections == 0)


def test_merging_follows_rfc_7396() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert merged(old, {"a": {"b": None, "c": [4]}, "e": {"f": None}}) == {
        "a": {"c": [4]},
        "d": 3,
        "e": {},
    }
    assert merged(old, 7) == 7
    assert old == {"a": {"b": 1, "c": [1, 2]}, "d": 3}


def test_a_strategic_merge_knows_named_elements() -> None:
    old = {"containers": [{"name": "a", "image": "1"}, {"name": "b"}], "args": [1]}
    change = {"containers": [{"name": "a", "tty": True}], "$setElementOrder/x": [], "args": [2]}
    assert merged(old, change, strategic=True) == {
        "containers": [{"name": "a", "image": "1", "tty": True}, {"name": "b"}],
        "args": [2],
    }


@pytest.mark.parametrize(
    ("labels", "fields", "meant"),
    [
        ("", "", True),
        ("a=1", "", True),
        ("a==1,b", "", True),
        ("a!=1", "", False),
        ("c!=1,!c", "", True),
        ("!a", "", False),
        ("", "metadata.name=one,metadata.namespace=x", True),
        ("", "metadata.name!=one", False),
    ],
)
def test_selectors(labels: str, fields: str, meant: bool) -> None:  # noqa: FBT001
    metadata = {"name": "one", "namespace": "x", "labels": {"a": "1", "b": ""}}
    assert selects({"metadata": metadata}, labels=labels, fields=fields) == meant
