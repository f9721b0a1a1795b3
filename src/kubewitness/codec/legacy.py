r"""The text logs of Kubernetes: one line for each event, and the two lines for each request before.

Three dialects, told apart by their keys:

- *one line* (``--audit-log-format=legacy``): one event, ``time AUDIT: id="…" stage="…" …``;
- the same without ``user-agent``, as Kubernetes wrote it before 1.22;
- *two lines* (basic audit, gone since 1.12): a request line and, later and with other requests'
  lines in between, a response line with the same id.

Every value is quoted as in Go (see `codec.gotext`), so a line is one line whatever a client sent.
Text carries less than JSON: no level, uid, extra, stage time (one line) or objects, only the first
source address, and of the object only the namespace. Nothing is invented to fill the gaps.

What is *not* here: files and line framing. Read first: `encode_legacy`, which is the format.

Source: audit specification sections 6.3 and 6.4; upstream ``pkg/audit/format.go``.
"""

import re
from collections import OrderedDict
from enum import StrEnum
from functools import lru_cache

from msgspec.structs import replace

from kubewitness.codec.gotext import quote, quote_list, split_list, unquote
from kubewitness.codec.times import ZERO_TIME, nano_time
from kubewitness.errors import DecodeError, EncodeError
from kubewitness.event import Event, ObjectReference, Stage, Status, UserInfo


class Dialect(StrEnum):
    """Which text format a line was written in."""

    ONE_LINE = "legacy"
    ONE_LINE_NO_USER_AGENT = "legacy-no-user-agent"
    TWO_LINE = "two-line"


MAX_REQUESTS = 65_536
"""How many open requests a reader or writer of two-line logs remembers unless told otherwise."""

_NONE, _SELF, _LOOKUP, _DEFERRED = "<none>", "<self>", "<lookup>", "<deferred>"
_UNKNOWN, _NIL = "<unknown>", "<nil>"  # no source address: in one line, in two lines

_METHODS = {
    **dict.fromkeys(("get", "list", "watch", "proxy"), "GET"),
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    **dict.fromkeys(("delete", "deletecollection"), "DELETE"),
}
_RESOURCE_PATHS = ("/api/", "/apis/")

_WHO = ("user", "groups", "as", "asgroups")
_KEYS = ("id", "stage", "ip", "method", *_WHO, "user-agent", "namespace", "uri", "response")
_OLD_KEYS = tuple(key for key in _KEYS if key != "user-agent")
_REQUEST_KEYS = ("id", "ip", "method", *_WHO, "namespace", "uri")
_RESPONSE_KEYS = ("id", "response")

# Possessive, so that a hostile line costs one pass.
_QUOTED = r'"([^"\\\n]*+(?:\\.[^"\\\n]*+)*+)"'
_HEAD = re.compile(r"(\S++) AUDIT:")
_PAIR = re.compile(rf" ([^\s=]++)={_QUOTED}")


def _pattern(*keys: str) -> re.Pattern[str]:
    pairs = {key: rf" {key}={_QUOTED}" for key in keys}
    if "user-agent" in pairs:
        pairs["user-agent"] = f"(?:{pairs['user-agent']})?"
    return re.compile(_HEAD.pattern + "".join(pairs.values()) + "\n?")


_ONE_LINE = _pattern(*_KEYS)
_REQUEST = _pattern(*_REQUEST_KEYS)
_RESPONSE = _pattern(*_RESPONSE_KEYS)
_CODE = re.compile(r"-?[0-9]{1,10}")


def encode_legacy(event: Event, *, user_agent: bool = True) -> bytes:
    """Return the event as one line of text with its newline.

    A time that is not known prints as `ZERO_TIME`. Two things read back differently: groups of a
    user without a name are not printed, and an impersonated user's empty list of groups is
    printed like no list (``asgroups="<lookup>"``), since an event does not tell them apart.

    Args:
        event: Any event; surrogates that stand for raw bytes are allowed in its strings.
        user_agent: False leaves that part out, as Kubernetes before 1.22 did.

    Raises:
        EncodeError: The event's time is not RFC 3339.

    Source: audit specification section 6.3.
    """
    status = event.response_status
    agent = f" user-agent={quote(event.user_agent)}" if user_agent else ""
    return (
        f"{_time_text(event.request_received_timestamp)} AUDIT: id={quote(event.audit_id)}"
        f" stage={quote(event.stage)}"
        f" ip={quote(event.source_ips[0] if event.source_ips else _UNKNOWN)}"
        f" method={quote(event.verb)} {_who_text(event, nameless='')}{agent}"
        f" namespace={_namespace_text(event)} uri={quote(event.request_uri)}"
        f' response="{_DEFERRED if status is None else status.code}"\n'
    ).encode()


def decode_legacy(line: str) -> tuple[Event, Dialect]:
    """Return the event of one line, with or without its newline, and the line's dialect.

    The event holds what the line says; `level` is always empty. A request line of the two-line
    dialect gives an event of stage RequestReceived whose `verb` is the HTTP method in upper case;
    a response line gives one of stage ResponseComplete with only `audit_id`, `response_status` and
    `stage_timestamp`: `LegacyReader` joins the two.

    ``asgroups=""`` (Go's empty but present list) reads like ``asgroups="<lookup>"``.

    Raises:
        DecodeError: The line is in none of the dialects; the text says where it leaves them.
    """
    try:
        if match := _ONE_LINE.fullmatch(line):
            return _one_line_event(match)
        if match := _RESPONSE.fullmatch(line):
            return _response_event(match), Dialect.TWO_LINE
        if match := _REQUEST.fullmatch(line):
            return _request_event(match), Dialect.TWO_LINE
    except ValueError as error:
        raise DecodeError(f"not a legacy audit line: {error}") from None
    raise DecodeError(f"not a legacy audit line: {_complaint(line)}")


class LegacyReader:
    """Reads the lines of one log in order and joins the two lines of a request.

    Requests without an answer so far are remembered up to a bound; the oldest is forgotten first.

    Args:
        max_requests: That bound; an answer to a forgotten request stays without the request.
    """

    def __init__(self, *, max_requests: int = MAX_REQUESTS) -> None:
        self._max_requests = max_requests
        self._requests: OrderedDict[str, Event] = OrderedDict()

    def decode(self, line: str) -> tuple[Event, Dialect]:
        """Return the event and the dialect of the next line.

        As `decode_legacy`, except that a response line gives its request's event with
        `response_status` and `stage_timestamp` filled in and the stage ResponseComplete.

        Raises:
            DecodeError: As `decode_legacy`; the reader goes on with the next line.
        """
        event, dialect = decode_legacy(line)
        if dialect is Dialect.TWO_LINE:
            if event.stage == Stage.REQUEST_RECEIVED:
                self._remember(event)
            else:
                event = self._join(event)
        return event, dialect

    def _remember(self, request: Event) -> None:
        self._requests[request.audit_id] = request
        self._requests.move_to_end(request.audit_id)
        if len(self._requests) > self._max_requests:
            self._requests.popitem(last=False)

    def _join(self, response: Event) -> Event:
        request = self._requests.pop(response.audit_id, None)
        if request is None:
            return response
        return replace(
            request,
            stage=response.stage,
            response_status=response.response_status,
            stage_timestamp=response.stage_timestamp,
        )


class TwoLineWriter:
    """Writes events in the two-line dialect: one line when asked, one line when answered.

    Which requests are open is remembered up to a bound; the one unused for longest is forgotten
    first, and its request line is then written a second time.

    Args:
        max_requests: That bound.
    """

    def __init__(self, *, max_requests: int = MAX_REQUESTS) -> None:
        self._max_requests = max_requests
        # A request whose request line is written -> whether its response line is, too.
        self._answered: OrderedDict[tuple[str, str | None], bool] = OrderedDict()

    def encode(self, event: Event) -> bytes:
        """Return the lines this event adds to the log: none, one or two, each with its newline.

        RequestReceived gives the request line. The first later stage with a status gives the
        response line, after the request line if that was not written yet. An event that knows no
        request (neither `request_uri` nor `verb`) gives only a response line.

        Raises:
            EncodeError: A time of the event is not RFC 3339. Nothing is remembered of the event.

        Source: audit specification section 6.4.
        """
        if event.stage == Stage.REQUEST_RECEIVED:
            line = _request_line(event)
            self._remember(event, answered=False)
            return line
        if not event.request_uri and not event.verb:
            return _response_line(event)
        return self._answer(event)

    def _answer(self, event: Event) -> bytes:
        answered = self._answered.get((event.audit_id, event.request_received_timestamp))
        request = _request_line(event) if answered is None else b""
        response = b"" if answered else _response_line(event)
        self._remember(event, answered=bool(answered or response))
        return request + response

    def _remember(self, event: Event, *, answered: bool) -> None:
        key = event.audit_id, event.request_received_timestamp
        if event.stage in {Stage.RESPONSE_COMPLETE, Stage.PANIC}:  # the last stage there is
            self._answered.pop(key, None)
            return
        self._answered[key] = answered
        self._answered.move_to_end(key)
        if len(self._answered) > self._max_requests:
            self._answered.popitem(last=False)


def _one_line_event(match: re.Match[str]) -> tuple[Event, Dialect]:
    time, *rest = _texts(match)
    audit_id, stage, ip, verb, user, groups, name, as_groups, agent, namespace, uri, code = rest
    event = Event(
        audit_id=audit_id,
        stage=stage,
        request_uri=uri,
        verb=verb,
        user=_user(user, groups),
        impersonated_user=_impersonated(name, as_groups, nameless=""),
        source_ips=() if ip == _UNKNOWN else (ip,),
        user_agent=agent,
        object_ref=_reference(namespace),
        response_status=None if code == _DEFERRED else _status(code),
        request_received_timestamp=_time(time),
    )
    old = match[10] is None
    return event, Dialect.ONE_LINE_NO_USER_AGENT if old else Dialect.ONE_LINE


def _request_event(match: re.Match[str]) -> Event:
    time, audit_id, ip, method, user, groups, name, as_groups, namespace, uri = _texts(match)
    moment = _time(time)
    return Event(
        audit_id=audit_id,
        stage=Stage.REQUEST_RECEIVED,
        request_uri=uri,
        verb=method,
        user=_user(user, groups),
        impersonated_user=_impersonated(name, as_groups, nameless=_SELF),
        source_ips=() if ip == _NIL else (ip,),
        object_ref=_reference(namespace),
        request_received_timestamp=moment,
        stage_timestamp=moment,
    )


def _response_event(match: re.Match[str]) -> Event:
    time, audit_id, code = _texts(match)
    return Event(
        audit_id=audit_id,
        stage=Stage.RESPONSE_COMPLETE,
        response_status=_status(code),
        stage_timestamp=_time(time),
    )


def _texts(match: re.Match[str]) -> list[str]:
    return [unquote(body) if "\\" in body else body for body in match.groups("")]


def _time(text: str) -> str | None:
    nano_time(text)  # the text is kept as it is, but must be a time
    return None if text == ZERO_TIME else text


def _user(name: str, groups: str) -> UserInfo:
    username = "" if name == _NONE else name
    return UserInfo(username=username, groups=() if groups == _NONE else split_list(groups))


def _impersonated(name: str, groups: str, *, nameless: str) -> UserInfo | None:
    if name == _SELF and groups == _LOOKUP:
        return None
    username = "" if name == nameless else name
    return UserInfo(username=username, groups=() if groups == _LOOKUP else split_list(groups))


def _reference(namespace: str) -> ObjectReference | None:
    return None if namespace in {"", _NONE} else ObjectReference(namespace=namespace)


@lru_cache(maxsize=128)  # a log holds few codes
def _status(code: str) -> Status:
    if not _CODE.fullmatch(code):
        raise ValueError(f"response={quote(code[:32])} is no status code")
    return Status(code=int(code))


def _complaint(line: str) -> str:
    """Return why the line is in none of the dialects. Slow, for lines that are not."""
    head = _HEAD.match(line)
    if head is None:
        return f"it starts with {line[:32]!r}, not with a time and AUDIT:"
    keys: list[str] = []
    end = head.end()
    while pair := _PAIR.match(line, end):
        keys.append(pair[1])
        end = pair.end()
    if end < len(line.removesuffix("\n")):
        return f'from column {end + 1} on it is not key="value": {line[end : end + 32]!r}'
    return _complaint_of(tuple(keys))


def _complaint_of(keys: tuple[str, ...]) -> str:
    for dialect in (_KEYS, _OLD_KEYS, _REQUEST_KEYS, _RESPONSE_KEYS):
        if dialect[: len(keys)] == keys:
            return f"it ends before the key {dialect[len(keys)]}"
    unknown = [key for key in keys if key not in _KEYS]
    if unknown:
        return f"it has the unknown key {unknown[0][:32]}"
    return f"no dialect has these keys in this order: {', '.join(keys[:16])}"


def _time_text(time: str | None) -> str:
    try:
        return ZERO_TIME if time is None else nano_time(time)
    except ValueError as error:
        raise EncodeError(f"an event's time cannot be written: {error}") from None


def _who_text(event: Event, *, nameless: str) -> str:
    """Return the four pairs on who acts as whom; `nameless` prints for an empty name acted as."""
    user, other = event.user, event.impersonated_user
    name, groups, as_name, as_groups = user.username or _NONE, _NONE, _SELF, _LOOKUP
    if user.username and user.groups:
        groups = quote_list(user.groups)
    if other is not None:
        as_name = other.username or nameless
        as_groups = quote_list(other.groups) if other.groups else _LOOKUP
    return (
        f"user={quote(name)} groups={quote(groups)} as={quote(as_name)} asgroups={quote(as_groups)}"
    )


def _namespace_text(event: Event) -> str:
    return quote((event.object_ref.namespace if event.object_ref else "") or _NONE)


def _request_line(event: Event) -> bytes:
    return (
        f"{_time_text(event.request_received_timestamp or event.stage_timestamp)} AUDIT:"
        f" id={quote(event.audit_id)}"
        f" ip={quote(event.source_ips[0] if event.source_ips else _NIL)}"
        f" method={quote(_method(event))} {_who_text(event, nameless=_SELF)}"
        f" namespace={_namespace_text(event)} uri={quote(event.request_uri)}\n"
    ).encode()


def _response_line(event: Event) -> bytes:
    if event.response_status is None:
        return b""
    return (
        f"{_time_text(event.stage_timestamp or event.request_received_timestamp)} AUDIT:"
        f' id={quote(event.audit_id)} response="{event.response_status.code}"\n'
    ).encode()


def _method(event: Event) -> str:
    """Return the HTTP method; upper case in an event marks one that a two-line log held."""
    verb = event.verb
    # An event read from a one-line log names no object outside a namespace: its path tells.
    if event.object_ref is not None or event.request_uri.startswith(_RESOURCE_PATHS):
        verb = _METHODS.get(verb, verb)
    return verb.upper()
