"""Policy text to a valid `PolicyDocument`, with every problem at its line and column.

Strict by default: an unknown or a duplicate key is an error, because upstream's warning goes
unread and a misspelt selector silently widens its rule. With ``lenient=True`` such keys are
dropped (of duplicates the last one wins), as the API server does.

Where to read first: `_POLICY`, `_RULE` and `_ENTRY` at the end are the whole format.
How it is read is the room `documents`, what the values may be is `validate`.

Source: audit specification section 2; upstream ``pkg/audit/policy/reader.go``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from yaml.nodes import Node

from kubewitness.documents import (
    Decode,
    Reading,
    Shape,
    boolean,
    compose,
    ignored,
    mappings,
    quoted,
    string,
    string_map,
    strings,
)
from kubewitness.errors import DocumentError, PolicyError, Problem
from kubewitness.event import API_VERSION
from kubewitness.policy import validate
from kubewitness.policy.model import GroupResources, PolicyDocument, Rule
from kubewitness.policy.policy import Policy
from kubewitness.policy.validate import Fault


def load_policy(data: bytes, source: str = "policy", *, lenient: bool = False) -> Policy:
    """Load a policy from YAML or JSON bytes.

    Args:
        data: The text of the policy file.
        source: Its name in messages.
        lenient: Drop unknown and duplicate keys, as the API server does, instead of refusing them;
            `Policy.dropped` then lists them.

    Raises:
        PolicyError: With every problem found, each at its line and column.
    """
    reading = Reading(source)
    try:
        root = compose(data, source)
    except DocumentError as error:
        raise PolicyError(error.problems) from None
    values = reading.mapping(root, "", _POLICY) if root is not None else {}
    wrong = reading.wrong + _check_document(values, reading)
    if wrong or (reading.dropped and not lenient):
        raise PolicyError(tuple(([] if lenient else reading.dropped) + wrong))
    return Policy(_build(values, reading), source=source, dropped=tuple(reading.dropped))


def _rules(reading: Reading, node: Node, path: str) -> list[dict[str, Any]] | None:
    return mappings(reading, node, path, _RULE)


def _resources(reading: Reading, node: Node, path: str) -> list[dict[str, Any]] | None:
    return mappings(reading, node, path, _ENTRY)


def _metadata(reading: Reading, node: Node, path: str) -> dict[str, Any]:
    return reading.mapping(node, path, _METADATA)


def _check_document(values: Mapping[str, Any], reading: Reading) -> list[Problem]:
    """Return what is wrong with the values, apart from those whose form is wrong already."""
    faults = list(_head_faults(values))
    if _is_policy(values):
        faults += validate.faults(values)
    if not faults and not values.get("rules"):
        faults.append(("rules", "a policy needs at least one rule"))
    return [
        reading.problem(path, message) for path, message in faults if not reading.is_refused(path)
    ]


def _is_policy(values: Mapping[str, Any]) -> bool:
    """Tell a policy from a file that means something else, whose many differences are no news."""
    return bool(values) and (values.get("kind") or "Policy").lower() == "policy"


def _head_faults(values: Mapping[str, Any]) -> Iterator[Fault]:
    version, kind = values.get("apiVersion"), values.get("kind") or "Policy"
    if not version:
        yield "apiVersion", f'missing; a policy starts with "apiVersion: {API_VERSION}"'
    elif version != API_VERSION:
        yield "apiVersion", f'{quoted(version)} is not supported, write "{API_VERSION}"'
    if kind != "Policy":
        yield "kind", f'{quoted(kind)} is not a policy, write "Policy"'


def _build(values: Mapping[str, Any], reading: Reading) -> PolicyDocument:
    return PolicyDocument(
        rules=tuple(
            _build_rule(rule, reading.places[f"rules[{index}]"][0])
            for index, rule in enumerate(values["rules"])
        ),
        omit_stages=validate.stages(values),
        omit_managed_fields=values.get("omitManagedFields", False),
    )


def _build_rule(rule: Mapping[str, Any], line: int) -> Rule:
    return Rule(
        level=validate.level(rule),
        users=tuple(rule.get("users", ())),
        user_groups=tuple(rule.get("userGroups", ())),
        verbs=tuple(rule.get("verbs", ())),
        resources=tuple(map(_build_group_resources, rule.get("resources", ()))),
        namespaces=tuple(rule.get("namespaces", ())),
        non_resource_urls=tuple(rule.get("nonResourceURLs", ())),
        omit_stages=validate.stages(rule),
        omit_managed_fields=rule.get("omitManagedFields"),
        line=line,
    )


def _build_group_resources(entry: Mapping[str, Any]) -> GroupResources:
    return GroupResources(
        group=entry.get("group", ""),
        resources=tuple(entry.get("resources", ())),
        resource_names=tuple(entry.get("resourceNames", ())),
    )


_METADATA = Shape(
    {
        "name": string,
        "generateName": string,
        "namespace": string,
        "selfLink": string,
        "uid": string,
        "resourceVersion": string,
        "generation": ignored,
        "creationTimestamp": ignored,
        "deletionTimestamp": ignored,
        "deletionGracePeriodSeconds": ignored,
        "labels": string_map,
        "annotations": string_map,
        "ownerReferences": ignored,
        "finalizers": strings,
        "managedFields": ignored,
    }
)
_ENTRY_FIELDS: dict[str, Decode] = {
    "group": string,
    "resources": strings,
    "resourceNames": strings,
}
_RULE_FIELDS: dict[str, Decode] = {
    "level": string,
    "users": strings,
    "userGroups": strings,
    "verbs": strings,
    "resources": _resources,
    "namespaces": strings,
    "nonResourceURLs": strings,
    "omitStages": strings,
    "omitManagedFields": boolean,
}
_POLICY_FIELDS: dict[str, Decode] = {
    "apiVersion": string,
    "kind": string,
    "metadata": _metadata,
    "rules": _rules,
    "omitStages": strings,
    "omitManagedFields": boolean,
}
_ENTRY = Shape(
    _ENTRY_FIELDS,
    elsewhere=((_RULE_FIELDS, "to the rule, one level up"),),
    example='{group: "", resources: [pods]}',
)
_RULE = Shape(
    _RULE_FIELDS,
    elsewhere=(
        (_ENTRY_FIELDS, 'in an entry of "resources"'),
        (_POLICY_FIELDS, "at the top level"),
    ),
    example="{level: Metadata}",
)
_POLICY = Shape(_POLICY_FIELDS, elsewhere=((_RULE_FIELDS, 'in a rule of "rules"'),))
