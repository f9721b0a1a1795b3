"""What goes wrong, on either side: a clear answer, an event that tells the truth, nothing left."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxies
from kubewitness.event import Event, Stage, Status
from kubewitness.testing.behaviours import PATTERN
from proxies import RunningProxy
from wires import (
    ABORTED,
    Scripted,
    Wire,
    client,
    last,
    recorded,
    request,
    scripted,
    served,
)

LARGE = 64 << 20
MAPS = "/api/v1/namespaces/default/configmaps"
MAP = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}
BODY = json.dumps(MAP).encode()
JSON = "application/json"
LEFT = "the client closed the connection before the end of the answer"
LEFT_EARLY = "the client closed the connection before there was an answer"
BROKE_OFF = "the API server closed the connection before the end of its answer"


@pytest.fixture(name="running")
def _running(tmp_path: Path) -> Iterator[RunningProxy]:
    with served(tmp_path) as running:
        yield running


def status_of(event: Event) -> Status:
    assert event.response_status is not None
    return event.response_status


def is_panic(event: Event) -> bool:
    status = status_of(event)
    return (event.stage, status.code, status.message) == (
        Stage.PANIC,
        500,
        "APIServer panic'd: net/http: abort Handler",
    )


# -- The API server


def test_a_server_that_is_down_is_said_in_status_form(running: RunningProxy) -> None:
    running.server.stop()
    with client(running) as wire:
        answer = wire.ask(f"{MAPS}?x=1", "POST", BODY, Content_Type=JSON)
        running.server.start()
        again = wire.ask(MAPS, "POST", BODY, Content_Type=JSON)

    assert answer.status == 502
    status = answer.json()
    assert (status["kind"], status["code"], status["reason"]) == (
        "Status",
        502,
        "ServiceUnavailable",
    )
    assert (
        status["message"] == "the API server cannot be reached: cannot connect: Connection refused"
    )
    running.events(4)
    event = running.backend.received[1]
    assert event.stage is Stage.RESPONSE_COMPLETE
    assert status_of(event).message == status["message"]
    assert recorded(event.response_object) == status
    assert answer.header("Audit-Id") == [event.audit_id]
    assert again.status == 201


def test_a_server_that_speaks_no_tls_is_not_reached(tmp_path: Path) -> None:
    def script(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Scripted(script) as upstream, served(tmp_path) as first:
        address = upstream.url.replace("http:", "https:")
        path = first.server.write_kubeconfig(tmp_path / "other", server=address)
        (tmp_path / "b").mkdir()
        with proxies.proxy(first.server, tmp_path / "b", kubeconfig=path) as running:
            with client(running) as wire:
                answer = wire.ask("/version")

            assert answer.status == 502
            assert answer.json()["message"].startswith("the API server cannot be reached: ")
            assert status_of(last(running)).code == 502


@pytest.mark.parametrize("how", ["reset?after=accept", "close", "garbage"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_ends_before_the_answer_is_a_502(
    running: RunningProxy, how: str, method: str
) -> None:
    with client(running) as wire:
        answer = wire.ask(f"/fake/{how}", method)
        again = wire.ask("/fake/echo")

    assert answer.status == 502
    assert answer.json()["reason"] == "ServiceUnavailable"
    assert again.status == 200
    running.events(4)
    event = running.backend.received[1]
    assert event.stage is Stage.RESPONSE_COMPLETE
    assert status_of(event).code == 502


@pytest.mark.parametrize(
    "how",
    [
        "reset?after=head",
        "reset?after=body",
        "close?after=head",
        "close?after=body",
        "close?after=body&chunked=true",
    ],
)
def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(
    running: RunningProxy, how: str
) -> None:
    with client(running) as wire:
        answer = wire.ask(f"/fake/{how}")

    assert not answer.is_whole
    event = last(running)
    assert is_panic(event)
    assert event.annotations[ABORTED] == BROKE_OFF


def test_an_answer_that_breaks_off_is_seen_by_clients_of_http_1_0(running: RunningProxy) -> None:
    with client(running) as wire:
        wire.socket.suppress_ragged_eofs = False  # type: ignore[attr-defined]
        wire.send(b"GET /fake/close?after=body&chunked=true HTTP/1.0\r\n\r\n")
        wire.head()
        with pytest.raises(OSError, match=r"EOF|reset"):
            exhaust(wire)

    assert is_panic(last(running))


def exhaust(wire: Wire) -> None:
    while wire.socket.recv(1 << 16):
        pass


def test_a_refusal_that_breaks_off_is_a_panic_too(running: RunningProxy, tmp_path: Path) -> None:
    def script(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n")
        wire.send(b'Content-Length: 100\r\n\r\n{"kind":"Status"')

    (tmp_path / "b").mkdir()
    with scripted(tmp_path / "b", script) as other, client(other) as wire:
        answer = wire.ask(MAPS)

        assert not answer.is_whole
        assert is_panic(last(other))
    assert running.backend.received == []


def test_no_answer_in_time_is_a_504(tmp_path: Path) -> None:
    with served(tmp_path, request_timeout=0.2) as running:
        with client(running) as wire:
            answer = wire.ask("/fake/slow")

        assert answer.status == 504
        assert answer.json()["reason"] == "Timeout"
        assert "allotted timeout" in answer.json()["message"]
        assert status_of(last(running)).code == 504
        running.server.until(lambda: running.server.open_connections == 0)


def test_an_answer_that_does_not_end_in_time_is_broken_off(tmp_path: Path) -> None:
    with served(tmp_path, request_timeout=0.2) as running, client(running) as wire:
        answer = wire.ask("/fake/slow?after=body")

        assert not answer.is_whole
        assert is_panic(event := last(running))
        assert event.annotations[ABORTED] == "the answer did not end within the allotted timeout"


def test_a_body_that_does_not_come_in_time_is_a_504(tmp_path: Path) -> None:
    with served(tmp_path, request_timeout=0.2) as running, client(running) as wire:
        wire.send(request(MAPS, "POST", Content_Length="10", Content_Type=JSON), b"{")
        answer = wire.answer()

        assert answer.status == 504
        assert status_of(last(running)).code == 504


def test_long_running_requests_may_take_longer(tmp_path: Path) -> None:
    with (
        served(tmp_path, request_timeout=0.2) as running,
        client(running) as watching,
        client(running) as wire,
    ):
        watching.send(request(f"{MAPS}?watch=true"))
        watching.head()
        assert wire.ask("/fake/slow").status == 504  # so the time is over
        assert wire.ask(MAPS, "POST", BODY, Content_Type=JSON).status == 201
        assert json.loads(watching.chunk())["type"] == "ADDED"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_kept_connection_that_dies_is_tried_again_only_where_that_is_harmless(
    tmp_path: Path, method: str
) -> None:
    seen: list[str] = []

    def script(wire: Wire) -> None:
        wire.send(b"")
        while (head := wire.request()).is_whole:
            seen.append(head.start)
            if len(seen) == 2:
                return  # without an answer
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with scripted(tmp_path, script) as running, client(running) as wire:
        assert wire.ask("/first").status == 200
        body = b"{}" if method in ("POST", "PUT") else b""
        answer = wire.ask("/second", method, body)

        assert answer.status == (200 if method == "GET" else 502)
        assert len(seen) == (3 if method == "GET" else 2)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_nothing_is_tried_again_over_a_new_connection(tmp_path: Path, method: str) -> None:
    seen: list[str] = []

    def script(wire: Wire) -> None:
        seen.append(wire.request().start)  # and no answer

    with scripted(tmp_path, script) as running, client(running) as wire:
        assert wire.ask(f"{MAPS}/a", method).status == 502
        assert last(running).response_status is not None
    assert len(seen) == 1


def test_a_request_for_another_protocol_is_never_tried_again(tmp_path: Path) -> None:
    seen: list[str] = []

    def script(wire: Wire) -> None:
        while (head := wire.request()).is_whole:
            seen.append(head.start)
            if len(seen) == 2:
                return
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    target = "/api/v1/namespaces/a/pods/x/exec?command=reboot"
    with scripted(tmp_path, script) as running, client(running) as wire:
        assert wire.ask("/first").status == 200
        answer = wire.ask(target, Connection="Upgrade", Upgrade="websocket")
        assert answer.status == 502
    assert len(seen) == 2


@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
def test_an_upload_is_never_tried_again_with_the_rest_of_it(tmp_path: Path, framing: str) -> None:
    seen: list[str] = []

    def script(wire: Wire) -> None:
        while (head := wire.head()).is_whole:
            seen.append(head.start)
            if len(seen) == 2:
                wire.exactly(1 << 16)
                return  # in the middle of the body
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with scripted(tmp_path, script) as running, client(running) as wire:
        assert wire.ask("/first").status == 200
        if framing == "chunked":
            wire.send(request("/second", "PUT", Transfer_Encoding="chunked"))
            wire.send(b"%x\r\n" % (1 << 17), bytes(1 << 17), b"\r\n")
        else:
            wire.send(request("/second", "PUT", Content_Length=str(1 << 20)), bytes(1 << 17))

        assert wire.answer().status == 502
        assert len(seen) == 2


# -- The client


def test_a_client_that_leaves_before_the_answer_is_noted(running: RunningProxy) -> None:
    with client(running) as wire:
        wire.send(request("/fake/slow"))
        running.server.until_requests(1)

    event = last(running)
    assert event.stage is Stage.RESPONSE_COMPLETE
    assert status_of(event).message == "Connection closed early"
    assert event.annotations[ABORTED] == LEFT_EARLY
    running.server.until(lambda: running.server.open_connections == 0)


@pytest.mark.parametrize("resets", [True, False])
def test_a_client_that_leaves_in_the_middle_of_a_download_is_noted(
    running: RunningProxy,
    resets: bool,  # noqa: FBT001
) -> None:
    with client(running) as wire:
        wire.send(request(f"/fake/bytes/{LARGE}"))
        wire.head()
        wire.exactly(1000)
        if resets:
            wire.reset()

    event = last(running)
    assert event.stage is Stage.RESPONSE_COMPLETE
    assert status_of(event).code == 200
    assert event.annotations[ABORTED] == LEFT
    running.server.until(lambda: running.server.open_connections == 0)


@pytest.mark.parametrize("size", [1000, LARGE])
def test_a_client_that_leaves_in_the_middle_of_an_upload_is_noted(
    running: RunningProxy, size: int
) -> None:
    with client(running) as wire:
        wire.send(request(MAPS, "POST", Content_Length=str(size), Content_Type=JSON))
        wire.send(BODY)
        running.events(1)

    event = last(running)
    assert event.stage is Stage.RESPONSE_COMPLETE
    assert event.annotations[ABORTED] == LEFT_EARLY
    assert all(not each.complete for each in running.server.requests)
    running.server.until(lambda: running.server.open_connections == 0)


def test_a_client_that_leaves_a_watch_ends_it(running: RunningProxy) -> None:
    with client(running) as wire:
        wire.send(request(f"{MAPS}?watch=true"))
        wire.head()
        wire.reset()

    event = last(running, 3)
    assert event.stage is Stage.RESPONSE_COMPLETE
    assert ABORTED not in event.annotations
    running.server.until(lambda: running.server.open_connections == 0)


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"3\r\nabcd\r\n", b"-1\r\n\r\n", b"5\r\nhello\r\nx\r\n"]
)
@pytest.mark.parametrize("target", [MAPS, "/fake/sink"])
def test_a_malformed_chunk_is_a_400(running: RunningProxy, body: bytes, target: str) -> None:
    with client(running) as wire:
        wire.send(request(target, "POST", Transfer_Encoding="chunked", Content_Type=JSON))
        running.events(1)  # so that it is the body that is wrong, of a request that is under way
        wire.send(body)
        answer = wire.answer()
        wire.to_end()

    assert answer.status == 400
    assert answer.json()["reason"] == "BadRequest"
    event = last(running)
    assert status_of(event).code == 400
    assert all(not each.complete for each in running.server.requests)


def test_a_large_request_to_a_server_that_is_down_is_answered(running: RunningProxy) -> None:
    running.server.stop()
    with client(running) as wire:
        wire.send(request(MAPS, "POST", Content_Length=str(LARGE), Content_Type=JSON), PATTERN)
        answer = wire.answer()
    running.server.start()

    assert answer.status == 502
    assert status_of(last(running)).code == 502
