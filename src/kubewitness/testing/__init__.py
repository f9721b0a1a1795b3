"""The public test kit: a fake Kubernetes API server for tests of clients and proxies.

`FakeAPIServer` runs on loopback in a thread of its own and is used from synchronous code, as a
context manager. It replays recorded answers, establishes identities as a real server does, answers
the reviews that proxies ask for, misbehaves on demand, and keeps a few kinds of objects, well
enough for kubectl. What it was asked is in `FakeAPIServer.requests`.

Not here: auditing, admission, schemas, authorization beyond what a test says. It is no API server
to run anything on.

Read first: the docstring of `FakeAPIServer` in `server`, then the table at the top of `behaviours`.
`wire` is HTTP/1.1, `running` the thread, `identity` who asks. `replay`, `reviews`, `behaviours` and
`api` answer; below `api` are `objects` and, for exec and its like, `sessions` over `websocket` and
`spdy`. Certificates need trustme (``pip install kubewitness[testing]``).
"""

from kubewitness.testing.certificates import Authority, Pair
from kubewitness.testing.received import Received
from kubewitness.testing.server import PROXY_NAME, PROXY_TOKEN, FakeAPIServer

__all__ = ["PROXY_NAME", "PROXY_TOKEN", "Authority", "FakeAPIServer", "Pair", "Received"]
