"""The stage machine: one request in, its audit events out. No socket, no clock, no await.

A driver (middleware, proxy, test) tells a `RequestAudit` what happens to a request, in order, with
the time of each step; each step returns the events that are due, ready to be queued. Every audit
rule that is not the policy's lives here, so that drivers stay thin.

Read first: the table at the top of `machine`. `headers` holds what request headers mean to
auditing, `objects` what is recorded of bodies, `answers` the responses auditing itself gives.

Not here: delivering events (`backends`), reading HTTP (`capture`), deciding (`policy`).

Source: audit specification section 5.
"""

from kubewitness.recorder.answers import (
    Answer,
    failed_request_info,
    failed_store,
    refused_target,
    status_answer,
    timeout_fault,
)
from kubewitness.recorder.bodies import MAX_BODY, Body
from kubewitness.recorder.headers import (
    Headers,
    audit_id_of,
    impersonated_user,
    service_account_of,
    unescaped_key,
)
from kubewitness.recorder.machine import IncomingRequest, Recorder, RequestAudit

__all__ = [
    "MAX_BODY",
    "Answer",
    "Body",
    "Headers",
    "IncomingRequest",
    "Recorder",
    "RequestAudit",
    "audit_id_of",
    "failed_request_info",
    "failed_store",
    "impersonated_user",
    "refused_target",
    "service_account_of",
    "status_answer",
    "timeout_fault",
    "unescaped_key",
]
