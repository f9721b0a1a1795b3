"""Why a policy decides as it does: the matcher's condition sets, put into sentences.

No rule is judged here a second time. `evaluate.Conditions` says which rules satisfy which
condition; this module only words the ones that failed.
"""

import re
from collections.abc import Sequence

from msgspec import Struct

from kubewitness.documents import quoted
from kubewitness.policy.evaluate import Conditions
from kubewitness.policy.model import Decision, GroupResources, Rule
from kubewitness.request import RequestAttributes

_NEEDS_NO_QUOTES = re.compile(r"[\w.:/*@+-]+", re.ASCII)


class FailedCondition(Struct, frozen=True):
    """One condition of a rule that the request does not satisfy.

    Attributes:
        field: The rule's key, for example ``verbs``.
        wanted: What the rule accepts, as text.
        found: What the request has, as text.
    """

    field: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.field}: needs one of {self.wanted}, found {self.found}"


class RuleTrace(Struct, frozen=True):
    """How one rule fared. It matches when nothing failed; the first that matches decides."""

    rule: int
    line: int
    level: str
    matches: bool
    failed: tuple[FailedCondition, ...]


class Explanation(Struct, frozen=True):
    """A decision with its reasons, every rule of the policy in order.

    Attributes:
        line: Where the rule that decided starts; 0 when none did or it is from no file.
    """

    request: RequestAttributes
    decision: Decision
    line: int
    rules: tuple[RuleTrace, ...]


def explain(
    rules: Sequence[Rule],
    conditions: Conditions,
    request: RequestAttributes,
    decision: Decision,
) -> Explanation:
    """Word the condition sets of one request for every rule."""
    matching = conditions.matching()
    found = _found(request)
    traces = tuple(
        RuleTrace(
            rule=index,
            line=rule.line,
            level=rule.level,
            matches=bool(matching >> index & 1),
            failed=_failed(rule, 1 << index, conditions, found),
        )
        for index, rule in enumerate(rules)
    )
    line = 0 if decision.rule is None else rules[decision.rule].line
    return Explanation(request=request, decision=decision, line=line, rules=traces)


def _failed(
    rule: Rule, bit: int, conditions: Conditions, found: Sequence[str]
) -> tuple[FailedCondition, ...]:
    return tuple(
        FailedCondition(field, _wanted(rule, field), text)
        for field, satisfied, text in zip(_FIELDS, conditions, found, strict=True)
        if not satisfied & bit
    )


_FIELDS = ("users", "userGroups", "verbs", "namespaces", "resources", "nonResourceURLs")
"""The rule's keys in the order of `Conditions`."""


def _wanted(rule: Rule, field: str) -> str:
    if field == "resources":
        return "[" + ", ".join(map(_entry, rule.resources)) + "]"
    return _listed(
        {
            "users": rule.users,
            "userGroups": rule.user_groups,
            "verbs": rule.verbs,
            "namespaces": rule.namespaces,
            "nonResourceURLs": rule.non_resource_urls,
        }[field]
    )


def _found(request: RequestAttributes) -> tuple[str, ...]:
    """Return what the request has, in the order of `Conditions`."""
    place = "a resource" if request.is_resource_request else f"path {quoted(request.path)}"
    return (
        "no user" if request.user is None else quoted(request.user),
        _groups(request),
        quoted(request.verb),
        quoted(request.namespace) if request.is_resource_request else place,
        _resource(request) if request.is_resource_request else place,
        place,
    )


def _groups(request: RequestAttributes) -> str:
    if request.user is None:
        return "no user"
    return f"groups {_listed(request.groups)}" if request.groups else "a user without groups"


def _resource(request: RequestAttributes) -> str:
    kind = request.resource + (f"/{request.subresource}" if request.subresource else "")
    named = f" named {quoted(request.name)}" if request.name else ""
    return f"{_item(kind)} of group {quoted(request.api_group)}{named}"


def _entry(entry: GroupResources) -> str:
    kinds = f" {_listed(entry.resources)}" if entry.resources else ""
    names = f" named {_listed(entry.resource_names)}" if entry.resource_names else ""
    return f"{_item(entry.group)}{kinds}{names}"


def _listed(values: Sequence[str]) -> str:
    return "[" + ", ".join(map(_item, values)) + "]"


def _item(value: str) -> str:
    return value if _NEEDS_NO_QUOTES.fullmatch(value) else quoted(value)
