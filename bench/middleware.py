"""What the ASGI middleware adds to a request: the same application with and without it, in turns.

    python bench/middleware.py [seconds]

No server is in between: what is measured is Python time on one core. Every request makes the two
events of level Metadata and writes them to a log file before it is answered, in mode blocking.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubewitness.capture.asgi import AuditMiddleware
from kubewitness.capture.asgi_scope import Application, Message, Receive, Scope, Send
from kubewitness.options import AuditOptions, build_pipeline

_ROUND = 200
_POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n"
_BODY = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"bench"},"data":{"key":"value"}}'
_HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"authorization", b"Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"),
    (b"x-forwarded-for", b"203.0.113.7"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})


def _scope(number: int) -> Scope:
    path = f"/api/v1/namespaces/default/configmaps/bench-{number}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("192.0.2.1", 40000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"pretty=false",
        "headers": _HEADERS,
        "state": {},
    }


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    pass


async def _round(app: Application) -> float:
    scopes = [_scope(number) for number in range(_ROUND)]
    start = time.perf_counter()
    for scope in scopes:
        await app(scope, _receive, _send)
    return (time.perf_counter() - start) / _ROUND * 1e6


@contextmanager
def _audited() -> Iterator[AuditMiddleware]:
    with tempfile.TemporaryDirectory() as place:
        policy = Path(place) / "policy.yaml"
        policy.write_text(_POLICY)
        flags = (f"--audit-policy-file={policy}", f"--audit-log-path={place}/audit.log")
        with build_pipeline(AuditOptions.from_arguments(flags)) as pipeline:
            yield AuditMiddleware(application, pipeline, owns_pipeline=False)
            assert not pipeline.statistics().dropped


def added_cost(*, seconds: float = 2.0) -> float:
    """Return the microseconds that the middleware adds to a request: best round less best round."""

    async def measure(audited: Application) -> float:
        bare = with_audit = float("inf")
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            bare = min(bare, await _round(application))
            with_audit = min(with_audit, await _round(audited))
        return with_audit - bare

    with _audited() as audited:
        return asyncio.run(measure(audited))


if __name__ == "__main__":
    found = added_cost(seconds=float(sys.argv[1]) if len(sys.argv) > 1 else 2.0)
    print(f"the middleware adds {found:.1f} µs to a request (target 60)")
