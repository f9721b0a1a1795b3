"""What is no HTTP, too much of it, or too slow: refused in a few words, and no event that lies."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from clocks import SOON
from kubewitness.event import Event, Status
from proxies import RunningProxy
from wires import (
    Wire,
    client,
    last,
    served,
)


@pytest.fixture(name="running")
def _running(tmp_path: Path) -> Iterator[RunningProxy]:
    with served(tmp_path) as running:
        yield running


def status_of(event: Event) -> Status:
    assert event.response_status is not None
    return event.response_status


MALFORMED = {
    "no request line": b"\x16\x03\x01 nonsense\r\n\r\n",
    "no version": b"GET /fake/echo\r\n\r\n",
    "a version of the future": b"GET /fake/echo HTTP/9.9\r\nHost: h\r\n\r\n",
    "no colon": b"GET /fake/echo HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n",
    "a space before the colon": b"GET /fake/echo HTTP/1.1\r\nHost : h\r\n\r\n",
    "NUL in a header": b"GET /fake/echo HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
    "NUL in the target": b"GET /fake/echo\0 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a space in the target": b"GET /fake/echo and more HTTP/1.1\r\nHost: h\r\n\r\n",
    "a bare LF in a header": b"GET /fake/echo HTTP/1.1\r\nHost: h\r\nX: a\nY b\r\n\r\n",
    "a folded header": b"GET /fake/echo HTTP/1.1\r\nHost: h\r\nX: a\r\n b\0\r\n\r\n",
    "two lengths": b"POST /fake/sink HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": (
        b"POST /fake/sink HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "no length": b"POST /fake/sink HTTP/1.1\r\nHost: h\r\nContent-Length: five\r\n\r\nhello",
    "a negative length": b"POST /fake/sink HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n",
    "an unknown framing": b"POST /fake/sink HTTP/1.1\r\nTransfer-Encoding: odd\r\n\r\n0\r\n\r\n",
    "an empty method": b" /fake/echo HTTP/1.1\r\nHost: h\r\n\r\n",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_http_is_a_400_and_no_event(running: RunningProxy, data: bytes) -> None:
    with client(running) as wire:
        wire.send(data)
        answer = wire.answer()

        assert answer.status == 400
        assert answer.body.startswith(b"400 ")
        assert wire.to_end() == b""
    assert running.backend.received == []
    assert running.server.requests == []


ODD_TARGETS = {
    "absolute": ("GET", b"http://elsewhere/fake/echo?a=b", 200, "/fake/echo?a=b"),
    "non-ASCII": ("GET", "/fake/echo?q=ä".encode(), 400, None),
    "not UTF-8": ("GET", b"/fake/echo?q=\xff", 400, None),
    "a fragment": ("GET", b"/fake/echo?q=#a", 200, "/fake/echo?q=%23a"),
    "dots": ("GET", b"/fake/./../fake/echo", 404, "/fake/./../fake/echo"),
    "double slash": ("GET", b"//fake/echo", 404, "//fake/echo"),
    "a star": ("OPTIONS", b"*", 400, None),
    "no slash": ("GET", b"fake/echo", 400, None),
    "a bad escape": ("GET", b"/fake/%zz", 400, None),
    "an authority": ("CONNECT", b"elsewhere:443", 400, None),
    "a user of elsewhere": ("CONNECT", b"@elsewhere:443", 400, None),
}


@pytest.mark.parametrize(
    ("method", "target", "code", "asked"), ODD_TARGETS.values(), ids=ODD_TARGETS
)
def test_odd_targets_are_passed_on_or_refused(
    running: RunningProxy, method: str, target: bytes, code: int | None, asked: str | None
) -> None:
    with client(running) as wire:
        wire.send(method.encode(), b" ", target, b" HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = wire.answer()

    assert answer.is_whole
    assert answer.status < 500
    assert code in (None, answer.status)
    assert [each.target for each in running.server.requests] == ([asked] if asked else [])
    if running.backend.received:
        assert status_of(last(running)).code == answer.status


FLOODS = {
    "many headers": b"".join(b"X-%d: a\r\n" % number for number in range(10_000)) + b"\r\n",
    "a long header": b"X: " + b"a" * (2 << 20) + b"\r\n\r\n",
    "headers without end": b"X: a\r\n" * (1 << 19),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_headers_is_refused(running: RunningProxy, flood: bytes) -> None:
    with client(running) as wire:
        send_most(wire, b"GET /fake/echo HTTP/1.1\r\nHost: h\r\n" + flood)
        answer = wire.answer()
        wire.to_end()

    assert answer.status in (400, 431)
    assert running.backend.received == []


def test_a_long_target_is_refused(running: RunningProxy) -> None:
    with client(running) as wire:
        send_most(wire, b"GET /" + b"a" * (2 << 20) + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = wire.answer()
        wire.to_end()

    assert answer.status in (400, 414, 431)
    assert running.backend.received == []


def send_most(wire: Wire, data: bytes) -> None:
    """Send until the peer closes."""
    with contextlib.suppress(OSError):
        wire.send(data)


def test_a_head_that_is_as_large_as_may_be_is_passed_on(running: RunningProxy) -> None:
    with client(running) as wire:
        answer = wire.ask("/fake/sink", X="a" * 500_000)

    assert answer.status == 200
    assert len(running.server.requests[0].header("X")[0]) == 500_000


@pytest.mark.parametrize("said", [b"", b"GET /fake/echo HTTP/1.1\r\nHost: h"])
def test_a_head_that_does_not_come_is_a_408(tmp_path: Path, said: bytes) -> None:
    with served(tmp_path, head_timeout=0.1) as running, client(running) as wire:
        wire.send(said)
        answer = wire.answer()

        assert answer.status == 408
        assert wire.to_end() == b""
        assert running.backend.received == []


def test_the_time_for_a_head_runs_for_every_request(tmp_path: Path) -> None:
    with served(tmp_path, head_timeout=0.1) as running, client(running) as wire:
        assert wire.ask("/fake/echo").status == 200
        wire.send(b"G")
        answer = wire.answer()

        assert answer.status == 408


def test_an_idle_connection_is_kept_longer_than_a_head_may_take(tmp_path: Path) -> None:
    with (
        served(tmp_path, head_timeout=0.05) as running,
        client(running) as idle,
        client(running) as slow,
    ):
        assert idle.ask("/fake/echo").status == 200
        assert slow.answer().status == 408
        assert idle.ask("/fake/echo").status == 200


def test_nothing_hangs_on_a_connection_that_never_says_hello(tmp_path: Path) -> None:
    with (
        served(tmp_path) as running,
        socket.create_connection(("127.0.0.1", running.port), SOON),
        client(running) as wire,
    ):
        assert wire.ask("/fake/echo").status == 200
