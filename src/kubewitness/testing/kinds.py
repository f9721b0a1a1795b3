"""The kinds of objects that the fake server keeps, and their discovery documents."""

from typing import Any, NamedTuple

from kubewitness.testing.status import encoded

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_POD_SUBRESOURCES = ("attach", "exec", "log", "portforward")
_ADDRESSES = [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}]


class Kind(NamedTuple):
    """One kind, with its subresources beside ``status``."""

    group: str
    resource: str
    singular: str
    kind: str
    short_names: tuple[str, ...]
    namespaced: bool = True
    subresources: tuple[str, ...] = ()

    @property
    def group_version(self) -> str:
        """What ``apiVersion`` says."""
        return f"{self.group}/v1" if self.group else "v1"


KINDS = (
    Kind("", "configmaps", "configmap", "ConfigMap", ("cm",)),
    Kind("", "namespaces", "namespace", "Namespace", ("ns",), namespaced=False),
    Kind("", "pods", "pod", "Pod", ("po",), subresources=_POD_SUBRESOURCES),
    Kind("", "secrets", "secret", "Secret", ()),
    Kind("apps", "deployments", "deployment", "Deployment", ("deploy",)),
)

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.27.3",
    "compiler": "gc",
    "platform": "linux/amd64",
}

_GROUP_VERSION = {"groupVersion": "apps/v1", "version": "v1"}
_APPS = {"name": "apps", "versions": [_GROUP_VERSION], "preferredVersion": _GROUP_VERSION}


def kind_of(group: str, resource: str) -> Kind | None:
    """Return the kind of a resource; None for an unknown one."""
    return next((each for each in KINDS if (each.group, each.resource) == (group, resource)), None)


def discovery(path: str) -> bytes | None:
    """Return the document at a path outside of the resources; None for an unknown one."""
    if path in {"/healthz", "/livez", "/readyz"}:
        return b"ok"
    document = _DOCUMENTS.get(path.rstrip("/"))
    return None if document is None else encoded(document)


def _resources(group: str) -> dict[str, Any]:
    kinds = [each for each in KINDS if each.group == group]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": kinds[0].group_version,
        "resources": [resource for kind in kinds for resource in _resources_of(kind)],
    }


def _resources_of(kind: Kind) -> list[dict[str, Any]]:
    shared = {"namespaced": kind.namespaced, "kind": kind.kind}
    whole = {"name": kind.resource, "singularName": kind.singular, **shared, "verbs": _VERBS}
    if kind.kind in {"Pod", "Deployment"}:
        whole["categories"] = ["all"]
    if kind.short_names:
        whole["shortNames"] = list(kind.short_names)
    parts = [
        {"name": f"{kind.resource}/{each}", "singularName": "", **shared, "verbs": ["get"]}
        for each in ("status", *kind.subresources)
    ]
    return [whole, *parts]


def _openapi(group: str) -> dict[str, Any]:
    """Return just enough of OpenAPI v3 for kubectl to leave the validation to the server."""
    kinds = [each for each in KINDS if each.group == group]
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": {
            f"/{kind.resource}/{{name}}": {
                "patch": {
                    "parameters": [parameter],
                    "responses": {},
                    "x-kubernetes-action": "patch",
                    "x-kubernetes-group-version-kind": {
                        "group": kind.group,
                        "version": "v1",
                        "kind": kind.kind,
                    },
                }
            }
            for kind in kinds
        },
    }


_DOCUMENTS: dict[str, dict[str, Any]] = {
    "/api": {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": _ADDRESSES,
    },
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_APPS]},
    "/apis/apps": {"kind": "APIGroup", "apiVersion": "v1", **_APPS},
    "/api/v1": _resources(""),
    "/apis/apps/v1": _resources("apps"),
    "/openapi/v3": {
        "paths": {
            "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1"},
            "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1"},
        }
    },
    "/openapi/v3/api/v1": _openapi(""),
    "/openapi/v3/apis/apps/v1": _openapi("apps"),
    "/version": VERSION,
}
