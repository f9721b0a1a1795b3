"""Kubernetes auditing in Python: policies, stages and events exactly as kube-apiserver makes them.

The names most programs need; each room (`kubewitness.codec`, `kubewitness.policy`, …) has a few
more. Importing this loads no framework: no HTTP stack, no command line.
"""

from kubewitness.codec import decode, decode_all, encode, encode_legacy, encode_list, read_events
from kubewitness.errors import (
    DecodeError,
    EncodeError,
    KubewitnessError,
    PolicyError,
    Problem,
    RequestError,
    StateError,
)
from kubewitness.event import Event, EventList, Level, ObjectReference, Stage, Status, UserInfo
from kubewitness.policy import Decision, Policy, bundled_policies, load_policy
from kubewitness.recorder import Headers, IncomingRequest, Recorder, RequestAudit
from kubewitness.request import RequestAttributes, attributes_of, resolve

__version__ = "0.1.0.dev0"

__all__ = [
    "Decision",
    "DecodeError",
    "EncodeError",
    "Event",
    "EventList",
    "Headers",
    "IncomingRequest",
    "KubewitnessError",
    "Level",
    "ObjectReference",
    "Policy",
    "PolicyError",
    "Problem",
    "Recorder",
    "RequestAttributes",
    "RequestAudit",
    "RequestError",
    "Stage",
    "StateError",
    "Status",
    "UserInfo",
    "attributes_of",
    "bundled_policies",
    "decode",
    "decode_all",
    "encode",
    "encode_legacy",
    "encode_list",
    "load_policy",
    "read_events",
    "resolve",
]
