"""The audit.k8s.io/v1 data model: what one audit event says.

Data every room speaks, and nothing else: no bytes (see `codec`), no rules (see `policy` and
`recorder`). Attribute names are the JSON names in snake case (``auditID`` is `audit_id`).
Events are immutable and their sequences are tuples, so an event may be queued and shared without
a copy.

The order of the fields *is* the order of the JSON members. A field with a plain default is left
out of the JSON when it holds that default; one with a default *factory* is always written.

Source: audit specification section 1; upstream ``pkg/apis/audit/v1/types.go``.
"""

from enum import StrEnum

from msgspec import Raw, Struct, field

API_VERSION = "audit.k8s.io/v1"
"""The ``apiVersion`` of the events and policies of this model."""

NO_OBJECT = Raw(b"")
"""The value of `Event.request_object` and `Event.response_object` when nothing was recorded."""


class Level(StrEnum):
    """How much of a request is recorded; each level includes the ones before it."""

    NONE = "None"
    METADATA = "Metadata"
    REQUEST = "Request"
    REQUEST_RESPONSE = "RequestResponse"

    @property
    def rank(self) -> int:
        """0 for None to 3 for RequestResponse; compare ranks, not names."""
        return _RANKS[self]


_RANKS = {level: rank for rank, level in enumerate(Level)}


class Stage(StrEnum):
    """The moments of a request at which an event is made."""

    REQUEST_RECEIVED = "RequestReceived"
    RESPONSE_STARTED = "ResponseStarted"
    RESPONSE_COMPLETE = "ResponseComplete"
    PANIC = "Panic"


class UserInfo(Struct, frozen=True, omit_defaults=True, gc=False):
    """Who made the request, as the API server authenticated them.

    `extra` maps a key to its values; the value None is Go's nil list, written as ``null``.
    """

    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...] | None] = field(default_factory=dict)


class AuthenticationMetadata(Struct, frozen=True, omit_defaults=True, gc=False, rename="camel"):
    """How the user was established, beyond their name (Kubernetes 1.35 and later)."""

    impersonation_constraint: str = ""


class ObjectReference(Struct, frozen=True, omit_defaults=True, gc=False, rename="camel"):
    """The API object a resource request speaks of; lists and watches leave `name` empty."""

    resource: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_group: str = ""
    api_version: str = ""
    resource_version: str = ""
    subresource: str = ""


class StatusCause(Struct, frozen=True, omit_defaults=True, gc=False):
    """One cause of a failure: a reason, a sentence and the field at fault."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(Struct, frozen=True, omit_defaults=True, gc=False, rename="camel"):
    """What a Status is about. `retry_after_seconds` is 0 when the server named no wait."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: tuple[StatusCause, ...] = ()
    retry_after_seconds: int = 0


class ListMeta(Struct, frozen=True, gc=False):
    """The always empty ``metadata`` of a recorded Status."""


class Status(Struct, frozen=True, omit_defaults=True, gc=False):
    """How the request ended. `code` is the HTTP status code; 101 for an upgraded connection."""

    metadata: ListMeta = field(default_factory=ListMeta)
    status: str = ""
    message: str = ""
    reason: str = ""
    details: StatusDetails | None = None
    code: int = 0


_RENAMED = {
    "audit_id": "auditID",
    "request_uri": "requestURI",
    "impersonated_user": "impersonatedUser",
    "authentication_metadata": "authenticationMetadata",
    "source_ips": "sourceIPs",
    "user_agent": "userAgent",
    "object_ref": "objectRef",
    "response_status": "responseStatus",
    "request_object": "requestObject",
    "response_object": "responseObject",
    "request_received_timestamp": "requestReceivedTimestamp",
    "stage_timestamp": "stageTimestamp",
}


def _no_time() -> str | None:
    """Return None from a factory, which makes the member written as ``null``, not left out."""
    return None


class Event(Struct, frozen=True, omit_defaults=True, gc=False, rename=_RENAMED):
    """One audit event: one request seen at one stage.

    Attributes:
        level: A `Level`, or whatever a foreign log holds; legacy text logs leave it empty.
        audit_id: Shared by all events of one request. Chosen by the client if it sent one.
        stage: A `Stage`, or whatever a foreign log holds.
        request_uri: Path and query as the server normalised them.
        verb: The Kubernetes verb; for other URLs the lower-case HTTP method.
        user: The authenticated user, never the impersonated one.
        impersonated_user: Whom the user acted as.
        source_ips: Addresses from the client inwards; the last one is the direct peer.
        object_ref: Only for requests of API resources.
        request_object: The recorded request body: JSON bytes, `NO_OBJECT` when absent.
        response_object: The recorded response body: JSON bytes, `NO_OBJECT` when absent.
        request_received_timestamp: RFC 3339 text, kept as it was read (up to nanoseconds and with
            its zone); `codec` writes UTC microseconds. None when it is not known.
        stage_timestamp: The same, for the moment of the stage.
        annotations: Facts added by admission, authorization and others.
    """

    level: str = field(default_factory=str)
    audit_id: str = field(default_factory=str)
    stage: str = field(default_factory=str)
    request_uri: str = field(default_factory=str)
    verb: str = field(default_factory=str)
    user: UserInfo = field(default_factory=UserInfo)
    impersonated_user: UserInfo | None = None
    authentication_metadata: AuthenticationMetadata | None = None
    source_ips: tuple[str, ...] = ()
    user_agent: str = ""
    object_ref: ObjectReference | None = None
    response_status: Status | None = None
    request_object: Raw = NO_OBJECT
    response_object: Raw = NO_OBJECT
    request_received_timestamp: str | None = field(default_factory=_no_time)
    stage_timestamp: str | None = field(default_factory=_no_time)
    annotations: dict[str, str] = field(default_factory=dict)


class EventList(Struct, frozen=True):
    """The events of one webhook request, in order."""

    items: tuple[Event, ...] = ()
