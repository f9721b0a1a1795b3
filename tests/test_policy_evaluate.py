"""A compiled policy decides as the naive one does, whatever its cache holds."""

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from kubewitness.event import Level
from kubewitness.policy import Decision, GroupResources, Policy, PolicyDocument, Rule, load_policy
from kubewitness.policy import policy as policy_module
from kubewitness.request import RequestAttributes
from test_policy_naive import documents, naive_decision, requests


@settings(max_examples=500)
@given(documents(), st.lists(requests(), max_size=8))
def test_compiled_is_naive_first_match(
    document: PolicyDocument, asked: list[RequestAttributes]
) -> None:
    policy = Policy(document)
    expected = [naive_decision(document, request) for request in asked]

    assert [policy.decide(request) for request in asked] == expected
    assert [policy.evaluate(request) for request in asked] == expected


@settings(max_examples=300)
@given(documents(), st.lists(requests(), max_size=12), st.integers(1, 6), st.randoms())
def test_a_warm_or_overflowing_cache_changes_nothing(
    document: PolicyDocument, asked: list[RequestAttributes], limit: int, random: Random
) -> None:
    policy = Policy(document, cache_limit=limit)
    shuffled = asked * 3
    random.shuffle(shuffled)

    assert [policy.evaluate(request) for request in shuffled] == [
        naive_decision(document, request) for request in shuffled
    ]


@settings(max_examples=300)
@given(documents(), requests(), st.data())
def test_requests_that_differ_in_one_part_are_not_taken_for_each_other(
    document: PolicyDocument, request: RequestAttributes, data: st.DataObject
) -> None:
    policy = Policy(document)
    other = data.draw(requests())
    for field in structs.fields(request):
        near = structs.replace(request, **{field.name: getattr(other, field.name)})
        for asked in (request, near):
            assert policy.evaluate(asked) == naive_decision(document, asked)


# All but the version, which never matters to a policy.
LOOKED_AT = [name for name in RequestAttributes.__struct_fields__ if name != "api_version"]


@pytest.mark.parametrize("field", LOOKED_AT)
def test_the_cache_knows_every_part_a_rule_looks_at(field: str) -> None:
    entry = GroupResources("apps", ("deployments/scale",), ("one",))
    looks = {
        "user": Rule(Level.METADATA, users=("alice",)),
        "groups": Rule(Level.METADATA, user_groups=("dev",)),
        "verb": Rule(Level.METADATA, verbs=("get",)),
        "namespace": Rule(Level.METADATA, namespaces=("blue",)),
        "path": Rule(Level.METADATA, non_resource_urls=("/healthz",)),
    }
    rule = looks.get(field, Rule(Level.METADATA, resources=(entry,)))
    request = RequestAttributes(
        user="alice",
        groups=("dev",),
        verb="get",
        is_resource_request=field != "path",
        api_group="apps",
        resource="deployments",
        subresource="scale",
        namespace="blue",
        name="one",
        path="/healthz",
    )
    changed: dict[str, Any] = {"groups": (), "is_resource_request": False}
    other = structs.replace(request, **{field: changed.get(field, "other")})
    policy = Policy(PolicyDocument((rule,)))

    for _ in range(2):
        assert policy.evaluate(request).rule == 0
        assert policy.evaluate(other).rule is None


@given(documents(), st.lists(requests(), max_size=6), st.randoms())
def test_evaluate_many_is_evaluate_of_each(
    document: PolicyDocument, asked: list[RequestAttributes], random: Random
) -> None:
    policy = Policy(document)
    repeated = random.choices(asked, k=3 * len(asked)) if asked else []

    assert policy.evaluate_many(repeated) == list(map(policy.evaluate, repeated))


def test_evaluate_many_takes_an_iterator_of_objects_that_live_nowhere_else() -> None:
    policy = Policy(two_sided())
    verbs = ["get", "create"] * 500

    def fresh() -> Iterator[RequestAttributes]:
        return (RequestAttributes(user="alice", verb=verb) for verb in verbs)

    assert policy.evaluate_many(fresh()) == [policy.evaluate(request) for request in fresh()]


def two_sided() -> PolicyDocument:
    """Return a policy on which every part of a request has a say."""
    return PolicyDocument(
        rules=(
            Rule(Level.REQUEST, users=("alice",), user_groups=("ops",), verbs=("create",)),
            Rule(Level.METADATA, namespaces=("kube-system",), verbs=("get",)),
            Rule(
                Level.REQUEST_RESPONSE,
                resources=(GroupResources("apps", ("deployments",), ("one",)),),
            ),
            Rule(Level.NONE, user_groups=("dev",)),
            Rule(Level.METADATA, non_resource_urls=("/healthz*",)),
        )
    )


def all_requests() -> list[RequestAttributes]:
    return [
        RequestAttributes(
            user=user,
            groups=groups,
            verb=verb,
            is_resource_request=bool(resource),
            api_group="apps",
            resource=resource,
            namespace=namespace,
            name=name,
            path=path,
        )
        for user, groups, verb, resource, namespace, name, path in product(
            (None, "alice", "bob"),
            ((), ("dev",), ("ops", "dev")),
            ("get", "create"),
            ("", "deployments", "pods"),
            ("", "kube-system"),
            ("", "one", "two"),
            ("/healthz", "/x"),
        )
    ]


def test_one_name_with_changing_groups_is_decided_by_the_groups() -> None:
    document = two_sided()
    policy = Policy(document)

    for _ in range(3):
        for groups in ((), ("dev",), ("ops",), ("ops", "dev"), ("dev", "ops")):
            request = RequestAttributes(user="alice", groups=groups, verb="create")
            assert policy.evaluate(request) == naive_decision(document, request)


def test_nobody_is_not_the_user_without_a_name_and_has_no_groups() -> None:
    document = PolicyDocument(
        (Rule(Level.METADATA, users=("",)), Rule(Level.REQUEST, user_groups=("dev",)))
    )
    policy = Policy(document)

    for _ in range(2):
        assert policy.evaluate(RequestAttributes(user=None, groups=("dev",))).rule is None
        assert policy.evaluate(RequestAttributes(user="", groups=("dev",))).rule == 0
        assert policy.evaluate(RequestAttributes(user="bob", groups=("dev",))).rule == 1


def test_a_policy_without_rules_for_a_request_decides_none() -> None:
    policy = Policy(PolicyDocument((Rule(Level.METADATA, users=("alice",)),)))

    assert policy.evaluate(RequestAttributes(user="bob")) == Decision(Level.NONE)


def remembered(policy: Policy) -> int:
    """Count what a policy's cache holds: decisions and users."""
    first = list(policy._users.values())
    caches = first + [other for cache in first for other in cache.with_other_groups.values()]
    return len(caches) + sum(len(cache.decisions) for cache in caches)


@pytest.mark.parametrize("limit", [1, 2, 7, 50])
def test_the_cache_never_holds_more_than_its_limit(limit: int) -> None:
    document = two_sided()
    policy = Policy(document, cache_limit=limit)

    for request in all_requests():
        assert policy.evaluate(request) == naive_decision(document, request)
        assert remembered(policy) <= limit


def test_the_cache_is_bounded_against_a_client_that_makes_up_paths_and_users() -> None:
    policy = Policy(two_sided(), cache_limit=100)

    for index in range(1000):
        policy.evaluate(RequestAttributes(user=f"user-{index % 30}", path=f"/{index}"))
        policy.evaluate(RequestAttributes(user="alice", path=f"/{index}"))
    assert remembered(policy) <= 100


def test_what_is_longer_than_any_real_request_is_decided_but_not_remembered() -> None:
    policy = Policy(two_sided())
    long = "x" * policy_module._LONGEST_REMEMBERED

    for _ in range(2):
        assert policy.evaluate(RequestAttributes(path=f"/healthz{long}")).rule == 4
    assert remembered(policy) == 1
    for _ in range(2):
        assert policy.evaluate(RequestAttributes(user=long, path="/healthz")).rule == 4
        many = RequestAttributes(user="a", groups=("dev",) * len(long), path="/healthz")
        assert policy.evaluate(many).rule == 3
    assert remembered(policy) == 1


def test_the_cache_asks_only_for_what_the_rules_look_at() -> None:
    policy = Policy(PolicyDocument((Rule(Level.METADATA, verbs=("get",)),)))

    for request in all_requests():
        policy.evaluate(request)
    kinds = {(a.user, a.groups, a.verb, a.resource) for a in all_requests()}
    users = {(a.user, a.groups) for a in all_requests()}
    assert remembered(policy) == len(kinds) + len(users)


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_switching")
@pytest.mark.parametrize("limit", [1, 5, 40, 100_000])
def test_threads_share_a_policy_while_its_cache_overflows(limit: int) -> None:
    document = two_sided()
    policy = Policy(document, cache_limit=limit)
    expected = {request: naive_decision(document, request) for request in all_requests()}
    start = threading.Barrier(6)

    def work(seed: int) -> bool:
        asked = list(expected)
        Random(seed).shuffle(asked)  # noqa: S311  (not a secret)
        start.wait()
        return all(policy.evaluate(request) == expected[request] for request in asked * 2)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    assert remembered(policy) <= limit


@pytest.mark.parametrize("name", ["document", "source", "dropped", "_users", "rules", "new"])
def test_a_policy_cannot_be_changed(name: str) -> None:
    policy = Policy(two_sided(), source="audit.yaml")

    with pytest.raises(AttributeError, match="immutable"):
        setattr(policy, name, None)
    with pytest.raises(AttributeError, match="immutable"):
        delattr(policy, name)


@pytest.mark.parametrize(
    "part", [lambda p: p.document, lambda p: p.rules[0], lambda p: p.rules[2].resources[0]]
)
def test_nor_can_its_parts(part: Callable[[Policy], Struct]) -> None:
    found = part(Policy(two_sided()))

    for field in structs.fields(found):
        assert isinstance(getattr(found, field.name), str | tuple | bool | int | None)
        with pytest.raises(AttributeError, match="immutable"):
            setattr(found, field.name, None)


def test_a_policy_says_what_it_is() -> None:
    policy = Policy(two_sided(), source="audit.yaml")

    assert repr(policy) == "Policy('audit.yaml', 5 rules)"
    assert policy.rules is policy.document.rules


def large_policy(rules: int) -> bytes:
    body = "".join(
        f"- {{level: Metadata, users: [u{i}], resources: [{{group: apps, resources: [r{i}]}}]}}\n"
        for i in range(rules)
    )
    return f"apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{body}".encode()


def calls(work: Callable[[], object]) -> int:
    """Return how many functions some work calls: what it costs, on any machine."""
    count = 0

    def count_call(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(count_call)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_loading_and_explaining_cost_in_proportion_to_the_rules() -> None:
    small, large = large_policy(100), large_policy(800)
    request = RequestAttributes(user="nobody", verb="get", is_resource_request=True)

    assert calls(lambda: load_policy(large)) < 10 * calls(lambda: load_policy(small))
    small_policy, policy = load_policy(small), load_policy(large)
    assert calls(lambda: policy.explain(request)) < 10 * calls(
        lambda: small_policy.explain(request)
    )
    assert policy.decide(request) == naive_decision(policy.document, request)
