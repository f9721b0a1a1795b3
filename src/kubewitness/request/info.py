"""RequestInfo: what the API server believes a request to be, from its method and target alone.

The rules, in the order they apply to the *decoded* path (so ``%2F`` separates like ``/``)::

    /api/VERSION/...           a resource request of the core group
    /apis/GROUP/VERSION/...    a resource request of that group
    anything else              not a resource request; its verb is the method in lower case

    ... = [watch|proxy] [namespaces/NAMESPACE] RESOURCE [NAME [SUBRESOURCE [ignored...]]]

A leading ``watch`` or ``proxy`` is the verb; otherwise the method tells it, and without a NAME a
get is a list (or a watch, if the query says so) and a delete a deletecollection. ``namespaces`` is
itself the RESOURCE when nothing follows its name but ``status`` or ``finalize``.

Source: audit specification section 4; upstream ``pkg/endpoints/request/requestinfo.go``.
"""

from msgspec import Struct

from kubewitness.errors import RequestError
from kubewitness.event import ObjectReference
from kubewitness.request.selectors import is_int64, is_label_selector, required_name
from kubewitness.request.uri import normalize_target, parse_query

_GROUPLESS_PREFIX, _GROUP_PREFIX = "api", "apis"
_PATH_VERBS = frozenset({"proxy", "watch"})
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})
_METHOD_VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_LONG_RUNNING_VERBS = frozenset({"watch", "proxy"})
_LONG_RUNNING_SUBRESOURCES = frozenset({"attach", "exec", "proxy", "log", "portforward"})
_PROFILING = "/debug/pprof/"


class RequestInfo(Struct, frozen=True, gc=False):
    """One request in Kubernetes' terms.

    Attributes:
        is_resource_request: Whether it speaks of API resources; the fields from `api_group` to
            `label_selector` are empty if not.
        path: The decoded path.
        verb: The Kubernetes verb, ``""`` for a method Kubernetes has none for; the lower-case
            method when it is not a resource request.
        api_prefix: ``api``, ``apis`` or ``""``.
        api_group: ``""`` for the core group.
        api_version: For example ``v1``.
        namespace: ``""`` for cluster scope and for all namespaces.
        resource: For example ``pods``.
        subresource: For example ``log``.
        name: ``""`` for collections, unless a field selector names the object.
        parts: Resource, name, subresource and whatever follows in the path.
        field_selector: As the query has it, for list, watch and deletecollection.
        label_selector: The same.
    """

    is_resource_request: bool = False
    path: str = ""
    verb: str = ""
    api_prefix: str = ""
    api_group: str = ""
    api_version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()
    field_selector: str = ""
    label_selector: str = ""


class Place(Struct, frozen=True, gc=False):
    """What a path says without knowing method or query.

    `parts` is empty when the path speaks of no resource. `verb` is ``proxy``, ``watch`` or ``""``.
    """

    api_prefix: str = ""
    api_group: str = ""
    api_version: str = ""
    verb: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()


def locate(path: str) -> Place:
    """Return what a decoded path speaks of. Never raises.

    A `verb` without `parts` is the one path the API server gives up on, see `resolve`.
    """
    parts = path.strip("/").split("/")
    prefix, group = parts[0], ""
    if len(parts) < 3 or prefix not in {_GROUPLESS_PREFIX, _GROUP_PREFIX}:
        return Place()
    del parts[0]
    if prefix == _GROUP_PREFIX:
        if len(parts) < 3:
            return Place(api_prefix=prefix)
        group = parts.pop(0)
    return _locate_resource(prefix, group, parts.pop(0), parts)


def _locate_resource(prefix: str, group: str, version: str, parts: list[str]) -> Place:
    verb = parts.pop(0) if parts[0] in _PATH_VERBS else ""
    namespace = ""
    if len(parts) > 1 and parts[0] == "namespaces":
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    resource, name, subresource = (*parts[:3], "", "", "")[:3]
    return Place(
        api_prefix=prefix,
        api_group=group,
        api_version=version,
        verb=verb,
        namespace=namespace,
        resource=resource,
        # What follows the name in a proxy path belongs to the proxied server.
        subresource=subresource if verb != "proxy" else "",
        name=name,
        parts=tuple(parts),
    )


def resolve(method: str, target: str) -> RequestInfo:
    """Return what a request is, from its method (exact case) and raw target.

    Raises:
        RequestError: Status 400 for a malformed target; status 500, with the text the API server
            sends, for a path that ends after ``watch`` or ``proxy``.

    Source: audit specification section 4; vectors ``requestinfo.json``.
    """
    uri, path = normalize_target(target)
    place = locate(path)
    if place.parts:
        return _resolve_resource(place, path, method, uri.partition("?")[2])
    if place.verb:
        sentence = f"unable to determine kind and namespace from url, {uri}"
        raise RequestError(sentence, status=500)
    return RequestInfo(path=path, verb=method.lower(), api_prefix=place.api_prefix)


def _resolve_resource(place: Place, path: str, method: str, raw_query: str) -> RequestInfo:
    verb = place.verb or _METHOD_VERBS.get(method, "")
    if place.name or verb not in {"get", "delete"}:
        return info_at(place, path=path, verb=verb, name=place.name)
    query = parse_query(raw_query)
    is_get = verb == "get"
    return info_at(
        place,
        path=path,
        verb=_list_or_watch(query) if is_get else "deletecollection",
        name=name_in_options(query) if is_get else "",
        field_selector=_first(query, "fieldSelector"),
        label_selector=_first(query, "labelSelector"),
    )


def info_at(
    place: Place,
    *,
    path: str,
    verb: str,
    name: str,
    field_selector: str = "",
    label_selector: str = "",
) -> RequestInfo:
    """Return the RequestInfo of a resource request at a place."""
    return RequestInfo(
        is_resource_request=True,
        path=path,
        verb=verb,
        api_prefix=place.api_prefix,
        api_group=place.api_group,
        api_version=place.api_version,
        namespace=place.namespace,
        resource=place.resource,
        subresource=place.subresource,
        name=name,
        parts=place.parts,
        field_selector=field_selector,
        label_selector=label_selector,
    )


def object_reference(info: RequestInfo) -> ObjectReference | None:
    """Return the ``objectRef`` of a request's events; None if it speaks of no resource.

    Source: audit specification section 4, last paragraph.
    """
    if not info.is_resource_request:
        return None
    return ObjectReference(
        resource=info.resource,
        namespace=info.namespace,
        name=info.name,
        api_group=info.api_group,
        api_version=info.api_version,
        subresource=info.subresource,
    )


def _list_or_watch(query: dict[str, list[str]]) -> str:
    """Return the verb of a get without a name: any value but these two means watch, even none."""
    is_list = "watch" not in query or _first(query, "watch").lower() in {"0", "false"}
    return "list" if is_list else "watch"


def name_in_options(query: dict[str, list[str]]) -> str:
    """Return the name the field selector of a list or watch asks for, or ``""``.

    One option that does not decode makes the API server drop them all, and the name with them.
    """
    numbers = (query[key][0] for key in ("limit", "timeoutSeconds") if key in query)
    if not all(map(is_int64, numbers)) or not is_label_selector(_first(query, "labelSelector")):
        return ""
    return required_name(_first(query, "fieldSelector")) or ""


def _first(query: dict[str, list[str]], key: str) -> str:
    return query[key][0] if key in query else ""


def is_long_running(info: RequestInfo) -> bool:
    """Tell whether kube-apiserver audits the request as long-running (it gets ResponseStarted).

    Source: audit specification section 5.6, last paragraph; upstream
    ``pkg/controlplane/apiserver/config.go``.
    """
    if info.verb in _LONG_RUNNING_VERBS:
        return True
    if info.is_resource_request:
        return info.subresource in _LONG_RUNNING_SUBRESOURCES
    return info.path.startswith(_PROFILING)
