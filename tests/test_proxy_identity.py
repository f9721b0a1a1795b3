"""Who makes a request to the proxy, by a certificate or by nothing, and whom upstream sees."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from asking import (
    ANN,
    ANONYMOUS,
    BY_TOKEN,
    CREDENTIAL_ID,
    ReviewingServer,
    ask,
    certificate,
    events_of,
    last_event,
)
from kubewitness.capture.proxy import Forwarding
from kubewitness.errors import KubeconfigError
from kubewitness.event import Stage, UserInfo
from proxies import RunningProxy, built, proxy

SPOOFED = (
    ("X-Remote-User", "kubernetes-admin"),
    ("x-remote-group", "system:masters"),
    ("X-REMOTE-UID", "0"),
    ("X-Remote-Extra-Scopes", "all"),
    ("x-rEmOtE-eXtRa-acme.com%2fproject", "x"),
)
UNAUTHORIZED = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "Unauthorized",
    "reason": "Unauthorized",
    "code": 401,
}


@pytest.fixture
def server() -> Iterator[ReviewingServer]:
    with ReviewingServer() as running:
        yield running


@pytest.fixture(params=list(Forwarding))
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


def settings_of(mode: Forwarding, server: ReviewingServer, place: Path) -> dict[str, Any]:
    name = "front-proxy-client" if mode is Forwarding.FRONT_PROXY else "kubewitness-proxy"
    path = server.write_kubeconfig(place / "kubeconfig", common_name=name)
    return {"forwarding": mode, "kubeconfig": path}


@pytest.fixture
def running(mode: Forwarding, server: ReviewingServer, tmp_path: Path) -> Iterator[RunningProxy]:
    with proxy(server, tmp_path, **settings_of(mode, server, tmp_path)) as running:
        yield running


def test_the_user_of_a_certificate_is_impersonated_with_the_proxys_credentials(
    server: ReviewingServer, tmp_path: Path
) -> None:
    with proxy(server, tmp_path) as running:
        asked = ask(running, context=running.user("alice", "dev", "ops"))
        event = last_event(running, asked)

    [request] = server.requests
    assert asked.status == 200
    assert request.certificate_name == "kubewitness-proxy"
    assert request.authenticated is not None
    assert request.authenticated.username == "kubewitness-proxy"
    assert request.header("Impersonate-User") == ["alice"]
    assert request.header("Impersonate-Group") == ["dev", "ops"]
    assert not any(name.lower().startswith("x-remote-") for name, _ in request.headers)
    assert event.user.username == "alice"
    assert event.user.groups == ("dev", "ops", "system:authenticated")
    assert event.user == request.user
    assert event.impersonated_user is None


def test_the_user_of_a_certificate_is_named_by_a_front_proxy(
    server: ReviewingServer, tmp_path: Path
) -> None:
    settings = settings_of(Forwarding.FRONT_PROXY, server, tmp_path)
    with proxy(server, tmp_path, **settings) as running:
        asked = ask(running, context=running.user("alice", "dev", "ops"))
        event = last_event(running, asked)

    [request] = server.reached
    assert request.certificate_name == "front-proxy-client"
    assert request.header("X-Remote-User") == ["alice"]
    assert not any(name.lower().startswith("impersonate-") for name, _ in request.headers)
    assert event.user == request.user == request.authenticated
    assert event.user.groups == ("dev", "ops", "system:authenticated")


def test_a_front_proxy_that_is_not_believed_serves_nobody(
    server: ReviewingServer, tmp_path: Path
) -> None:
    path = server.write_kubeconfig(tmp_path / "kubeconfig", common_name="no-front-proxy")
    with proxy(server, tmp_path, forwarding=Forwarding.FRONT_PROXY, kubeconfig=path) as running:
        asked = ask(running, context=running.user("alice"))
        event = last_event(running, asked)

    assert asked.status == 502
    assert "it takes kubewitness:front-proxy-probe for no-front-proxy" in asked.document["message"]
    assert server.reached == []
    assert event.user.username == "alice"
    assert event.response_status is not None
    assert event.response_status.code == 502


@pytest.mark.parametrize(("code", "served"), [(404, 200), (403, 502), (500, 502), (201, 502)])
def test_a_front_proxy_is_used_unless_it_may_not_be_believed(
    code: int, served: int, server: ReviewingServer, tmp_path: Path
) -> None:
    server.answer = (code, b'{"status": {"userInfo": []}}')
    with proxy(
        server, tmp_path, **settings_of(Forwarding.FRONT_PROXY, server, tmp_path)
    ) as running:
        asked = [ask(running, context=running.user("alice")) for _ in range(2)]

    assert [each.status for each in asked] == [served, served]
    assert len(server.reviews) == (1 if served == 200 else 2)


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"token": "t"}, "front-proxy needs a client certificate"),
        ({"token": "t", "as": "bob", "as-groups": ["system:masters"]}, 'remove "as"'),
    ],
)
def test_credentials_that_would_serve_people_as_others_are_refused(
    user: dict[str, Any], said: str, server: ReviewingServer, tmp_path: Path
) -> None:
    path = server.write_kubeconfig(tmp_path / "kubeconfig", identity="token")
    document = yaml.safe_load(path.read_text())
    document["users"][0]["user"] = user
    path.write_text(yaml.safe_dump(document))

    with pytest.raises(KubeconfigError, match=said):
        built(server, tmp_path, forwarding=Forwarding.FRONT_PROXY, kubeconfig=path)


def test_a_proxy_with_a_token_of_its_own_impersonates_as_well(
    server: ReviewingServer, tmp_path: Path
) -> None:
    kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig", identity="token")
    with proxy(server, tmp_path, kubeconfig=kubeconfig) as running:
        event = last_event(running, ask(running, context=running.user("alice", "dev")))

    [request] = server.requests
    assert request.certificate_name is None
    assert request.header("Authorization") == ["Bearer proxy-token"]
    assert request.user == event.user


@pytest.mark.parametrize(
    ("groups", "recorded"),
    [
        ((), ("system:authenticated",)),
        (("dev",), ("dev", "system:authenticated")),
        (("system:authenticated", "dev"), ("system:authenticated", "dev")),
        (("dev", "system:unauthenticated"), ("dev", "system:unauthenticated")),
        (("dev", "dev", "Großkunden"), ("dev", "dev", "Großkunden", "system:authenticated")),
    ],
)
def test_the_groups_are_those_that_upstream_acts_on(
    running: RunningProxy,
    server: ReviewingServer,
    groups: tuple[str, ...],
    recorded: tuple[str, ...],
) -> None:
    event = last_event(running, ask(running, context=running.user("alice", *groups)))

    assert event.user.groups == recorded
    assert server.requests[-1].user == event.user


@pytest.mark.parametrize("name", ["system:serviceaccount:shop:robot", "system:anonymous"])
def test_a_name_that_upstream_has_groups_for_gets_none_that_are_not_recorded(
    running: RunningProxy, server: ReviewingServer, name: str
) -> None:
    event = last_event(running, ask(running, context=running.user(name)))

    assert server.requests[-1].user == event.user
    assert not any("serviceaccounts" in group for group in event.user.groups)
    assert ("system:authenticated" in event.user.groups) == (name != "system:anonymous")


def test_the_last_of_several_names_counts(running: RunningProxy, server: ReviewingServer) -> None:
    pair = certificate(server.authority, names=("first", "last"))

    event = last_event(running, ask(running, context=running.client_context(pair)))

    assert event.user.username == "last"
    assert event.user.extra[CREDENTIAL_ID] is not None
    assert server.requests[-1].user == event.user


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ((), ("system:masters",)),
        (("alice\r\nX-Remote-Group: system:masters",), ()),
        (("alice\nImpersonate-Group: system:masters",), ()),
        (("alice",), ("dev\r\nImpersonate-Group: system:masters",)),
        (("alice",), ("dev\nX-Remote-Group: system:masters",)),
        (("alice\0",), ()),
        (("ali\x7fce",), ()),
        ((" alice",), ()),
        (("alice",), ("dev ",)),
    ],
)
def test_a_certificate_that_no_header_can_name_names_nobody(
    running: RunningProxy,
    server: ReviewingServer,
    names: tuple[str, ...],
    groups: tuple[str, ...],
) -> None:
    pair = certificate(server.authority, names=names, groups=groups)

    event = last_event(running, ask(running, context=running.client_context(pair)))

    assert event.user == ANONYMOUS
    assert server.requests[-1].user == ANONYMOUS
    assert server.requests[-1].certificate_name is None


def test_a_certificate_wins_over_a_token(running: RunningProxy, server: ReviewingServer) -> None:
    event = last_event(running, ask(running, BY_TOKEN, context=running.user("alice")))

    [request] = server.reached
    assert event.user.username == "alice"
    assert request.user == event.user
    assert "anns" not in str(request.headers)


def test_a_certificate_without_a_name_leaves_it_to_the_token(
    running: RunningProxy, server: ReviewingServer
) -> None:
    pair = certificate(server.authority, groups=("system:masters",))

    event = last_event(running, ask(running, BY_TOKEN, context=running.client_context(pair)))

    assert event.user == server.requests[-1].user == ANN


def test_nobody_is_anonymous_over_a_bare_connection(
    running: RunningProxy, server: ReviewingServer
) -> None:
    event = last_event(running, ask(running))

    [request] = server.requests
    assert event.user == request.user == ANONYMOUS
    assert request.certificate_name is None
    assert request.header("Authorization") == []


def test_nobody_is_refused_where_anonymous_requests_are_not_wanted(
    server: ReviewingServer, tmp_path: Path
) -> None:
    with proxy(server, tmp_path, anonymous_auth=False) as running:
        asked = ask(running)
        [event] = events_of(running, asked)
        assert last_event(running, ask(running, BY_TOKEN)).user == ANN

    assert (asked.status, asked.document) == (401, UNAUTHORIZED)
    assert (event.stage, event.user) == (Stage.RESPONSE_STARTED, UserInfo())
    assert len(server.reached) == 1


@pytest.mark.parametrize("who", ["certificate", "token", "nobody"])
def test_nobody_can_speak_as_a_front_proxy(
    running: RunningProxy, server: ReviewingServer, who: str
) -> None:
    context = running.user("alice", "dev") if who == "certificate" else None
    lines = [*SPOOFED, BY_TOKEN] if who == "token" else SPOOFED

    event = last_event(running, ask(running, *lines, context=context))

    request = server.reached[-1]
    expected = {"certificate": "alice", "token": "ann", "nobody": "system:anonymous"}
    assert event.user.username == expected[who]
    assert request.user == event.user
    spoofed = {value for _, value in SPOOFED}
    remote = [value for name, value in request.headers if name.lower().startswith("x-remote-")]
    assert not spoofed & set(remote)


@pytest.mark.parametrize(
    "authorization",
    ["Basic YWxpY2U6c2VjcmV0", "Bearer", "Bearer  anns", "Bearer\tanns", "Negotiate anns", ""],
)
def test_an_authorization_without_a_token_is_nobodys_and_not_forwarded(
    running: RunningProxy, server: ReviewingServer, authorization: str
) -> None:
    event = last_event(running, ask(running, ("Authorization", authorization)))

    [request] = server.requests
    assert event.user == request.user == ANONYMOUS
    assert request.header("Authorization") == []
