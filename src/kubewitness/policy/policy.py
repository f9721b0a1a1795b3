"""`Policy`: a loaded policy that decides, with a bounded cache in front of the matcher.

The cache is what makes a decision cheap. It keeps one table per user, because the user's name and
groups settle most conditions once and for all, and a table's key holds only what the user's
remaining rules look at: a policy that names no object is not asked again for every object.

Threads: a Policy never changes its meaning, and nothing of it can be assigned to. The cache is
filled without a lock: two threads may both compute the same decision, which is the same either
way, and when it is full everything is forgotten at once, which costs no more than computing anew.
"""

from collections.abc import Iterable
from itertools import count
from typing import Any, NoReturn

from kubewitness.errors import Problem
from kubewitness.event import Level, Stage
from kubewitness.policy.evaluate import Matcher, lowest_bit
from kubewitness.policy.explain import Explanation, explain
from kubewitness.policy.model import Decision, PolicyDocument, Rule
from kubewitness.request import RequestAttributes

CACHE_LIMIT = 65_536
"""How many decisions and users a Policy remembers (roughly 20 MB) before it starts afresh."""

_LONGEST_REMEMBERED = 1024
"""Characters of a user or a request that is remembered: real ones are shorter, and a client that
sends long paths must not fill the memory with them."""

_Key = tuple[str, ...]


class Policy:
    """A policy ready to decide what is recorded of a request. Immutable.

    Attributes:
        source: Where it was read from, for messages.
        document: What it says.
        dropped: Unknown and duplicate keys that lenient loading left out; empty when strict.
    """

    __slots__ = (
        "_cache_limit",
        "_decisions",
        "_default",
        "_matcher",
        "_remembered",
        "_users",
        "document",
        "dropped",
        "source",
    )
    source: str
    document: PolicyDocument
    dropped: tuple[Problem, ...]
    _matcher: Matcher
    _decisions: tuple[Decision, ...]
    _default: Decision
    _users: "dict[str | None, _UserCache]"
    _remembered: "count[int]"
    _cache_limit: int

    def __init__(
        self,
        document: PolicyDocument,
        *,
        source: str = "",
        dropped: tuple[Problem, ...] = (),
        cache_limit: int = CACHE_LIMIT,
    ) -> None:
        """Compile a valid document; `cache_limit` (at least 1) is `CACHE_LIMIT` for tests."""
        values = {
            "source": source,
            "document": document,
            "dropped": dropped,
            "_matcher": Matcher(document.rules),
            "_decisions": tuple(_decision(document, i) for i in range(len(document.rules))),
            "_default": _decision(document, None),
            "_users": {},
            "_remembered": count(1),
            "_cache_limit": cache_limit,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Policy is immutable, {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Policy is immutable, {name} cannot be deleted")

    def __repr__(self) -> str:
        return f"Policy({self.source!r}, {len(self.rules)} rules)"

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules, in the order in which they are tried."""
        return self.document.rules

    def evaluate(self, attributes: RequestAttributes) -> Decision:
        """Decide what is recorded of a request: the first matching rule, else level None."""
        user = self._users.get(attributes.user)
        if user is None or user.groups != attributes.groups:
            user = self._user_cache(attributes)
        key = user.key_of(attributes)
        decision = user.decisions.get(key)
        if decision is None:
            decision = self.decide(attributes)
            if _is_short(key):
                user.decisions[key] = decision
                self._count_remembered()
        return decision

    def evaluate_many(self, requests: Iterable[RequestAttributes]) -> list[Decision]:
        """Decide many requests, each distinct *object* once; in the order given.

        Fast where equal requests are the same object: finding out that costs no comparison of
        their fields.
        """
        listed = list(requests)  # keeps the objects, so that an identity stays one object's
        identities = list(map(id, listed))
        distinct = dict(zip(identities, listed, strict=True))
        decided = dict(zip(distinct, map(self.evaluate, distinct.values()), strict=True))
        return list(map(decided.__getitem__, identities))

    def decide(self, attributes: RequestAttributes) -> Decision:
        """Decide as `evaluate` does, without looking at what is remembered."""
        rule = lowest_bit(self._matcher.conditions(attributes).matching())
        return self._default if rule is None else self._decisions[rule]

    def explain(self, attributes: RequestAttributes) -> Explanation:
        """Say rule by rule which conditions failed, and which rule decided."""
        conditions = self._matcher.conditions(attributes)
        return explain(self.rules, conditions, attributes, self.evaluate(attributes))

    def _user_cache(self, attributes: RequestAttributes) -> "_UserCache":
        """Find the cache of a user whose name is new, or known with other groups."""
        first = self._users.get(attributes.user)
        if first is None:
            return self._new_user(self._users, attributes.user, attributes)
        known = first.with_other_groups.get(attributes.groups)
        return known or self._new_user(first.with_other_groups, attributes.groups, attributes)

    def _new_user(
        self, table: "dict[Any, _UserCache]", key: object, attributes: RequestAttributes
    ) -> "_UserCache":
        cache = _UserCache(self._matcher, attributes)
        if _is_short((attributes.user or "", *attributes.groups)):
            table[key] = cache
            self._count_remembered()
        return cache

    def _count_remembered(self) -> None:
        """Count one more that was just remembered; at each multiple of the limit start afresh.

        Counting after the fact, and with one call, is what keeps the bound without a lock.
        """
        if next(self._remembered) % self._cache_limit == 0:
            self._users.clear()


class _UserCache:
    """The decisions for one user, and which parts of a request can make them differ."""

    __slots__ = (
        "decisions",
        "groups",
        "name_matters",
        "namespace_matters",
        "path_matters",
        "with_other_groups",
    )

    def __init__(self, matcher: Matcher, attributes: RequestAttributes) -> None:
        by_name, by_group = matcher.of_user(attributes)
        rules = by_name & by_group
        self.groups = attributes.groups
        self.path_matters = matcher.looks_at_path(rules)
        self.name_matters = matcher.looks_at_name(rules)
        self.namespace_matters = matcher.looks_at_namespace(rules)
        self.decisions: dict[_Key, Decision] = {}
        self.with_other_groups: dict[tuple[str, ...], _UserCache] = {}

    def key_of(self, attributes: RequestAttributes) -> _Key:
        """Return what of a request decides for this user; written out, for it runs each time."""
        if not attributes.is_resource_request:
            return (attributes.verb, attributes.path if self.path_matters else "/")
        if self.name_matters:
            return (
                attributes.verb,
                attributes.api_group,
                attributes.resource,
                attributes.subresource,
                attributes.namespace,
                attributes.name,
            )
        if self.namespace_matters:
            return (
                attributes.verb,
                attributes.api_group,
                attributes.resource,
                attributes.subresource,
                attributes.namespace,
            )
        return (
            attributes.verb,
            attributes.api_group,
            attributes.resource,
            attributes.subresource,
        )


def _decision(document: PolicyDocument, index: int | None) -> Decision:
    rule = document.rules[index] if index is not None else Rule(level=Level.NONE)
    inherited = document.omit_managed_fields
    own = rule.omit_managed_fields
    return Decision(
        level=rule.level,
        omit_stages=_sorted(document.omit_stages + rule.omit_stages),
        omit_managed_fields=inherited if own is None else own,
        rule=index,
    )


def _is_short(texts: _Key) -> bool:
    return len(texts) + sum(map(len, texts)) <= _LONGEST_REMEMBERED


def _sorted(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    return tuple(sorted(set(stages)))
