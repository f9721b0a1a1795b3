"""Bodies of any size through the proxy: what arrives, in which pieces, and what memory it takes."""

import hashlib
import itertools
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clocks import SOON
from kubewitness.event import NO_OBJECT, Stage
from kubewitness.testing.behaviours import PATTERN
from proxies import RunningProxy
from wires import Message, Wire, client, last, request, scripted, served, stages

LARGE = 64 << 20
MAPS = "/api/v1/namespaces/default/configmaps"
MAP = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v"}}
JSON = "application/json"
PROTOBUF = "application/vnd.kubernetes.protobuf"


@pytest.fixture(name="running")
def _running(tmp_path: Path) -> Iterator[RunningProxy]:
    with served(tmp_path) as running:
        yield running


def large() -> Iterator[bytes]:
    return itertools.repeat(PATTERN, LARGE // len(PATTERN))


def digest() -> str:
    total = hashlib.sha256()
    for piece in large():
        total.update(piece)
    return total.hexdigest()


@pytest.mark.parametrize("chunked", ["true", "false"])
def test_a_large_answer_arrives_byte_by_byte(running: RunningProxy, chunked: str) -> None:
    with client(running) as wire:
        answer = wire.ask(f"/fake/bytes/{LARGE}?chunked={chunked}")

    assert answer.is_whole
    assert hashlib.sha256(answer.body).hexdigest() == digest()
    assert bool(answer.header("Transfer-Encoding")) == (chunked == "true")
    event = last(running)
    assert event.stage is Stage.RESPONSE_COMPLETE
    assert event.annotations == {}


def test_a_large_upload_arrives_byte_by_byte(running: RunningProxy) -> None:
    with client(running) as wire:
        wire.send(request("/fake/sink", "POST", Content_Length=str(LARGE)))
        for piece in large():
            wire.send(piece)
        answer = wire.answer()

    assert answer.json() == {"size": LARGE, "sha256": digest()}
    assert running.server.requests[-1].header("Content-Length") == [str(LARGE)]


def test_a_large_upload_in_chunks_arrives_byte_by_byte(running: RunningProxy) -> None:
    with client(running) as wire:
        wire.send(request("/fake/sink", "POST", Transfer_Encoding="chunked"))
        for piece in large():
            wire.send(b"%x\r\n" % len(piece), piece, b"\r\n")
        wire.send(b"0\r\n\r\n")
        answer = wire.answer()

    assert answer.json() == {"size": LARGE, "sha256": digest()}


def test_a_client_that_expects_a_sign_gets_it_before_it_sends(running: RunningProxy) -> None:
    with client(running) as wire:
        wire.send(request("/fake/sink", "POST", Content_Length="5", Expect="100-continue"))
        first = wire.head()
        wire.send(b"hello")
        answer = wire.answer()
        again = wire.ask("/fake/sink", "POST", b"hello")

    assert first == Message("HTTP/1.1 100 Continue", [], b"")
    assert answer.json()["size"] == 5
    assert again.body == answer.body


def test_curl_uploads(running: RunningProxy, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(PATTERN * 64)
    (tmp_path / "upstream.pem").write_bytes(running.server.ca_pem)

    command = ["curl", "-sS", "--cacert", str(tmp_path / "upstream.pem"), "-T"]
    command += [str(tmp_path / "body"), "-H", "Expect: 100-continue", f"{running.url}/fake/sink"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=SOON)

    assert json.loads(done.stdout)["sha256"] == hashlib.sha256(PATTERN * 64).hexdigest()


def test_a_client_that_is_refused_before_it_sends_gets_no_sign(tmp_path: Path) -> None:
    with served(tmp_path) as running, client(running) as wire:
        lines = {"Content_Length": "5", "Authorization": "Bearer nobody's"}
        wire.send(request("/fake/sink", "POST", b"", Expect="100-continue", **lines))
        answer = wire.answer()

        assert answer.status == 401
        assert answer.header("Connection") == ["close"]
        assert wire.to_end() == b""


def test_header_lines_arrive_as_they_were(running: RunningProxy) -> None:
    lines = [("x-B", "2"), ("X-a", "1"), ("X-B", "3"), ("ACCEPT", "*/*"), ("x-Empty", "")]
    text = "".join(f"{name}: {value}\r\n" for name, value in lines)
    with client(running) as wire:
        wire.send(b"GET /fake/echo?b=%2f&a HTTP/1.1\r\nHost: h\r\n", text.encode(), b"\r\n")
        wire.answer()

    received = running.server.requests[-1]
    assert received.target == "/fake/echo?b=%2f&a"
    # Names are not told apart by case; aiohttp puts well-known ones into their usual one.
    sent = [(name.lower(), value) for name, value in lines]
    arrived = [(name.lower(), value) for name, value in received.headers]
    assert [line for line in arrived if line in sent] == sent
    assert [name for name, _ in arrived if name not in dict(sent)] == [
        "host",
        "x-forwarded-for",
        "audit-id",
    ]


def test_an_answers_lines_and_body_are_the_servers(tmp_path: Path) -> None:
    lines = [("x-B", "2"), ("X-a", "1"), ("X-B", "3"), ("Audit-Id", "a"), ("Content-Length", "2")]

    def script(wire: Wire) -> None:
        wire.request()
        text = "".join(f"{name}: {value}\r\n" for name, value in lines)
        wire.send(
            b"HTTP/1.1 299 Odd\r\n", text.encode(), b"Connection: X-C\r\nX-C: 1\r\n\r\n\x00\xff"
        )

    with scripted(tmp_path, script) as running, client(running) as wire:
        answer = wire.ask("/odd")

    assert answer.start.startswith("HTTP/1.1 299 ")
    assert answer.body == b"\x00\xff"
    assert [line for line in answer.headers if line in lines] == lines


def test_many_requests_share_connections(running: RunningProxy) -> None:
    with client(running) as wire:
        for number in range(100):
            assert wire.ask(f"/fake/echo?n={number}").json()["target"].endswith(f"={number}")

    assert running.server.connections == 1


def test_pipelined_requests_are_answered_in_their_order(running: RunningProxy) -> None:
    with client(running) as wire:
        wire.send(b"".join(request("/fake/echo", "POST", b"%d" % n) for n in range(50)))
        answers = [wire.answer() for _ in range(50)]

    assert [answer.json()["body"] for answer in answers] == [str(n) for n in range(50)]


@pytest.mark.parametrize(
    ("method", "target"),
    [("HEAD", "/fake/bytes/1000"), ("HEAD", "/fake/echo"), ("GET", "/fake/status/204")],
)
def test_answers_without_a_body_leave_the_connection_usable(
    running: RunningProxy, method: str, target: str
) -> None:
    with client(running) as wire:
        answer = wire.ask(target, method)
        second = wire.ask("/fake/echo")

    assert answer.status in (200, 204)
    assert second.status == 200
    if "bytes" in target:
        assert answer.header("Content-Length") == ["1000"]
    assert last(running, 4).response_status.code == 200  # type: ignore[union-attr]


def test_not_modified_has_its_headers_and_no_body(running: RunningProxy) -> None:
    with client(running) as wire:
        answer = wire.ask("/fake/status/304", If_None_Match='"1"')
        second = wire.ask("/fake/echo")

    assert answer.status == 304
    assert second.status == 200


@pytest.mark.parametrize("target", ["/fake/bytes/5000", "/fake/bytes/5000?chunked=true"])
def test_a_client_of_http_1_0_gets_the_body_and_then_the_end(
    running: RunningProxy, target: str
) -> None:
    with client(running) as wire:
        wire.send(f"GET {target} HTTP/1.0\r\n\r\n".encode())
        answer = wire.answer()
        rest = wire.to_end()

    assert not answer.header("Transfer-Encoding")
    assert answer.body == PATTERN[:5000]
    assert rest == b""


def test_a_client_that_wants_to_close_is_closed(running: RunningProxy) -> None:
    with client(running) as wire:
        answer = wire.ask("/fake/echo", Connection="close")
        rest = wire.to_end()
    with client(running) as wire:
        assert wire.ask("/fake/echo").status == 200

    assert answer.header("Connection") == ["close"]
    assert rest == b""
    assert running.server.connections == 1  # what the client says of its own is not passed on


def test_a_watchs_events_arrive_while_it_is_open(running: RunningProxy) -> None:
    with client(running) as watching, client(running) as making:
        watching.send(request(f"{MAPS}?watch=true"))
        head = watching.head()
        started = running.events(2)[-1]
        seen = []
        for number in range(3):
            body = json.dumps({**MAP, "metadata": {"name": f"m{number}"}}).encode()
            assert making.ask(MAPS, "POST", body, Content_Type=JSON).status == 201
            seen.append(json.loads(watching.chunk())["object"]["metadata"]["name"])

        assert head.status == 200
        assert seen == ["m0", "m1", "m2"]
        assert started.stage is Stage.RESPONSE_STARTED
        assert len(running.backend.received) == 2 + 3 * 2
    running.backend.until_batches(9)

    event = running.backend.received[-1]
    assert (event.verb, event.stage) == ("watch", Stage.RESPONSE_COMPLETE)
    assert event.response_object is NO_OBJECT
    assert event.annotations == {}
    running.server.until(lambda: running.server.open_connections == 1)  # the making one's


def test_a_watch_that_the_server_ends_is_complete(running: RunningProxy) -> None:
    with client(running) as wire:
        answer = wire.ask(f"{MAPS}?watch=true&timeoutSeconds=1")
        again = wire.ask("/fake/echo")

    assert answer.is_whole
    assert again.status == 200
    assert stages(running, 5)[:3] == list(Stage)[:3]


def test_a_log_that_is_followed_arrives_line_by_line(running: RunningProxy) -> None:
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}}
    with client(running) as wire:
        pods = "/api/v1/namespaces/default/pods"
        assert wire.ask(pods, "POST", json.dumps(pod).encode(), Content_Type=JSON).status == 201
        wire.send(request(f"{pods}/p/log?follow=true"))
        wire.head()
        lines = b""
        while lines.count(b"\n") < 3:
            lines += wire.chunk()
        assert running.events(4)[-1].stage is Stage.RESPONSE_STARTED
        running.server.release.set()
        assert wire.chunk() == b""

    assert lines == b"line 1 of p\nline 2 of p\nline 3 of p\n"
    assert last(running, 5).stage is Stage.RESPONSE_COMPLETE


def sent_until_full(wire: Wire, most: int) -> int:
    """Send until the other side has taken nothing for a while; return how much it took."""
    wire.socket.settimeout(0.5)
    sent = 0
    try:
        while sent < most:
            sent += wire.socket.send(PATTERN)
    except TimeoutError:
        pass
    wire.socket.settimeout(SOON)
    return sent


def test_a_client_that_does_not_read_stops_the_server(tmp_path: Path) -> None:
    taken: list[int] = []
    is_full = threading.Event()

    def script(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        taken.append(sent_until_full(wire, LARGE))
        is_full.set()
        body = memoryview(PATTERN * (LARGE // len(PATTERN)))
        wire.socket.sendall(body[taken[0] :])

    with scripted(tmp_path, script) as running, client(running) as wire:
        wire.send(request("/large"))
        assert is_full.wait(SOON)
        answer = wire.answer()

        assert answer.is_whole
        assert len(answer.body) == LARGE
        assert taken[0] < LARGE // 2


def test_a_server_that_does_not_read_stops_the_client(tmp_path: Path) -> None:
    goes_on = threading.Event()

    def script(wire: Wire) -> None:
        head = wire.head()
        assert goes_on.wait(SOON)
        wire.exactly(int(head.header("Content-Length")[0]))
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with scripted(tmp_path, script) as running, client(running) as wire:
        wire.send(request("/large", "POST", Content_Length=str(LARGE)))
        taken = sent_until_full(wire, LARGE)
        goes_on.set()
        wire.send(bytes(LARGE - taken))

        assert wire.answer().status == 200
        assert taken < LARGE // 2


@pytest.fixture(name="lasting", scope="module")
def _lasting() -> Iterator[RunningProxy]:
    with tempfile.TemporaryDirectory() as place, served(Path(place)) as running:
        yield running


@given(pieces=st.lists(st.binary(min_size=1, max_size=3000), max_size=8), chunked=st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_is_sent_arrives(
    lasting: RunningProxy,
    pieces: list[bytes],
    chunked: bool,  # noqa: FBT001
) -> None:
    with client(lasting) as wire:
        if chunked:
            wire.send(request("/fake/sink", "POST", Transfer_Encoding="chunked"))
            for piece in pieces:
                wire.send(b"%x\r\n" % len(piece), piece, b"\r\n")
            wire.send(b"0\r\n\r\n")
        else:
            total = sum(map(len, pieces))
            wire.send(request("/fake/sink", "POST", Content_Length=str(total)))
            for piece in pieces:
                wire.send(piece)
        answer = wire.answer()

    received = lasting.server.requests[-1]
    assert received.body == b"".join(pieces)
    assert answer.json()["sha256"] == received.sha256
