"""The small stateful API over HTTP: discovery, objects, watches, logs and sessions in pods.

It answers namespaces, configmaps, pods, secrets and deployments well enough for kubectl and the
Python client; what is known of them is in `kinds`, what is kept in `objects`. Bodies are JSON or
YAML: those few commands of kubectl that send protobuf (``create configmap``) get 415, while
``apply``, ``create -f``, ``run``, ``patch``, ``label`` and ``delete`` work.

| subresource of pods | what happens |
|---|---|
| `log` | three lines; with ``follow=true`` no end until ``server.release`` is set |
| `exec`, `attach` | the command line comes back, or with ``stdin=true`` what is sent in |
| `portforward` | every byte comes back |
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import yaml

from kubewitness.errors import RequestError
from kubewitness.request import RequestInfo, resolve
from kubewitness.testing import sessions
from kubewitness.testing.kinds import Kind, discovery, kind_of
from kubewitness.testing.merging import selects
from kubewitness.testing.objects import Happening, Object, Store, details_of
from kubewitness.testing.received import Received
from kubewitness.testing.release import Release
from kubewitness.testing.status import StatusError, encoded, status
from kubewitness.testing.wire import Exchange, Head

_LIMIT = 1 << 20
_SESSIONS = {"attach", "exec", "portforward"}
_STRATEGIC = "application/strategic-merge-patch+json"
_APPLY = "application/apply-patch+yaml"
_PATCHES = {_STRATEGIC, "application/merge-patch+json", _APPLY}


class Call:
    """One request of the API, understood."""

    def __init__(
        self, exchange: Exchange, request: Received, info: RequestInfo, kind: Kind
    ) -> None:
        self.exchange = exchange
        self.head = exchange.head
        self.info = info
        self.kind = kind
        self.namespace = info.namespace if kind.namespaced else ""
        self.name = info.name
        self.dry = "dryRun" in exchange.head.query
        self._request = request

    @property
    def document(self) -> Object:
        """The request's body.

        Raises:
            StatusError: 400, 413 or 415.
        """
        if self._request.size > _LIMIT:
            raise StatusError(413, f"Request entity too large: limit is {_LIMIT}")
        try:
            document = yaml.safe_load(self._request.body) if self._is_yaml else self._json()
        except (ValueError, yaml.YAMLError) as error:
            raise StatusError(400, f"couldn't parse the request body: {error}") from None
        if not isinstance(document, dict):
            raise StatusError(400, "the request body is not an object")
        return document

    def meant(self, document: Object) -> bool:
        """Say whether the selectors of the query mean an object, and its namespace and name."""
        metadata = document["metadata"]
        return (
            self.namespace in {"", metadata.get("namespace", "")}
            and self.name in {"", metadata["name"]}
            and selects(
                document,
                labels=self.head.parameter("labelSelector"),
                fields=self.head.parameter("fieldSelector"),
            )
        )

    @property
    def content_type(self) -> str:
        """The media type of the body, without parameters."""
        return self.head.first("Content-Type").partition(";")[0].strip().lower()

    @property
    def _is_yaml(self) -> bool:
        return self.content_type in {"application/yaml", _APPLY}

    def _json(self) -> Any:
        if self.content_type.endswith("protobuf"):
            raise StatusError(415, "the fake API server takes JSON and YAML only")
        try:
            return json.loads(self._request.body)
        except RecursionError:
            raise StatusError(400, "the body is nested too deep") from None


class Api:
    """Answers requests of the API; `release` ends the logs that are followed."""

    def __init__(self, release: Release) -> None:
        self.store = Store()
        self._release = release
        self._verbs: dict[str, Callable[[Call], Awaitable[None]]] = {
            "create": self._create,
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_all,
        }

    async def perform(self, exchange: Exchange, request: Received) -> bool:
        """Answer a request; False when it speaks of nothing that is known here.

        Raises:
            StatusError: What it wants cannot be.
        """
        head = exchange.head
        document = discovery(head.path) if head.method in {"GET", "HEAD"} else None
        if document is not None:
            kind = "text/plain" if document == b"ok" else "application/json"
            await exchange.answer(200, document, kind)
            return True
        call = _understood(exchange, request)
        if call is None:
            return False
        await self._dispatch(call)
        return True

    async def _dispatch(self, call: Call) -> None:
        info = call.info
        if info.subresource in _SESSIONS:
            self.store.get(call.kind, call.namespace, call.name)
            await sessions.serve(call.exchange, info.subresource)
        elif info.subresource == "log":
            await self._log(call)
        elif info.verb in self._verbs:
            await self._verbs[info.verb](call)
        else:
            message = "the server does not allow this method on the requested resource"
            raise StatusError(405, message, details={})

    async def _create(self, call: Call) -> None:
        created = self.store.create(call.kind, call.namespace, call.document, dry=call.dry)
        await call.exchange.answer(201, encoded(created))

    async def _get(self, call: Call) -> None:
        found = self.store.get(call.kind, call.namespace, call.name)
        await call.exchange.answer(200, encoded(found))

    async def _list(self, call: Call) -> None:
        items = [each for each in self.store.list(call.kind, call.namespace) if call.meant(each)]
        await call.exchange.answer(200, encoded(self._collection(call.kind, items)))

    async def _update(self, call: Call) -> None:
        place = (call.kind, call.namespace, call.name)
        updated = self.store.update(*place, call.document, dry=call.dry)
        await call.exchange.answer(200, encoded(updated))

    async def _patch(self, call: Call) -> None:
        if call.content_type not in _PATCHES:
            raise StatusError(415, f"the fake API server does not take {call.content_type}")
        place = (call.kind, call.namespace, call.name)
        try:
            self.store.get(*place)
        except StatusError:
            if call.content_type != _APPLY:
                raise
            await self._create(call)
            return
        strategic = call.content_type != "application/merge-patch+json"
        patched = self.store.patch(*place, call.document, strategic=strategic, dry=call.dry)
        await call.exchange.answer(200, encoded(patched))

    async def _delete(self, call: Call) -> None:
        gone = self.store.delete(call.kind, call.namespace, call.name)
        details = details_of(call.kind, call.name, gone["metadata"]["uid"])
        document = status(200, details=details)
        del document["code"]
        await call.exchange.answer(200, encoded(document))

    async def _delete_all(self, call: Call) -> None:
        meant = [each for each in self.store.list(call.kind, call.namespace) if call.meant(each)]
        for each in meant:
            metadata = each["metadata"]
            self.store.delete(call.kind, metadata.get("namespace", ""), metadata["name"])
        await call.exchange.answer(200, encoded(self._collection(call.kind, meant)))

    def _collection(self, kind: Kind, items: list[Object]) -> Object:
        return {
            "kind": f"{kind.kind}List",
            "apiVersion": kind.group_version,
            "metadata": {"resourceVersion": str(self.store.version)},
            "items": items,
        }

    async def _watch(self, call: Call) -> None:
        """Send what has happened since the version of the query, and what happens."""
        position = _version(call.head)
        _begin(call.exchange, "application/json")
        if position == 0:
            position = self.store.version
            for each in list(self.store.list(call.kind, call.namespace)):
                await _tell(call, "ADDED", each)
        try:
            async with asyncio.timeout(_seconds(call.head)):
                await self._follow(call, position)
        except TimeoutError:
            await call.exchange.finish()

    async def _follow(self, call: Call, position: int) -> None:
        news = asyncio.Event()
        self.store.watchers.add(news.set)
        try:
            while True:
                news.clear()
                for each in self.store.history[position:]:
                    position += 1
                    await _tell_happening(call, each)
                if position == self.store.version and not await call.exchange.connection.until(
                    news.wait()
                ):
                    return
        finally:
            self.store.watchers.discard(news.set)

    async def _log(self, call: Call) -> None:
        self.store.get(call.kind, call.namespace, call.name)
        _begin(call.exchange, "text/plain")
        for number in (1, 2, 3):
            await call.exchange.send(f"line {number} of {call.name}\n".encode())
        if call.head.parameter("follow") in {"true", "1"} and not (
            await call.exchange.connection.until(self._release.wait())
        ):
            return
        await call.exchange.finish()


def _understood(exchange: Exchange, request: Received) -> Call | None:
    """Return what a request means; None when it speaks of nothing that is known here."""
    try:
        info = resolve(exchange.head.method, exchange.head.target)
    except RequestError as error:
        raise StatusError(400, str(error)) from None
    kind = kind_of(info.api_group, info.resource) if info.api_version == "v1" else None
    if kind is None or len(info.parts) > 3:
        return None
    if info.subresource not in {"", "status", *kind.subresources}:
        return None
    return Call(exchange, request, info, kind)


def _begin(exchange: Exchange, content_type: str) -> None:
    headers = [("Content-Type", content_type), ("Transfer-Encoding", "chunked")]
    exchange.send_head(200, [*exchange.common, *headers])


async def _tell_happening(call: Call, happening: Happening) -> None:
    if happening.kind == call.kind:
        await _tell(call, happening.type, happening.object)


async def _tell(call: Call, event: str, document: Object) -> None:
    if call.meant(document):
        await call.exchange.send(encoded({"type": event, "object": document}))


def _version(head: Head) -> int:
    text = head.parameter("resourceVersion") or "0"
    if not text.isdigit():
        raise StatusError(400, f"resourceVersion: Invalid value: {text!r}")
    return int(text)


def _seconds(head: Head) -> float | None:
    text = head.parameter("timeoutSeconds")
    return float(text) if text.isdigit() and text != "0" else None
