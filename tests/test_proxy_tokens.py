"""Bearer tokens: whose they are is asked once, remembered for a while, and never guessed."""

import asyncio
import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asking import (
    ANN,
    ANONYMOUS,
    BY_TOKEN,
    ReviewingServer,
    ask,
    connected,
    events_of,
    last_event,
)
from clocks import HandClock, until
from kubewitness.capture.proxy import TokenIdentity
from kubewitness.capture.proxy.memory import Memory
from kubewitness.event import Stage, UserInfo
from kubewitness.testing import PROXY_TOKEN
from proxies import RunningProxy, proxy
from test_proxy_identity import UNAUTHORIZED

REVIEWS = "kubewitness_proxy_token_reviews_total"
PREFIX = "base64url.bearer.authorization.k8s.io."


@pytest.fixture
def server() -> Iterator[ReviewingServer]:
    with ReviewingServer() as running:
        yield running


@pytest.fixture
def running(server: ReviewingServer, tmp_path: Path) -> Iterator[RunningProxy]:
    with proxy(server, tmp_path) as running:
        yield running


def reviewed(running: RunningProxy, outcome: str) -> float | None:
    return running.metrics.registry.get_sample_value(REVIEWS, {"outcome": outcome})


def turned_by(clock: HandClock, running: RunningProxy) -> None:
    """Let a proxy remember by this clock."""
    running.proxy._relay._authenticator._known._now = clock.monotonic


def websocket(*protocols: str) -> list[tuple[str, str]]:
    lines = [("Sec-WebSocket-Protocol", each) for each in protocols]
    return [("Connection", "Upgrade"), ("Upgrade", "websocket"), *lines]


def protocol(token: str) -> str:
    return PREFIX + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


@pytest.mark.parametrize("identity", ["certificate", "token"])
def test_a_token_goes_over_a_connection_without_anything_of_the_proxys(
    server: ReviewingServer, tmp_path: Path, identity: Any
) -> None:
    kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig", identity=identity)
    with proxy(server, tmp_path, kubeconfig=kubeconfig) as running:
        event = last_event(running, ask(running, BY_TOKEN))

    [review], [request] = server.reviews, server.reached
    assert review.user is not None
    assert review.user.username == "kubewitness-proxy"
    assert request.certificate_name is None
    assert request.header("Authorization") == ["Bearer anns"]
    assert PROXY_TOKEN not in str(request.headers)
    assert event.user == request.user == ANN


@pytest.mark.parametrize(
    "authorization", ["Bearer anns", "bearer anns", "BEARER anns", "Bearer anns trailing words"]
)
def test_a_token_is_read_as_upstream_reads_it(
    running: RunningProxy, server: ReviewingServer, authorization: str
) -> None:
    event = last_event(running, ask(running, ("Authorization", authorization)))

    assert event.user == server.reached[-1].user == ANN
    assert server.reached[-1].header("Authorization") == ["Bearer anns"]


def test_only_the_first_of_two_authorization_lines_counts(
    running: RunningProxy, server: ReviewingServer
) -> None:
    first = last_event(running, ask(running, BY_TOKEN, ("Authorization", "Bearer proxy-token")))
    second = last_event(running, ask(running, ("Authorization", "Basic eDp5"), BY_TOKEN))

    assert first.user == server.reached[0].user == ANN
    assert server.reached[0].header("Authorization") == ["Bearer anns"]
    assert second.user == server.reached[1].user == ANONYMOUS
    assert server.reached[1].header("Authorization") == []


def test_many_requests_cost_one_question(running: RunningProxy, server: ReviewingServer) -> None:
    users = [last_event(running, ask(running, BY_TOKEN)).user for _ in range(5)]

    assert users == [ANN] * 5
    assert len(server.reviews) == 1
    assert (reviewed(running, "known"), len(server.reached)) == (1, 5)


def test_many_at_once_cost_one_question(running: RunningProxy, server: ReviewingServer) -> None:
    server.holds = True
    in_flight = running.proxy.metrics.in_flight
    with ThreadPoolExecutor(20) as pool:
        asking = [pool.submit(ask, running, BY_TOKEN) for _ in range(20)]
        until(lambda: in_flight._value.get() == 20)
        server.release.set()
        answers = [each.result() for each in asking]

    assert [answer.status for answer in answers] == [200] * 20
    assert {last_event(running, answer).user.username for answer in answers} == {"ann"}
    assert len(server.reviews) == 1


def test_one_who_goes_away_does_not_take_the_answer_from_the_others(
    running: RunningProxy, server: ReviewingServer
) -> None:
    server.holds = True
    in_flight = running.proxy.metrics.in_flight
    with ThreadPoolExecutor(1) as pool:
        leaver = connected(running)
        leaver.request("GET", "/fake/echo", headers=dict([BY_TOKEN]))
        until(lambda: in_flight._value.get() == 1)
        stayer = pool.submit(ask, running, BY_TOKEN)
        until(lambda: in_flight._value.get() == 2)
        leaver.close()
        until(lambda: in_flight._value.get() == 1)
        server.release.set()
        assert stayer.result().status == 200

    assert len(server.reviews) == 1


def test_it_is_asked_again_when_the_time_is_over(
    running: RunningProxy, server: ReviewingServer
) -> None:
    clock = HandClock()
    turned_by(clock, running)
    ask(running, BY_TOKEN)
    clock.advance(119)
    ask(running, BY_TOKEN)
    assert len(server.reviews) == 1

    clock.advance(2)
    server.answer = (201, b'{"status":{"authenticated":false}}')
    assert ask(running, BY_TOKEN).status == 401
    assert len(server.reviews) == 2


def test_an_unknown_token_is_remembered_for_ten_seconds_at_most(
    running: RunningProxy, server: ReviewingServer
) -> None:
    clock = HandClock()
    turned_by(clock, running)
    unknown = ("Authorization", "Bearer wrong")
    asked = [ask(running, unknown), ask(running, unknown)]
    assert [each.document for each in asked] == [UNAUTHORIZED] * 2
    assert len(server.reviews) == 1
    assert reviewed(running, "unknown") == 1

    clock.advance(10)
    assert ask(running, unknown).status == 401
    assert len(server.reviews) == 2
    assert server.reached == []


def test_an_unknown_token_makes_one_event_without_a_user(
    running: RunningProxy, server: ReviewingServer
) -> None:
    asked = ask(running, ("Authorization", "Bearer wrong"))

    [event] = events_of(running, asked)
    assert (asked.status, asked.document) == (401, UNAUTHORIZED)
    assert dict(asked.headers)["Audit-Id"] == asked.audit_id
    assert (event.stage, event.user) == (Stage.RESPONSE_STARTED, UserInfo())
    assert event.response_status is not None
    assert (event.response_status.code, event.response_status.reason) == (401, "Unauthorized")
    assert server.reached == []


@pytest.mark.parametrize("identity", list(TokenIdentity))
@pytest.mark.parametrize(
    "answer",
    [
        (403, b'{"kind":"Status","message":"tokenreviews is forbidden"}'),
        (500, b'{"kind":"Status","status":"Failure"}'),
        (200, b"{}"),
        (201, b"not JSON"),
        (201, b"\xff\xfe"),
        (201, b"[]"),
        (201, b""),
        (201, b'{"status":{"authenticated":true}}'),
        (201, b'{"status":{"authenticated":true,"user":{"username":""},"userInfo":{}}}'),
        (201, b'{"status":{"authenticated":true,"user":{"username":7},"userInfo":7}}'),
    ],
)
def test_without_an_answer_that_can_be_used_nobody_is_served(
    server: ReviewingServer, tmp_path: Path, identity: TokenIdentity, answer: tuple[int, bytes]
) -> None:
    server.answer = answer
    with proxy(server, tmp_path, token_identity=identity) as running:
        asked = ask(running, BY_TOKEN)
        [event] = events_of(running, asked)
        server.answer = None
        assert ask(running, BY_TOKEN).status == 200  # an error is not remembered
        assert (reviewed(running, "error"), reviewed(running, "known")) == (1, 1)

    assert (asked.status, asked.document["reason"]) == (502, "ServiceUnavailable")
    assert "anns" not in asked.document["message"]
    assert (event.stage, event.user) == (Stage.RESPONSE_STARTED, UserInfo())
    assert len(server.reached) == 1


@pytest.mark.parametrize("status", [b'"Failure"', b"null", b"[]", b'{"authenticated":"yes"}'])
def test_an_answer_that_does_not_say_yes_is_a_no(
    running: RunningProxy, server: ReviewingServer, status: bytes
) -> None:
    server.answer = (201, b'{"status":' + status + b"}")

    assert ask(running, BY_TOKEN).status == 401
    assert server.reached == []


def test_an_unreachable_api_server_is_a_bad_gateway(
    server: ReviewingServer, tmp_path: Path
) -> None:
    path = server.write_kubeconfig(tmp_path / "kubeconfig", server="https://127.0.0.1:1")
    with proxy(server, tmp_path, kubeconfig=path) as running:
        asked = ask(running, BY_TOKEN)
        [event] = events_of(running, asked)

    assert (asked.status, asked.document["kind"]) == (502, "Status")
    assert (event.stage, event.user) == (Stage.RESPONSE_STARTED, UserInfo())


def test_a_self_subject_review_asks_with_the_users_own_token(
    server: ReviewingServer, tmp_path: Path
) -> None:
    with proxy(server, tmp_path, token_identity=TokenIdentity.SELF_SUBJECT_REVIEW) as running:
        events = [last_event(running, ask(running, BY_TOKEN)) for _ in range(2)]
        unknown = ask(running, ("Authorization", "Bearer wrong"))

    first, second = server.reviews
    assert first.target == "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    assert (first.certificate_name, first.user) == (None, ANN)
    assert [event.user for event in events] == [ANN, ANN]
    assert (second.user, unknown.status, unknown.document) == (None, 401, UNAUTHORIZED)
    assert len(server.reached) == 2


@pytest.mark.parametrize("identity", list(TokenIdentity))
@pytest.mark.parametrize(
    "token", ["an\udcffns", "anns\r\nX-Remote-User: admin", "anns\n", " anns", "anns wrong", "\0"]
)
def test_a_token_that_no_header_can_carry_is_nobodys(
    server: ReviewingServer, tmp_path: Path, identity: TokenIdentity, token: str
) -> None:
    encoded = base64.urlsafe_b64encode(token.encode("utf-8", "surrogateescape")).decode()
    lines = websocket("v4.channel.k8s.io", PREFIX + encoded.rstrip("="))
    with proxy(server, tmp_path, token_identity=identity) as running:
        asked = ask(running, *lines)
        [event] = events_of(running, asked)

    assert (asked.status, asked.document) == (401, UNAUTHORIZED)
    assert (event.stage, event.user) == (Stage.RESPONSE_STARTED, UserInfo())
    assert server.requests == []


def test_a_token_of_odd_bytes_is_nobodys(running: RunningProxy, server: ReviewingServer) -> None:
    asked = ask(running, ("Authorization", "Bearer an\udcffns"))

    [event] = events_of(running, asked)
    assert (asked.status, event.user) == (401, UserInfo())
    assert server.requests == []


def remembering(seconds: float = 10, **settings: Any) -> tuple[Memory[int], HandClock]:
    clock = HandClock()
    return Memory(lambda _: seconds, now=clock.monotonic, **settings), clock


def test_the_oldest_answer_is_forgotten_first() -> None:
    async def scenario() -> list[bytes]:
        memory, _ = remembering(limit=3)
        asked: list[bytes] = []

        async def get(key: bytes) -> None:
            async def answer() -> int:
                asked.append(key)
                return 1

            await memory.get(key, answer)
            assert len(memory) <= 3

        for key in (b"a", b"b", b"c", b"d", b"b", b"c", b"d", b"a"):
            await get(key)
        return asked

    assert asyncio.run(scenario()) == [b"a", b"b", b"c", b"d", b"a"]


def test_what_goes_wrong_goes_to_all_who_wait_and_is_not_remembered() -> None:
    async def scenario() -> None:
        memory, _ = remembering()
        asked = 0

        async def fail() -> int:
            nonlocal asked
            asked += 1
            raise ValueError("not now")

        results = await asyncio.gather(
            *(memory.get(b"a", fail) for _ in range(3)), return_exceptions=True
        )
        assert [str(each) for each in results] == ["not now"] * 3
        assert (asked, len(memory)) == (1, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize(("seconds", "asked"), [(0, 2), (10, 1)])
def test_nothing_is_remembered_for_no_time(seconds: float, asked: int) -> None:
    async def scenario() -> list[int]:
        memory, _ = remembering(seconds)
        answers: list[int] = []

        async def answer() -> int:
            answers.append(1)
            return 1

        await memory.get(b"a", answer)
        await memory.get(b"a", answer)
        return answers

    assert len(asyncio.run(scenario())) == asked


def test_a_question_that_nobody_waits_for_any_more_does_not_outlive_the_proxy(
    running: RunningProxy, server: ReviewingServer
) -> None:
    server.holds = True
    leaver = connected(running)
    leaver.request("GET", "/fake/echo", headers=dict([BY_TOKEN]))
    until(lambda: len(server.reviews) == 1)
    leaver.close()
    until(lambda: running.proxy.metrics.in_flight._value.get() == 0)  # then the fixture looks
