"""Litestar, wrapped as a whole, with an annotation by the application.

Run ``python examples/litestar_app.py``, then ``curl -X DELETE localhost:8000/things/7``: the event
in audit.log has the annotation example.com/deleted.
"""

from pathlib import Path

import uvicorn
from litestar import Litestar, Request, delete, get

from kubewitness.capture import AuditMiddleware, audit_of
from kubewitness.options import AuditOptions, build_pipeline

FLAGS = [f"--audit-policy-file={Path(__file__).parent}/policy.yaml", "--audit-log-path=audit.log"]


@get("/things")
async def things() -> list[int]:
    return [7]


@delete("/things/{number:int}")
async def remove(request: Request, number: int) -> None:
    if audit := audit_of(request.scope):
        audit.annotate("example.com/deleted", f"thing {number}")


pipeline = build_pipeline(AuditOptions.from_arguments(FLAGS))
app = AuditMiddleware(Litestar([things, remove]), pipeline)

if __name__ == "__main__":
    uvicorn.run(app)
