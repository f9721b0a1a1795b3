"""An event between the test's thread and the server's loop."""

import asyncio
import threading


class Release:
    """Set by the test; the server's answers that are told to wait wait for it."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inside = asyncio.Event()

    def set(self) -> None:
        """Let everything that waits go on, and what comes later not wait."""
        self._flag.set()
        self._tell()

    def clear(self) -> None:
        """Let what comes from now on wait."""
        self._flag.clear()
        self._tell()

    def is_set(self) -> bool:
        """Say whether nothing waits."""
        return self._flag.is_set()

    async def wait(self) -> None:
        """Wait, in the server's loop."""
        await self._inside.wait()

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Belong to this loop; to none when it is over."""
        self._loop, self._inside = loop, asyncio.Event()
        if loop is not None:
            self._follow()

    def _tell(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._follow)

    def _follow(self) -> None:
        if self._flag.is_set():
            self._inside.set()
        else:
            self._inside.clear()
