"""Events made live: the drivers that take HTTP requests and tell a recorder what happens to them.

`AuditMiddleware` sits in front of a Python application (ASGI), `proxy.AuditProxy` in front of a
Kubernetes API server. Both are thin: which events are due, and what is in them, is the `recorder`'s
to say, and where events go the pipeline's.

Read first: `auditor`, what the two share; then `asgi` (with `users`), or `proxy`.

Not here: any rule of auditing, flags (`options`), the command (`cli`).

Source: audit specification section 5.
"""

from kubewitness.capture.asgi import AuditMiddleware, audit_of
from kubewitness.capture.auditor import Auditor
from kubewitness.capture.users import ANONYMOUS, framework_user, front_proxy_user

__all__ = [
    "ANONYMOUS",
    "AuditMiddleware",
    "Auditor",
    "audit_of",
    "framework_user",
    "front_proxy_user",
]
