"""Every mistake at its line and column, with what to write instead.

`MISTAKES` is the table to add to: a text after the two lines that every policy starts with, and
the problems without the name of the source. `WHOLE_FILES` are texts that are no policy at all.
"""

import pytest

from kubewitness.errors import PolicyError
from kubewitness.policy import load_policy

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
        '5:10: rules[0].users: expected a list, found a string (hal); write ["hal"]'
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
        '5:39: rules[0].resources[0].resources: expected a list, found a string (x); write ["x"]',
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
