"""Which header lines go on to the API server, and that it acts as whom the record names."""

from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asking import (
    ANONYMOUS,
    BY_TOKEN,
    ReviewingServer,
    ask,
    ask_by,
    connected,
    events_of,
    last_event,
)
from kubewitness.capture.proxy import Forwarding
from kubewitness.capture.proxy.forwarding import (
    forwarded_headers,
    identifying_headers,
    is_sendable,
    returned_headers,
)
from kubewitness.event import UserInfo
from kubewitness.recorder import Headers, impersonated_user
from proxies import RunningProxy, proxy
from test_proxy_identity import SPOOFED, settings_of
from test_proxy_tokens import PREFIX, protocol, websocket

PROXIES = {"kubewitness-proxy", "front-proxy-client"}
NAMES = (
    "Authorization",
    "X-Remote-User",
    "X-Remote-Group",
    "X-Remote-Extra-Scopes",
    "X-Remote-Uid",
    "Impersonate-User",
    "Impersonate-Group",
    "Impersonate-Uid",
    "Impersonate-Extra-Scopes",
    "Connection",
    "Keep-Alive",
    "Proxy-Authorization",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Host",
    "Audit-ID",
    "Expect",
    "Accept",
    "X-Custom",
    "X-Forwarded-For",
    "Sec-WebSocket-Protocol",
)
HOP_BY_HOP = {"connection", "keep-alive", "proxy-authorization", "te", "trailer", "upgrade"}


@st.composite
def odd_case(draw: st.DrawFn, name: str) -> str:
    ups = draw(st.lists(st.booleans(), min_size=len(name), max_size=len(name)))
    return "".join(char.upper() if up else char.lower() for char, up in zip(name, ups, strict=True))


VALUES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12),
    st.sampled_from([*NAMES, "close, Impersonate-User, X-Custom", protocol("anns"), "a, b"]),
)
LINES = st.lists(st.tuples(st.sampled_from(NAMES).flatmap(odd_case), VALUES), max_size=10)


def forwarded(lines: list[tuple[str, str]], **options: Any) -> list[tuple[str, str]]:
    how = {"peer": "10.0.0.9", "keeps_impersonation": True, "keeps_token": True, **options}
    return forwarded_headers(lines, **how)


@given(lines=LINES, keeps_impersonation=st.booleans(), keeps_token=st.booleans())
def test_nothing_goes_out_that_identifies_a_client(
    *, lines: list[tuple[str, str]], keeps_impersonation: bool, keeps_token: bool
) -> None:
    out = forwarded(lines, keeps_impersonation=keeps_impersonation, keeps_token=keeps_token)

    lower = [name.lower() for name, _ in out]
    assert not [name for name in lower if name.startswith("x-remote-")]
    assert not set(lower) & (HOP_BY_HOP | {"authorization", "host", "audit-id", "expect"})
    assert keeps_impersonation or not [each for each in lower if each.startswith("impersonate-")]
    websockets = [value for name, value in out if name.lower() == "sec-websocket-protocol"]
    assert keeps_token or not any(PREFIX in value for value in websockets)


@given(lines=LINES)
def test_whom_a_client_wants_to_be_goes_on_as_it_was_judged(lines: list[tuple[str, str]]) -> None:
    out = forwarded(lines)

    assert impersonated_user(Headers(out)) == impersonated_user(Headers(lines))
    tokens = Headers(lines).every("Sec-WebSocket-Protocol")
    assert Headers(out).every("Sec-WebSocket-Protocol") == tokens


@given(lines=LINES)
def test_all_lines_of_a_name_are_spelled_alike(lines: list[tuple[str, str]]) -> None:
    spelled = {name for name, _ in forwarded(lines)}

    assert len(spelled) == len({name.lower() for name in spelled})


@given(lines=LINES, peer=st.sampled_from(["", "10.0.0.9"]))
def test_the_peer_is_appended_to_where_a_request_came_from(
    lines: list[tuple[str, str]], peer: str
) -> None:
    connection = ",".join(value for name, value in lines if name.lower() == "connection").lower()
    named = {each.strip() for each in connection.split(",")}
    came = [value for name, value in lines if name.lower() == "x-forwarded-for"]
    kept = [] if "x-forwarded-for" in named else came

    [*chain] = [value for name, value in forwarded(lines, peer=peer) if name == "X-Forwarded-For"]

    hops = [*kept, peer] if peer else kept
    assert chain == ([", ".join(hops)] if hops else [])


@given(
    name=st.text(min_size=1, max_size=8),
    groups=st.lists(st.text(max_size=8), max_size=3),
    forwarding=st.sampled_from(Forwarding),
)
def test_what_the_proxy_says_of_a_user_can_be_sent(
    name: str, groups: list[str], forwarding: Forwarding
) -> None:
    known = [each for each in (name, *groups) if is_sendable(each)]
    user = UserInfo(username="u", groups=tuple(known), extra={name: ("v",)})

    for line, value in identifying_headers(user, forwarding):
        assert line.isascii()
        assert not set(line) & set("\r\n :\0\t")
        assert value == value.strip(" \t")
        assert not set(value) & set("\r\n\0")
        value.encode()


def test_hop_by_hop_headers_do_not_come_back() -> None:
    lines = [("Connection", "close"), ("Warning", "299 - x"), ("warning", "y"), ("TE", "x")]

    assert returned_headers(lines) == [("Warning", "299 - x"), ("warning", "y")]


class Combined(NamedTuple):
    """A proxy in one mode, and connections to it with each kind of credentials."""

    running: RunningProxy
    server: ReviewingServer
    clients: dict[str, HTTPSConnection]


CERTIFICATES = {
    "alice": ("dev",),
    "system:serviceaccount:shop:robot": (),
    "system:anonymous": ("dev",),
    "eve": ("ops", "system:unauthenticated"),
    "bob": ("system:authenticated", "dev"),
}


def may(spec: dict[str, Any]) -> bool:
    return spec["user"] in {"alice", "bob"} and spec["resourceAttributes"]["name"] != "admin"


@pytest.fixture(scope="module", params=list(Forwarding))
def combined(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Combined]:
    place: Path = tmp_path_factory.mktemp("combined")
    server = ReviewingServer(may=may, impersonators={"kubewitness-proxy", "ann", "bob"})
    with server, ExitStack() as closing:
        settings = settings_of(request.param, server, place)
        running = closing.enter_context(proxy(server, place, **settings))
        contexts = {name: running.user(name, *groups) for name, groups in CERTIFICATES.items()}
        clients = {name: connected(running, context) for name, context in contexts.items()}
        clients["nobody"] = connected(running)
        for client in clients.values():
            closing.callback(client.close)
        yield Combined(running, server, clients)


CREDENTIALS = st.sampled_from([*CERTIFICATES, "nobody"])
AUTHORIZATIONS = st.sampled_from(
    [[], ["Bearer anns"], ["bearer anns"], ["Basic eDp5"], ["Bearer  anns"], ["Bearer wrong"]]
)
WANTED = st.lists(
    st.sampled_from(
        [
            ("Impersonate-User", "carol"),
            ("impersonate-user", "admin"),
            ("Impersonate-User", ""),
            ("Impersonate-User", "system:serviceaccount:shop:till"),
            ("Impersonate-User", "system:anonymous"),
            ("Impersonate-Group", "ops"),
            ("IMPERSONATE-GROUP", "system:masters"),
            ("Impersonate-Uid", "7"),
            ("Impersonate-Extra-Scopes", "view"),
            ("Impersonate-Extra-scope%73", "edit"),
            ("Impersonate-Extra-a%0d%0ab", "x"),
            ("Impersonate-Extra-%2", "x"),
            ("Connection", "Impersonate-User, X-Remote-User"),
            ("Connection", "Impersonate-Group, close"),
            *SPOOFED,
        ]
    ),
    max_size=7,
)


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(who=CREDENTIALS, authorization=AUTHORIZATIONS, wanted=WANTED)
def test_upstream_acts_as_whom_the_record_names_in_every_combination(
    combined: Combined, who: str, authorization: list[str], wanted: list[tuple[str, str]]
) -> None:
    running, server, clients = combined
    before = len(server.reached)

    by = [("Authorization", each) for each in authorization]
    asked = ask_by(clients[who], *by, *wanted)

    event = events_of(running, asked)[-1]
    reached = server.reached[before:]
    assert len(reached) <= 1
    for request in reached:
        assert request.authenticated is not None
        if request.user is None:
            assert asked.status in (400, 403)
            assert (event.user, event.impersonated_user) == (request.authenticated, None)
        else:
            assert request.user == (event.impersonated_user or event.user)
            assert request.user.username not in PROXIES
            assert (request.certificate_name in PROXIES) == (who != "nobody")
    if not reached:
        assert asked.status in (400, 401, 403)
        assert event.impersonated_user is None


@pytest.fixture
def server() -> Iterator[ReviewingServer]:
    with ReviewingServer() as running:
        yield running


@pytest.fixture
def running(server: ReviewingServer, tmp_path: Path) -> Iterator[RunningProxy]:
    with proxy(server, tmp_path) as running:
        yield running


def test_a_request_goes_on_with_its_headers_and_without_those_of_the_connection(
    running: RunningProxy, server: ReviewingServer
) -> None:
    asked = ask(
        running,
        ("Accept", "application/json"),
        ("accept", "text/plain"),
        ("X-Custom", "a"),
        ("Connection", "keep-alive, x-private"),
        ("Connection", "X-More"),
        ("X-Private", "b"),
        ("x-more", "c"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-For", "198.51.100.2, 10.0.0.1"),
    )

    [request] = server.reached
    assert request.header("Accept") == ["application/json", "text/plain"]
    assert request.header("X-Custom") == ["a"]
    assert request.header("X-Forwarded-For") == ["203.0.113.7, 198.51.100.2, 10.0.0.1, 127.0.0.1"]
    assert request.header("Audit-ID") == [asked.audit_id]
    assert request.header("Host") == [f"127.0.0.1:{server.port}"]
    names = {name.lower() for name, _ in request.headers}
    assert not names & {"connection", "x-private", "x-more", "keep-alive", "te"}
    assert not names & {"proxy-authorization", "user-agent", "accept-encoding"}


def test_connection_cannot_make_the_proxy_itself_the_user(
    running: RunningProxy, server: ReviewingServer
) -> None:
    """Dropped after it was judged, nothing would say on whose behalf the proxy asks."""
    masters = running.user("alice", "system:masters")

    ask(
        running,
        ("Impersonate-User", "carol"),
        ("Connection", "Impersonate-User"),
        context=masters,
    )

    [request] = server.reached
    assert request.user == UserInfo(username="carol", groups=("system:authenticated",))


def test_a_websocket_of_nobody_stays_one_of_nobody(
    running: RunningProxy, server: ReviewingServer
) -> None:
    ask(running, *websocket("v4.channel.k8s.io"))

    assert server.reached[-1].user == ANONYMOUS
    assert server.reached[-1].header("Upgrade") == ["websocket"]


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "HTTP/2.0", "websocket, h2c", "TLS/1.0"])
def test_there_is_no_upgrade_to_http_that_nobody_audits(
    running: RunningProxy, server: ReviewingServer, protocol: str
) -> None:
    lines = [("Connection", "Upgrade, HTTP2-Settings"), ("HTTP2-Settings", "AAMAAABkAAQ")]

    asked = ask(running, *lines, ("Upgrade", protocol), context=running.user("alice"))

    assert asked.status == 200
    assert server.reached[-1].header("Upgrade") == []
    assert server.reached[-1].header("HTTP2-Settings") == []


@pytest.mark.parametrize("who", ["certificate", "token", "nobody"])
@pytest.mark.parametrize(
    "line",
    [
        ("Impersonate-User", "ca\udcffrol"),
        ("Impersonate-Group", "system:mas\udc80ters"),
        ("Impersonate-Extra-scopes", "\udcff"),
        ("Impersonate-Extra-%ff", "x"),
    ],
)
def test_what_is_no_text_is_refused(
    running: RunningProxy, server: ReviewingServer, who: str, line: tuple[str, str]
) -> None:
    lines = [("Impersonate-User", "carol"), line] if line[0] != "Impersonate-User" else [line]
    by = [BY_TOKEN] if who == "token" else []
    context = running.user("alice") if who == "certificate" else None

    asked = ask(running, *by, *lines, context=context)

    event = last_event(running, asked)
    assert (asked.status, event.impersonated_user) == (400, None)
    assert asked.document["reason"] == "BadRequest"
    assert server.reached == []
