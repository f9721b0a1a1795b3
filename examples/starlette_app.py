"""Starlette, with an authentication of its own and a WebSocket.

Run ``python examples/starlette_app.py``, then ``curl -H 'X-Name: alice' localhost:8000/things``:
audit.log has one more event, of user alice. A WebSocket to /echo has two: opened, and closed.
"""

from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from kubewitness.capture import AuditMiddleware
from kubewitness.options import AuditOptions, build_pipeline

FLAGS = [f"--audit-policy-file={Path(__file__).parent}/policy.yaml", "--audit-log-path=audit.log"]


class ByName(AuthenticationBackend):  # believes everybody: an example
    async def authenticate(self, conn):
        name = conn.headers.get("X-Name")
        return (AuthCredentials(), SimpleUser(name)) if name else None


async def echo(websocket):
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())


audit = Middleware(AuditMiddleware, build_pipeline(AuditOptions.from_arguments(FLAGS)))
middleware = [Middleware(AuthenticationMiddleware, backend=ByName()), audit]  # in this order
routes = [Route("/things", JSONResponse({"things": []})), WebSocketRoute("/echo", echo)]
app = Starlette(routes=routes, middleware=middleware)

if __name__ == "__main__":
    uvicorn.run(app)
