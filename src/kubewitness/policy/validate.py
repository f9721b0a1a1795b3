"""The rules a policy's values must follow, each with its field path.

Works on plain values (``{"rules": [{"level": ...}]}``) so that it knows nothing of YAML; `load`
adds the positions. The checks and their order are upstream's, the sentences are ours. Upstream
names a bad group ``rules[i].resources.group``; we add the index of the entry.

Source: audit specification section 2.3; upstream ``pkg/apis/audit/validation/validation.go``.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kubewitness.documents import closest, quoted
from kubewitness.event import Level, Stage

_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_VERSION = re.compile(r"v\d+(?:(?:alpha|beta)\d+)?")
_LONGEST_GROUP = 253

Fault = tuple[str, str]


def faults(policy: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield (field path, message) for everything wrong with a policy's values."""
    yield from _stage_faults(policy, "omitStages")
    for index, rule in enumerate(policy.get("rules", ())):
        yield from _rule_faults(rule, f"rules[{index}]")


def level(rule: Mapping[str, Any]) -> Level:
    """Return a valid rule's level."""
    return Level(rule["level"])


def stages(values: Mapping[str, Any]) -> tuple[Stage, ...]:
    """Return the ``omitStages`` of a valid policy or rule."""
    return tuple(map(Stage, values.get("omitStages", ())))


def _rule_faults(rule: Mapping[str, Any], path: str) -> Iterator[Fault]:
    yield from _level_faults(rule.get("level", ""), f"{path}.level")
    urls = rule.get("nonResourceURLs", ())
    for index, url in enumerate(urls):
        yield from _url_faults(url, f"{path}.nonResourceURLs[{index}]")
    for index, entry in enumerate(rule.get("resources", ())):
        yield from _resource_faults(entry, f"{path}.resources[{index}]")
    yield from _stage_faults(rule, f"{path}.omitStages")
    if urls and (rule.get("resources") or rule.get("namespaces")):
        message = "a rule is for resources or for other URLs, not for both; make two rules"
        yield f"{path}.nonResourceURLs", message


def _level_faults(value: str, path: str) -> Iterator[Fault]:
    allowed = [member.value for member in Level]
    if not value:
        yield path, f"missing; one of {', '.join(allowed)}"
    elif value not in allowed:
        yield path, f"unknown level {quoted(value)}{_did_you_mean(value, allowed)}"


def _stage_faults(values: Mapping[str, Any], path: str) -> Iterator[Fault]:
    allowed = [member.value for member in Stage]
    for index, value in enumerate(values.get("omitStages", ())):
        if value not in allowed:
            message = f"unknown stage {quoted(value)}{_did_you_mean(value, allowed)}"
            yield f"{path}[{index}]", message


def _url_faults(url: str, path: str) -> Iterator[Fault]:
    if url != "*" and not url.startswith("/"):
        yield path, f'{quoted(url)} must start with "/" (or be "*" for every path)'
    if "*" in url[:-1]:
        yield path, f'{quoted(url)}: "*" may only be the last character'


def _resource_faults(entry: Mapping[str, Any], path: str) -> Iterator[Fault]:
    group = entry.get("group", "")
    if len(group) > _LONGEST_GROUP:
        yield f"{path}.group", f"longer than {_LONGEST_GROUP} characters"
    elif group not in ("", "*") and not _SUBDOMAIN.fullmatch(group):
        yield f"{path}.group", _group_message(group)
    if entry.get("resourceNames") and not entry.get("resources"):
        yield f"{path}.resourceNames", 'names need "resources" beside them'


def _group_message(group: str) -> str:
    name, slash, version = group.partition("/")
    if slash and _VERSION.fullmatch(version):
        return f"{quoted(group)} carries a version; write {quoted(name)}"
    if slash and _VERSION.fullmatch(name):
        meant = 'write the group alone, "" for the core group'
        return f"{quoted(group)} is a version and a resource; {meant}"
    if _SUBDOMAIN.fullmatch(group.lower()):
        return f"{quoted(group)} is not an API group; write {quoted(group.lower())}"
    allowed = 'lower-case letters, digits, "-" and "." only, or "*"'
    return f"{quoted(group)} is not an API group: {allowed}"


def _did_you_mean(value: str, allowed: list[str]) -> str:
    meant = closest(value, allowed)
    return f', did you mean "{meant}"?' if meant else f"; one of {', '.join(allowed)}"
