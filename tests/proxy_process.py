"""Runs ``kubewitness proxy`` as a process, in front of a fake API server."""

import contextlib
import http.client
import json
import re
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clocks import SOON
from command import COMMAND, ENVIRONMENT
from kubewitness.testing import FakeAPIServer
from proxies import EVERYTHING, files

_ANNOUNCED = re.compile(r"auditing (\S+) at https://\S+:(\d+)(?: with \d+ workers)?; .*:(\d+)$")


class ProxyProcess:
    """A running command: its ports are known, so it serves."""

    def __init__(self, process: subprocess.Popen[str], server: FakeAPIServer, place: Path) -> None:
        self.process = process
        self.server = server
        self.place = place
        self.said: list[str] = []
        self.port = self.health_port = 0
        self._changed = threading.Condition()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def until_said(self, pattern: str) -> str:
        """Wait for a line on standard error."""

        def found() -> str | None:
            return next((line for line in self.said if re.search(pattern, line)), None)

        with self._changed:
            assert self._changed.wait_for(
                lambda: found() is not None or self.process.poll() is not None, SOON * 2
            ), self.said
        line = found()
        assert line is not None, self.said
        return line

    def until_serving(self) -> None:
        found = _ANNOUNCED.search(self.until_said("^auditing "))
        assert found is not None
        self.port, self.health_port = int(found[2]), int(found[3])

    def client(self, context: ssl.SSLContext | None = None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context or self.server.client_context(), timeout=SOON
        )

    def get(self, path: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        """Send one request over a connection of its own."""
        with contextlib.closing(self.client(context)) as client:
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read()

    def health(self, path: str) -> tuple[int, str]:
        client = http.client.HTTPConnection("127.0.0.1", self.health_port, timeout=SOON)
        with contextlib.closing(client):
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read().decode()

    def metric(self, name: str) -> float:
        """Return the value of a metric, by its name with labels."""
        text = self.health("/metrics")[1]
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def end(self, number: int = signal.SIGTERM) -> int:
        """Tell it to end, and return its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(SOON * 2)
        self._reading.join(SOON)
        return code

    def workers(self) -> list[int]:
        """Return the processes that it has started."""
        done = subprocess.run(
            ["/bin/ps", "-o", "pid=", "--ppid", str(self.process.pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return [int(pid) for pid in done.stdout.split()]

    def log(self) -> list[dict[str, Any]]:
        """Return the events of the audit log and the rotated ones."""
        lines = [
            line
            for path in sorted(self.place.glob("audit*.log"))
            for line in path.read_bytes().split(b"\n")
        ]
        return [json.loads(line) for line in lines if line]

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with self._changed:
                    self.said.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@contextlib.contextmanager
def proxy_process(
    server: FakeAPIServer, place: Path, *flags: str, policy: str = EVERYTHING
) -> Iterator[ProxyProcess]:
    """Run the command, and wait until it serves."""
    with starting_process(server, place, *flags, policy=policy) as running:
        running.until_serving()
        yield running


@contextlib.contextmanager
def starting_process(
    server: FakeAPIServer, place: Path, *flags: str, policy: str = EVERYTHING
) -> Iterator[ProxyProcess]:
    """Run the command, and do not wait until it serves."""
    command = [*COMMAND, "proxy", *arguments(server, place, policy), *flags]
    with watched(command, server, place) as running:
        yield running


@contextlib.contextmanager
def watched(command: list[str], server: FakeAPIServer, place: Path) -> Iterator[ProxyProcess]:
    """Run any command that says what the proxy says; it is killed at the end if it still runs."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    running = ProxyProcess(process, server, place)
    try:
        yield running
    finally:
        process.kill()
        running.wait()


def arguments(server: FakeAPIServer, place: Path, policy: str = EVERYTHING) -> list[str]:
    """Write the files of a proxy, and return the flags that name them."""
    named = files(server, place, policy)
    kubeconfig = server.write_kubeconfig(place / "proxy.kubeconfig")
    return [
        f"--upstream-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
        "--health-bind-address=127.0.0.1:0",
        f"--tls-cert-file={named['tls_cert_file']}",
        f"--tls-private-key-file={named['tls_private_key_file']}",
        f"--client-ca-file={named['client_ca_file']}",
        f"--audit-policy-file={named['policy_file']}",
        f"--audit-log-path={place / 'audit.log'}",
    ]
