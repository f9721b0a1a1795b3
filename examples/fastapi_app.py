"""FastAPI, with tokens that the middleware and the application both know.

Run ``python examples/fastapi_app.py``, then, with a good token and with a bad one,
``curl -H 'Authorization: Bearer good' --json '{"name": "a"}' localhost:8000/things``:
audit.log has the bodies of both directions; a refused token has one event, ResponseStarted 401.
"""

from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException, Request

from kubewitness.capture import ANONYMOUS, AuditMiddleware
from kubewitness.event import UserInfo
from kubewitness.options import AuditOptions, build_pipeline

FLAGS = [f"--audit-policy-file={Path(__file__).parent}/policy.yaml", "--audit-log-path=audit.log"]
USERS = {b"Bearer good": UserInfo(username="alice", groups=("system:authenticated",))}


def user_of(scope):
    token = dict(scope["headers"]).get(b"authorization")
    return ANONYMOUS if token is None else USERS.get(token)  # None: the token is refused


app = FastAPI()
pipeline = build_pipeline(AuditOptions.from_arguments(FLAGS))
app.add_middleware(AuditMiddleware, pipeline=pipeline, user=user_of)


@app.post("/things", status_code=201)
async def create(thing: dict, request: Request):
    if user_of(request.scope) in (None, ANONYMOUS):
        raise HTTPException(401)
    return {"id": 1, **thing}


if __name__ == "__main__":
    uvicorn.run(app)
