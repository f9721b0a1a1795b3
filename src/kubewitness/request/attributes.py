"""RequestAttributes: a request as a policy sees it, live or read back from its event.

An event does not say everything the policy saw: the server completes the objectRef of a create
from the request body, and text logs have no objectRef at all. What is missing is read from the
URL again, by the rules of `info`.

`attributes_of` runs once per event of a whole log, so it decodes only what is encoded, shares the
strings and group tuples that repeat (look-ups then compare identities) and caches what it reads
from URLs. Every cache is bounded, in entries and in the length of an entry.

Source: audit specification sections 3, 5.8, 6.3 and 6.4.
"""

from functools import lru_cache
from typing import Self, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from kubewitness.errors import RequestError
from kubewitness.event import Event, ObjectReference, UserInfo
from kubewitness.request.info import (
    RequestInfo,
    info_at,
    locate,
    name_in_options,
    object_reference,
    resolve,
)
from kubewitness.request.uri import parse_query, unescape

_MAX_CACHED = 4096
_MAX_CACHED_LENGTH = 1024
_MAX_SHARED = 16_384

_Value = TypeVar("_Value", str, tuple[str, ...])


class _Shared(dict[_Value, _Value]):
    """Gives the one object kept for equal values; emptied when it is full.

    Not `sys.intern`, which on Python 3.12 never lets go of a string again: a log may hold any
    number of different ones.
    """

    def __missing__(self, value: _Value) -> _Value:
        if len(self) >= _MAX_SHARED:
            self.clear()
        if sum(map(len, value)) <= _MAX_CACHED_LENGTH:  # characters, of a text or of a tuple
            self[value] = value
        return value


_TEXTS = _Shared[str]()
_GROUPS = _Shared[tuple[str, ...]]()


class RequestAttributes(Struct, frozen=True, gc=False, cache_hash=True):
    """The facts of a request that an audit policy decides on.

    Attributes:
        user: The authenticated user's name; None when nobody was authenticated.
        groups: The user's groups.
        verb: As in `RequestInfo`, like all that follow.
        is_resource_request: Whether the request speaks of API resources.
        api_group: ``""`` for the core group.
        api_version: No policy looks at it.
        resource: For example ``pods``.
        subresource: For example ``log``.
        namespace: ``""`` for cluster scope and for all namespaces.
        name: ``""`` for collections and for creates.
        path: The decoded path.
    """

    user: str | None = None
    groups: tuple[str, ...] = ()
    verb: str = ""
    is_resource_request: bool = False
    api_group: str = ""
    api_version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @classmethod
    def of_request(cls, info: RequestInfo, user: UserInfo | None) -> Self:
        """Return the attributes of a live request; `user` is None before authentication."""
        return cls(
            user=None if user is None else _TEXTS[user.username],
            groups=() if user is None else _GROUPS[user.groups],
            verb=_TEXTS[info.verb],
            is_resource_request=info.is_resource_request,
            api_group=_TEXTS[info.api_group],
            api_version=_TEXTS[info.api_version],
            resource=_TEXTS[info.resource],
            subresource=_TEXTS[info.subresource],
            namespace=_TEXTS[info.namespace],
            name=info.name,
            path=info.path,
        )


def attributes_of(event: Event) -> RequestAttributes:
    """Return what the policy saw when the recorded event was made. Never raises.

    A URI that cannot be decoded gives the path as it is written, without the query; if there is
    no objectRef either, the request counts as none of a resource.

    Source: audit specification sections 3 and 5.8.
    """
    reference = event.object_ref
    user = event.user
    if reference is None or _says_nothing(reference):
        info = _cached_info(event.verb, event.request_uri)
        return RequestAttributes.of_request(info, user if _is_someone(user) else None)
    path = event.request_uri.partition("?")[0]
    if "%" in path:
        path = _decoded(path)
    namespace, name = reference.namespace, reference.name
    if event.verb == "create":
        namespace, name = _place_of_create(path, reference)
    return RequestAttributes(  # positional, because keywords cost a tenth of the call
        _TEXTS[user.username] if user.username or _is_someone(user) else None,
        _GROUPS[user.groups],
        _TEXTS[event.verb],
        True,  # noqa: FBT003
        _TEXTS[reference.api_group],
        _TEXTS[reference.api_version],
        _TEXTS[reference.resource],
        _TEXTS[reference.subresource],
        _TEXTS[namespace],
        name,
        path,
    )


def derive_object_ref(event: Event) -> Event:
    """Return an event of a text log with the objectRef, and the Kubernetes verb, its URL tells.

    Text logs record at most the namespace of the objectRef, which is kept; the oldest record the
    HTTP method in place of the verb. Any other event comes back as it is, and so does one whose
    URL tells nothing.

    Source: audit specification sections 6.3 and 6.4.
    """
    reference = event.object_ref
    if reference is not None and not _says_nothing(reference):
        return event
    info = _cached_info(event.verb, event.request_uri)
    derived = object_reference(info)
    if derived is not None:
        if reference is not None and reference.namespace:
            derived = replace(derived, namespace=reference.namespace)
        return replace(event, verb=info.verb, object_ref=derived)
    return event if info.verb == event.verb else replace(event, verb=info.verb)


def _says_nothing(reference: ObjectReference) -> bool:
    """Tell whether a reference holds no more than a text log's: a namespace, or nothing."""
    return not reference.resource and reference == ObjectReference(namespace=reference.namespace)


def _is_someone(user: UserInfo) -> bool:
    """Tell a recorded user from the ``{}`` of a request that failed authentication."""
    return bool(user.username or user.groups or user.uid or user.extra)


def _decoded(path: str) -> str:
    try:
        return unescape(path)
    except RequestError:
        return path


def _place_of_create(path: str, reference: ObjectReference) -> tuple[str, str]:
    """Return namespace and name as they were before the body completed them.

    The recorded ones remain only when the path speaks of no resource, which no API server writes.
    """
    place = _cached_place(path) if len(path) <= _MAX_CACHED_LENGTH else locate(path)
    return (place.namespace, place.name) if place.parts else (reference.namespace, reference.name)


def _cached_info(verb: str, uri: str) -> RequestInfo:
    if len(verb) + len(uri) <= _MAX_CACHED_LENGTH:
        return _cached_recorded_info(verb, uri)
    return _recorded_info(verb, uri)


def _recorded_info(verb: str, uri: str) -> RequestInfo:
    """Return what a request was, from a recorded verb (or, in upper case, method) and URI."""
    raw_path, _, raw_query = uri.partition("?")
    try:
        if verb.isupper():
            return resolve(verb, uri)
        path = unescape(raw_path)
    except RequestError:
        return RequestInfo(path=raw_path, verb=verb.lower())
    place = locate(path)
    if not place.parts:
        return RequestInfo(path=path, verb=verb, api_prefix=place.api_prefix)
    name = place.name
    if not name and not place.verb and verb in {"list", "watch"}:
        name = name_in_options(parse_query(raw_query))
    return info_at(place, path=path, verb=verb, name=name)


_cached_place = lru_cache(maxsize=_MAX_CACHED)(locate)
_cached_recorded_info = lru_cache(maxsize=_MAX_CACHED)(_recorded_info)
