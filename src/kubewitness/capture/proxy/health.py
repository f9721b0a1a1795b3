"""The proxy's second port: is it alive, is it ready, what has it counted. For loopback only."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from kubewitness.metrics import CONTENT_TYPE


def authority(host: str, port: int) -> str:
    """Return an address and a port as URLs have them: an IPv6 address is in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HealthServer:
    """Answers ``/livez``, ``/readyz``, ``/healthz`` and ``/metrics``, and nothing else.

    Args:
        is_ready: Returns whether requests can be served now.
        exposition: Returns the metrics in Prometheus' text format.
    """

    def __init__(
        self, is_ready: Callable[[], Awaitable[bool]], exposition: Callable[[], Awaitable[bytes]]
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
            where = authority(host, port)
            raise OSError(f"cannot listen at {where}: {error.strerror or error}") from None
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
            is_ready = await self._is_ready()
            return web.Response(
                status=200 if is_ready else 503, text="ok\n" if is_ready else "not ready\n"
            )
        return web.Response(status=404, text="there are /livez, /readyz, /healthz and /metrics\n")
