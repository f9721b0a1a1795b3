"""Loading a policy: all problems at once, strict and lenient, YAML and JSON, what is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from kubewitness.errors import PolicyError, Problem
from kubewitness.event import Level, Stage
from kubewitness.policy import GroupResources, Policy, bundled_policies, load_policy
from test_policy_mistakes import HEAD, LEVELS, RULE_KEYS, problems
from vectors import DATA


def test_all_problems_are_reported_at_once() -> None:
    text = HEAD + (
        "omitStages: [Begin]\n"
        "oops: 1\n"
        "rules:\n"
        "- level: Full\n"
        "  user: [a]\n"
        "  verbs: [get, off]\n"
        "- users: [u]\n"
        "  users: [v]\n"
    )

    assert problems(text) == [
        (
            '4:1: oops: unknown key "oops"; known here: '
            "apiVersion, kind, metadata, rules, omitStages, omitManagedFields"
        ),
        '7:3: rules[0].user: unknown key "user", did you mean "users"?',
        '10:3: rules[1].users: duplicate key "users", already set in line 9',
        (
            "8:16: rules[0].verbs[1]: expected a string, found a boolean (off); "
            'write "off" in quotes if a string is meant'
        ),
        (
            '3:14: omitStages[0]: unknown stage "Begin"; one of '
            "RequestReceived, ResponseStarted, ResponseComplete, Panic"
        ),
        f'6:10: rules[0].level: unknown level "Full"; one of {LEVELS}',
        f"9:3: rules[1].level: missing; one of {LEVELS}",
    ]


def test_a_problem_is_data_with_its_place() -> None:
    with pytest.raises(PolicyError) as refused:
        load_policy(f"{HEAD}rules:\n- level: none\n".encode(), "-")

    assert refused.value.problems == (
        Problem("-", 4, 10, "rules[0].level", 'unknown level "none", did you mean "None"?'),
    )


def test_lenient_loading_drops_what_strict_loading_refuses_and_says_so() -> None:
    text = HEAD + (
        "rulez: []\nrules:\n- level: None\n  user: [a]\n  level: Metadata\n"
        "  resources:\n  - {group: apps, verbs: [get]}\n"
    )
    policy = load_policy(text.encode(), lenient=True)

    assert policy.rules[0].level == Level.METADATA
    assert policy.rules[0].users == ()
    assert policy.rules[0].resources == (GroupResources("apps"),)
    assert [f"policy:{line}" for line in problems(text)] == list(map(str, policy.dropped))
    assert [(problem.line, problem.field) for problem in policy.dropped] == [
        (3, "rulez"),
        (7, "rules[0].level"),
        (6, "rules[0].user"),
        (9, "rules[0].resources[0].verbs"),
    ]


def test_lenient_loading_still_refuses_the_rest_and_does_not_repeat_what_it_dropped() -> None:
    assert problems(HEAD + "oops: 1\nrules:\n- {level: None, user: [a]}\n- {}\n", lenient=True) == [
        f"6:3: rules[1].level: missing; one of {LEVELS}"
    ]


def test_lenient_loading_does_not_look_at_a_value_that_a_later_one_replaces() -> None:
    text = f"{HEAD}rules:\n- level: None\n  users: [1]\n  users: [a]\n  verbs: [get]\n  verbs: ~\n"
    policy = load_policy(text.encode(), lenient=True)

    assert policy.rules[0].users == ("a",)
    assert policy.rules[0].verbs == ()


def test_a_strict_policy_has_dropped_nothing() -> None:
    assert load_policy(f"{HEAD}rules:\n- level: None\n".encode()).dropped == ()


FULL = """\
apiVersion: audit.k8s.io/v1
kind: Policy
metadata:
  name: full
  labels: {a: b}
  creationTimestamp: null
omitStages: [RequestReceived]
omitManagedFields: yes
rules:

  - level: RequestResponse
    users: [alice, 'on', "", ~]
    userGroups: [ops]
    verbs: [get]
    resources:
      - group: apps
        resources: [deployments, "*/status"]
        resourceNames: [one]
      - group: ""
    namespaces: ["", kube-system]
    omitStages: [Panic, Panic]
    omitManagedFields: off
  - {level: None, nonResourceURLs: [/healthz*]}
"""


def assert_is_full(policy: Policy) -> None:
    document = policy.document
    assert document.omit_stages == (Stage.REQUEST_RECEIVED,)
    assert document.omit_managed_fields is True
    first, second = policy.rules
    assert first.level is Level.REQUEST_RESPONSE
    assert first.users == ("alice", "on", "", "")
    assert first.user_groups == ("ops",)
    assert first.verbs == ("get",)
    assert first.resources == (
        GroupResources("apps", ("deployments", "*/status"), ("one",)),
        GroupResources(),
    )
    assert first.namespaces == ("", "kube-system")
    assert first.omit_stages == (Stage.PANIC, Stage.PANIC)
    assert first.omit_managed_fields is False
    assert second.non_resource_urls == ("/healthz*",)
    assert second.omit_managed_fields is None


def test_every_field_is_read() -> None:
    policy = load_policy(FULL.encode())

    assert_is_full(policy)
    assert [rule.line for rule in policy.rules] == [11, 23]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-bom", "crlf"])
def test_a_policy_may_be_in_any_encoding_of_yaml(encoding: str) -> None:
    data = {
        "utf-8-sig": FULL.encode("utf-8-sig"),
        "utf-16": FULL.encode("utf-16"),
        "utf-16-le-bom": b"\xfe\xff" + FULL.encode("utf-16-be"),
        "crlf": FULL.replace("\n", "\r\n").encode(),
    }[encoding]
    policy = load_policy(data)

    assert_is_full(policy)
    assert [rule.line for rule in policy.rules] == [11, 23]


def as_json(**more: Any) -> dict[str, Any]:
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", **more}


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_is_read_with_its_positions(indent: int | str | None) -> None:
    rules = [
        {"level": "None", "users": ["on", "1", "é😀\u2028\x7f/\"'\\"], "verbs": None},
        {"level": "Metadata", "omitManagedFields": True, "resources": [{"group": ""}]},
    ]
    text = json.dumps(as_json(rules=rules), indent=indent)
    policy = load_policy(b"\n" + text.encode())

    assert policy.rules[0].users == ("on", "1", "é😀\u2028\x7f/\"'\\")
    assert policy.rules[1].omit_managed_fields is True
    assert [rule.line for rule in policy.rules] == ([6, 15] if indent else [2, 2])
    raw = json.dumps(as_json(rules=rules), ensure_ascii=False)
    assert load_policy(raw.encode()).document.rules[0].users == policy.rules[0].users


def test_json_allows_what_yaml_does_not() -> None:
    annotations = {"k" * 2000: "v", "<<": "x"}
    data = json.dumps(as_json(metadata={"annotations": annotations}, rules=[{"level": "None"}]))
    spread = data.replace('": ', '"\n\t:\n\t')

    assert load_policy(spread.encode()).rules[0].level is Level.NONE


def test_only_the_first_document_counts() -> None:
    policy = load_policy(f"---\n{HEAD}rules:\n- level: None\n---\nkind: [\n".encode())

    assert policy.rules[0].level is Level.NONE


def test_rules_may_share_by_anchor_and_alias() -> None:
    text = HEAD + (
        "rules:\n"
        "- &a {level: None, users: &u [x]}\n"
        "- {level: Metadata, users: *u}\n"
        "- *a\n"
        "- &a {level: Request}\n"
        "- *a\n"
    )
    policy = load_policy(text.encode())

    assert [rule.level for rule in policy.rules] == ["None", "Metadata", "None", *["Request"] * 2]
    assert [rule.users for rule in policy.rules] == [("x",), ("x",), ("x",), (), ()]
    assert [rule.line for rule in policy.rules] == [4, 5, 4, 7, 7]


def test_a_merged_mapping_may_be_overridden_below() -> None:
    text = HEAD + (
        "rules:\n"
        "- &a {level: None, users: [x], verbs: [get]}\n"
        "- &b {level: Request, users: [w]}\n"
        "- {<<: *a, level: Metadata}\n"
        "- {<<: [*b, *a], namespaces: [z]}\n"
        "- {<<: {<<: *a, verbs: [list]}}\n"
    )
    rules = load_policy(text.encode()).rules

    assert (rules[2].level, rules[2].users) == (Level.METADATA, ("x",))
    assert (rules[3].level, rules[3].users) == (Level.REQUEST, ("w",))
    assert (rules[3].verbs, rules[3].namespaces) == (("get",), ("z",))
    assert (rules[4].level, rules[4].verbs) == (Level.NONE, ("list",))


def test_lenient_loading_merges_where_the_merge_stands_as_the_api_server_does() -> None:
    text = f"{HEAD}rules:\n- &a {{level: None}}\n- {{level: Request, <<: *a}}\n"
    policy = load_policy(text.encode(), lenient=True)

    assert policy.rules[1].level is Level.NONE
    assert len(policy.dropped) == 1


def test_a_quoted_merge_key_is_a_key() -> None:
    assert problems(f"{HEAD}rules:\n- {{level: None, '<<': {{}}}}\n") == [
        f'4:17: rules[0].<<: unknown key "<<"; known here: {RULE_KEYS}'
    ]


def test_tagged_scalars_are_what_the_tag_says_if_they_can_be() -> None:
    text = (
        HEAD + "omitManagedFields: !!bool 'yes'\nrules:\n- {level: !!str None, users: [!!null ~]}\n"
    )
    policy = load_policy(text.encode())

    assert policy.document.omit_managed_fields is True
    assert policy.rules[0].users == ("",)
    assert problems(HEAD + "omitManagedFields: !!bool maybe\nrules:\n- level: !!float None\n") == [
        (
            "3:20: omitManagedFields: expected a boolean, found a string (maybe); "
            "write true or false, without quotes"
        ),
        (
            "5:10: rules[0].level: expected a string, found a number (None); "
            'write "None" in quotes if a string is meant'
        ),
    ]


def test_a_message_holds_neither_control_characters_nor_a_megabyte() -> None:
    long = "x" * 1_000_000
    text = (
        f'{HEAD}"a\\e[2J\\n": 1\n{"k" * 1000}: 1\n'
        f'rules:\n- {{level: "{long}", users: "{long}\\u202e"}}\n'
    )
    lines = problems(text)

    assert len(lines) == 4
    assert lines[0].startswith(r'3:1: a\x1b[2J\n: unknown key "a\x1b[2J\n"; known here')
    assert all(line.isprintable() and len(line) < 400 for line in lines)


@pytest.mark.parametrize(
    "path", sorted((DATA / "conformance").glob("*.yaml")), ids=lambda p: p.name
)
def test_the_recorded_policies_load_strictly(path: Path) -> None:
    policy = load_policy(path.read_bytes(), path.name)

    assert policy.source == path.name
    lines = path.read_text().split("\n")
    assert all(lines[rule.line - 1].startswith(("- level", "- {level")) for rule in policy.rules)


@pytest.mark.parametrize("bundled", bundled_policies(), ids=lambda bundled: bundled.name)
def test_a_rule_knows_its_line(bundled: Any) -> None:
    lines = bundled.data.decode().split("\n")

    for rule in load_policy(bundled.data).rules:
        assert lines[rule.line - 1].lstrip().startswith(f"- level: {rule.level}")
