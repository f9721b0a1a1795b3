"""Bearer tokens of browsers, which come among a websocket's protocols."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from asking import ANN, ANONYMOUS, ReviewingServer, ask, events_of, last_event
from kubewitness.event import Stage
from proxies import RunningProxy, proxy
from test_proxy_identity import UNAUTHORIZED
from test_proxy_tokens import PREFIX, protocol, websocket

CHANNEL = "v4.channel.k8s.io"


@pytest.fixture
def server() -> Iterator[ReviewingServer]:
    with ReviewingServer() as running:
        yield running


@pytest.fixture
def running(server: ReviewingServer, tmp_path: Path) -> Iterator[RunningProxy]:
    with proxy(server, tmp_path) as running:
        yield running


@pytest.mark.parametrize(
    "protocols",
    [
        (f"{CHANNEL}, {protocol('anns')}",),
        (f"{protocol('anns')},{CHANNEL}",),
        (CHANNEL, protocol("anns")),
    ],
)
def test_a_token_among_the_protocols_is_passed_on_as_it_came(
    running: RunningProxy, server: ReviewingServer, protocols: tuple[str, ...]
) -> None:
    event = last_event(running, ask(running, *websocket(*protocols)))

    [request] = server.reached
    assert event.user == ANN
    assert request.header("Sec-WebSocket-Protocol") == list(protocols)
    assert request.certificate_name is None
    assert request.header("Authorization") == []


@pytest.mark.parametrize("who", ["certificate", "token"])
def test_a_token_is_taken_out_when_other_credentials_count(
    running: RunningProxy, server: ReviewingServer, who: str
) -> None:
    context = running.user("alice") if who == "certificate" else None
    by = [("Authorization", "Bearer anns")] if who == "token" else []

    event = last_event(
        running,
        ask(
            running,
            *websocket(f"{CHANNEL}, {protocol('anns')}", protocol("proxy-token")),
            *by,
            context=context,
        ),
    )

    assert event.user.username == ("alice" if who == "certificate" else "ann")
    assert server.reached[-1].header("Sec-WebSocket-Protocol") == [CHANNEL]
    assert PREFIX not in str(server.reached[-1].headers)


@pytest.mark.parametrize(
    "protocols",
    [
        (protocol("anns"),),  # there must be one to answer with
        (CHANNEL, protocol("anns"), protocol("anns")),
        (CHANNEL, f"{PREFIX}YW5ucw=="),
        (CHANNEL, f"{PREFIX}YW5uc"),
        (CHANNEL, f"{PREFIX}YW+ucw"),
        (CHANNEL, f"{PREFIX}YW5u cw"),
        (CHANNEL, f"{PREFIX}_w"),  # no UTF-8
        (CHANNEL, protocol("wrong")),
    ],
)
def test_a_bad_token_among_the_protocols_is_refused(
    running: RunningProxy, server: ReviewingServer, protocols: tuple[str, ...]
) -> None:
    asked = ask(running, *websocket(*protocols))

    [event] = events_of(running, asked)
    assert (asked.status, asked.document) == (401, UNAUTHORIZED)
    assert (event.stage, event.user.username) == (Stage.RESPONSE_STARTED, "")
    assert server.reached == []


@pytest.mark.parametrize(
    "lines",
    [
        (),
        (("Connection", "Upgrade"), ("Upgrade", "fake-tunnel")),
        (("Upgrade", "websocket"),),
        (("Connection", "no-upgrade"), ("Upgrade", "websocket")),
    ],
)
def test_what_is_no_websocket_has_no_protocols(
    running: RunningProxy, server: ReviewingServer, lines: tuple[tuple[str, str], ...]
) -> None:
    line = ("Sec-WebSocket-Protocol", f"{CHANNEL}, {protocol('anns')}")

    event = last_event(running, ask(running, *lines, line))

    assert event.user == server.reached[-1].user == ANONYMOUS
    assert server.reviews == []


def test_an_empty_token_is_nobodys(running: RunningProxy, server: ReviewingServer) -> None:
    event = last_event(running, ask(running, *websocket(CHANNEL, PREFIX)))

    assert event.user == server.reached[-1].user == ANONYMOUS


def test_a_token_among_the_protocols_counts_where_that_of_the_header_is_unknown(
    running: RunningProxy, server: ReviewingServer
) -> None:
    lines = websocket(CHANNEL, protocol("anns"))

    event = last_event(running, ask(running, ("Authorization", "Bearer wrong"), *lines))

    assert event.user == ANN
    assert server.reached[-1].header("Authorization") == []


def test_connection_cannot_take_the_token_away_that_was_judged(
    running: RunningProxy, server: ReviewingServer
) -> None:
    lines = websocket(CHANNEL, protocol("anns"))

    with contextlib.suppress(ConnectionError):
        ask(running, ("Connection", "Sec-WebSocket-Protocol"), *lines)

    assert server.reached[-1].header("Sec-WebSocket-Protocol") == [CHANNEL, protocol("anns")]
