"""A webhook receiver that does as little as can be done: for the figures of the webhook backend.

    python bench/sink.py [file with certificate and key]

Prints its port, answers every POST with 200 once the whole body is there, and throws it away.
POST /stall is never answered.
"""

import asyncio
import ssl
import sys
from typing import cast

import uvloop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Receiver(asyncio.Protocol):
    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._stalls = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        while data:
            if not self._left:
                self._head += data
                head, separator, data = self._head.partition(b"\r\n\r\n")
                if not separator:
                    return
                self._head = b""
                self._begin(head)
            taken = min(self._left, len(data))
            self._left -= taken
            data = data[taken:]
            if not self._left and not self._stalls:
                self._transport.write(OK)

    def _begin(self, head: bytes) -> None:
        self._stalls = head.startswith(b"POST /stall")
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                self._left = int(value)


async def serve(certificate: list[str]) -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Receiver, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1:]))
