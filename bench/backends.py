"""The figures of the backends: how fast events leave, and how little their callers wait.

Everything runs through a pipeline built from flags, as a server's does, with one event a call.
"""

import contextlib
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trustme
import yaml

from kubewitness.backends.pipeline import Pipeline
from kubewitness.event import Event
from kubewitness.options import AuditOptions, build_pipeline

GIGABYTE_ROUNDS = 32

logging.getLogger("kubewitness").setLevel(logging.CRITICAL)  # a stalled receiver has events dropped
_SINK = Path(__file__).parent / "sink.py"
_CALLS = 20_000


@contextlib.contextmanager
def pipeline(*flags: str) -> Iterator[Pipeline]:
    with build_pipeline(AuditOptions.from_arguments(flags)) as running:
        yield running
        assert not running.statistics().dropped


@contextlib.contextmanager
def log() -> Iterator[Pipeline]:
    """A log in mode blocking, rotated at 100 MB; one old file is kept, to spare the disk."""
    with tempfile.TemporaryDirectory() as place:
        flags = (f"--audit-log-path={place}/audit.log", "--audit-log-maxbackup=1")
        with pipeline(*flags) as running:
            yield running


@contextlib.contextmanager
def webhook(*flags: str, path: str = "/audit", tls: bool = False) -> Iterator[Pipeline]:
    """A webhook in mode batch, not throttled, and its receiver in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        ca, files = trustme.CA(), []
        if tls:
            ca.cert_pem.write_to_path(place / "ca.crt")
            ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
                place / "server.pem"
            )
            files = [str(place / "server.pem")]
        with subprocess.Popen(
            [sys.executable, str(_SINK), *files], stdout=subprocess.PIPE
        ) as receiver:
            assert receiver.stdout is not None
            address = f"127.0.0.1:{int(receiver.stdout.readline())}{path}"
            kubeconfig = _kubeconfig(place, f"http{'s' * tls}://{address}", tls=tls)
            try:
                with build_pipeline(
                    AuditOptions.from_arguments(
                        [
                            f"--audit-webhook-config-file={kubeconfig}",
                            "--audit-webhook-batch-throttle-enable=false",
                            "--audit-webhook-batch-max-wait=20ms",
                            "--audit-shutdown-timeout=0s",
                            *flags,
                        ]
                    )
                ) as running:
                    yield running
            finally:
                receiver.kill()


def _kubeconfig(place: Path, server: str, *, tls: bool) -> Path:
    cluster = {"server": server, **({"certificate-authority": "ca.crt"} if tls else {})}
    path = place / "kubeconfig"
    document = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": [{"name": "c", "context": {"cluster": "c"}}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def give(running: Pipeline, events: list[Event]) -> None:
    """Give events one by one, as fast as they are taken."""
    process_events = running.process_events
    for event in events:
        process_events((event,))


def feed(running: Pipeline, events: list[Event]) -> None:
    """Give events one by one, and wait whenever the buffer is nearly full, and for its end."""
    for number, event in enumerate(events):
        if not number % 500:
            while _waiting(running) > 9000:
                time.sleep(0.001)
        running.process_events((event,))
    while _waiting(running) or running.metrics.sums(running.metrics.in_flight)["webhook",]:
        time.sleep(0.001)


def _waiting(running: Pipeline) -> int:
    return sum(running.statistics().waiting.values())


def stalled_calls(events: list[Event]) -> tuple[float, float]:
    """Return the median and the 99th percentile of a call's time, in seconds, on a dead receiver.

    The buffer fills and runs over meanwhile: most calls find it full.
    """
    took = []
    with webhook(path="/stall") as running:
        for number in range(_CALLS):
            event = (events[number % len(events)],)
            start = time.perf_counter()
            running.process_events(event)
            took.append(time.perf_counter() - start)
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


def log_growth(events: list[Event]) -> float:
    """Return by how much memory grows, in MB, while a gigabyte is written to a log."""
    with log() as running:
        give(running, events)
        before = resident_memory()
        for _ in range(GIGABYTE_ROUNDS):
            give(running, events)
        return (resident_memory() - before) / 1e6


def resident_memory() -> int:
    """Return the bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
