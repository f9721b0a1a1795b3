"""The end of a proxy: what is under way ends well, what would go on is cut, and all is told."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clocks import SOON, until
from kubewitness.event import Event, Stage
from kubewitness.testing.behaviours import PATTERN
from proxies import RunningProxy
from wires import ABORTED, Wire, client, request, scripted, served

MAPS = "/api/v1/namespaces/default/configmaps"
ENDED = "the proxy was ended before the end of the answer"


@contextlib.contextmanager
def ending(running: RunningProxy) -> Iterator[None]:
    """Tell a proxy to end, and see to it that it has; meanwhile it drains."""
    stopping = threading.Thread(target=running.stop)
    stopping.start()
    try:
        until(lambda: not listens(running))
        yield
    finally:
        stopping.join(SOON)
        assert not stopping.is_alive()


def listens(running: RunningProxy) -> bool:
    try:
        socket.create_connection(("127.0.0.1", running.port), SOON).close()
    except ConnectionError:
        return False
    return True


def of(running: RunningProxy, verb: str) -> list[Event]:
    return [event for event in running.backend.received if event.verb == verb]


def test_a_request_that_is_under_way_ends_well(tmp_path: Path) -> None:
    with served(tmp_path) as running, client(running) as wire:
        wire.send(request("/fake/slow"))
        running.server.until_requests(1)
        with ending(running):
            running.server.release.set()
            answer = wire.answer()
            assert answer.is_whole
            assert answer.status == 200
            assert wire.to_end() == b""

        assert [event.stage for event in running.backend.received] == [
            Stage.REQUEST_RECEIVED,
            Stage.RESPONSE_COMPLETE,
        ]
        assert running.backend.received[-1].annotations == {}


def test_an_answer_that_has_begun_ends_well(tmp_path: Path) -> None:
    with served(tmp_path) as running, client(running) as wire:
        wire.send(request("/fake/slow?after=body"))
        wire.head()
        with ending(running):
            running.server.release.set()
            assert wire.to_end() == b"half of it, and the other half.\n"


def test_an_upload_that_is_under_way_ends_well(tmp_path: Path) -> None:
    with served(tmp_path) as running, client(running) as wire:
        wire.send(request("/fake/sink", "POST", Content_Length=str(64 * len(PATTERN))), PATTERN)
        running.events(1)
        with ending(running):
            wire.send(PATTERN * 63)
            answer = wire.answer()
            wire.to_end()

        assert answer.json()["size"] == 64 * len(PATTERN)
        assert running.backend.received[-1].stage is Stage.RESPONSE_COMPLETE


def test_idle_connections_are_closed_at_once(tmp_path: Path) -> None:
    with served(tmp_path) as running, client(running) as idle, client(running) as busy:
        assert idle.ask("/fake/echo").status == 200
        with client(running) as silent:
            busy.send(request("/fake/slow"))
            running.server.until_requests(2)
            with ending(running):
                assert idle.to_end() == b""
                assert silent.to_end() == b""
                running.server.release.set()
                assert busy.answer().status == 200
                busy.to_end()


def test_a_watch_is_cut_and_says_so(tmp_path: Path) -> None:
    with served(tmp_path) as running, client(running) as wire:
        wire.send(request(f"{MAPS}?watch=true"))
        wire.head()
        with ending(running):
            assert wire.to_end() == b""

        stages = [event.stage for event in running.backend.received]
        assert stages == list(Stage)[:3]
        assert running.backend.received[-1].annotations[ABORTED] == ENDED


def test_a_tunnel_is_cut_and_says_so(tmp_path: Path) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        wire.to_end()

    with scripted(tmp_path, script) as running, client(running) as wire:
        target = "/api/v1/namespaces/default/pods/p/exec?command=sh"
        wire.send(request(target, Connection="Upgrade", Upgrade="x"))
        assert wire.head().status == 101
        with ending(running):
            assert wire.to_end() == b""

        stages = [event.stage for event in running.backend.received]
        assert stages == list(Stage)[:3]
        assert running.backend.received[-1].annotations[ABORTED] == ENDED


def test_all_at_once_end_each_in_its_own_way(tmp_path: Path) -> None:
    with (
        served(tmp_path, grace=SOON) as running,
        client(running) as watching,
        client(running) as slow,
        client(running) as making,
    ):
        watching.send(request(f"{MAPS}?watch=true"))
        watching.head()
        slow.send(request("/fake/slow"))
        body = json.dumps({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}})
        lines = {"Content_Length": str(len(body)), "Content_Type": "application/json"}
        making.send(request(MAPS, "POST", b"", **lines))
        running.events(4)
        with ending(running):
            making.send(body.encode())
            assert making.answer().status == 201
            making.to_end()
            assert json.loads(watching.chunk())["type"] == "ADDED"  # there is some grace
            running.server.release.set()
            assert slow.answer().status == 200
            slow.to_end()
            watching.socket.close()

        assert [event.stage for event in of(running, "watch")] == list(Stage)[:3]
        assert ABORTED not in of(running, "watch")[-1].annotations
        assert of(running, "create")[-1].stage is Stage.RESPONSE_COMPLETE
        assert of(running, "get")[-1].stage is Stage.RESPONSE_COMPLETE


@pytest.mark.parametrize("target", ["/fake/slow", "/fake/slow?after=body", "/fake/sink"])
def test_a_request_that_does_not_end_in_time_is_cut(tmp_path: Path, target: str) -> None:
    with served(tmp_path, request_timeout=0.3) as running, client(running) as wire:
        wire.send(request(target, "POST", Content_Length="10"), b"12345")
        running.events(1)
        with ending(running):
            wire.to_end()

        event = running.backend.received[-1]
        assert len(running.backend.received) == 2
        assert event.stage in (Stage.RESPONSE_COMPLETE, Stage.PANIC)


def test_a_client_that_reads_nothing_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with served(tmp_path, request_timeout=0.3) as running, client(running) as wire:
        wire.send(request(f"/fake/bytes/{64 << 20}"))
        wire.head()
        with ending(running):
            pass

        assert running.backend.received[-1].stage is Stage.PANIC


def test_a_proxy_that_serves_nobody_ends_at_once(tmp_path: Path) -> None:
    with served(tmp_path) as running, ending(running):
        pass
