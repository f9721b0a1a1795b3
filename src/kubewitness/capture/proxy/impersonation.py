"""May a user act as another? Asked of the API server, where it cannot judge that itself.

When the proxy impersonates the user of a certificate, the one place for ``Impersonate-*`` is taken:
the proxy then judges the client's own as the API server would, by a SubjectAccessReview for the
name, each group, the uid and each extra value, and sends on whom the client wants to be.

Source: audit specification section 5.9; upstream ``pkg/endpoints/filters/impersonation``.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from kubewitness.capture.proxy.memory import Memory
from kubewitness.capture.proxy.upstream import Upstream, UpstreamError
from kubewitness.event import UserInfo
from kubewitness.recorder import Answer, Headers, status_answer, unescaped_key

_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_AUTHENTICATION = "authentication.k8s.io"
_SERVICE_ACCOUNT = "system:serviceaccount:"
_REMEMBERED = 10.0


class Target(Struct, frozen=True):
    """One thing that somebody must be allowed to impersonate."""

    resource: str
    name: str
    group: str = ""
    namespace: str = ""
    subresource: str = ""


class Impersonation:
    """Judges who may act as whom; a judgement is remembered for ten seconds.

    Args:
        upstream: Asked.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._known: Memory[bool] = Memory(lambda _: _REMEMBERED)

    async def refusal(self, user: UserInfo, headers: Headers) -> Answer | None:
        """Return the answer to a user who may not act as the headers want; None if it may.

        Raises:
            UpstreamError: The API server could not be asked.
        """
        targets = list(targets_of(headers))
        verdicts = await asyncio.gather(*(self._may(user, target) for target in targets))
        for target, may in zip(targets, verdicts, strict=True):
            if not may:
                return _forbidden(user, target)
        return None

    async def _may(self, user: UserInfo, target: Target) -> bool:
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": list(user.groups),
            "resourceAttributes": {
                "verb": "impersonate",
                "group": target.group,
                "resource": target.resource,
                "subresource": target.subresource,
                "namespace": target.namespace,
                "name": target.name,
            },
        }
        return await self._known.get(repr(spec).encode("utf-8", "replace"), lambda: self._ask(spec))

    async def _ask(self, spec: dict[str, Any]) -> bool:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        code, answer = await self._upstream.review(_REVIEWS, review)
        if code != 201:
            message = str(answer.get("message", ""))[:200]
            raise UpstreamError(f"the SubjectAccessReview was answered {code}: {message}")
        return (answer.get("status") or {}).get("allowed") is True


def wants_to_impersonate(headers: Headers) -> bool:
    """Tell whether a request has any ``Impersonate-*`` header."""
    return any(True for _ in headers.starting_with("impersonate-"))


def malformed() -> Answer:
    """Return the answer to other Impersonate headers without ``Impersonate-User``."""
    message = "Impersonate-* headers without Impersonate-User: it must name a user"
    return status_answer(400, "BadRequest", message)


def targets_of(headers: Headers) -> Iterator[Target]:
    """Yield what a request's ``Impersonate-*`` headers want to be."""
    name = headers.first("Impersonate-User")
    namespace, _, account = name.removeprefix(_SERVICE_ACCOUNT).partition(":")
    if name.startswith(_SERVICE_ACCOUNT) and namespace and account:
        yield Target("serviceaccounts", account, namespace=namespace)
    else:
        yield Target("users", name)
    for group in headers.every("Impersonate-Group"):
        yield Target("groups", group)
    for key, values in headers.starting_with("impersonate-extra-"):
        for value in values:
            yield Target("userextras", value, group=_AUTHENTICATION, subresource=unescaped_key(key))
    if uid := headers.first("Impersonate-Uid"):
        yield Target("uids", uid, group=_AUTHENTICATION)


def _forbidden(user: UserInfo, target: Target) -> Answer:
    resource = target.resource + (f"/{target.subresource}" if target.subresource else "")
    kind = resource + (f".{target.group}" if target.group else "")
    where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
    message = (
        f'{kind} "{target.name}" is forbidden: User "{user.username}" cannot impersonate resource '
        f'"{resource}" in API group "{target.group}" {where}'
    )
    details = {"name": target.name, "kind": target.resource}
    if target.group:
        details["group"] = target.group
    return status_answer(403, "Forbidden", message, **details)
