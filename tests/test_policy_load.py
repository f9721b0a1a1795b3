"""Loading a policy: every mistake at its line and column, all at once, with what to write instead.

`MISTAKES` is the table to add to: a text after the two lines that every policy starts with, and
the problems without the name of the source.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from kubewitness.errors import PolicyError, Problem
from kubewitness.event import Level, Stage
from kubewitness.policy import GroupResources, Policy, bundled_policies, load_policy
from vectors import DATA

HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"  # a text below starts in line 3
RULE_KEYS = (
    "level, users, userGroups, verbs, resources, namespaces, nonResourceURLs, omitStages, "
    "omitManagedFields"
)
LEVELS = "None, Metadata, Request, RequestResponse"


def problems(text: str | bytes, *, lenient: bool = False) -> list[str]:
    """Return the problems of a refused policy, as they are printed, without the source."""
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(PolicyError) as refused:
        load_policy(data, "audit.yaml", lenient=lenient)
    lines = [str(problem) for problem in refused.value.problems]
    assert str(refused.value).split("\n") == lines
    assert all(line.startswith("audit.yaml:") for line in lines)
    return [line.removeprefix("audit.yaml:") for line in lines]


MISTAKES: dict[str, list[str]] = {
    # Keys that are nearly right, or right elsewhere.
    "rules:\n- level: None\n  verb: [get]\n": [
        '5:3: rules[0].verb: unknown key "verb", did you mean "verbs"?'
    ],
    "rules:\n- level: None\n- user: [a]\n  level: None\n": [
        '5:3: rules[1].user: unknown key "user", did you mean "users"?'
    ],
    "rules:\n- {level: None, group: [ops], usergroups: [a], groups: [b]}\n": [
        '4:17: rules[0].group: unknown key "group"; it belongs in an entry of "resources"',
        '4:31: rules[0].usergroups: unknown key "usergroups", did you mean "userGroups"?',
        '4:48: rules[0].groups: unknown key "groups", did you mean "userGroups"?',
    ],
    "Rules:\n- level: None\n": [
        '3:1: Rules: unknown key "Rules", did you mean "rules"?',
        "1:1: rules: a policy needs at least one rule",
    ],
    "rules:\n- Level: None\n": [
        '4:3: rules[0].Level: unknown key "Level", did you mean "level"?',
        f"4:3: rules[0].level: missing; one of {LEVELS}",
    ],
    "rules:\n- level: None\n  resources:\n  - group: apps\n    verbs: [get]\n": [
        (
            '7:5: rules[0].resources[0].verbs: unknown key "verbs"; '
            "it belongs to the rule, one level up"
        )
    ],
    "rules:\n- level: None\n  resources:\n  - group: apps\n    user: [a]\n": [
        (
            '7:5: rules[0].resources[0].user: unknown key "user"; '
            '"users" belongs to the rule, one level up'
        )
    ],
    "rules:\n- level: None\n  resources:\n  - {apiGroups: [apps], resources: [pods]}\n": [
        '6:6: rules[0].resources[0].apiGroups: unknown key "apiGroups", did you mean "group"?'
    ],
    "rules:\n- level: None\n  resourceNames: [a]\n": [
        (
            '5:3: rules[0].resourceNames: unknown key "resourceNames"; '
            'it belongs in an entry of "resources"'
        )
    ],
    "rules:\n- level: None\nusers: [a]\n": [
        '5:1: users: unknown key "users"; it belongs in a rule of "rules"'
    ],
    "rules:\n- level: None\n  metadata: {}\n": [
        '5:3: rules[0].metadata: unknown key "metadata"; it belongs at the top level'
    ],
    "rules:\n- level: None\n  colour: blue\n": [
        f'5:3: rules[0].colour: unknown key "colour"; known here: {RULE_KEYS}'
    ],
    "omitStage: []\nrules:\n- level: None\n": [
        '3:1: omitStage: unknown key "omitStage", did you mean "omitStages"?'
    ],
    # Keys twice.
    "rules:\n- level: None\n  users: [a]\n  level: Metadata\n  level: Request\n": [
        '6:3: rules[0].level: duplicate key "level", already set in line 4',
        '7:3: rules[0].level: duplicate key "level", already set in line 6',
    ],
    "rules:\n- level: None\nrules:\n- level: Full\n": [
        '5:1: rules: duplicate key "rules", already set in line 3',
        f'6:10: rules[0].level: unknown level "Full"; one of {LEVELS}',
    ],
    "rules:\n- level: None\n  colour: 1\n  colour: 2\n": [
        '6:3: rules[0].colour: duplicate key "colour", already set in line 5',
        f'6:3: rules[0].colour: unknown key "colour"; known here: {RULE_KEYS}',
    ],
    # Levels and stages.
    "rules:\n- level: metadata\n": [
        '4:10: rules[0].level: unknown level "metadata", did you mean "Metadata"?'
    ],
    "rules:\n- level: Requestresponse\n": [
        '4:10: rules[0].level: unknown level "Requestresponse", did you mean "RequestResponse"?'
    ],
    "rules:\n-   users: [a]\n- level: ''\n-\n- level: ~\n": [
        f"4:5: rules[0].level: missing; one of {LEVELS}",
        f"5:10: rules[1].level: missing; one of {LEVELS}",
        f"6:2: rules[2].level: missing; one of {LEVELS}",
        f"7:10: rules[3].level: missing; one of {LEVELS}",
    ],
    "omitStages: [Started, Panic]\nrules:\n- {level: None, omitStages: [panic, '']}\n": [
        '3:14: omitStages[0]: unknown stage "Started", did you mean "ResponseStarted"?',
        '5:30: rules[0].omitStages[0]: unknown stage "panic", did you mean "Panic"?',
        (
            '5:37: rules[0].omitStages[1]: unknown stage ""; one of '
            "RequestReceived, ResponseStarted, ResponseComplete, Panic"
        ),
    ],
    # YAML read something else than was meant.
    "rules:\n- level: None\n  users: [on, ok, 42]\n": [
        (
            "5:11: rules[0].users[0]: expected a string, found a boolean (on); "
            'write "on" in quotes if a string is meant'
        ),
        (
            "5:19: rules[0].users[2]: expected a string, found a number (42); "
            'write "42" in quotes if a string is meant'
        ),
    ],
    "rules:\n- level: None\n  users: hal\n": [
        "5:10: rules[0].users: expected a list, found a string (hal); write [hal]"
    ],
    "rules:\n- level: None\n  users: [[a], {b: c}]\n": [
        "5:11: rules[0].users[0]: expected a string, found a list",
        "5:16: rules[0].users[1]: expected a string, found a mapping",
    ],
    "rules:\n- level: None\n  resources: {group: apps}\n": [
        "5:14: rules[0].resources: expected a list, found a mapping; make it the one item of a list"
    ],
    "rules:\n- level: None\n  resources: [pods]\n": [
        (
            "5:15: rules[0].resources[0]: expected a mapping, found a string (pods); "
            'an example: {group: "", resources: [pods]}'
        )
    ],
    "rules:\n- Metadata\n": [
        (
            "4:3: rules[0]: expected a mapping, found a string (Metadata); "
            "an example: {level: Metadata}"
        )
    ],
    "rules: {level: None}\n": [
        "3:8: rules: expected a list, found a mapping; make it the one item of a list"
    ],
    "omitManagedFields: 'true'\nrules:\n- {level: None, omitManagedFields: 1}\n": [
        (
            "3:20: omitManagedFields: expected a boolean, found a string (true); "
            "write true or false, without quotes"
        ),
        (
            "5:36: rules[0].omitManagedFields: expected a boolean, found a number (1); "
            "write true or false, without quotes"
        ),
    ],
    "metadata: {name: 3, labels: {a: yes, b: x}, nam: y}\nrules:\n- level: None\n": [
        '3:45: metadata.nam: unknown key "nam", did you mean "name"?',
        (
            "3:18: metadata.name: expected a string, found a number (3); "
            'write "3" in quotes if a string is meant'
        ),
        (
            "3:33: metadata.labels.a: expected a string, found a boolean (yes); "
            'write "yes" in quotes if a string is meant'
        ),
    ],
    # Groups.
    "rules:\n- level: None\n  resources:\n  - group: rbac.authorization.k8s.io/v1\n": [
        (
            '6:12: rules[0].resources[0].group: "rbac.authorization.k8s.io/v1" carries a version; '
            'write "rbac.authorization.k8s.io"'
        )
    ],
    "rules:\n- level: None\n  resources: [{group: batch/v1beta1}, {group: v1/pods}]\n": [
        '5:23: rules[0].resources[0].group: "batch/v1beta1" carries a version; write "batch"',
        (
            '5:47: rules[0].resources[1].group: "v1/pods" is a version and a resource; '
            'write the group alone, "" for the core group'
        ),
    ],
    "rules:\n- level: None\n  resources: [{group: Apps}, {group: '*.x'}]\n": [
        '5:23: rules[0].resources[0].group: "Apps" is not an API group; write "apps"',
        (
            '5:38: rules[0].resources[1].group: "*.x" is not an API group: '
            'lower-case letters, digits, "-" and "." only, or "*"'
        ),
    ],
    f"rules:\n- level: None\n  resources: [{{group: {'a' * 254}}}]\n": [
        "5:23: rules[0].resources[0].group: longer than 253 characters"
    ],
    "rules:\n- level: None\n  resources:\n  - {group: apps, resourceNames: [a]}\n": [
        '6:34: rules[0].resources[0].resourceNames: names need "resources" beside them'
    ],
    # URLs.
    "rules:\n- level: None\n  nonResourceURLs: [metrics, '/a/*/b', '*', '/ok*', '**']\n": [
        (
            '5:21: rules[0].nonResourceURLs[0]: "metrics" must start with "/" '
            '(or be "*" for every path)'
        ),
        '5:30: rules[0].nonResourceURLs[1]: "/a/*/b": "*" may only be the last character',
        '5:53: rules[0].nonResourceURLs[4]: "**" must start with "/" (or be "*" for every path)',
        '5:53: rules[0].nonResourceURLs[4]: "**": "*" may only be the last character',
    ],
    "rules:\n- level: None\n  nonResourceURLs: [/a]\n  namespaces: [b]\n": [
        (
            "5:20: rules[0].nonResourceURLs: a rule is for resources or for other URLs, "
            "not for both; make two rules"
        )
    ],
    # No rules at all.
    "": ["1:1: rules: a policy needs at least one rule"],
    "rules:\n": ["3:7: rules: a policy needs at least one rule"],
    "rules: []\n": ["3:8: rules: a policy needs at least one rule"],
    # What the form spoils is not judged a second time.
    "rules: everything\nomitStages: [1]\n": [
        "3:8: rules: expected a list, found a string (everything)",
        (
            "4:14: omitStages[0]: expected a string, found a number (1); "
            'write "1" in quotes if a string is meant'
        ),
    ],
    "rules:\n- level: 2\n  resources: [{group: [a], resources: x, resourceNames: [z]}]\n": [
        (
            "4:10: rules[0].level: expected a string, found a number (2); "
            'write "2" in quotes if a string is meant'
        ),
        "5:23: rules[0].resources[0].group: expected a string, found a list",
        "5:39: rules[0].resources[0].resources: expected a list, found a string (x); write [x]",
    ],
    # Merge keys and keys that are none.
    "rules:\n- &a {level: None, users: [x]}\n- {level: Request, <<: *a}\n": [
        '5:20: rules[1].level: "<<" sets "level" of line 5 anew; put "<<" before it'
    ],
    "rules:\n- {level: None, <<: 3}\n- {level: None, <<: [{users: [a]}, [b]]}\n": [
        '4:21: rules[0]: "<<" needs a mapping, found a number',
        '5:36: rules[1]: "<<" needs a mapping, found a list',
    ],
    "rules:\n- {level: None, ? [a] : 1, ~: 2, ? {b: c} : 3}\n": [
        "4:19: rules[0]: a key must be a string, found a list",
        "4:28: rules[0]: a key must be a string, found nothing",
        "4:36: rules[0]: a key must be a string, found a mapping",
    ],
    # Not YAML.
    "rules:\n- level: None\n   users: [a]\n": [
        "5:9: not YAML: mapping values are not allowed here"
    ],
    "rules:\n\t- level: None\n": [
        "4:1: not YAML: found character '\\t' that cannot start any token"
    ],
    "rules:\n- level: None\n  users: [é, a\x01b]\n": [
        "5:15: not YAML: it may not hold the character U+0001"
    ],
    "rules:\n- &a {level: None, users: *a}\n": [
        "4:27: not YAML: an alias within what it stands for"
    ],
    "rules: " + "[" * 1000: ["3:57: not YAML: nested more than 50 levels deep"],
    'rules: ["\\UFFFFFFFF"]\n': ["3:12: not YAML: an escape or a version that is out of range"],
    'rules: ["\\ud83d\\ude00"]\n': [
        '3:9: not YAML: half a character as an escape; write it whole, as "\\U0001F600"'
    ],
    "rules: [!!binary '%%']\n": ["3:9: not YAML: !!binary text that is not base64"],
    "rules: *nowhere\n": ["3:8: not YAML: found undefined alias 'nowhere'"],
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_pointed_at(text: str) -> None:
    assert problems(HEAD + text) == MISTAKES[text]


WHOLE_FILES: dict[str | bytes, list[str]] = {
    "": ['1:1: apiVersion: missing; a policy starts with "apiVersion: audit.k8s.io/v1"'],
    "# todo\n---\n": [
        '3:1: apiVersion: missing; a policy starts with "apiVersion: audit.k8s.io/v1"'
    ],
    "\n\n- level: None\n": ["3:1: expected a mapping, found a list"],
    "policy\n": ["1:1: expected a mapping, found a string (policy)"],
    "kind: Policy\nrules:\n- level: none\n": [
        '1:1: apiVersion: missing; a policy starts with "apiVersion: audit.k8s.io/v1"',
        '3:10: rules[0].level: unknown level "none", did you mean "None"?',
    ],
    "apiVersion: audit.k8s.io/v1\nkind: ''\n": ["1:1: rules: a policy needs at least one rule"],
    "apiVersion: audit.k8s.io/v1beta1\nkind: policy\nrules:\n- level: None\n": [
        '1:13: apiVersion: "audit.k8s.io/v1beta1" is not supported, write "audit.k8s.io/v1"',
        '2:7: kind: "policy" is not a policy, write "Policy"',
    ],
    "apiVersion: v1\nkind: ConfigMap\ndata: {}\n": [
        '3:1: data: unknown key "data", did you mean "metadata"?',
        '1:13: apiVersion: "v1" is not supported, write "audit.k8s.io/v1"',
        '2:7: kind: "ConfigMap" is not a policy, write "Policy"',
    ],
    '{"apiVersion": "audit.k8s.io/v1",\n "kind": "Policy",\n\t"rules": [\n\t{"level": "none"}]}': [
        '4:12: rules[0].level: unknown level "none", did you mean "None"?'
    ],
    '{"apiVersion": "audit.k8s.io/v1",\n "é": }': [
        '2:7: not JSON, as which a text that starts with "{" is read: invalid character'
    ],
    '{"rules": [': [
        '1:12: not JSON, as which a text that starts with "{" is read: Input data was truncated'
    ],
    " {apiVersion: audit.k8s.io/v1}": [
        '1:3: not JSON, as which a text that starts with "{" is read: object keys must be strings'
    ],
    b"apiVersion: audit.k8s.io/v1\nx: \xc3\xa9\xff\n": [
        "2:5: not text in UTF-8: invalid start byte"
    ],
    b"\xff\xfea": ["1:1: not text in UTF-16: truncated data"],
    b"a\x00": ["1:2: not YAML: it may not hold the character U+0000"],
}


@pytest.mark.parametrize("text", WHOLE_FILES)
def test_a_file_that_is_no_policy(text: str | bytes) -> None:
    assert problems(text) == WHOLE_FILES[text]


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
