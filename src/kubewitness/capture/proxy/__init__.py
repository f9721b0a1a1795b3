"""A proxy in front of any Kubernetes API server that makes the audit trail the server does not.

Read first: `relay`, what happens to one request; then `passage`, its way to the API server and
back. `identity` and `impersonation` say who asks, `forwarding` what the API server is told of it,
`upstream` holds the connections to it; `server` is the whole, `workers` several of it.

Not here: which events are due (`recorder`), where they go (`backends`), flags (`cli`). What a proxy
cannot know is left out of events, never invented; docs/proxy.md lists it.

Source: audit specification section 5.
"""

from kubewitness.capture.proxy.config import Forwarding, ProxyConfig, TokenIdentity
from kubewitness.capture.proxy.server import AuditProxy

__all__ = ["AuditProxy", "Forwarding", "ProxyConfig", "TokenIdentity"]
