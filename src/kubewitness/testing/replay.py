"""Answers of a real server, given again.

A transcript is a sequence of cases: ``id``, ``method``, ``path`` and ``response`` with ``status``,
``headers`` and ``body`` (None, ``{"text"}`` or ``{"base64"}``; with ``xs`` beside it, the run of
ten x in it stood for that many). Requests with a case's ``Audit-ID`` get its answer; others that of
the next case with their method and target, and the last one from then on.
"""

import base64
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from kubewitness.testing.wire import Exchange, Head

Case = Mapping[str, Any]

_TEN_X = b"x" * 10


class Transcript:
    """The cases, found by id and by request."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._by_id: dict[str, Case] = {}
        self._by_request: dict[tuple[str, str], deque[Case]] = {}
        for case in cases:
            self._by_id.setdefault(case["id"], case)
            self._by_request.setdefault((case["method"], case["path"]), deque()).append(case)

    def by_id(self, head: Head) -> Case | None:
        """Return the case that a request says it is."""
        return self._by_id.get(head.first("Audit-ID"))

    def by_request(self, head: Head) -> Case | None:
        """Return the next case with the request's method and target."""
        cases = self._by_request.get((head.method, head.target))
        if not cases:
            return None
        return cases.popleft() if len(cases) > 1 else cases[0]


async def replay(exchange: Exchange, case: Case) -> None:
    """Answer as the real server did; a chunked body goes out line by line, as of a watch."""
    response = case["response"]
    body = body_of(response["body"])
    chunked = any(name.lower() == "transfer-encoding" for name, _ in response["headers"])
    exchange.send_head(response["status"], _headers(response["headers"], exchange, len(body)))
    for line in body.splitlines(keepends=True) if chunked else [body]:
        await exchange.send(line)
    await exchange.finish()


def body_of(recorded: Mapping[str, Any] | None) -> bytes:
    """Return the bytes of a body of a transcript."""
    if recorded is None:
        return b""
    if "base64" in recorded:
        data = base64.b64decode(recorded["base64"])
    else:
        data = recorded["text"].encode("utf-8", "surrogateescape")
    return data.replace(_TEN_X, b"x" * recorded["xs"]) if "xs" in recorded else data


def _headers(
    lines: Iterable[tuple[str, str]], exchange: Exchange, size: int
) -> list[tuple[str, str]]:
    """Return the recorded header lines; the length is what is sent, as secrets were redacted."""
    if exchange.head.method == "HEAD":
        return [(name, value) for name, value in lines]
    return [
        (name, str(size) if name.lower() == "content-length" else value) for name, value in lines
    ]
