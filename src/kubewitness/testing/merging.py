"""Patches, and selectors: what of an object changes, and which objects are meant."""

from collections.abc import Mapping
from typing import Any


def merged(old: Any, change: Any, *, strategic: bool = False) -> Any:
    """Return a document with a JSON merge patch applied (RFC 7396); both are left alone.

    Args:
        old: The document.
        change: The patch.
        strategic: Merge lists of named elements by name, and ignore ``$`` directives: near enough
            to a strategic merge patch for tests.
    """
    if strategic and isinstance(change, list) and isinstance(old, list):
        return _merged_lists(old, change)
    if not isinstance(change, Mapping):
        return change
    result = dict(old) if isinstance(old, Mapping) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif not (strategic and key.startswith("$")):
            result[key] = merged(result.get(key), value, strategic=strategic)
    return result


def _merged_lists(old: list[Any], change: list[Any]) -> list[Any]:
    if not all(isinstance(each, Mapping) and "name" in each for each in (*old, *change)):
        return change
    by_name = {each["name"]: each for each in old}
    for each in change:
        by_name[each["name"]] = merged(by_name.get(each["name"]), each, strategic=True)
    return list(by_name.values())


def selects(document: Mapping[str, Any], *, labels: str, fields: str) -> bool:
    """Say whether an object is meant by a label selector and a field selector.

    Labels: ``a=b``, ``a!=b``, ``a`` and ``!a``. Fields: ``metadata.name`` and the like.
    """
    metadata = document["metadata"]
    return _all_hold(labels, metadata.get("labels") or {}) and _all_hold(
        fields, {f"metadata.{key}": value for key, value in metadata.items()}
    )


def _all_hold(selector: str, values: Mapping[str, Any]) -> bool:
    return all(_holds(each.strip(), values) for each in selector.split(",") if each.strip())


def _holds(requirement: str, values: Mapping[str, Any]) -> bool:
    if "!=" in requirement:
        key, _, value = requirement.partition("!=")
        return values.get(key.strip()) != value.strip()
    if "=" in requirement:
        key, _, value = requirement.replace("==", "=").partition("=")
        return values.get(key.strip()) == value.strip()
    if requirement.startswith("!"):
        return requirement[1:].strip() not in values
    return requirement in values
