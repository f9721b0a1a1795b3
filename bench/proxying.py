"""The figures of the proxy: how much passes, what it adds to a request, and the memory it takes.

An upstream, a proxy and a load run as processes of their own on the loopback, with TLS on both
sides. Every figure makes sure that the proxy audited all that passed: two events a request at level
Metadata, three a watch.
"""

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import trustme
import yaml

from load import allow_open_files

PROXY = (sys.executable, "-m", "kubewitness.cli", "proxy")
_HERE = Path(__file__).parent
_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: Metadata
"""
_READY_WITHIN = 20.0
_STOPPED_WITHIN = 20.0
_AUDITED_WITHIN = 10.0
_SETTLED_AFTER = 0.5
_WARM_UP_BYTES = 10_000_000
_EVENTS_A_REQUEST = 2
_EVENTS_A_WATCH = 3


class Speed(NamedTuple):
    rate: float
    """Requests a second."""
    p50: float
    """Milliseconds."""
    p99: float
    """Milliseconds."""
    total: int
    """All requests, with those of the warm-up."""


class Growth(NamedTuple):
    """Megabytes that the proxy had more at its peak than before."""

    download: float
    upload: float


class Proxy(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]
    place: Path

    def resident_memory(self) -> int:
        """Return the bytes in memory of the proxy and its workers, now."""
        return sum(_resident(pid) for pid in _family(self.process.pid))

    def reset_peak(self) -> None:
        for pid in _family(self.process.pid):
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_memory(self) -> int:
        """Return the most bytes that were in memory since `reset_peak`."""
        return sum(_peak(pid) for pid in _family(self.process.pid))

    def expect_events(self, count: int) -> None:
        """Wait until all events are written; a proxy that audits less has not passed."""
        deadline = time.monotonic() + _AUDITED_WITHIN
        while (written := self._events()) != count:
            assert written < count, f"{written} events for {count}"
            assert time.monotonic() < deadline, f"only {written} events of {count}"
            time.sleep(0.1)

    def _events(self) -> int:
        return sum(_lines(log) for log in self.place.glob("audit*.log"))


def certificates(place: Path) -> None:
    """Write `ca.crt`, and `.crt`, `.key` and both as `.pem` of a server and of a client."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(place / "ca.crt")
    for name, leaf in {
        "server": ca.issue_cert("127.0.0.1"),
        "client": ca.issue_cert("bench@localhost", common_name="bench", organization_name="load"),
    }.items():
        leaf.cert_chain_pems[0].write_to_path(place / f"{name}.crt")
        leaf.private_key_pem.write_to_path(place / f"{name}.key")
        leaf.private_key_and_cert_chain_pem.write_to_path(place / f"{name}.pem")


@contextlib.contextmanager
def upstream(place: Path) -> Iterator[int]:
    """Run an API server, and give its port."""
    allow_open_files()
    command = [sys.executable, str(_HERE / "upstream.py"), str(place / "server.pem")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextlib.contextmanager
def proxy(place: Path, upstream_port: int, *flags: str, workers: int = 1) -> Iterator[Proxy]:
    """Run a proxy before an API server; it writes `audit.log`, and `proxy.err` what it says."""
    allow_open_files()
    (place / "metadata.yaml").write_text(_POLICY)
    _write_kubeconfig(place, upstream_port)
    port, health_port = _free_ports(2)
    command = [
        *PROXY,
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={place}/server.crt",
        f"--tls-private-key-file={place}/server.key",
        f"--client-ca-file={place}/ca.crt",
        f"--upstream-kubeconfig={place}/kubeconfig",
        f"--health-bind-address=127.0.0.1:{health_port}",
        f"--audit-policy-file={place}/metadata.yaml",
        f"--audit-log-path={place}/audit.log",
        f"--workers={workers}",
        *flags,
    ]
    said = place / "proxy.err"
    with (
        said.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True) as process,
    ):
        try:
            _wait_until_ready(process, health_port, said)
            yield Proxy(port, process, place)
            assert process.poll() is None, f"the proxy ended: {said.read_text()}"
        finally:
            _stop(process)


def _write_kubeconfig(place: Path, upstream_port: int) -> None:
    def data(name: str) -> str:
        return base64.b64encode((place / name).read_bytes()).decode()

    cluster = {
        "server": f"https://127.0.0.1:{upstream_port}",
        "certificate-authority-data": data("ca.crt"),
    }
    user = {
        "client-certificate-data": data("client.crt"),
        "client-key-data": data("client.key"),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (place / "kubeconfig").write_text(yaml.safe_dump(document))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_until_ready(process: subprocess.Popen[bytes], health_port: int, said: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN
    while not _is_ready(health_port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the proxy is not ready: {said.read_text()}")
        time.sleep(0.05)


def _is_ready(health_port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", health_port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOPPED_WITHIN)
    finally:
        with contextlib.suppress(ProcessLookupError):  # workers that outlived it, too
            os.killpg(process.pid, signal.SIGKILL)


def _family(pid: int) -> list[int]:
    """Return the process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    family = [pid]
    for each in family:
        family += children.get(each, [])
    return family


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))


def _load_command(place: Path, port: int, *arguments: str) -> list[str]:
    trust = ("--ca", str(place / "ca.crt"), "--client", str(place / "client.pem"))
    return [
        *(sys.executable, str(_HERE / "load.py"), f"https://127.0.0.1:{port}"),
        *trust,
        *arguments,
    ]


def _load(place: Path, port: int, *arguments: str) -> dict[str, float]:
    command = _load_command(place, port, *arguments)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _ask(place: Path, port: int, *arguments: str) -> Speed:
    answer = _load(place, port, *arguments)
    assert not answer["errors"], answer
    return Speed(answer["rate"], answer["p50_ms"], answer["p99_ms"], int(answer["total"]))


@contextlib.contextmanager
def _watches(place: Path, port: int, count: int) -> Iterator[None]:
    """Hold as many watches open, each of which got its first event."""
    command = _load_command(place, port, "--watches", str(count))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        answer, _ = process.communicate()
        assert not json.loads(answer)["lost"], answer


@contextlib.contextmanager
def _place() -> Iterator[tuple[Path, int]]:
    """Give a directory with certificates, and the port of an API server."""
    with tempfile.TemporaryDirectory() as name:
        certificates(Path(name))
        with upstream(Path(name)) as port:
            yield Path(name), port


def direct(seconds: float = 5) -> Speed:
    """Measure 16 connections to the API server itself: no proxy can reach that."""
    with _place() as (place, upstream_port):
        return _ask(place, upstream_port, f"--seconds={seconds}")


def throughput(workers: int = 1, seconds: float = 5) -> Speed:
    """Measure 16 connections to the proxy, each of which asks again once it is answered."""
    with (
        _place() as (place, upstream_port),
        proxy(place, upstream_port, workers=workers) as running,
    ):
        speed = _ask(place, running.port, f"--seconds={seconds}")
        running.expect_events(speed.total * _EVENTS_A_REQUEST)
    return speed


def added_latency(rate: float = 500, rounds: int = 3, seconds: float = 4) -> float:
    """Return by how many milliseconds the proxy raises the 99th percentile, at a steady rate.

    Both are the best of several rounds, which take turns.
    """
    plain, proxied = [], []
    timing = (f"--rate={rate}", f"--seconds={seconds}")
    with _place() as (place, upstream_port), proxy(place, upstream_port) as running:
        for _ in range(rounds):
            plain.append(_ask(place, upstream_port, *timing))
            proxied.append(_ask(place, running.port, *timing))
        running.expect_events(sum(each.total for each in proxied) * _EVENTS_A_REQUEST)
    return min(each.p99 for each in proxied) - min(each.p99 for each in plain)


def watch_memory(count: int = 1000, workers: int = 1) -> float:
    """Return by how many megabytes the proxy grows with so many open watches."""
    with (
        _place() as (place, upstream_port),
        proxy(place, upstream_port, workers=workers) as running,
    ):
        with _watches(place, running.port, 1):
            pass
        running.expect_events(_EVENTS_A_WATCH)
        before = running.resident_memory()
        with _watches(place, running.port, count):
            time.sleep(_SETTLED_AFTER)
            grown = running.resident_memory() - before
        running.expect_events((1 + count) * _EVENTS_A_WATCH)
    return grown / 1e6


def stream_memory(size: int = 1_000_000_000) -> Growth:
    """Return by how many megabytes the proxy grows while one large body passes, each way."""
    with _place() as (place, upstream_port), proxy(place, upstream_port) as running:
        port = running.port
        _download(place, port, _WARM_UP_BYTES)
        _upload(place, port, _WARM_UP_BYTES)

        before = _begin(running)
        _download(place, port, size)
        download = running.peak_memory() - before

        before = _begin(running)
        _upload(place, port, size)
        upload = running.peak_memory() - before
        running.expect_events(4 * _EVENTS_A_REQUEST)
    return Growth(download / 1e6, upload / 1e6)


def _begin(running: Proxy) -> int:
    running.reset_peak()
    return running.resident_memory()


def _download(place: Path, port: int, size: int) -> None:
    answer = _load(place, port, "--download", f"/bytes/{size}")
    assert answer["bytes"] == size, answer


def _upload(place: Path, port: int, size: int) -> None:
    _load(place, port, "--upload", str(size))
