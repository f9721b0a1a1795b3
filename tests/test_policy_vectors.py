"""The policy room against the real code's answers."""

import json
import re
from typing import Any

import pytest

from kubewitness.errors import PolicyError
from kubewitness.policy import load_policy
from kubewitness.request import RequestAttributes
from vectors import vectors

MATCHES = [
    pytest.param(vector["policy"], case, id=f"{vector['name']}: {case['name']}")
    for vector in vectors("policy_match")
    for case in vector["cases"]
]


def attributes(request: dict[str, Any]) -> RequestAttributes:
    return RequestAttributes(
        user=request["user"],
        groups=tuple(request["groups"] or ()),
        verb=request["verb"],
        is_resource_request=request["isResourceRequest"],
        api_group=request["apiGroup"],
        api_version=request["apiVersion"],
        resource=request["resource"],
        subresource=request["subresource"],
        namespace=request["namespace"],
        name=request["name"],
        path=request["path"],
    )


@pytest.mark.parametrize(("document", "case"), MATCHES)
def test_policy_match(document: dict[str, Any], case: dict[str, Any]) -> None:
    policy = load_policy(json.dumps(document).encode(), lenient=True)
    request = attributes(case["request"])

    for decision in (policy.evaluate(request), policy.decide(request)):
        assert {
            "level": decision.level,
            "omitStages": list(decision.omit_stages),
            "omitManagedFields": decision.omit_managed_fields,
        } == case["expect"]


def upstream_path(field: str) -> str:
    """Return a field path as upstream has it: without the index of a resources entry."""
    return re.sub(r"\.resources\[\d+\](?=\.(group|resourceNames)$)", ".resources", field)


def refused_fields(text: str, *, lenient: bool) -> list[str] | None:
    """Return the distinct field paths of a refusal in order, None for a policy that loads."""
    try:
        load_policy(text.encode(), lenient=lenient)
    except PolicyError as error:
        return list(dict.fromkeys(upstream_path(problem.field) for problem in error.problems))
    return None


@pytest.mark.parametrize("vector", vectors("policy_invalid"), ids=lambda vector: vector["name"])
def test_policy_verdict_is_upstreams_when_lenient(vector: dict[str, Any]) -> None:
    fields = refused_fields(vector["policy"], lenient=True)

    assert (fields is None) == vector["accepted"]
    if vector["fields"]:
        assert fields == vector["fields"]


@pytest.mark.parametrize("vector", vectors("policy_invalid"), ids=lambda vector: vector["name"])
def test_strict_loading_also_refuses_unknown_and_duplicate_keys(vector: dict[str, Any]) -> None:
    fields = refused_fields(vector["policy"], lenient=False)

    # Without an apiVersion upstream also calls "rules" unknown: the wrong type was decoded.
    unknown = [field for field in vector["unknownFields"] if field != "rules"]
    if vector["accepted"] and not unknown and not vector["duplicateFields"]:
        assert fields is None
        return
    assert fields is not None
    assert set(unknown) <= set(fields)
    assert set(vector["fields"]) <= set(fields)
    assert set(vector["duplicateFields"]) <= {field.rsplit(".", 1)[-1] for field in fields}


@pytest.mark.parametrize("vector", vectors("yaml_scalars"), ids=lambda vector: vector["yaml"])
def test_yaml_scalar(vector: dict[str, Any]) -> None:
    text = (
        "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
        f"rules:\n- level: Metadata\n  users: [{vector['yaml']}]\n"
    )
    if "error" in vector:
        with pytest.raises(PolicyError) as refused:
            load_policy(text.encode())
        assert [problem.field for problem in refused.value.problems] == ["rules[0].users[0]"]
        assert {problem.line for problem in refused.value.problems} == {5}
    else:
        assert load_policy(text.encode()).rules[0].users == (vector["value"],)
