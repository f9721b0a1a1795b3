"""A real uvicorn on loopback: an application of a module, in a process of its own."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from clocks import SOON

EXAMPLES = Path(__file__).parent.parent / "examples"
_RUNNING = re.compile(r"running on http://127\.0\.0\.1:(\d+)")
_Found = TypeVar("_Found")


class Server:
    """A running server, and what its log holds; unless it `may_fail`, it prints no traceback."""

    def __init__(self, port: int, place: Path) -> None:
        self.port = port
        self.place = place
        self.may_fail = False

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def ask(self, path: str, *, method: str = "GET", **request: Any) -> tuple[int, str, str]:
        """Return status, audit id and body of an answer."""

        async def ask(session: aiohttp.ClientSession) -> tuple[int, str, str]:
            async with session.request(method, self.url(path), **request) as response:
                text = await response.text()
                return response.status, response.headers.get("Audit-Id", ""), text

        return self.run(ask)

    def run(self, action: Callable[[aiohttp.ClientSession], Awaitable[_Found]]) -> _Found:
        async def run() -> _Found:
            timeout = aiohttp.ClientTimeout(total=SOON)
            async with aiohttp.ClientSession(timeout=timeout) as session:
                return await action(session)

        return asyncio.run(run())

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = (self.place / "audit.log").read_bytes().splitlines()
        return [json.loads(line) for line in lines]


@contextmanager
def serving(module: str, directory: Path, place: Path, *options: str) -> Iterator[Server]:
    """Serve ``app`` of a module of a directory, at a place where its log will be."""
    command = [sys.executable, "-m", "uvicorn", f"--app-dir={directory}", "--port=0", *options]
    with subprocess.Popen(
        [*command, f"{module}:app"],
        cwd=place,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    ) as process:
        assert process.stderr is not None
        seen = ""
        try:
            while not (found := _RUNNING.search(seen)):
                line = process.stderr.readline()
                assert line, seen
                seen += line
            server = Server(int(found[1]), place)
            yield server
            process.send_signal(signal.SIGTERM)
            process.wait(SOON)
            seen += process.stderr.read()
        finally:
            process.kill()
        assert server.may_fail or "Traceback" not in seen, seen
