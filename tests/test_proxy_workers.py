"""Several workers and their supervisor: signals at any time, hung workers, growing counts."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from clocks import until
from command import ENVIRONMENT
from kubewitness.capture.proxy.running import listen
from kubewitness.capture.proxy.workers import Sums
from kubewitness.testing import FakeAPIServer
from proxy_process import ProxyProcess, arguments, proxy_process, starting_process, watched

TWO = "--workers=2"
COUNTED = 'kubewitness_proxy_requests_total{code="200"}'
IN_FLIGHT = "kubewitness_proxy_requests_in_flight"

SUPERVISOR = """
import asyncio, sys
from kubewitness.capture.proxy.workers import Supervisor

supervisor = Supervisor(sys.argv[1:], count=2, health=("127.0.0.1", 0), end_within=0.5)
serving = lambda port: print(f"auditing - at https://-:0; -:{port}", file=sys.stderr, flush=True)
sys.exit(asyncio.run(supervisor.run(serving)))
"""
"""A supervisor as in the command, but that it waits less long for workers to end."""

TOLD = """
import asyncio, os, signal, sys, uvloop
from kubewitness.capture.proxy.running import signals_wait, told_to_end

async def run():
    with signals_wait():
        os.kill(os.getpid(), signal.{name})
        async with told_to_end(heard.set) as ending:
            await (heard if "{name}" == "SIGHUP" else ending).wait()

heard = asyncio.Event()
{loop}.run(run())
os.kill(os.getpid(), signal.{name})
print("alive")
"""


@pytest.fixture
def server() -> Iterator[FakeAPIServer]:
    with FakeAPIServer() as running:
        yield running


def kill(number: int, *processes: int) -> None:
    for pid in processes:
        os.kill(pid, number)


def until_ended(running: ProxyProcess, code: int, count: int) -> None:
    """Wait until the supervisor has noticed so many deaths."""
    line = f"ERROR a worker ended with {code} and is started again"
    until(lambda: running.said.count(line) == count)


def until_ready(running: ProxyProcess) -> None:
    until(lambda: running.health("/readyz")[0] == 200)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("told", ["the supervisor", "all"])
def test_an_end_while_workers_start_is_in_good_order(
    told: str, number: int, server: FakeAPIServer, tmp_path: Path
) -> None:
    with starting_process(server, tmp_path, TWO) as running:
        until(lambda: len(running.workers()) == 2)
        if told == "all":  # as by Ctrl-C in a terminal
            kill(number, *running.workers())

        assert running.end(number) == 0
    assert [line for line in running.said if not line.startswith("auditing")] == []


def test_sighup_while_workers_start_does_no_harm(server: FakeAPIServer, tmp_path: Path) -> None:
    with starting_process(server, tmp_path, TWO) as running:
        until(lambda: len(running.workers()) == 2)
        running.process.send_signal(signal.SIGHUP)
        running.until_serving()

        assert running.get("/version")[0] == 200
        assert running.end() == 0


@pytest.mark.parametrize("then", ["it is gone", "it starts again"])
def test_an_end_soon_after_a_worker_died_is_in_good_order(
    then: str, server: FakeAPIServer, tmp_path: Path
) -> None:
    with proxy_process(server, tmp_path, TWO) as running:
        kill(signal.SIGKILL, running.workers()[0])
        until_ended(running, -9, 1)
        if then == "it starts again":
            until(lambda: len(running.workers()) == 2)

        assert running.end() == 0


def test_a_worker_that_cannot_start_ends_all(server: FakeAPIServer, tmp_path: Path) -> None:
    with starting_process(server, tmp_path, TWO) as running:
        until(lambda: len(running.workers()) == 2)
        kill(signal.SIGKILL, running.workers()[0])

        assert running.wait() == 1
    assert "ERROR a worker ended with -9 while all were started" in running.said


def test_a_worker_that_is_killed_at_the_end_is_no_good_order(
    server: FakeAPIServer, tmp_path: Path
) -> None:
    with (
        proxy_process(server, tmp_path, TWO) as running,
        contextlib.closing(running.client()) as client,
    ):
        client.request("GET", "/fake/slow?after=head")
        server.until_requests(1)
        running.process.send_signal(signal.SIGTERM)
        until(lambda: len(running.workers()) == 1)
        kill(signal.SIGKILL, *running.workers())

        assert running.wait() == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_that_comes_early_is_heard_and_one_that_comes_late_kills_nobody(
    name: str, loop: str
) -> None:
    script = TOLD.format(name=name, loop=loop)
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_a_worker_that_dies_is_started_again(server: FakeAPIServer, tmp_path: Path) -> None:
    with proxy_process(server, tmp_path, TWO) as running:
        victim, survivor = running.workers()
        kill(signal.SIGKILL, victim)
        until_ended(running, -9, 1)
        until_ready(running)

        assert survivor in running.workers()
        assert len(running.workers()) == 2
        assert running.get("/version")[0] == 200
        assert running.end() == 0


def test_workers_end_when_their_supervisor_is_killed(server: FakeAPIServer, tmp_path: Path) -> None:
    with proxy_process(server, tmp_path, TWO) as running:
        workers = running.workers()
        running.process.kill()
        until(lambda: not any(is_alive(pid) for pid in workers))


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_stopped_worker_makes_all_not_ready_and_keeps_its_counts(
    server: FakeAPIServer, tmp_path: Path
) -> None:
    with proxy_process(server, tmp_path, TWO) as running:
        for _ in range(20):
            running.get("/version")
        assert running.metric(COUNTED) == 20
        stopped = running.workers()[0]
        kill(signal.SIGSTOP, stopped)

        assert running.health("/readyz")[0] == 503
        assert running.health("/livez")[0] == 200
        assert running.metric(COUNTED) == 20

        kill(signal.SIGCONT, stopped)
        until_ready(running)
        for count in range(21, 31):  # no answer is one behind
            running.get("/version")
            assert running.metric(COUNTED) == count
        assert running.end() == 0


def test_a_worker_that_is_ending_makes_all_not_ready_and_still_tells_its_counts(
    server: FakeAPIServer, tmp_path: Path
) -> None:
    with (
        proxy_process(server, tmp_path, TWO) as running,
        contextlib.closing(running.client()) as client,
    ):
        client.request("GET", "/fake/slow?after=head")
        server.until_requests(1)
        kill(signal.SIGTERM, *running.workers())
        until_ended(running, 0, 1)  # the idle one, which is started again
        until(lambda: len(running.workers()) == 2 and running.metric(IN_FLIGHT) == 1)

        assert running.health("/readyz")[0] == 503
        server.release.set()
        until_ended(running, 0, 2)
        until_ready(running)
        assert (running.metric(COUNTED), running.metric(IN_FLIGHT)) == (1, 0)


def test_what_a_killed_worker_had_counted_stays_and_what_it_held_does_not(
    server: FakeAPIServer, tmp_path: Path
) -> None:
    with (
        proxy_process(server, tmp_path, TWO) as running,
        contextlib.closing(running.client()) as client,
    ):
        for _ in range(20):
            running.get("/version")
        client.request("GET", "/fake/slow?after=head")
        server.until_requests(21)
        assert (running.metric(COUNTED), running.metric(IN_FLIGHT)) == (20, 1)

        kill(signal.SIGKILL, *running.workers())
        until_ended(running, -9, 2)
        assert (running.metric(COUNTED), running.metric(IN_FLIGHT)) == (20, 0)

        until_ready(running)
        running.get("/version")
        assert (running.metric(COUNTED), running.metric(IN_FLIGHT)) == (21, 0)


def test_a_worker_that_ends_by_itself_tells_its_counts_unasked(
    server: FakeAPIServer, tmp_path: Path
) -> None:
    with proxy_process(server, tmp_path, TWO) as running:
        for _ in range(20):
            running.get("/version")
        kill(signal.SIGTERM, *running.workers())
        until_ended(running, 0, 2)

        assert running.metric(COUNTED) == 20
        assert running.metric("apiserver_audit_event_total") == 40


def test_a_worker_that_hangs_at_the_end_is_killed(server: FakeAPIServer, tmp_path: Path) -> None:
    with listen("127.0.0.1", 0, is_shared=True) as held:
        flags = [*arguments(server, tmp_path), TWO, f"--secure-port={held.getsockname()[1]}"]
        command = [sys.executable, "-c", SUPERVISOR, "proxy", *flags]
        with watched(command, server, tmp_path) as running:
            running.until_serving()
            workers = running.workers()
            kill(signal.SIGSTOP, workers[0])

            assert running.end() == 1
            assert not any(is_alive(pid) for pid in workers)
        running.until_said(r"workers did not end within 0\.5 s and are killed$")


def exposition(count: int) -> str:
    registry = CollectorRegistry()
    Counter("done", "Things done.", ["how"], registry=registry).labels("well").inc(count)
    Gauge("held", "Things held.", registry=registry).set(count)
    Histogram("took", "Seconds.", buckets=(1, 10), registry=registry).observe(count)
    return generate_latest(registry).decode()


def test_sums_are_over_all_processes_and_only_counts_outlive_one() -> None:
    sums = Sums()
    sums.add(exposition(5), is_gone=True)
    sums.add(exposition(0))
    sums.add(exposition(2))
    text = sums.exposition().decode()

    assert re.findall(r"^[^#].*$", text, re.MULTILINE) == [
        'done_total{how="well"} 7.0',
        'took_bucket{le="1.0"} 1.0',
        'took_bucket{le="10.0"} 3.0',
        'took_bucket{le="+Inf"} 3.0',
        "took_count 3.0",
        "took_sum 7.0",
        "held 2.0",
    ]
    assert "_created" not in text
