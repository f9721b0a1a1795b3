"""Hypothesis strategies for events with everything in them that a client can send."""

import json

import msgspec
from hypothesis import strategies as st

from kubewitness.codec.times import micro_time
from kubewitness.event import (
    AuthenticationMetadata,
    Event,
    ObjectReference,
    Status,
    StatusCause,
    StatusDetails,
    UserInfo,
)

# Text as it can arrive: also what JSON escapes, what HTML escapes, and line separators.
TEXT = st.text(max_size=12) | st.sampled_from(
    ["<a&b>", "\u2028\u2029", '"\\', "\x00\x1f\x7f", "é😀"]
)
TUPLES = st.lists(TEXT, max_size=3).map(tuple)
TIMES = st.none() | st.integers(-(2**61), 2**61).map(micro_time)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = DOCUMENTS.filter(lambda value: value is not None).map(
    lambda value: msgspec.Raw(json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode())
)
USERS = st.builds(
    UserInfo,
    username=TEXT,
    uid=TEXT,
    groups=TUPLES,
    extra=st.dictionaries(TEXT, st.none() | TUPLES, max_size=2),
)
DETAILS = st.builds(
    StatusDetails,
    name=TEXT,
    group=TEXT,
    kind=TEXT,
    uid=TEXT,
    causes=st.lists(st.builds(StatusCause, reason=TEXT, message=TEXT, field=TEXT), max_size=2).map(
        tuple
    ),
    retry_after_seconds=st.integers(0, 2**31 - 1),
)
STATUSES = st.builds(
    Status,
    status=TEXT,
    message=TEXT,
    reason=TEXT,
    details=st.none() | DETAILS,
    code=st.integers(-(2**31), 2**31 - 1),
)
REFERENCES = st.builds(
    ObjectReference,
    resource=TEXT,
    namespace=TEXT,
    name=TEXT,
    uid=TEXT,
    api_group=TEXT,
    api_version=TEXT,
    resource_version=TEXT,
    subresource=TEXT,
)
EVENTS = st.builds(
    Event,
    level=TEXT,
    audit_id=TEXT,
    stage=TEXT,
    request_uri=TEXT,
    verb=TEXT,
    user=USERS,
    impersonated_user=st.none() | USERS,
    authentication_metadata=st.none()
    | st.builds(AuthenticationMetadata, impersonation_constraint=TEXT),
    source_ips=TUPLES,
    user_agent=TEXT,
    object_ref=st.none() | REFERENCES,
    response_status=st.none() | STATUSES,
    request_object=st.just(msgspec.Raw(b"")) | OBJECTS,
    response_object=st.just(msgspec.Raw(b"")) | OBJECTS,
    request_received_timestamp=TIMES,
    stage_timestamp=TIMES,
    annotations=st.dictionaries(TEXT, TEXT, max_size=3),
)
