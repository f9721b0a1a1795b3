"""A webhook server on loopback that answers as it is told: real sockets, real TLS.

It demands a client certificate, and keeps what it is sent. What it does with each request is the
next step of its script, and 200 when the script is over.
"""

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import trustme
import yaml

from clocks import SOON

RESET = "reset"
"""A step: the connection is torn down instead of an answer."""

CLOSE = "close"
"""A step: the connection is closed in good order, without an answer."""

STALL = "stall"
"""A step: nothing is answered until the receiver is released or closed."""


class Reply(NamedTuple):
    """A step: an answer with this code, these headers and this body."""

    code: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Received(NamedTuple):
    """One request, as it came."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def ids(self) -> list[str]:
        return [item["auditID"] for item in json.loads(self.body)["items"]]


class Receiver:
    """The server. `delivered` holds the auditIDs of every list that was answered with success."""

    def __init__(self, context: ssl.SSLContext | None = None, *, port: int = 0) -> None:
        self.script: list[Reply | str] = []
        self.requests: list[Received] = []
        self.delivered: list[str] = []
        self.connections = 0
        self.changed = threading.Condition()
        self.released = threading.Event()
        self._context = context
        self._sockets: set[socket.socket] = set()
        self.port = port
        self.start()

    @property
    def address(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, again at the same port after `stop`."""
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Go away: nobody listens any more, and connections are torn down."""
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        with self.changed:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self.released.clear()

    def until_requests(self, count: int) -> None:
        """Wait until so many requests were made."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= count, SOON)

    def take(self, request: Received) -> Reply | str:
        """Keep a request, and say what is done with it."""
        with self.changed:
            step = self.script.pop(0) if self.script else Reply(200)
            self.requests.append(request)
            if isinstance(step, Reply) and 200 <= step.code <= 206 and request.method == "POST":
                self.delivered += request.ids
            self.changed.notify_all()
        return step

    def opened(self, connection: socket.socket) -> socket.socket:
        """Start TLS on a new connection, where there is any."""
        if self._context is not None:
            connection = self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        with self.changed:
            self.connections += 1
            self._sockets.add(connection)
        return connection


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        return self.receiver.opened(connection), address

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = Received(self.command, self.path, self.headers.items(), body)
        step = self.server.receiver.take(request)
        if isinstance(step, Reply):
            self._answer(step)
            return
        self.close_connection = True
        if step == STALL:
            self.server.receiver.released.wait(SOON)
        elif step == RESET:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            socket.socket.close(self.connection)

    def do_GET(self) -> None:
        self.server.receiver.take(Received("GET", self.path, self.headers.items(), b""))
        self._answer(Reply(200))

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _answer(self, reply: Reply) -> None:
        self.send_response(reply.code)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)


class Authority:
    """A certificate authority, and the files of a client that trusts it and is trusted by it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = trustme.CA()
        self.ca_file = directory / "ca.crt"
        self.ca.cert_pem.write_to_path(self.ca_file)
        client = self.ca.issue_cert("audit-client@example.com")
        self.client_certificate = directory / "client.crt"
        self.client_key = directory / "client.key"
        client.cert_chain_pems[0].write_to_path(self.client_certificate)
        client.private_key_pem.write_to_path(self.client_key)

    def server_context(self, *names: str) -> ssl.SSLContext:
        """Return a server's side of TLS, which demands a client certificate of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
        self.ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def kubeconfig(self, server: str, *, cluster: object = None, user: object = None) -> Path:
        """Write a kubeconfig with the client certificate for a server, and return its path."""
        path = self.directory / "webhook.kubeconfig"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [
                        {
                            "name": "audit",
                            "cluster": cluster
                            or {"server": server, "certificate-authority": "ca.crt"},
                        }
                    ],
                    "users": [
                        {
                            "name": "api-server",
                            "user": user
                            or {"client-certificate": "client.crt", "client-key": "client.key"},
                        }
                    ],
                    "contexts": [
                        {"name": "webhook", "context": {"cluster": "audit", "user": "api-server"}}
                    ],
                    "current-context": "webhook",
                }
            )
        )
        return path


@contextlib.contextmanager
def receiver(context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver."""
    running = Receiver(context)
    try:
        yield running
    finally:
        running.stop()
