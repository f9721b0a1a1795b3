"""The APIs that a proxy asks: whose token is it, who am I, may they.

Source: upstream ``staging/src/k8s.io/api/authentication/v1`` and ``authorization/v1``.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from kubewitness.event import UserInfo
from kubewitness.testing.received import Received
from kubewitness.testing.status import StatusError
from kubewitness.testing.wire import Head

May = Callable[[dict[str, Any]], bool]
"""Says whether the ``spec`` of a SubjectAccessReview is allowed."""


def masters_may(spec: dict[str, Any]) -> bool:
    """Allow everything to ``system:masters``, and nothing to others."""
    return "system:masters" in (spec.get("groups") or ())


class Reviews:
    """Answers reviews.

    Args:
        tokens: The users of bearer tokens.
        may: What is allowed.
    """

    def __init__(self, tokens: Mapping[str, UserInfo], may: May) -> None:
        self._tokens = tokens
        self._may = may
        self._kinds: dict[str, tuple[str, Callable[[Received], dict[str, Any]]]] = {
            "/apis/authentication.k8s.io/v1/tokenreviews": ("TokenReview", self._token_review),
            "/apis/authentication.k8s.io/v1/selfsubjectreviews": (
                "SelfSubjectReview",
                _self_review,
            ),
            "/apis/authorization.k8s.io/v1/subjectaccessreviews": (
                "SubjectAccessReview",
                self._access_review,
            ),
        }

    def reviews(self, head: Head) -> bool:
        """Say whether a request is a review."""
        return head.method == "POST" and head.path in self._kinds

    def answer(self, head: Head, request: Received) -> dict[str, Any] | None:
        """Return the answer to a review; None when the request is none."""
        if not self.reviews(head):
            return None
        kind, review = self._kinds[head.path]
        group_version = "/".join(head.path.split("/")[2:4])
        meta = {"kind": kind, "apiVersion": group_version, "metadata": {}}
        return {**meta, **review(request)}

    def _token_review(self, request: Received) -> dict[str, Any]:
        spec = _spec_of(request)
        user = self._tokens.get(spec.get("token", ""))
        if user is None:
            return {"spec": spec, "status": {"user": {}, "error": "invalid bearer token"}}
        return {"spec": spec, "status": {"authenticated": True, "user": document_of(user)}}

    def _access_review(self, request: Received) -> dict[str, Any]:
        spec = _spec_of(request)
        return {"spec": spec, "status": {"allowed": self._may(spec)}}


def _self_review(request: Received) -> dict[str, Any]:
    """Return the answer to who am I, whatever the body says: kubectl sends it as protobuf."""
    return {"status": {"userInfo": document_of(request.user or UserInfo())}}


def _spec_of(request: Received) -> dict[str, Any]:
    try:
        return dict(json.loads(request.body).get("spec") or {})
    except (ValueError, AttributeError, TypeError):
        raise StatusError(400, "the body of the review is not a JSON object") from None


def document_of(user: UserInfo) -> dict[str, Any]:
    """Return a user as the authentication API writes them."""
    fields = {
        "username": user.username,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values or ()) for key, values in user.extra.items()},
    }
    return {name: value for name, value in fields.items() if value}
