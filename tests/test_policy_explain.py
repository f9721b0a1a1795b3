"""An explanation is the decision with its reasons: the two never disagree."""

import pytest
from hypothesis import given, settings

from kubewitness.event import Level
from kubewitness.policy import GroupResources, Policy, PolicyDocument, Rule, load_policy
from kubewitness.request import RequestAttributes
from test_policy_naive import documents, naive_decision, naive_matches, requests


@settings(max_examples=400)
@given(documents(), requests())
def test_an_explanation_agrees_with_the_decision_and_with_the_naive_matcher(
    document: PolicyDocument, request: RequestAttributes
) -> None:
    explanation = Policy(document).explain(request)
    decision = explanation.decision

    assert explanation.request == request
    assert decision == naive_decision(document, request)
    assert [trace.rule for trace in explanation.rules] == list(range(len(document.rules)))
    for rule, trace in zip(document.rules, explanation.rules, strict=True):
        assert trace.level == rule.level
        assert trace.matches == (not trace.failed) == naive_matches(rule, request)
    earlier = explanation.rules[: decision.rule]
    assert all(trace.failed for trace in earlier)
    if decision.rule is not None:
        assert not explanation.rules[decision.rule].failed


@given(documents(), requests())
def test_a_failed_condition_is_one_the_rule_sets(
    document: PolicyDocument, request: RequestAttributes
) -> None:
    for rule, trace in zip(document.rules, Policy(document).explain(request).rules, strict=True):
        set_ = {
            "users": rule.users,
            "userGroups": rule.user_groups,
            "verbs": rule.verbs,
            "namespaces": rule.namespaces,
            "resources": rule.resources,
            "nonResourceURLs": rule.non_resource_urls,
        }
        fields = [failed.field for failed in trace.failed]
        assert all(set_[field] for field in fields)
        assert fields == [field for field in set_ if field in fields]


TEXT = b"""\
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
  - level: None
    users: [bob]

  # a comment
  - level: Request
    verbs: [create]
  - level: Metadata
"""


def test_an_explanation_names_the_rule_and_its_line() -> None:
    explanation = load_policy(TEXT).explain(RequestAttributes(user="alice", verb="create"))

    assert explanation.decision.rule == 1
    assert explanation.line == 8
    assert [trace.line for trace in explanation.rules] == [4, 8, 10]
    assert [trace.matches for trace in explanation.rules] == [False, True, True]
    assert [str(failed) for failed in explanation.rules[0].failed] == [
        'users: needs one of [bob], found "alice"'
    ]


def test_an_explanation_without_a_matching_rule_has_no_line() -> None:
    policy = Policy(PolicyDocument((Rule(Level.METADATA, users=("bob",), line=7),)))
    explanation = policy.explain(RequestAttributes(user="alice"))

    assert explanation.decision.rule is None
    assert explanation.line == 0


POD_LOG = RequestAttributes(
    user="alice",
    groups=("dev", "two words"),
    verb="get",
    is_resource_request=True,
    resource="pods",
    subresource="log",
    namespace="blue",
    name="web",
    path="/api/v1/namespaces/blue/pods/web/log",
)
HEALTH = RequestAttributes(user="alice", verb="get", path="/healthz")
NOBODY = RequestAttributes(verb="get", path="/a\x1b[2J\u202e")

SENTENCES = [
    (Rule(Level.NONE, users=("bob",)), POD_LOG, 'users: needs one of [bob], found "alice"'),
    (Rule(Level.NONE, users=("bob",)), NOBODY, "users: needs one of [bob], found no user"),
    (
        Rule(Level.NONE, user_groups=("ops", "")),
        POD_LOG,
        'userGroups: needs one of [ops, ""], found groups [dev, "two words"]',
    ),
    (
        Rule(Level.NONE, user_groups=("ops",)),
        HEALTH,
        "userGroups: needs one of [ops], found a user without groups",
    ),
    (
        Rule(Level.NONE, user_groups=("ops",)),
        NOBODY,
        "userGroups: needs one of [ops], found no user",
    ),
    (
        Rule(Level.NONE, verbs=("create", "*")),
        POD_LOG,
        'verbs: needs one of [create, *], found "get"',
    ),
    (
        Rule(Level.NONE, namespaces=("",)),
        POD_LOG,
        'namespaces: needs one of [""], found "blue"',
    ),
    (
        Rule(Level.NONE, namespaces=("blue",)),
        HEALTH,
        'namespaces: needs one of [blue], found path "/healthz"',
    ),
    (
        Rule(
            Level.NONE,
            resources=(
                GroupResources("", ("pods", "*/status"), ("web",)),
                GroupResources("apps"),
            ),
        ),
        POD_LOG,
        (
            'resources: needs one of ["" [pods, */status] named [web], apps], '
            'found pods/log of group "" named "web"'
        ),
    ),
    (
        Rule(Level.NONE, resources=(GroupResources("*"),)),
        HEALTH,
        'resources: needs one of [*], found path "/healthz"',
    ),
    (
        Rule(Level.NONE, non_resource_urls=("/version", "/livez*")),
        HEALTH,
        'nonResourceURLs: needs one of [/version, /livez*], found path "/healthz"',
    ),
    (
        Rule(Level.NONE, non_resource_urls=("*",)),
        POD_LOG,
        "nonResourceURLs: needs one of [*], found a resource",
    ),
    (
        Rule(Level.NONE, non_resource_urls=("/b",)),
        NOBODY,
        r'nonResourceURLs: needs one of [/b], found path "/a\x1b[2J\u202e"',
    ),
]


@pytest.mark.parametrize(("rule", "request_", "sentence"), SENTENCES)
def test_a_failed_condition_is_a_sentence(
    rule: Rule, request_: RequestAttributes, sentence: str
) -> None:
    explanation = Policy(PolicyDocument((rule,))).explain(request_)

    assert [str(failed) for failed in explanation.rules[0].failed] == [sentence]


def test_every_failed_condition_of_a_rule_is_named() -> None:
    rule = Rule(
        Level.NONE,
        users=("bob",),
        user_groups=("ops",),
        verbs=("list",),
        namespaces=("red",),
        resources=(GroupResources("apps"),),
    )
    explanation = Policy(PolicyDocument((rule,))).explain(POD_LOG)

    assert [failed.field for failed in explanation.rules[0].failed] == [
        "users",
        "userGroups",
        "verbs",
        "namespaces",
        "resources",
    ]
