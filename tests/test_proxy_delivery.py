"""Events on their way out: from a thread, in order, and what happens when they cannot be stored."""

from collections.abc import Sequence
from pathlib import Path

import pytest

import proxies
from clocks import until
from collecting import CollectingBackend
from kubewitness.event import Event, Stage
from kubewitness.testing import FakeAPIServer
from proxies import RunningProxy
from wires import AUTHORITY, client, last, request, served, stages

MAPS = "/api/v1/namespaces/default/configmaps"


def waiting_backend() -> CollectingBackend:
    backend = CollectingBackend()
    backend.waits = True
    return backend


def test_a_backend_that_waits_gets_events_from_a_thread(tmp_path: Path) -> None:
    with served(tmp_path, backend=waiting_backend()) as running:
        running.backend.gate.clear()
        with client(running) as wire, client(running) as other:
            wire.send(request("/fake/echo"))
            running.backend.until_at_once(1)
            other.send(request("/fake/echo"))
            running.backend.until_at_once(2)  # the loop does not hang
            assert running.server.requests == []
            running.backend.gate.set()
            assert wire.answer().status == 200
            assert other.answer().status == 200
        assert len(running.events(4)) == 4


@pytest.mark.parametrize("after", [1, 2])
def test_events_are_delivered_in_order_though_the_client_leaves_meanwhile(
    tmp_path: Path, after: int
) -> None:
    with served(tmp_path, backend=waiting_backend()) as running:
        running.backend.gate.clear()
        with client(running) as wire:
            wire.send(request(f"{MAPS}?watch=true"))
            for number in range(1, after):
                running.backend.until_at_once(1)
                running.backend.gate.set()
                running.backend.until_batches(number)
                running.backend.gate.clear()
            running.backend.until_at_once(1)
        running.backend.gate.set()

        until(lambda: len(running.backend.received) == 3)
        assert stages(running, 2) == list(Stage)[:3]
        assert running.backend.most_at_once == 1


def test_a_client_that_leaves_during_the_last_delivery_is_no_fault(tmp_path: Path) -> None:
    with served(tmp_path, backend=waiting_backend(), policy=ONLY_COMPLETE) as running:
        running.backend.gate.clear()
        with client(running) as wire:
            wire.send(request("/fake/echo"))
            running.backend.until_at_once(1)
        until(lambda: running.call(busy(running)) == 0)
        running.backend.gate.set()

        assert last(running, 1).stage is Stage.RESPONSE_COMPLETE


async def busy(running: RunningProxy) -> int:
    server = running.proxy._server
    assert server is not None
    return sum(each.transport is not None for each in server.connections)


ONLY_COMPLETE = proxies.EVERYTHING + "omitStages: [RequestReceived]\n"


def test_a_first_event_that_cannot_be_stored_refuses_the_request(tmp_path: Path) -> None:
    backend = CollectingBackend(answer=False)
    with served(tmp_path, backend=backend) as running, client(running) as wire:
        answer = wire.ask("/fake/echo?a=<b>")

        assert answer.status == 500
        assert answer.body == (
            b'Internal Server Error: "/fake/echo?a=&lt;b&gt;": failed to store audit event\n'
        )
        assert running.server.requests == []
        assert stages(running, 1) == [Stage.REQUEST_RECEIVED]


class BreakingBackend(CollectingBackend):
    """Fails at one stage as no backend should: by an exception."""

    def process_events(self, events: Sequence[Event]) -> bool:
        if any(event.stage == Stage.RESPONSE_STARTED for event in events):
            raise RuntimeError("the sink is broken")
        return super().process_events(events)


def test_a_fault_of_the_proxy_itself_is_a_panic_as_upstream_has_it(tmp_path: Path) -> None:
    server = FakeAPIServer(authority=AUTHORITY)
    with server, proxies.proxy(server, tmp_path, backend=BreakingBackend()) as running:
        with client(running) as wire:
            assert wire.ask(f"{MAPS}?watch=true").status == 500
        received, panic = running.events(2)

    assert received.stage == Stage.REQUEST_RECEIVED
    assert panic.stage == Stage.PANIC
    assert panic.response_status is not None
    assert panic.response_status.message == "APIServer panic'd: the sink is broken"
