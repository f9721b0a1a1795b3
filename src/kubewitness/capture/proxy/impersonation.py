"""May a user act as another? Asked of the API server, where it cannot judge that itself.

When the proxy impersonates the user of a certificate, the one place for ``Impersonate-*`` is taken:
the proxy then judges the client's own as the API server would, by a SubjectAccessReview for the
name, each group, the uid and each extra value, and sends on whom the client wants to be.

Source: audit specification section 5.9; upstream ``pkg/endpoints/filters/impersonation``.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from kubewitness.capture.proxy.forwarding import is_sendable
from kubewitness.capture.proxy.identity import status_of_review
from kubewitness.capture.proxy.memory import Memory
from kubewitness.capture.proxy.upstream import Upstream, UpstreamError
from kubewitness.codec.gotext import quote
from kubewitness.event import UserInfo
from kubewitness.recorder import (
    Answer,
    Headers,
    service_account_of,
    status_answer,
    unescaped_key,
)

_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_AUTHENTICATION = "authentication.k8s.io"
_EXTRA = "impersonate-extra-"
_REMEMBERED = 10.0


class Target(Struct, frozen=True):
    """One thing that somebody must be allowed to impersonate."""

    resource: str
    name: str
    group: str = ""
    namespace: str = ""
    subresource: str = ""


class Verdict(NamedTuple):
    """What the API server said, and why, if it said that."""

    is_allowed: bool
    reason: str


class Impersonation:
    """Judges who may act as whom; a judgement is remembered for ten seconds.

    Args:
        upstream: Asked.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._known: Memory[Verdict] = Memory(lambda _: _REMEMBERED)

    async def refusal(self, user: UserInfo, headers: Headers) -> Answer | None:
        """Return the answer to a user who may not act as the headers want; None if it may.

        Raises:
            UpstreamError: The API server could not be asked.
        """
        for target in targets_of(headers):  # one by one, for a refusal is the end of it
            verdict = await self._may(user, target)
            if not verdict.is_allowed:
                return _forbidden(user, target, verdict.reason)
        return None

    async def _may(self, user: UserInfo, target: Target) -> Verdict:
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values or ()) for key, values in user.extra.items()},
            "resourceAttributes": {
                "verb": "impersonate",
                "group": target.group,
                "version": "v1",
                "resource": target.resource,
                "subresource": target.subresource,
                "namespace": target.namespace,
                "name": target.name,
            },
        }
        key = hashlib.sha256(msgspec.json.encode(spec)).digest()
        return await self._known.get(key, lambda: self._ask(spec))

    async def _ask(self, spec: dict[str, Any]) -> Verdict:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": spec,
        }
        code, answer = await self._upstream.review(_REVIEWS, review)
        if code != 201:
            message = str(answer.get("message", ""))[:200]
            raise UpstreamError(f"the SubjectAccessReview was answered {code}: {message}")
        status = status_of_review(answer)
        return Verdict(status.get("allowed") is True, str(status.get("reason", "")))


def wants_to_impersonate(headers: Headers) -> bool:
    """Tell whether the API server takes a request for an impersonation, if a malformed one.

    Lines without a value ask for nothing, but for groups and extra values.
    """
    if headers.first("Impersonate-User") or headers.first("Impersonate-Uid"):
        return True
    has_extra = any(True for _ in headers.starting_with(_EXTRA))
    return has_extra or bool(headers.every("Impersonate-Group"))


def malformed(headers: Headers) -> Answer:
    """Return the answer to other Impersonate headers without ``Impersonate-User``."""
    groups = headers.every("Impersonate-Group")
    extra = {unescaped_key(key): values for key, values in headers.starting_with(_EXTRA)}
    pairs = ", ".join(f"{quote(key)}:{_strings(extra[key])}" for key in sorted(extra))
    message = (
        f'requested &user.DefaultInfo{{Name:"", UID:{quote(headers.first("Impersonate-Uid"))}, '
        f"Groups:{_strings(groups) if groups else '[]string(nil)'}, "
        f"Extra:map[string][]string{f'{{{pairs}}}' if extra else '(nil)'}}} "
        "without impersonating a user name"
    )
    return status_answer(400, "BadRequest", message)


def _strings(values: Iterable[str]) -> str:
    return f"[]string{{{', '.join(map(quote, values))}}}"


def unreadable(headers: Headers) -> Answer | None:
    """Return the answer to Impersonate headers that are no text; None if they are.

    The API server would be sent something else than is judged and recorded.
    """
    for name, values in headers.starting_with("impersonate-"):
        if not _is_text(unescaped_key(name)) or not all(map(is_sendable, values)):
            message = f"the header Impersonate-{name} holds what is no text in UTF-8"
            return status_answer(400, "BadRequest", message)
    return None


def _is_text(key: str) -> bool:
    return not any("\ud800" <= each <= "\udfff" for each in key)


def targets_of(headers: Headers) -> Iterator[Target]:
    """Yield what a request's ``Impersonate-*`` headers want to be."""
    name = headers.first("Impersonate-User")
    account = service_account_of(name)
    if account is not None:
        yield Target("serviceaccounts", account[1], namespace=account[0])
    else:
        yield Target("users", name)
    if uid := headers.first("Impersonate-Uid"):
        yield Target("uids", uid, group=_AUTHENTICATION)
    for group in headers.every("Impersonate-Group"):
        yield Target("groups", group)
    for key, values in headers.starting_with(_EXTRA):
        for value in values:
            yield Target("userextras", value, group=_AUTHENTICATION, subresource=unescaped_key(key))


def _forbidden(user: UserInfo, target: Target, reason: str) -> Answer:
    """Return a refusal as the API server words it.

    Source: upstream ``pkg/endpoints/handlers/responsewriters`` and ``apimachinery/pkg/api/errors``.
    """
    resource = target.resource + (f"/{target.subresource}" if target.subresource else "")
    where = "at the cluster scope"
    if target.namespace:
        where = f"in the namespace {quote(target.namespace)}"
    what = f"{target.resource}.{target.group}" if target.group else target.resource
    message = (
        f"{what}{f' {quote(target.name)}' if target.name else ''} is forbidden: "
        f"User {quote(user.username)} cannot impersonate resource {quote(resource)} "
        f"in API group {quote(target.group)} {where}{f': {reason}' if reason else ''}"
    )
    details = {"name": target.name, "group": target.group, "kind": target.resource}
    given = {key: value for key, value in details.items() if value}
    return status_answer(403, "Forbidden", message, **given)
