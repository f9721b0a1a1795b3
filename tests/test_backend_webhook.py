"""The webhook backend against a real TLS server that demands a certificate and misbehaves."""

import threading
from collections.abc import Iterator

import pytest
from msgspec import Raw

from clocks import HandClock
from collecting import event, events
from kubewitness.backends import Reason
from kubewitness.codec import encode_list
from receiver import CLOSE, RESET, STALL, Authority, Receiver, Reply, receiver
from webhooks import Sender

BACKOFF = [10.0, 15.0, 22.5, 33.75]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Authority) -> Iterator[Receiver]:
    with receiver(authority.server_context()) as running:
        yield running


@pytest.fixture
def sender(authority: Authority, server: Receiver) -> Iterator[Sender]:
    sender = Sender(authority.kubeconfig(server.address + "/audit"))
    yield sender
    sender.end()


def test_events_arrive_as_one_list(server: Receiver, sender: Sender) -> None:
    assert sender.backend.process_events(events(1, 2, 3)) is True

    (request,) = server.requests
    assert (request.method, request.target) == ("POST", "/audit?timeout=30s")
    assert request.body == encode_list(events(1, 2, 3))
    assert request.header("Content-Type") == ["application/json"]
    assert request.header("Accept") == ["application/json, */*"]
    assert request.header("Accept-Encoding") == ["gzip"]
    assert request.header("Content-Length") == [str(len(request.body))]
    assert request.header("Authorization") == []
    assert request.header("Cookie") == []
    assert sender.timed() == {"200": 1}
    assert sender.clock.waits == []


def test_connections_are_kept(server: Receiver, sender: Sender) -> None:
    for number in range(20):
        assert sender.backend.process_events(events(number))

    assert server.connections == 1
    assert server.delivered == [str(number) for number in range(20)]


@pytest.mark.parametrize("code", range(200, 207))
def test_what_counts_as_success(server: Receiver, sender: Sender, code: int) -> None:
    body = b"" if code in {204, 205} else b"whatever"
    server.script = [Reply(code, {"Content-Type": "no/type; at all;;"}, body)]

    assert sender.backend.process_events(events(1)) is True
    assert len(server.requests) == 1


@pytest.mark.parametrize("code", [207, 299, 300, 302, 303, 304, 400, 401, 404, 413, 429, 500, 503])
def test_everything_else_is_tried_five_times_and_then_counted(
    server: Receiver, sender: Sender, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [Reply(code, {}, b"" if code == 304 else b"out of\nstorage")] * 9

    assert sender.backend.process_events(events(1, 2)) is False
    assert [request.ids for request in server.requests] == [["1", "2"]] * 5
    assert sender.clock.waits == BACKOFF
    assert sender.dropped == {("webhook", Reason.NOT_ACCEPTED): 2}
    assert sender.metrics.sums(sender.metrics.errors) == {("webhook",): 2}
    assert sender.timed() == {str(code): 5}
    assert f"the server answered {code}" in caplog.text
    assert "affecting 2 audit events" in caplog.text
    assert code == 304 or r"out of\nstorage" in caplog.text


def test_waits_are_spread_by_up_to_a_fifth(authority: Authority, server: Receiver) -> None:
    server.script = [Reply(500)] * 5
    sender = Sender(authority.kubeconfig(server.address), jitter=lambda: 1.0)

    sender.backend.process_events(events(1))
    assert sender.clock.waits == pytest.approx([12.0, 18.0, 27.0, 40.5])
    sender.end()


@pytest.mark.parametrize("failure", [Reply(500), Reply(302), Reply(429), RESET, CLOSE, STALL])
@pytest.mark.parametrize("times", [1, 4])
def test_every_event_arrives_once_the_server_is_well_again(
    authority: Authority, server: Receiver, failure: Reply | str, times: int
) -> None:
    sender = Sender(authority.kubeconfig(server.address), attempt_seconds=0.3)
    server.script = [failure] * times

    assert sender.backend.process_events(events(1, 2)) is True
    assert server.delivered == ["1", "2"]
    assert len(server.requests) == times + 1
    assert sender.clock.waits == BACKOFF[:times]
    assert sender.dropped == {}
    server.released.set()
    sender.end()


@pytest.mark.parametrize("failure", [RESET, CLOSE, STALL])
def test_a_server_that_never_answers_is_given_up(
    authority: Authority, server: Receiver, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender(authority.kubeconfig(server.address), attempt_seconds=0.1)
    server.script = [failure] * 9

    assert sender.backend.process_events(events(1)) is False
    assert len(server.requests) == 5
    assert sender.timed() == {"error": 5}
    assert sender.dropped == {("webhook", Reason.NOT_ACCEPTED): 1}
    assert f"POST {server.address}/: " in caplog.text
    server.released.set()
    sender.end()


@pytest.mark.parametrize("code", [429, 500, 503])
@pytest.mark.parametrize("seconds", [0, 3])
def test_retry_after_is_followed_within_one_attempt(
    server: Receiver, sender: Sender, code: int, seconds: int
) -> None:
    server.script = [Reply(code, {"Retry-After": str(seconds)})] * 3

    assert sender.backend.process_events(events(1)) is True
    assert sender.clock.waits == ([float(seconds)] * 3 if seconds else [])
    assert len(server.requests) == 4


def test_retry_after_is_followed_ten_times_in_an_attempt(server: Receiver, sender: Sender) -> None:
    server.script = [Reply(429, {"Retry-After": "0"})] * 99

    assert sender.backend.process_events(events(1)) is False
    assert len(server.requests) == 5 * 11
    assert [wait for wait in sender.clock.waits if wait] == BACKOFF


def test_retry_after_cannot_stretch_an_attempt(server: Receiver, sender: Sender) -> None:
    server.script = [Reply(503, {"Retry-After": "3600"}), Reply(503, {"Retry-After": "20"})] * 2

    assert sender.backend.process_events(events(1)) is True
    assert sender.clock.waits == [30.0, 10.0, 20.0, 10.0, 15.0, 20.0]


@pytest.mark.parametrize("header", ["soon", "-1", "1.5", "", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_is_no_number_is_not_followed(
    server: Receiver, sender: Sender, header: str
) -> None:
    server.script = [Reply(503, {"Retry-After": header})]

    assert sender.backend.process_events(events(1)) is True
    assert sender.clock.waits == BACKOFF[:1]


def test_retry_after_of_other_codes_is_not_followed(server: Receiver, sender: Sender) -> None:
    server.script = [Reply(404, {"Retry-After": "1"})]

    assert sender.backend.process_events(events(1)) is True
    assert sender.clock.waits == BACKOFF[:1]


def test_a_redirect_that_would_lose_the_body_is_a_failure_that_says_so(
    server: Receiver, sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [Reply(302, {"Location": server.address + "/new"})] * 5

    assert sender.backend.process_events(events(1)) is False
    assert {request.method for request in server.requests} == {"POST"}
    assert f"302 to {server.address}/new; name the final address" in caplog.text


@pytest.mark.parametrize("code", [307, 308])
@pytest.mark.parametrize("location", ["/new", "new", "https://127.0.0.1:{port}/new"])
def test_a_redirect_that_keeps_the_body_is_followed(
    server: Receiver, sender: Sender, code: int, location: str
) -> None:
    server.script = [Reply(code, {"Location": location.format(port=server.port)})]

    assert sender.backend.process_events(events(1)) is True
    assert [request.target for request in server.requests] == ["/audit?timeout=30s", "/new"]
    assert server.requests[1].body == server.requests[0].body
    assert sender.clock.waits == []


def test_a_redirect_in_circles_ends(server: Receiver, sender: Sender) -> None:
    server.script = [Reply(307, {"Location": "/audit"})] * 99

    assert sender.backend.process_events(events(1)) is False
    assert len(server.requests) == 5 * 11


def test_a_redirect_out_of_tls_is_not_followed(server: Receiver, sender: Sender) -> None:
    with receiver() as plain:
        server.script = [Reply(307, {"Location": plain.address})] * 5

        assert sender.backend.process_events(events(1)) is False
        assert plain.requests == []


def test_a_server_that_was_restarted_is_reached_at_once(server: Receiver, sender: Sender) -> None:
    threads = [
        threading.Thread(target=sender.backend.process_events, args=(events(number),))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop()
    server.start()

    assert sender.backend.process_events(events(7)) is True
    assert sender.clock.waits == []  # the kept connections were dead, which is nobody's fault


def test_a_server_that_is_away_for_a_while_gets_everything_when_it_is_back(
    authority: Authority, server: Receiver
) -> None:
    sender = Sender(authority.kubeconfig(server.address), clock=HandClock())
    server.stop()
    done: list[bool] = []
    calls = [
        threading.Thread(
            target=lambda number=number: done.append(sender.backend.process_events(events(number)))
        )
        for number in range(5)
    ]
    for call in calls:
        call.start()
        sender.clock.until_waiting(timed=True)
    sender.clock.until_waiting(timed=True, count=5)
    sender.clock.advance(10)
    sender.clock.until_waiting(timed=True, count=5)
    server.start()
    sender.clock.advance(15)
    for call in calls:
        call.join()

    assert done == [True] * 5
    assert sorted(server.delivered) == ["0", "1", "2", "3", "4"]
    assert sender.dropped == {}
    sender.end()


def test_shutdown_waits_for_a_delivery_under_way(authority: Authority, server: Receiver) -> None:
    sender = Sender(authority.kubeconfig(server.address), clock=HandClock())
    server.script = [Reply(500)]
    call = threading.Thread(target=sender.backend.process_events, args=(events(1),))
    call.start()
    sender.clock.until_waiting(timed=True)
    end = threading.Thread(target=sender.backend.shutdown, args=(60.0,))
    end.start()
    sender.clock.until_waiting(timed=True, count=2)
    sender.clock.advance(10)
    call.join()
    end.join()

    assert server.delivered == ["1"]
    assert sender.dropped == {}


@pytest.mark.parametrize("is_waiting", [False, True])
def test_shutdown_gives_up_at_its_deadline(
    authority: Authority, server: Receiver, *, is_waiting: bool, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender(authority.kubeconfig(server.address), clock=HandClock())
    server.script = [Reply(500) if is_waiting else STALL]
    call = threading.Thread(target=sender.backend.process_events, args=(events(1, 2),))
    call.start()
    server.until_requests(1)
    if is_waiting:
        sender.clock.until_waiting(timed=True)
    end = threading.Thread(target=sender.backend.shutdown, args=(5.0,))
    end.start()
    sender.clock.until_waiting(timed=True, count=1 + is_waiting)
    sender.clock.advance(5)
    call.join()
    end.join()
    server.released.set()

    assert sender.dropped == {("webhook", Reason.DEADLINE): 2}
    assert 'AUDIT: id="1"' in caplog.text
    assert sender.backend.process_events(events(3)) is False
    assert sender.dropped["webhook", Reason.SHUT_DOWN] == 1


def test_an_event_without_a_json_form_is_left_out_and_the_others_arrive(
    server: Receiver, sender: Sender
) -> None:
    broken = event(2, request_object=Raw(b"{"))

    assert sender.backend.process_events([event(1), broken, event(3)]) is False
    assert server.delivered == ["1", "3"]
    assert sender.dropped == {("webhook", Reason.UNENCODABLE): 1}
    assert sender.backend.process_events([broken]) is False
    assert len(server.requests) == 1


def test_a_large_list_arrives_whole(server: Receiver, sender: Sender) -> None:
    large = [event(number, request_object=Raw(b'"%s"' % (b"x" * 100_000))) for number in range(90)]

    assert sender.backend.process_events(large)
    assert server.requests[0].body == encode_list(large)


def test_a_long_answer_is_not_read_to_its_end(server: Receiver, sender: Sender) -> None:
    server.script = [Reply(200, {}, b"x" * 1_000_000), Reply(200)]

    assert sender.backend.process_events(events(1))
    assert sender.backend.process_events(events(2))
    assert server.delivered == ["1", "2"]


def test_an_answer_in_pieces_keeps_the_connection(server: Receiver, sender: Sender) -> None:
    server.script = [Reply(200, {}, b"x" * 60_000)] * 3
    for number in range(3):
        assert sender.backend.process_events(events(number))

    assert server.connections == 1


def test_the_code_counts_also_when_the_body_never_ends(server: Receiver, sender: Sender) -> None:
    server.script = [Reply(200, {"Content-Length": "1000"}, b"so far")]

    assert sender.backend.process_events(events(1)) is True
    assert len(server.requests) == 1


def test_large_headers_of_an_answer_do_no_harm(server: Receiver, sender: Sender) -> None:
    server.script = [Reply(200, {"Content-Security-Policy": "x" * 50_000})]

    assert sender.backend.process_events(events(1)) is True


def test_without_a_thread_left_the_next_attempt_tries_again(authority: Authority) -> None:
    with receiver(authority.server_context()) as server:
        sender = Sender(authority.kubeconfig(server.address))
        usual = threading.stack_size(1 << 46)  # which no machine can give
        try:
            sender.backend.run()
            assert sender.backend.process_events(events(1)) is False
        finally:
            threading.stack_size(usual)
        assert sender.timed() == {"error": 5}
        assert sender.backend.process_events(events(2)) is True
        sender.end()


def test_the_longest_deadline_is_no_error(server: Receiver, sender: Sender) -> None:
    sender.backend.process_events(events(1))
    sender.backend.shutdown(1e300)

    assert server.delivered == ["1"]


def test_its_name_and_that_it_waits(sender: Sender) -> None:
    sender.backend.run()
    sender.backend.reopen()

    assert repr(sender.backend) == "webhook"
    assert sender.backend.waits is True
    assert sender.backend.process_events([]) is True


def test_an_unreachable_address_says_which(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender(authority.kubeconfig("https://127.0.0.1:1/x"))

    assert sender.backend.process_events(events(1)) is False
    assert sender.timed() == {"error": 5}
    assert "POST https://127.0.0.1:1/x: cannot connect to 127.0.0.1:1: " in caplog.text
    assert " object at 0x" not in caplog.text
    sender.end()
