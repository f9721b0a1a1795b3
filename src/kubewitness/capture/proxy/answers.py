"""The responses that the proxy gives its clients, as aiohttp sends them."""

from typing import Any

from aiohttp import web
from multidict import CIMultiDict

from kubewitness.recorder import Answer


class Passed(web.StreamResponse):
    """An answer of the API server on its way to the client: only its own headers, no more.

    Args:
        status: The HTTP status.
        headers: The header lines.
        is_stream: Whether the head goes out at once; otherwise with the first of the body, which
            saves a TLS record.
    """

    def __init__(self, status: int, headers: CIMultiDict[str], *, is_stream: bool) -> None:
        super().__init__(status=status, headers=headers)
        self._send_headers_immediately = is_stream

    async def _prepare_headers(self) -> None:
        has_type = "Content-Type" in self.headers
        await super()._prepare_headers()
        self.headers.popall("Server", None)
        if not has_type:
            self.headers.popall("Content-Type", None)


class Own(web.Response):
    """An answer of the proxy itself."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Server", None)


class Nothing(web.StreamResponse):
    """What a handler returns when the connection is no longer one of HTTP."""

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002
        """Send nothing."""
        self.force_close()

    async def write_eof(self, data: Any = b"") -> None:
        """Send nothing."""


def own_answer(answer: Answer, audit_id: str) -> Own:
    """Return an answer of the proxy as a response."""
    headers = CIMultiDict([("Audit-Id", audit_id), *answer.headers])
    return Own(status=answer.status, headers=headers, body=answer.body)
