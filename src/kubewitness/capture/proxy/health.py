"""The proxy's second port: is it alive, is it ready, what has it counted. For loopback only."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from kubewitness.metrics import CONTENT_TYPE


class HealthServer:
    """Answers ``/livez``, ``/readyz``, ``/healthz`` and ``/metrics``, and nothing else.

    Args:
        is_ready: Whether requests can be served now.
        exposition: Returns the metrics in Prometheus' text format.
    """

    def __init__(
        self, is_ready: Callable[[], bool], exposition: Callable[[], Awaitable[bytes]]
    ) -> None:
        self._is_ready = is_ready
        self._exposition = exposition
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None))

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port, which is another than the given one if that is 0.

        Raises:
            OSError: The address is taken, or not this machine's.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise OSError(f"cannot listen at {host}:{port}: {error.strerror or error}") from None
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/metrics":
            return web.Response(
                body=await self._exposition(), headers={"Content-Type": CONTENT_TYPE}
            )
        if request.path == "/livez":
            return web.Response(text="ok\n")
        if request.path in ("/readyz", "/healthz"):
            is_ready = self._is_ready()
            return web.Response(
                status=200 if is_ready else 503, text="ok\n" if is_ready else "not ready\n"
            )
        return web.Response(status=404, text="there are /livez, /readyz, /healthz and /metrics\n")
