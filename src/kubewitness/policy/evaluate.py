"""The compiled matcher: which rules a request satisfies, condition by condition, as bit sets.

Rule i is bit i. For each condition a table maps a value of the request to the set of rules that
accept it; rules without that condition accept every value. The rules that match are the
intersection, and the first match is its lowest bit. `Matcher.conditions` returns the six sets, so
a decision and its explanation come from the same look-ups.

A resource entry has a bit of its own while its group, patterns and names are intersected, because
those three must hold within *one* entry; the surviving entries are then mapped to their rules.

Source: audit specification section 3; upstream ``pkg/audit/policy/checker.go``.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kubewitness.policy.model import GroupResources, Rule
from kubewitness.request import RequestAttributes


class Conditions(NamedTuple):
    """For each condition the set of rules (bit i is rule i) that a request satisfies."""

    users: int
    user_groups: int
    verbs: int
    namespaces: int
    resources: int
    non_resource_urls: int

    def matching(self) -> int:
        """Return the set of rules that match the request."""
        return (
            self.users
            & self.user_groups
            & self.verbs
            & self.namespaces
            & self.resources
            & self.non_resource_urls
        )


class Matcher:
    """Rules compiled into tables; immutable, so any number of threads may share it."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._users = _Table(rule.users for rule in rules)
        self._user_groups = _Table(rule.user_groups for rule in rules)
        self._verbs = _Table(rule.verbs for rule in rules)
        self._namespaces = _Table(rule.namespaces for rule in rules)
        self._resources = _Resources([rule.resources for rule in rules])
        # A rule about resources does not look at its URLs. Such a rule is not valid, but the
        # question has this answer.
        self._paths = _Paths(
            () if rule.resources or rule.namespaces else rule.non_resource_urls for rule in rules
        )

    def of_user(self, attributes: RequestAttributes) -> tuple[int, int]:
        """Return the rules that accept the user's name, and those that accept a group of theirs."""
        if attributes.user is None:
            return self._users.free, self._user_groups.free
        groups = self._user_groups.free
        for group in attributes.groups:
            groups |= self._user_groups.listed.get(group, 0)
        return self._users.accepting(attributes.user), groups

    def conditions(self, attributes: RequestAttributes) -> Conditions:
        """Return which rules accept the request, condition by condition."""
        users, user_groups = self.of_user(attributes)
        verbs = self._verbs.accepting(attributes.verb)
        if not attributes.is_resource_request:
            return Conditions(
                users,
                user_groups,
                verbs,
                self._namespaces.free,
                self._resources.free,
                self._paths.accepting(attributes.path),
            )
        return Conditions(
            users,
            user_groups,
            verbs,
            self._namespaces.accepting(attributes.namespace),
            self._resources.accepting(attributes),
            self._paths.free,
        )

    def looks_at_namespace(self, rules: int) -> bool:
        """Say whether any of these rules depends on the namespace."""
        return rules & ~self._namespaces.free != 0

    def looks_at_name(self, rules: int) -> bool:
        """Say whether any of these rules depends on the object's name."""
        return rules & self._resources.with_names != 0

    def looks_at_path(self, rules: int) -> bool:
        """Say whether any of these rules depends on the URL path."""
        return rules & ~self._paths.free != 0


def lowest_bit(bits: int) -> int | None:
    """Return the index of the lowest bit, None for an empty set."""
    return (bits & -bits).bit_length() - 1 if bits else None


class _Table:
    """Exact values to the rules that list them; `free` are the rules that list none."""

    def __init__(self, lists: Iterable[Sequence[str]]) -> None:
        self.free = 0
        self.listed: dict[str, int] = {}
        for index, values in enumerate(lists):
            bit = 1 << index
            if not values:
                self.free |= bit
            for value in values:
                self.listed[value] = self.listed.get(value, 0) | bit

    def accepting(self, value: str) -> int:
        return self.free | self.listed.get(value, 0)


class _Paths:
    """URL patterns: exact paths in a table, prefixes (``/healthz*``) in a list."""

    def __init__(self, lists: Iterable[Sequence[str]]) -> None:
        listed = list(lists)
        self._exact = _Table(listed)
        self.free = self._exact.free
        self._prefixes = [
            (pattern.rstrip("*"), 1 << index)
            for index, patterns in enumerate(listed)
            for pattern in patterns
            if pattern.endswith("*")
        ]

    def accepting(self, path: str) -> int:
        rules = self._exact.accepting(path)
        for prefix, bit in self._prefixes:
            if path.startswith(prefix):
                rules |= bit
        return rules


class _Resources:
    """The ``resources`` entries of all rules, numbered through, each set indexed by one part."""

    def __init__(self, lists: Sequence[Sequence[GroupResources]]) -> None:
        owners = [(index, entry) for index, entries in enumerate(lists) for entry in entries]
        entries = [entry for _, entry in owners]
        self.free = sum(1 << index for index, listed in enumerate(lists) if not listed)
        self.with_names = 0
        for index, entry in owners:
            if _names(entry):
                self.with_names |= 1 << index
        self._owners = [1 << index for index, _ in owners]
        self._any_group = sum(1 << i for i, entry in enumerate(entries) if entry.group == "*")
        self._groups = _Table((entry.group,) for entry in entries)
        self._names = _Table(map(_names, entries))
        self._patterns = _Table(entry.resources for entry in entries)
        self._whole = self._patterns.free | self._patterns.listed.get("*", 0)
        self._of_subresource = _Table(
            [pattern[2:] for pattern in entry.resources if pattern.startswith("*/")]
            for entry in entries
        )
        self._of_resource = _Table(
            [pattern[:-2] for pattern in entry.resources if pattern.endswith("/*")]
            for entry in entries
        )

    def accepting(self, attributes: RequestAttributes) -> int:
        """Return the rules with an entry for the request's object, and those without entries."""
        entries = self._groups.listed.get(attributes.api_group, 0) | self._any_group
        entries &= self._matching(attributes.resource, attributes.subresource)
        entries &= self._names.accepting(attributes.name)
        rules = self.free
        while entries:
            lowest = entries & -entries
            rules |= self._owners[lowest.bit_length() - 1]
            entries ^= lowest
        return rules

    def _matching(self, resource: str, subresource: str) -> int:
        entries = self._whole | self._of_resource.listed.get(resource, 0)
        if not subresource:
            return entries | self._patterns.listed.get(resource, 0)
        combined = f"{resource}/{subresource}"
        return (
            entries
            | self._patterns.listed.get(combined, 0)
            | self._of_subresource.listed.get(subresource, 0)
        )


def _names(entry: GroupResources) -> Sequence[str]:
    """Return the names an entry looks at: those beside resources."""
    return entry.resource_names if entry.resources else ()
