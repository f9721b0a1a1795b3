"""The reference that the compiled policy is held against: specification section 3, written plainly.

Other tests of the policy room import from here: the naive matcher, and strategies that build
policies and requests from the same few words, so that rules match often and overlap a lot.
"""

import json
from typing import Any

import pytest
from hypothesis import strategies as st

from kubewitness.event import Level, Stage
from kubewitness.policy import Decision, GroupResources, PolicyDocument, Rule, load_policy
from kubewitness.request import RequestAttributes
from test_policy_vectors import MATCHES, attributes


def naive_decision(document: PolicyDocument, request: RequestAttributes) -> Decision:
    for index, rule in enumerate(document.rules):
        if naive_matches(rule, request):
            own = rule.omit_managed_fields
            return Decision(
                level=rule.level,
                omit_stages=tuple(sorted({*document.omit_stages, *rule.omit_stages})),
                omit_managed_fields=document.omit_managed_fields if own is None else own,
                rule=index,
            )
    return Decision(
        level=Level.NONE,
        omit_stages=tuple(sorted(set(document.omit_stages))),
        omit_managed_fields=document.omit_managed_fields,
    )


def naive_matches(rule: Rule, request: RequestAttributes) -> bool:
    if rule.users and (request.user is None or request.user not in rule.users):
        return False
    if rule.user_groups and (
        request.user is None or not any(group in rule.user_groups for group in request.groups)
    ):
        return False
    if rule.verbs and request.verb not in rule.verbs:
        return False
    if rule.namespaces or rule.resources:
        return _matches_resource(rule, request)
    if rule.non_resource_urls:
        return not request.is_resource_request and any(
            _matches_path(spec, request.path) for spec in rule.non_resource_urls
        )
    return True


def _matches_resource(rule: Rule, request: RequestAttributes) -> bool:
    if not request.is_resource_request:
        return False
    if rule.namespaces and request.namespace not in rule.namespaces:
        return False
    return not rule.resources or any(_matches_entry(entry, request) for entry in rule.resources)


def _matches_entry(entry: GroupResources, request: RequestAttributes) -> bool:
    if entry.group not in (request.api_group, "*"):
        return False
    if not entry.resources:
        return True
    if entry.resource_names and request.name not in entry.resource_names:
        return False
    return any(_matches_pattern(pattern, request) for pattern in entry.resources)


def _matches_pattern(pattern: str, request: RequestAttributes) -> bool:
    resource, subresource = request.resource, request.subresource
    if pattern == "*":
        return True
    if pattern == (f"{resource}/{subresource}" if subresource else resource):
        return True
    if subresource and pattern == f"*/{subresource}":
        return True
    return pattern == f"{resource}/*"


def _matches_path(spec: str, path: str) -> bool:
    return spec in ("*", path) or (spec.endswith("*") and path.startswith(spec.rstrip("*")))


USERS = ("alice", "bob", "system:node:a", "", "*")
GROUPS = ("dev", "ops", "system:nodes", "", "*")
VERBS = ("get", "list", "create", "", "*")
API_GROUPS = ("", "apps", "batch")
RESOURCES = ("pods", "deployments", "", "po")
SUBRESOURCES = ("", "log", "status", "lo")
NAMES = ("", "one", "two", "*")
NAMESPACES = ("", "default", "kube-system", "*")
PATTERNS = (
    *("*", "pods", "pods/log", "pods/status", "pods/*", "deployments", "deployments/*"),
    *("*/log", "*/status", "*/*", "po*", "pods/lo*", "", "/", "/log", "/*", "*/", "**", "a/b/c"),
)
PATHS = ("/", "/healthz", "/healthzz", "/healthz/etcd", "/logs", "/logs/", "/logs/a/b", "", "*")
URLS = ("*", "/", "/*", "/healthz", "/healthz*", "/healthz/*", "/logs/*", "/logs", "/logs/**")


def some(words: tuple[str, ...], *, most: int = 2) -> st.SearchStrategy[tuple[str, ...]]:
    """Up to `most` of the words, often none, for a condition that is not set matches anything."""
    return st.just(()) | st.lists(st.sampled_from(words), max_size=most).map(tuple)


def entries() -> st.SearchStrategy[GroupResources]:
    return st.builds(
        GroupResources,
        group=st.sampled_from((*API_GROUPS, "*")),
        resources=some(PATTERNS, most=3),
        resource_names=some(NAMES),
    )


def rules() -> st.SearchStrategy[Rule]:
    """Rules of every kind, also those that validation refuses (names alone, URLs and resources)."""
    return st.builds(
        Rule,
        level=st.sampled_from(Level),
        users=some(USERS),
        user_groups=some(GROUPS),
        verbs=some(VERBS),
        resources=st.just(()) | st.lists(entries(), max_size=3).map(tuple),
        namespaces=some(NAMESPACES),
        non_resource_urls=some(URLS),
        omit_stages=st.lists(st.sampled_from(Stage), max_size=2).map(tuple),
        omit_managed_fields=st.none() | st.booleans(),
    )


def documents(*, most: int = 6) -> st.SearchStrategy[PolicyDocument]:
    return st.builds(
        PolicyDocument,
        rules=st.lists(rules(), min_size=1, max_size=most).map(tuple),
        omit_stages=st.lists(st.sampled_from(Stage), max_size=2).map(tuple),
        omit_managed_fields=st.booleans(),
    )


def requests() -> st.SearchStrategy[RequestAttributes]:
    return st.builds(
        RequestAttributes,
        user=st.none() | st.sampled_from(USERS),
        groups=some(GROUPS, most=3),
        verb=st.sampled_from(VERBS),
        is_resource_request=st.booleans(),
        api_group=st.sampled_from(API_GROUPS),
        api_version=st.sampled_from(("v1", "v2")),
        resource=st.sampled_from(RESOURCES),
        subresource=st.sampled_from(SUBRESOURCES),
        namespace=st.sampled_from(NAMESPACES),
        name=st.sampled_from(NAMES),
        path=st.sampled_from(PATHS),
    )


@pytest.mark.parametrize(("document", "case"), MATCHES)
def test_the_naive_matcher_answers_as_the_real_server(
    document: dict[str, Any], case: dict[str, Any]
) -> None:
    policy = load_policy(json.dumps(document).encode(), lenient=True)
    decision = naive_decision(policy.document, attributes(case["request"]))

    assert {
        "level": decision.level,
        "omitStages": list(decision.omit_stages),
        "omitManagedFields": decision.omit_managed_fields,
    } == case["expect"]
