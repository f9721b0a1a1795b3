"""The policies of the package: each loads, and keeps what its comments promise."""

from collections.abc import Iterable, Iterator
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from kubewitness.codec import decode
from kubewitness.event import Event, Level, Stage
from kubewitness.policy import Decision, Policy, bundled_policies, load_policy
from kubewitness.request import RequestAttributes, attributes_of
from test_policy_naive import naive_decision
from vectors import DATA, POLICIES, recorded

BUNDLED = {bundled.name: bundled for bundled in bundled_policies()}
POLICY = {name: load_policy(bundled.data, name) for name, bundled in BUNDLED.items()}
RECORDED_GCE = load_policy((DATA / "conformance" / "gce.policy.yaml").read_bytes())

AUTHENTICATED = "system:authenticated"
WRITES = ("create", "update", "patch", "delete", "deletecollection")
READS = ("get", "list", "watch")


def test_these_are_bundled() -> None:
    assert list(BUNDLED) == ["everything", "gce", "metadata", "recommended"]


@pytest.mark.parametrize("name", BUNDLED)
def test_each_loads_strictly_and_says_what_it_is_for(name: str) -> None:
    bundled = BUNDLED[name]
    lines = bundled.data.decode().split("\n")

    assert POLICY[name].rules
    assert lines[0] == f"# {name}: {bundled.summary}"
    assert 20 < len(bundled.summary) < 90
    assert bundled.summary.endswith(".")
    assert lines[1] == "#"
    assert lines[2].startswith("# For ")
    assert all(len(line) <= 100 for line in lines)
    assert bundled.data.endswith(b"\n")


@pytest.mark.parametrize("name", BUNDLED)
def test_every_rule_can_decide(name: str) -> None:
    """No rule of ours is dead: some request made of the policy's own words is decided by it."""
    policy = POLICY[name]

    assert {d.rule for d in policy.evaluate_many(list(probes(policy)))} >= set(
        range(len(policy.rules))
    )


def probes(policy: Policy) -> Iterator[RequestAttributes]:
    """Yield requests that one rule after the other asks for."""
    for rule in policy.rules:
        for user, group, verb, namespace, url in product(
            rule.users or ("stranger",),
            rule.user_groups or (AUTHENTICATED,),
            rule.verbs or ("get", "create", "proxy"),
            rule.namespaces or ("blue",),
            rule.non_resource_urls or ("/nowhere",),
        ):
            request = RequestAttributes(
                user=user, groups=(group,), verb=verb, namespace=namespace, path=url.rstrip("*")
            )
            yield request
            for entry in rule.resources:
                for pattern in entry.resources or ("gizmos",):
                    resource, _, subresource = pattern.partition("/")
                    yield structs.replace(
                        request,
                        is_resource_request=True,
                        api_group=entry.group.replace("*", "example.com"),
                        resource=resource.replace("*", "gizmos"),
                        subresource=subresource.replace("*", ""),
                    )


def requests_about(*policies: Policy) -> st.SearchStrategy[RequestAttributes]:
    """Build requests from the policies' own words, and a few that none of them knows."""
    rules = [rule for policy in policies for rule in policy.rules]
    entries = [entry for rule in rules for entry in rule.resources]
    patterns = [pattern for entry in entries for pattern in entry.resources]
    paths = [url for rule in rules for url in rule.non_resource_urls]

    def words(values: Iterable[str], *strangers: str) -> st.SearchStrategy[str]:
        return st.sampled_from(sorted({*values, *strangers}))

    return st.builds(
        RequestAttributes,
        user=st.none() | words((user for rule in rules for user in rule.users), "alice", ""),
        groups=st.lists(
            words(
                (group for rule in rules for group in rule.user_groups),
                *("system:nodes", "system:serviceaccounts:kube-system", AUTHENTICATED, "dev"),
            ),
            max_size=3,
        ).map(tuple),
        verb=words((verb for rule in rules for verb in rule.verbs), *WRITES, *READS, "proxy", ""),
        is_resource_request=st.sampled_from((True, True, True, False)),
        api_group=words((entry.group for entry in entries), "", "example.com"),
        resource=words((p.partition("/")[0] for p in patterns), "gizmos", "secrets", "roles", ""),
        subresource=words((p.partition("/")[2] for p in patterns), "", "token", "exec", "scale"),
        namespace=st.sampled_from(("", "kube-system", "default")),
        name=st.sampled_from(("", "one")),
        path=words((url.rstrip("*") for url in paths), "/debug/pprof/", "/apis/x", "/healthz/x"),
    )


@settings(max_examples=300)
@given(st.lists(requests_about(*POLICY.values()), max_size=4), st.sampled_from(sorted(POLICY)))
def test_each_decides_as_the_naive_matcher_does(
    requests: list[RequestAttributes], name: str
) -> None:
    for request in requests:
        assert POLICY[name].evaluate(request) == naive_decision(POLICY[name].document, request)


def test_everything_and_metadata_are_what_their_names_say() -> None:
    for request in (RequestAttributes(), RequestAttributes(user="a", is_resource_request=True)):
        assert POLICY["everything"].evaluate(request) == Decision(Level.REQUEST_RESPONSE, rule=0)
        assert POLICY["metadata"].evaluate(request) == Decision(
            Level.METADATA, (Stage.REQUEST_RECEIVED,), rule=0
        )


@settings(max_examples=1000)
@given(requests_about(RECORDED_GCE, POLICY["gce"]))
def test_gce_means_the_same_as_the_recorded_policy(request: RequestAttributes) -> None:
    assert POLICY["gce"].evaluate(request) == RECORDED_GCE.evaluate(request)


def recorded_events(policy: str) -> list[Event]:
    return [decode(line) for line in recorded(f"{policy}.events.jsonl").split(b"\n") if line]


@pytest.mark.parametrize("name", POLICIES)
def test_gce_decides_the_recorded_requests_as_the_recorded_policy(name: str) -> None:
    requests = list(map(attributes_of, recorded_events(name)))

    assert requests
    assert POLICY["gce"].evaluate_many(requests) == RECORDED_GCE.evaluate_many(requests)


def test_gce_decides_as_the_real_server_did() -> None:
    for event in recorded_events("gce"):
        assert POLICY["gce"].evaluate(attributes_of(event)).level == event.level
