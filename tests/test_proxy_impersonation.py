"""Whom a client of the proxy wants to act as: judged once, forwarded as judged, recorded so."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asking import ANN, BY_TOKEN, CREDENTIAL_ID, ReviewingServer, ask, last_event
from kubewitness.capture.proxy import Forwarding
from kubewitness.event import UserInfo
from kubewitness.recorder import Headers, impersonated_user
from kubewitness.testing.status import StatusError
from proxies import RunningProxy, proxy
from test_proxy_identity import settings_of

AS_CAROL = (
    ("Impersonate-User", "carol"),
    ("impersonate-group", "ops"),
    ("Impersonate-Group", "on-call"),
    ("Impersonate-Uid", "c-1"),
    ("Impersonate-Extra-acme.com%2Fproject", "x"),
    ("Impersonate-Extra-Scopes", "view"),
    ("impersonate-extra-scopes", "edit"),
)
CAROL = UserInfo(
    username="carol",
    uid="c-1",
    groups=("ops", "on-call", "system:authenticated"),
    extra={"acme.com/project": ("x",), "scopes": ("view", "edit")},
)
ROBOT = "system:serviceaccount:shop:robot"


class Judge:
    """Allows what is not in `denied`, by resource and name; keeps what it was asked."""

    def __init__(self) -> None:
        self.denied: set[tuple[str, str]] = set()
        self.asked: list[dict[str, Any]] = []
        self.fault: StatusError | None = None

    def __call__(self, spec: dict[str, Any]) -> bool:
        if self.fault is not None:
            raise self.fault
        self.asked.append(spec)
        wanted = spec["resourceAttributes"]
        return (wanted["resource"], wanted["name"]) not in self.denied

    @property
    def wanted(self) -> list[tuple[str, str, str, str, str]]:
        """What permissions were asked for."""
        fields = ("group", "resource", "subresource", "namespace", "name")
        pairs = [each["resourceAttributes"] for each in self.asked]
        assert all(each["verb"] == "impersonate" for each in pairs)
        found = [tuple(each[field] for field in fields) for each in pairs]
        return sorted(found)


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def server(judge: Judge) -> Iterator[ReviewingServer]:
    with ReviewingServer(may=judge, impersonators={"kubewitness-proxy", "ann", "bob"}) as running:
        yield running


@pytest.fixture
def running(server: ReviewingServer, tmp_path: Path) -> Iterator[RunningProxy]:
    with proxy(server, tmp_path) as running:
        yield running


@pytest.fixture
def front(server: ReviewingServer, tmp_path: Path) -> Iterator[RunningProxy]:
    settings = settings_of(Forwarding.FRONT_PROXY, server, tmp_path)
    with proxy(server, tmp_path, **settings) as running:
        yield running


def impersonating(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the lines that want to impersonate, whatever the case of their names."""
    pairs = [(name.lower(), value) for name, value in lines]
    return [(name, value) for name, value in pairs if name.startswith("impersonate-")]


def test_with_a_token_it_is_left_to_upstream_and_recorded_when_it_was_served(
    running: RunningProxy, server: ReviewingServer, judge: Judge
) -> None:
    event = last_event(running, ask(running, BY_TOKEN, *AS_CAROL))

    [request] = server.reached
    assert impersonating(request.headers) == impersonating(list(AS_CAROL))
    assert (request.authenticated, request.certificate_name) == (ANN, None)
    assert event.user == ANN
    assert event.impersonated_user == request.user == CAROL
    assert judge.asked == []


def test_with_a_token_a_refusal_of_upstream_leaves_nobody_impersonated(
    judge: Judge, tmp_path: Path
) -> None:
    with ReviewingServer(may=judge) as server, proxy(server, tmp_path) as running:
        asked = ask(running, BY_TOKEN, ("Impersonate-User", "carol"))
        event = last_event(running, asked)

    assert asked.status == 403
    assert 'User "ann" cannot impersonate' in asked.document["message"]
    assert (event.user, event.impersonated_user) == (ANN, None)


def test_a_service_account_that_is_impersonated_has_its_own_groups(
    running: RunningProxy, server: ReviewingServer
) -> None:
    event = last_event(running, ask(running, BY_TOKEN, ("Impersonate-User", ROBOT)))

    assert event.impersonated_user == server.reached[-1].user
    assert event.impersonated_user is not None
    assert event.impersonated_user.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:shop",
        "system:authenticated",
    )


def test_with_a_certificate_every_part_is_judged_and_forwarded_unchanged(
    running: RunningProxy, server: ReviewingServer, judge: Judge
) -> None:
    event = last_event(running, ask(running, *AS_CAROL, context=running.user("alice", "dev")))

    authentication = "authentication.k8s.io"
    assert judge.wanted == [
        ("", "groups", "", "", "on-call"),
        ("", "groups", "", "", "ops"),
        ("", "users", "", "", "carol"),
        (authentication, "uids", "", "", "c-1"),
        (authentication, "userextras", "acme.com/project", "", "x"),
        (authentication, "userextras", "scopes", "", "edit"),
        (authentication, "userextras", "scopes", "", "view"),
    ]
    assert {(each["user"], tuple(each["groups"])) for each in judge.asked} == {
        ("alice", ("dev", "system:authenticated"))
    }
    assert all(CREDENTIAL_ID in each["extra"] for each in judge.asked)
    [request] = server.reached
    assert impersonating(request.headers) == impersonating(list(AS_CAROL))
    assert request.certificate_name == "kubewitness-proxy"
    assert event.user.username == "alice"
    assert event.impersonated_user == request.user == CAROL


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (ROBOT, ("", "serviceaccounts", "", "shop", "robot")),
        (f"{ROBOT}:x", ("", "users", "", "", f"{ROBOT}:x")),
        ("system:serviceaccount:Shop:robot", ("", "users", "", "", None)),
        ("system:serviceaccount:shop:ro_bot", ("", "users", "", "", None)),
        ("system:serviceaccount:shop:", ("", "users", "", "", None)),
        ("system:serviceaccount:a.b:c", ("", "users", "", "", None)),
        ("system:serviceaccount:shop:a.b-c", ("", "serviceaccounts", "", "shop", "a.b-c")),
    ],
)
def test_only_what_can_be_a_service_account_is_judged_as_one(
    running: RunningProxy,
    server: ReviewingServer,
    judge: Judge,
    name: str,
    wanted: tuple[str, str, str, str, str | None],
) -> None:
    lines = [("Impersonate-User", name)]

    event = last_event(running, ask(running, *lines, context=running.user("alice")))

    assert judge.wanted == [(*wanted[:4], wanted[4] or name)]
    assert event.impersonated_user == server.reached[-1].user == impersonated_user(Headers(lines))


@pytest.mark.parametrize(
    ("denied", "message", "details"),
    [
        (
            ("users", "carol"),
            (
                'users "carol" is forbidden: User "alice" cannot impersonate resource "users"'
                ' in API group "" at the cluster scope'
            ),
            {"name": "carol", "kind": "users"},
        ),
        (
            ("groups", "ops"),
            (
                'groups "ops" is forbidden: User "alice" cannot impersonate resource "groups"'
                ' in API group "" at the cluster scope'
            ),
            {"name": "ops", "kind": "groups"},
        ),
        (
            ("uids", "c-1"),
            (
                'uids.authentication.k8s.io "c-1" is forbidden: User "alice" cannot impersonate'
                ' resource "uids" in API group "authentication.k8s.io" at the cluster scope'
            ),
            {"name": "c-1", "group": "authentication.k8s.io", "kind": "uids"},
        ),
        (
            ("userextras", "edit"),
            (
                'userextras.authentication.k8s.io "edit" is forbidden: User "alice" cannot'
                ' impersonate resource "userextras/scopes" in API group "authentication.k8s.io"'
                " at the cluster scope"
            ),
            {"name": "edit", "group": "authentication.k8s.io", "kind": "userextras"},
        ),
    ],
)
def test_who_may_not_is_refused_in_upstreams_words_and_goes_no_further(
    running: RunningProxy,
    server: ReviewingServer,
    judge: Judge,
    denied: tuple[str, str],
    message: str,
    details: dict[str, str],
) -> None:
    judge.denied = {denied}

    asked = ask(running, *AS_CAROL, context=running.user("alice"))

    event = last_event(running, asked)
    assert asked.document == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "Forbidden",
        "details": details,
        "code": 403,
    }
    assert asked.status == 403
    assert server.reached == []
    assert (event.user.username, event.impersonated_user) == ("alice", None)
    assert event.response_status is not None
    assert event.response_status.message == message


def test_a_refused_service_account_is_named_with_its_namespace_and_quoted_as_go_does(
    running: RunningProxy, judge: Judge
) -> None:
    judge.denied = {("serviceaccounts", "robot"), ("users", 'a"b\\c')}
    context = running.user('al"ice')

    robot = ask(running, ("Impersonate-User", ROBOT), context=context)
    quoted = ask(running, ("Impersonate-User", 'a"b\\c'), context=context)

    assert robot.document["message"] == (
        'serviceaccounts "robot" is forbidden: User "al\\"ice" cannot impersonate resource'
        ' "serviceaccounts" in API group "" in the namespace "shop"'
    )
    assert quoted.document["message"].startswith('users "a\\"b\\\\c" is forbidden: ')


def test_the_reason_of_a_refusal_is_passed_on(
    running: RunningProxy, server: ReviewingServer
) -> None:
    server.answer = (201, b'{"status":{"allowed":false,"reason":"not on Sundays"}}')

    asked = ask(running, ("Impersonate-User", "carol"), context=running.user("alice"))

    assert asked.document["message"].endswith(" at the cluster scope: not on Sundays")


def go_text(user: str) -> str:
    return f"requested &user.DefaultInfo{{{user}}} without impersonating a user name"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (
            [("Impersonate-Group", "ops"), ("Impersonate-Group", 'o"k')],
            'Name:"", UID:"", Groups:[]string{"ops", "o\\"k"}, Extra:map[string][]string(nil)',
        ),
        (
            [("Impersonate-Uid", "1"), ("Impersonate-User", "")],
            'Name:"", UID:"1", Groups:[]string(nil), Extra:map[string][]string(nil)',
        ),
        (
            [("Impersonate-Extra-B", "2"), ("Impersonate-Extra-A", "1")],
            (
                'Name:"", UID:"", Groups:[]string(nil), '
                'Extra:map[string][]string{"a":[]string{"1"}, "b":[]string{"2"}}'
            ),
        ),
    ],
)
def test_to_be_nobody_in_a_group_is_malformed(
    running: RunningProxy, server: ReviewingServer, lines: list[tuple[str, str]], text: str
) -> None:
    asked = ask(running, *lines, context=running.user("alice"))

    event = last_event(running, asked)
    assert (asked.status, asked.document["reason"]) == (400, "BadRequest")
    assert asked.document["message"] == go_text(text)
    assert (event.user.username, event.impersonated_user) == ("alice", None)
    assert server.requests == []


@pytest.mark.parametrize(
    "line", [("Impersonate-User", ""), ("Impersonate-Uid", ""), ("Impersonate-Foo", "carol")]
)
def test_lines_that_ask_for_nothing_are_dropped(
    running: RunningProxy, server: ReviewingServer, line: tuple[str, str]
) -> None:
    """Go takes the first line of a name: an empty one would hide whom the proxy asks for."""
    event = last_event(running, ask(running, line, context=running.user("alice", "dev")))

    [request] = server.reached
    assert line not in request.headers
    assert event.user == request.user
    assert event.user.username == "alice"


@pytest.mark.parametrize("answer", [(403, b"{}"), (500, b"{}"), (201, b"[]"), (201, b"no")])
def test_without_an_answer_nobody_is_impersonated(
    running: RunningProxy, server: ReviewingServer, answer: tuple[int, bytes]
) -> None:
    server.answer = answer

    asked = ask(running, *AS_CAROL, context=running.user("alice"))

    event = last_event(running, asked)
    assert (asked.status, asked.document["reason"]) == (502, "ServiceUnavailable")
    assert (event.user.username, event.impersonated_user) == ("alice", None)
    assert server.reached == []
    server.answer = None
    assert ask(running, *AS_CAROL, context=running.user("alice")).status == 200


def test_an_unreachable_api_server_lets_nobody_be_impersonated(
    server: ReviewingServer, tmp_path: Path
) -> None:
    path = server.write_kubeconfig(tmp_path / "kubeconfig", server="https://127.0.0.1:1")
    with proxy(server, tmp_path, kubeconfig=path) as running:
        asked = ask(running, *AS_CAROL, context=running.user("alice"))
        assert last_event(running, asked).impersonated_user is None

    assert (asked.status, asked.document["kind"]) == (502, "Status")


def test_behind_a_front_proxy_it_is_left_to_upstream(
    front: RunningProxy, server: ReviewingServer, judge: Judge
) -> None:
    allowed = last_event(front, ask(front, *AS_CAROL, context=front.user("bob", "ops")))
    asked = ask(front, *AS_CAROL, context=front.user("alice"))
    refused = last_event(front, asked)

    first, second = server.reached
    assert first.authenticated == allowed.user
    assert allowed.impersonated_user == first.user == CAROL
    assert asked.status == 403
    assert second.authenticated == refused.user
    assert (refused.user.username, refused.impersonated_user) == ("alice", None)
    assert judge.asked == []


def test_a_judgement_is_for_one_user_and_one_target(
    running: RunningProxy, judge: Judge, server: ReviewingServer
) -> None:
    alice, eve = running.user("alice"), running.user("eve")
    line = ("Impersonate-User", "carol")
    assert [ask(running, line, context=alice).status for _ in range(3)] == [200, 200, 200]
    assert len(judge.asked) == 1

    judge.denied = {("users", "carol"), ("users", "dave")}
    assert ask(running, line, context=eve).status == 403
    assert ask(running, ("Impersonate-User", "dave"), context=alice).status == 403
    assert len(server.reached) == 3
