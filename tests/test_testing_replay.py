"""Recorded answers, and the reviews, of the fake API server."""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from kubewitness.testing import PROXY_TOKEN, FakeAPIServer
from kubewitness.testing.replay import body_of
from test_testing_server import CAROL, ask, connected, names_of
from vectors import transcript


@pytest.fixture(scope="module")
def server() -> Iterator[FakeAPIServer]:
    with FakeAPIServer(tokens={"carols": CAROL}) as running:
        yield running


@pytest.mark.parametrize("tls", [True, False])
def test_every_case_gets_the_answer_of_the_real_server(tls: bool) -> None:  # noqa: FBT001
    cases = transcript()
    with FakeAPIServer(cases, tls=tls) as server, closing(connected(server)) as connection:
        for case in cases:
            body = body_of(case["body"])
            headers = {
                name: value.encode("utf-8") if isinstance(value, str) else value
                for name, value in case["headers"].items()
            }
            connection.request(case["method"], case["path"], body or None, headers)
            response = connection.getresponse()
            answer = case["response"]

            assert response.status == answer["status"], case["id"]
            assert response.read() == body_of(answer["body"]), case["id"]
            assert names_of(response.getheaders()) == names_of(answer["headers"]), case["id"]

        assert [request.target for request in server.requests] == [case["path"] for case in cases]


def test_requests_without_an_id_get_the_cases_in_order() -> None:
    cases = [
        {
            "id": f"case-{status}",
            "method": "GET",
            "path": "/x?y",
            "response": {"status": status, "headers": [["A", "1"], ["A", "2"]], "body": None},
        }
        for status in (200, 201)
    ]
    with FakeAPIServer(cases, tls=False) as server:
        assert [ask(server, "/x?y").status for _ in range(3)] == [200, 201, 201]
        assert ask(server, "/x?y", headers={"Audit-ID": "case-200"}).headers == [
            ("A", "1"),
            ("A", "2"),
        ]
        assert ask(server, "/x?z").status == 404


def review(server: FakeAPIServer, path: str, spec: object, **how: Any) -> Any:
    document = {"kind": "Review", "spec": spec}
    answer = ask(server, path, "POST", body=json.dumps(document).encode(), **how)
    assert answer.status == 201
    return answer.document["status"]


def test_a_token_review_says_whose_a_token_is(server: FakeAPIServer) -> None:
    path = "/apis/authentication.k8s.io/v1/tokenreviews"

    assert review(server, path, {"token": "carols"}) == {
        "authenticated": True,
        "user": {
            "username": "carol",
            "uid": "c-1",
            "groups": ["dev", "system:authenticated"],
            "extra": {"scopes": ["view"]},
        },
    }
    assert review(server, path, {"token": "?"}) == {"user": {}, "error": "invalid bearer token"}
    assert server.requests[-1].target == path


def test_a_self_review_says_who_asks(server: FakeAPIServer) -> None:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    status = review(server, path, {}, pair=server.issue_client_certificate("alice"))
    assert status == {"userInfo": {"username": "alice", "groups": ["system:authenticated"]}}


def test_an_access_review_says_who_may(server: FakeAPIServer) -> None:
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert review(server, path, {"groups": ["system:masters"]}) == {"allowed": True}
    assert review(server, path, {"groups": ["dev"]}) == {"allowed": False}


def test_a_review_that_is_not_json_is_a_bad_request(server: FakeAPIServer) -> None:
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    assert ask(server, path, "POST", body=b"[").status == 400


def test_reviews_are_not_answered_from_a_transcript() -> None:
    with FakeAPIServer(transcript(), tls=False) as server:
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        assert review(server, path, {"token": PROXY_TOKEN})["authenticated"] is True
