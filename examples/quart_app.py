"""Quart, whose application object stays what it is: the middleware goes around ``asgi_app``.

Run ``python examples/quart_app.py``, then ``curl -X PUT -d '{"a": 1}' localhost:8000/things/7``
with ``-H 'Content-Type: application/json'``: audit.log has what was sent, as requestObject.
"""

from pathlib import Path

import uvicorn
from quart import Quart, request

from kubewitness.capture import AuditMiddleware
from kubewitness.options import AuditOptions, build_pipeline

FLAGS = [f"--audit-policy-file={Path(__file__).parent}/policy.yaml", "--audit-log-path=audit.log"]

app = Quart(__name__)
app.asgi_app = AuditMiddleware(app.asgi_app, build_pipeline(AuditOptions.from_arguments(FLAGS)))


@app.put("/things/<int:number>")
async def replace(number):
    return {"id": number, **await request.get_json()}


if __name__ == "__main__":
    uvicorn.run(app)
