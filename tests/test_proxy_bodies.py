"""What is recorded of the bodies that pass: decoded, cut off, refused, by level."""

import gzip
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clocks import SOON
from kubewitness.event import NO_OBJECT, Stage
from kubewitness.recorder import MAX_BODY
from kubewitness.testing.behaviours import PATTERN
from proxies import RunningProxy
from wires import Wire, client, last, policy, recorded, request, scripted, served

LARGE = 64 << 20
MAPS = "/api/v1/namespaces/default/configmaps"
MAP = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {"k": "v"}}
JSON = "application/json"
PROTOBUF = "application/vnd.kubernetes.protobuf"


@pytest.fixture(name="running")
def _running(tmp_path: Path) -> Iterator[RunningProxy]:
    with served(tmp_path) as running:
        yield running


def test_an_answer_in_gzip_is_unpacked_for_the_record_only(running: RunningProxy) -> None:
    with client(running) as wire:
        answer = wire.ask(f"{MAPS}/a?fake=gzip", Accept_Encoding="gzip")

    assert answer.header("Content-Encoding") == ["gzip"]
    event = last(running)
    assert recorded(event.response_object) == json.loads(gzip.decompress(answer.body))


def test_what_unpacks_to_very_much_is_recorded_up_to_the_limit(tmp_path: Path) -> None:
    start = b'{"kind":"ConfigMap","apiVersion":"v1","data":{"a":"'
    bomb = gzip.compress(start + bytes(100 << 20), 9)

    def script(wire: Wire) -> None:
        wire.request()
        lines = b"Content-Type: application/json\r\nContent-Encoding: gzip\r\n"
        wire.send(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (lines, len(bomb), bomb))

    with scripted(tmp_path, script) as running, client(running) as wire:
        answer = wire.ask(f"{MAPS}/a")

        assert answer.body == bomb
        event = last(running)
        assert len(recorded(event.response_object)) == MAX_BODY
        assert str(MAX_BODY) in event.annotations["kubewitness.io/truncated"]


def test_protobuf_is_passed_on_and_not_recorded(running: RunningProxy) -> None:
    with client(running) as wire:
        answer = wire.ask(f"{MAPS}?fake=protobuf", "POST", b"k8s\0body", Content_Type=PROTOBUF)

    assert answer.body.startswith(b"k8s\0")
    assert running.server.requests[-1].body == b"k8s\0body"
    event = last(running)
    assert (event.request_object, event.response_object) == (NO_OBJECT, NO_OBJECT)
    said = event.annotations["kubewitness.io/not-recorded"].split("; ")
    assert sorted(said) == [f"requestObject: {PROTOBUF}", f"responseObject: {PROTOBUF}"]


def test_of_a_body_over_the_limit_the_beginning_is_recorded(tmp_path: Path) -> None:
    with served(tmp_path, max_body=1000) as running, client(running) as wire:
        large_map = json.dumps({**MAP, "data": {"k": "ä" * 500_000}}, ensure_ascii=False).encode()
        answer = wire.ask(MAPS, "POST", large_map, Content_Type=JSON)

        assert answer.status == 201
        assert answer.json()["data"]["k"] == "ä" * 500_000
        event = last(running)
        kept = recorded(event.request_object)
        assert large_map.decode().startswith(kept)
        assert 990 < len(kept.encode()) <= 1000
        said = event.annotations["kubewitness.io/truncated"].split("; ")
        of = ("requestObject", "responseObject")
        assert sorted(said) == [f"{each}: the first 1000 bytes" for each in of]


def test_an_answer_before_the_end_of_the_upload_arrives(tmp_path: Path) -> None:
    refusal = (
        b'{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too large","code":413}'
    )

    def script(wire: Wire) -> None:
        wire.head()
        lines = b"Content-Type: application/json\r\nConnection: close\r\n"
        wire.send(b"HTTP/1.1 413 Too Large\r\n%b" % lines)
        wire.send(b"Content-Length: %d\r\n\r\n%b" % (len(refusal), refusal))

    with scripted(tmp_path, script) as running, client(running) as wire:
        wire.send(request(MAPS, "POST", Content_Length=str(LARGE), Content_Type=JSON), PATTERN)
        answer = wire.answer()

        assert answer.status == 413
        assert answer.body == refusal
        event = last(running)
        assert event.response_status is not None
        assert (event.response_status.code, event.response_status.message) == (413, "too large")


@pytest.mark.parametrize(
    ("level", "keeps"),
    [
        ("None", None),
        ("Metadata", (False, False)),
        ("Request", (True, False)),
        ("RequestResponse", (True, True)),
    ],
)
def test_a_level_keeps_what_it_should(
    tmp_path: Path, level: str, keeps: tuple[bool, bool] | None
) -> None:
    with served(tmp_path, policy=policy(level)) as running, client(running) as wire:
        body = json.dumps(MAP).encode()
        assert wire.ask(MAPS, "POST", body, Content_Type=JSON).status == 201

        if keeps is None:
            assert running.backend.received == []
        else:
            event = last(running)
            objects = (event.request_object, event.response_object)
            assert tuple(each is not NO_OBJECT for each in objects) == keeps


def test_a_refusals_status_is_in_the_event_at_any_level(tmp_path: Path) -> None:
    with served(tmp_path, policy=policy("Metadata")) as running, client(running) as wire:
        assert wire.ask(f"{MAPS}/missing").status == 404

        status = last(running).response_status
        assert status is not None
        assert (status.code, status.reason) == (404, "NotFound")
        assert status.details is not None
        assert status.details.name == "missing"


def test_a_failed_watchs_status_is_there_from_its_first_byte(running: RunningProxy) -> None:
    with client(running) as wire:
        assert wire.ask(f"{MAPS}?watch=true&fake=status/410").status == 410

    last(running, 3)
    started = running.backend.received[1]
    assert started.stage is Stage.RESPONSE_STARTED
    assert started.response_status is not None
    assert started.response_status.message == "this is a fake 410"
    assert recorded(started.response_object)["code"] == 410


@pytest.mark.parametrize("first", [b"{", b"{" + b" " * (1 << 17)], ids=["trickling", "long"])
@pytest.mark.parametrize("target", [MAPS, f"{MAPS}?watch=true"])
def test_a_refusal_is_passed_on_before_its_end(tmp_path: Path, first: bytes, target: str) -> None:
    goes_on = threading.Event()

    def script(wire: Wire) -> None:
        wire.request()
        lines = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % (len(first) + 1)
        wire.send(b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b" % (lines, first))
        assert goes_on.wait(SOON)
        wire.send(b"}")

    with scripted(tmp_path, script) as running, client(running) as wire:
        wire.send(request(target))
        assert wire.head().status == 400
        assert wire.exactly(len(first)) == first
        goes_on.set()
        assert wire.exactly(1) == b"}"
