"""What the bodies of one request and of its answer give to its events, by the level decided.

Objects are completed and recorded as the API server does it: nothing below Metadata; at Metadata
the objectRef and a Status; at Request what the client sent; at RequestResponse what came back, too.

Source: audit specification section 5.8; upstream ``pkg/audit/request.go``.
"""

from msgspec import Raw
from msgspec.structs import replace

from kubewitness.event import NO_OBJECT, Level, Status
from kubewitness.policy import Decision
from kubewitness.recorder import objects, protobuf
from kubewitness.recorder.bodies import (
    Body,
    Content,
    content_of,
    content_of_request,
    is_api_object,
    is_json,
    status_in,
    was_unread,
)
from kubewitness.request import RequestInfo, is_long_running, object_reference

_NOT_RECORDED = "kubewitness.io/not-recorded"
_TRUNCATED = "kubewitness.io/truncated"
_KNOWN_KINDS = ("json", "yaml", "protobuf")
_READ_AT = {
    "create": Level.METADATA,  # the object's metadata completes the objectRef
    "update": Level.METADATA,
    "patch": Level.REQUEST,
    "delete": Level.REQUEST,
    "deletecollection": Level.REQUEST,
}
_READ_AT_ANY = dict.fromkeys(("post", "put", "patch", "delete"), Level.REQUEST)
_DELETES = ("delete", "deletecollection")
_ANSWERED_BY_STATUS = frozenset(("create", *_DELETES))


class Evidence:
    """What is known of one request beside its head.

    Attributes:
        object_ref: The object that it speaks of, as far as is known.
        status: How it ended, as far as is known.
        request_object: JSON bytes, or `NO_OBJECT`.
        response_object: The same.

    Args:
        info: What the request is.
        is_long_running: Whether it has the stage ResponseStarted.
        records_any_json: See `Recorder`.
    """

    def __init__(self, info: RequestInfo, *, is_long_running: bool, records_any_json: bool) -> None:
        self.object_ref = object_reference(info)
        self.status: Status | None = None
        self.request_object = NO_OBJECT
        self.response_object = NO_OBJECT
        self._info = info
        self._is_long_running = is_long_running
        self._records_any_json = records_any_json
        self._rank = Level.NONE.rank
        self._omits_managed_fields = False
        self._body: Body | None = None
        self._remarks: dict[str, list[str]] = {}

    def decide(self, decision: Decision) -> None:
        """Record by this decision from now on."""
        self._rank = decision.level.rank
        self._omits_managed_fields = decision.omit_managed_fields

    @property
    def annotations(self) -> dict[str, str]:
        """What is to be said of objects that are not recorded, or not wholly."""
        return {key: "; ".join(texts) for key, texts in self._remarks.items()}

    @property
    def keeps_request_body(self) -> bool:
        """Whether `take_request_body` has a use for the body of this request."""
        if self._info.is_resource_request:
            level = None if is_long_running(self._info) else _READ_AT.get(self._info.verb)
        else:
            level = _READ_AT_ANY.get(self._info.verb) if self._records_any_json else None
        return level is not None and self._records(level)

    def keeps_response_body(self, code: int, content_type: str) -> bool:
        """Tell whether `take_response_body` has a use for the body of an answer like this."""
        is_known = any(kind in content_type for kind in _KNOWN_KINDS)
        if not is_known or not self._records(Level.METADATA):
            return False
        if code >= 400:
            return True
        may_be_recorded = self._records(Level.REQUEST_RESPONSE)
        may_be_status = self._info.verb in _ANSWERED_BY_STATUS
        return not self._is_stream and (may_be_recorded or may_be_status)

    def take_object(self, content: Content) -> None:
        """Take the object that the client sent to create, update or delete by, if it sent one.

        Blanks are none, unless they are only the beginning: the object may come behind them.
        """
        is_blank = content.is_whole and not content.data.strip()
        if not self._records(Level.METADATA) or is_blank:
            return
        if self._info.verb not in _DELETES and content.is_whole:
            own = protobuf.reference_of(content.data) or objects.reference_of(content.data)
            self.object_ref = objects.completed_reference(self.object_ref, own)
        if self._records(Level.REQUEST):
            self.request_object = self._recordable("requestObject", content)

    def take_patch(self, content: Content) -> None:
        """Take a patch as the client sent it; whatever it is, the event is kept."""
        if self._records(Level.REQUEST):
            self.request_object = self._recordable("requestObject", content, is_patch=True)

    def take_response_object(self, body: bytes) -> None:
        """Take the object sent back, if any."""
        if not self._records(Level.METADATA) or not body.strip():
            return
        self.status = objects.status_of(body) or self.status
        if self._records(Level.REQUEST_RESPONSE):
            content = Content(body, objects.recordable(body))
            self.response_object = self._recordable("responseObject", content)

    def take_request_body(self, body: Body) -> None:
        """Take the body of the request as it was sent; `settle` decides what becomes of it."""
        if self.keeps_request_body:
            self._body = body

    def take_response_body(self, body: Body, *, code: int) -> None:
        """Take the body of the answer as it is sent.

        Args:
            body: The body.
            code: What was answered, if that is known; 0 if not.
        """
        if not self._records(Level.METADATA):
            return
        content, kind = content_of(body), body.media_type
        status = status_in(content, kind)
        if status is not None:
            self.status = replace(status, code=code) if code else status
        if not self._records(Level.REQUEST_RESPONSE) or self.response_object is not NO_OBJECT:
            return  # an object that was taken as such counts
        if self._is_object(body, content, status):
            self.response_object = self._recordable("responseObject", content)

    def settle(self) -> None:
        """Record the body of the request, unless it was refused before that was read.

        An object that was taken as such counts.
        """
        body, self._body = self._body, None
        if body is None or self.request_object is not NO_OBJECT:
            return
        if was_unread(self.status) and not self._records_any_json:
            return
        content = content_of_request(body)
        if self._info.verb == "patch":
            self.take_patch(content)
        else:
            self.take_object(content)

    @property
    def _is_stream(self) -> bool:
        """Whether what is sent back is no object, unless it is a refusal."""
        return self._is_long_running or is_long_running(self._info)

    def _is_object(self, body: Body, content: Content, status: Status | None) -> bool:
        if self._is_stream:
            return status is not None
        kind = body.media_type
        if self._records_any_json and is_json(kind) and content.data.strip():
            return True
        return is_api_object(content, kind)

    def _records(self, level: Level) -> bool:
        return self._rank >= level.rank

    def _recordable(self, name: str, content: Content, *, is_patch: bool = False) -> Raw:
        document = content.document
        if document is NO_OBJECT:
            self._remark(_NOT_RECORDED, f"{name}: {content.omitted or 'not text'}")
        elif not content.is_whole:
            self._remark(_TRUNCATED, f"{name}: the first {len(content.data)} bytes")
        elif self._omits_managed_fields and not is_patch:
            return objects.without_managed_fields(document)
        return document

    def _remark(self, key: str, text: str) -> None:
        self._remarks.setdefault(key, []).append(text)
