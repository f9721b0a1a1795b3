"""Who is taken for the user: what frameworks say, and what trusted proxies do."""

from typing import Any

import pytest
from starlette.authentication import BaseUser, SimpleUser, UnauthenticatedUser

from asgi_driver import Audited, answers, http
from kubewitness.capture.users import ANONYMOUS, framework_user, front_proxy_user
from kubewitness.event import UserInfo

EVERYBODY = ("system:authenticated",)


class Nameless(BaseUser):
    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return ""


class WithIdentity(Nameless):
    @property
    def identity(self) -> str:
        return "id-1"


class LikeDjangos:
    is_authenticated = True
    username = "carol"


@pytest.mark.parametrize(
    ("user", "name"),
    [
        (SimpleUser("alice"), "alice"),
        (LikeDjangos(), "carol"),
        (WithIdentity(), "id-1"),
        (Nameless(), ""),
        ("bob", "bob"),
        (object(), ""),
    ],
)
def test_a_frameworks_user(user: object, name: str) -> None:
    assert framework_user({"user": user}) == UserInfo(username=name, groups=EVERYBODY)


@pytest.mark.parametrize("scope", [{}, {"user": None}, {"user": UnauthenticatedUser()}])
def test_nobody_is_anonymous(scope: dict[str, Any]) -> None:
    assert framework_user(scope) is ANONYMOUS


def remote(peer: str | None, *headers: tuple[str, str]) -> dict[str, Any]:
    client = None if peer is None else (peer, 40000)
    return dict(http(headers=headers, client=client))


CLAIM = (
    ("X-Remote-User", "alice"),
    ("X-Remote-Group", "devs"),
    ("X-Remote-Group", ""),
    ("X-Remote-Group", "ops"),
    ("X-Remote-Uid", "u-1"),
    ("X-Remote-Extra-Example.com%2FTeam", "a"),
    ("X-Remote-Extra-example.com%2fteam", "b"),
    ("X-Remote-Extra-Bad%zz", "c"),
)
ALICE = UserInfo(
    username="alice",
    uid="u-1",
    groups=("devs", "ops", "system:authenticated"),
    extra={"example.com/team": ("a", "b"), "bad%zz": ("c",)},
)
TRUSTED = ("10.0.0.0/8", "fd00::/8", "192.0.2.7")


@pytest.mark.parametrize("peer", ["10.1.2.3", "fd00::1", "192.0.2.7", "::ffff:10.0.0.1"])
def test_a_trusted_proxy_is_believed(peer: str) -> None:
    assert front_proxy_user(TRUSTED)(remote(peer, *CLAIM)) == ALICE


@pytest.mark.parametrize(
    "peer", ["11.0.0.1", "192.0.2.8", "fe80::1", "::1", "", "testclient", "10.0.0.1.evil", None]
)
def test_nobody_else_is(peer: str | None) -> None:
    assert front_proxy_user(TRUSTED)(remote(peer, *CLAIM)) is ANONYMOUS


def test_what_an_untrusted_peer_says_of_its_address_changes_nothing() -> None:
    scope = remote("203.0.113.9", ("X-Forwarded-For", "10.0.0.1"), *CLAIM)

    assert front_proxy_user(TRUSTED)(scope) is ANONYMOUS


def test_without_a_user_somebody_else_says_who_it_is() -> None:
    find_user = front_proxy_user(TRUSTED, fallback=lambda _scope: None)

    assert find_user(remote("10.0.0.1", ("X-Remote-Group", "system:masters"))) is None
    assert find_user(remote("10.0.0.1", ("X-Remote-User", "  "))) is None


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("system:anonymous", ()),
        ("a", ("system:authenticated",)),
        ("a", ("system:unauthenticated",)),
    ],
)
def test_no_group_is_added_that_would_contradict(name: str, groups: tuple[str, ...]) -> None:
    claims = [("X-Remote-User", name), *(("X-Remote-Group", group) for group in groups)]
    found = front_proxy_user(TRUSTED)(remote("10.0.0.1", *claims))

    assert found is not None
    assert found.groups == groups


def test_a_network_that_is_none_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match="host bits"):
        front_proxy_user(["10.0.0.1/8"])


def test_a_spoofed_user_is_not_in_the_log() -> None:
    audited = Audited(answers(), user=front_proxy_user(TRUSTED))

    audited.ask(remote("203.0.113.9", *CLAIM))
    audited.ask(remote("10.0.0.1", *CLAIM))

    assert [event.user.username for event in audited.received] == [
        "system:anonymous",
        "system:anonymous",
        "alice",
        "alice",
    ]
