"""What a request is, in Kubernetes' words: from a method and a target to verb, resource and name.

Pure rules about text. No sockets, no header parsing, no policy (see `policy`), and no error
pages: a target the API server would refuse raises `RequestError`, and the driver answers.

Read `info` first: the resolution, with its rules at the top. `uri` is what happens to the target
before it, `selectors` what a list's query may name, `attributes` the same knowledge as a policy
sees it (live, or read back from an event), `ips` who sent the request.

Source: audit specification sections 4, 5.4, 5.5 and 5.6.
"""

from kubewitness.request.attributes import RequestAttributes, attributes_of, derive_object_ref
from kubewitness.request.info import RequestInfo, is_long_running, object_reference, resolve
from kubewitness.request.ips import source_ips
from kubewitness.request.uri import normalize_target, parse_query

__all__ = [
    "RequestAttributes",
    "RequestInfo",
    "attributes_of",
    "derive_object_ref",
    "is_long_running",
    "normalize_target",
    "object_reference",
    "parse_query",
    "resolve",
    "source_ips",
]
