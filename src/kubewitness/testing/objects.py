"""A small store of objects: create, get, list, update, patch, delete, and what has happened.

Good enough for real clients, and no more: no schemas, no defaults but those that clients need to go
on, no finalizers, no pages. Ids and times are counted, not drawn, so that runs are alike.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from kubewitness.testing.kinds import KINDS, Kind
from kubewitness.testing.merging import merged
from kubewitness.testing.status import StatusError

Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name."""

_CREATED = "2026-01-01T00:00:00Z"
_NAMESPACES = next(kind for kind in KINDS if kind.resource == "namespaces")


class Happening(NamedTuple):
    """One change: ``ADDED``, ``MODIFIED`` or ``DELETED``."""

    version: int
    kind: Kind
    type: str
    object: Object


class Store:
    """The objects. `history` has every change since the start."""

    def __init__(self) -> None:
        self.history: list[Happening] = []
        self.watchers: set[Callable[[], None]] = set()
        """Called after every change."""
        self._objects: dict[Kind, dict[Key, Object]] = {kind: {} for kind in KINDS}
        self._uids = itertools.count(1)
        for name in ("default", "kube-system"):
            self.create(_NAMESPACES, "", {"metadata": {"name": name}})

    @property
    def version(self) -> int:
        """The version of the latest change."""
        return len(self.history)

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return an object.

        Raises:
            StatusError: 404.
        """
        found = self._objects[kind].get((namespace, name))
        if found is None:
            raise _error(404, kind, name, "not found")
        return found

    def list(self, kind: Kind, namespace: str) -> Iterator[Object]:
        """Yield the objects of a namespace, or of all (``""``), sorted by name."""
        for (place, _), each in sorted(self._objects[kind].items()):
            if namespace in {"", place}:
                yield each

    def create(self, kind: Kind, namespace: str, wanted: Object, *, dry: bool = False) -> Object:
        """Store a new object, and return it as stored.

        Raises:
            StatusError: 400, 404 or 409.
        """
        self._check(kind, namespace, wanted)
        name = self._name(wanted)
        if (namespace, name) in self._objects[kind]:
            raise _error(409, kind, name, "already exists", reason="AlreadyExists")
        created = _filled(kind, wanted)
        metadata = {**created["metadata"], "name": name, "uid": self._uid()}
        if namespace:
            metadata["namespace"] = namespace
        created["metadata"] = {**metadata, "creationTimestamp": _CREATED}
        return self._put("ADDED", kind, created, dry=dry)

    def update(
        self, kind: Kind, namespace: str, name: str, wanted: Object, *, dry: bool = False
    ) -> Object:
        """Replace an object, and return it as stored.

        Raises:
            StatusError: 400, 404 or 409.
        """
        self._check(kind, namespace, wanted)
        stored = self.get(kind, namespace, name)
        metadata = wanted["metadata"]
        if metadata.get("name", name) != name:
            raise StatusError(400, "the name of the object does not match the name on the URL")
        if metadata.get("resourceVersion", "") not in {"", stored["metadata"]["resourceVersion"]}:
            raise _conflict(kind, name)
        kept = {each: stored["metadata"][each] for each in ("uid", "creationTimestamp")}
        place = {"namespace": namespace} if namespace else {}
        updated = {**_filled(kind, wanted), "metadata": {**metadata, "name": name, **place, **kept}}
        return self._put("MODIFIED", kind, updated, dry=dry)

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        change: Object,
        *,
        strategic: bool = False,
        dry: bool = False,
    ) -> Object:
        """Merge a change into an object, and return it as stored.

        Raises:
            StatusError: 400, 404 or 409.
        """
        stored = self.get(kind, namespace, name)
        wanted = merged(stored, change, strategic=strategic)
        return self.update(kind, namespace, name, wanted, dry=dry)

    def delete(self, kind: Kind, namespace: str, name: str) -> Object:
        """Remove an object, and return it; with a namespace goes what is in it.

        Raises:
            StatusError: 404.
        """
        gone = copy.deepcopy(self.get(kind, namespace, name))
        if kind is _NAMESPACES:
            for other in KINDS:
                for key in [key for key in self._objects[other] if key[0] == name]:
                    self.delete(other, *key)
        del self._objects[kind][namespace, name]
        gone["metadata"]["resourceVersion"] = str(self.version + 1)
        self._happened("DELETED", kind, gone)
        return gone

    def _put(self, event: str, kind: Kind, document: Object, *, dry: bool) -> Object:
        metadata = document["metadata"]
        if not dry:
            metadata["resourceVersion"] = str(self.version + 1)
            self._objects[kind][metadata.get("namespace", ""), metadata["name"]] = document
            self._happened(event, kind, document)
        return document

    def _happened(self, event: str, kind: Kind, document: Object) -> None:
        self.history.append(Happening(self.version + 1, kind, event, copy.deepcopy(document)))
        for wake in list(self.watchers):
            wake()

    def _check(self, kind: Kind, namespace: str, wanted: Object) -> None:
        said = wanted.get("kind", kind.kind)
        if said != kind.kind:
            raise StatusError(
                400,
                f'{said} in version "v1" cannot be handled as a {kind.kind}: unknown conversion',
            )
        metadata = wanted.setdefault("metadata", {})
        if namespace and metadata.get("namespace", namespace) != namespace:
            raise StatusError(
                400, "the namespace of the provided object does not match the request"
            )
        if namespace:
            self.get(_NAMESPACES, "", namespace)

    def _name(self, wanted: Object) -> str:
        metadata: Mapping[str, str] = wanted["metadata"]
        name = metadata.get("name") or ""
        if not name and metadata.get("generateName"):
            name = f"{metadata['generateName']}{self.version + 1:05d}"
        if not name:
            raise StatusError(
                422, "metadata.name: Required value: name or generateName is required"
            )
        return name

    def _uid(self) -> str:
        return f"00000000-0000-4000-8000-{next(self._uids):012x}"


def _filled(kind: Kind, wanted: Object) -> Object:
    """Return an object with what clients need to see in it."""
    document = {"kind": kind.kind, "apiVersion": kind.group_version, **copy.deepcopy(wanted)}
    if kind.kind == "Namespace":
        document.setdefault("spec", {"finalizers": ["kubernetes"]})
        document["status"] = {"phase": "Active"}
    elif kind.kind == "Secret":
        document.setdefault("type", "Opaque")
    elif kind.kind == "Pod":
        spec = document.setdefault("spec", {})
        spec.setdefault("containers", [{"name": "main", "image": "fake"}])
        spec.setdefault("nodeName", "node-1")
        document["status"] = _running(spec["containers"])
    return document


def _running(containers: list[Object]) -> Object:
    statuses = [
        {
            "name": each.get("name", "main"),
            "image": each.get("image", ""),
            "imageID": "",
            "ready": True,
            "started": True,
            "restartCount": 0,
            "state": {"running": {"startedAt": _CREATED}},
        }
        for each in containers
    ]
    ready = [{"type": "Ready", "status": "True"}]
    return {"phase": "Running", "conditions": ready, "containerStatuses": statuses}


def _error(code: int, kind: Kind, name: str, what: str, reason: str = "") -> StatusError:
    title = f"{kind.resource}.{kind.group}" if kind.group else kind.resource
    return StatusError(
        code, f'{title} "{name}" {what}', reason=reason, details=details_of(kind, name)
    )


def _conflict(kind: Kind, name: str) -> StatusError:
    return StatusError(
        409,
        f'Operation cannot be fulfilled on {kind.resource} "{name}": the object has been modified;'
        " please apply your changes to the latest version and try again",
        details=details_of(kind, name),
    )


def details_of(kind: Kind, name: str, uid: str = "") -> Object:
    """Return the ``details`` of a Status about an object."""
    fields = {"name": name, "group": kind.group, "kind": kind.resource, "uid": uid}
    return {key: value for key, value in fields.items() if value}
