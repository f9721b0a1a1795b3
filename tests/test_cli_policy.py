"""``kubewitness policy`` as users run it."""

import json
import os
import pty
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from command import COMMAND, run
from kubewitness.codec import decode
from kubewitness.policy import load_policy
from kubewitness.request import attributes_of
from vectors import DATA, cluster_log, recorded

HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"
GOOD = HEAD + "rules:\n- level: Metadata\n"
BAD = HEAD + (
    "omitStages: [requestReceived]\n"
    "rules:\n"
    "- level: metadata\n"
    "  verb: [get]\n"
    "- level: Request\n"
    "  resources:\n"
    "  - group: rbac.authorization.k8s.io/v1\n"
    "    verbs: [create]\n"
)
EXPLAIN = ("policy", "explain", "recommended", "--user", "bob", "-g", "system:authenticated")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    (tmp_path / "typo.yaml").write_text(GOOD + "  user: [bob]\n")
    return tmp_path


def test_check_says_everything_at_its_place(files: Path) -> None:
    done = run("policy", "check", "good.yaml", "bad.yaml", cwd=files)

    assert done.code == 1
    assert sorted(done.text.splitlines()) == [
        (
            'bad.yaml:10:5: rules[1].resources[0].verbs: unknown key "verbs"; '
            "it belongs to the rule, one level up"
        ),
        (
            'bad.yaml:3:14: omitStages[0]: unknown stage "requestReceived", did you mean '
            '"RequestReceived"?'
        ),
        'bad.yaml:5:10: rules[0].level: unknown level "metadata", did you mean "Metadata"?',
        'bad.yaml:6:3: rules[0].verb: unknown key "verb", did you mean "verbs"?',
        (
            'bad.yaml:9:12: rules[1].resources[0].group: "rbac.authorization.k8s.io/v1" carries a '
            'version; write "rbac.authorization.k8s.io"'
        ),
    ]


def test_check_of_good_policies_is_silent(files: Path) -> None:
    assert run("policy", "check", "good.yaml", cwd=files) == (0, b"", "")


def test_check_lenient_shows_what_it_drops(files: Path) -> None:
    done = run("policy", "check", "--lenient", "typo.yaml", cwd=files)

    assert done.code == 0
    assert done.text == (
        'typo.yaml:5:3: rules[0].user: unknown key "user", did you mean "users"? (dropped)\n'
    )
    assert run("policy", "check", "typo.yaml", cwd=files).code == 1


def test_check_as_json(files: Path) -> None:
    done = run("policy", "check", "-o", "json", "typo.yaml", "missing.yaml", cwd=files)

    assert done.code == 1
    assert json.loads(done.out) == {
        "dropped": [],
        "problems": [
            {
                "source": "typo.yaml",
                "line": 5,
                "column": 3,
                "field": "rules[0].user",
                "message": 'unknown key "user", did you mean "users"?',
            },
            {
                "source": "missing.yaml",
                "line": 0,
                "column": 0,
                "field": "",
                "message": "No such file or directory",
            },
        ],
    }


def test_odd_file_names_break_nothing(tmp_path: Path) -> None:
    for name in (b"\xff.yaml", b"new\nline.yaml"):
        (tmp_path / os.fsdecode(name)).write_text("oops")

    done = run("policy", "check", b"\xff.yaml", b"new\nline.yaml", cwd=tmp_path)
    assert done.text.count("\n") == 2
    assert "new\\nline.yaml:1:1: " in done.text
    assert run("policy", "check", "-o", "json", b"\xff.yaml", cwd=tmp_path).code == 1
    assert run("convert", "--to", "json", tmp_path).err.count("\n") == 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "policy.yaml:1:1: apiVersion: missing"),
        (b"- level: None\n", "policy.yaml:1:1: expected a mapping, found a list"),
        (b"\x7fELF\x02\x01\x01\0\0\0\xff\xfe", "policy.yaml:1:"),
        (b"\xff\xfe\xff", "policy.yaml:1:"),
        (b"rules: [", "policy.yaml:1:"),
        (b"\x1f\x8b\x08nonsense", "policy.yaml:1:"),
        ((HEAD + "rules:\n- level: metadata\n").encode(), 'did you mean "Metadata"?'),
        (b"[" * 100_000, "nested more than 50 levels deep"),
    ],
)
def test_bad_policies_are_one_clear_line(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_bytes(data)

    done = run("policy", "check", "policy.yaml", cwd=tmp_path)
    assert done.code == 1
    assert message in done.text
    assert done.text.count("\n") == 1

    used = run("policy", "evaluate", "policy.yaml", cwd=tmp_path)
    assert used.code == 1
    assert used.err == done.text


def test_a_directory_is_no_policy(tmp_path: Path) -> None:
    assert run("policy", "check", ".", cwd=tmp_path).text == ".: Is a directory\n"
    assert run("policy", "evaluate", ".", cwd=tmp_path).code == 2


def test_an_unknown_policy_names_those_there_are() -> None:
    done = run("policy", "evaluate", "strict")

    assert done.code == 2
    assert "everything, gce, metadata, recommended" in done.err


def test_evaluate_prints_a_line_an_event() -> None:
    data = recorded("all.events.jsonl")
    policy = load_policy((DATA / "conformance/features.policy.yaml").read_bytes())

    done = run("policy", "evaluate", str(DATA / "conformance/features.policy.yaml"), stdin=data)

    lines = [json.loads(line) for line in done.out.splitlines()]
    events = [decode(line) for line in data.split(b"\n")[:-1]]
    assert done.code == 0
    for line, event in zip(lines, events, strict=True):
        decision = policy.evaluate(attributes_of(event))
        assert line == {
            "level": decision.level,
            "omitStages": sorted(decision.omit_stages),
            "omitManagedFields": decision.omit_managed_fields,
            "rule": decision.rule,
        }
    assert {line["rule"] for line in lines} >= {0, 1, 2, None}


def test_evaluate_reads_text_logs_like_json_ones() -> None:
    """A text log does not say the resource, its URL does."""
    texts = {
        form: run("convert", "--to", form, stdin=recorded("seed.events.jsonl")).out
        for form in ("json", "legacy")
    }
    decided = {
        form: run("policy", "evaluate", "gce", stdin=text).out for form, text in texts.items()
    }
    assert decided["legacy"] == decided["json"]


def test_evaluate_goes_on_after_a_bad_event() -> None:
    lines = recorded("gce.events.jsonl").splitlines(keepends=True)[:4]

    done = run("policy", "evaluate", "gce", stdin=b"".join([*lines[:2], b"oops\n", *lines[2:]]))

    assert done.code == 1
    assert done.err == "-:3: not an audit event: 'oops'\n"
    assert len(done.out.splitlines()) == 4


def test_evaluate_decides_a_cluster_as_the_server_did() -> None:
    done = run("policy", "evaluate", "gce", stdin=cluster_log())

    levels = Counter(json.loads(line)["level"] for line in done.out.splitlines())
    recorded_levels = Counter(decode(line).level for line in cluster_log().split(b"\n")[:-1])
    assert levels == recorded_levels


def explained(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "-o", "json")
    assert done.code == 0, done.err
    document: dict[str, Any] = json.loads(done.out)
    return document


def test_explain_by_verb_and_by_path_agree() -> None:
    by_verb = explained(
        *EXPLAIN, "--verb", "get", "--resource", "pods/log", "-n", "a", "--name", "b"
    )
    by_path = explained(*EXPLAIN, "--path", "/api/v1/namespaces/a/pods/b/log")

    assert by_verb["decision"] == by_path["decision"]
    assert [rule["failed"] for rule in by_verb["rules"]] == [
        rule["failed"] for rule in by_path["rules"]
    ]


def test_explain_names_the_failed_condition_and_the_rule_that_decided(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        HEAD + "rules:\n"
        "- level: None\n"
        "  users: [alice]\n"
        "  verbs: [get, list]\n"
        "- level: Request\n"
        '  resources: [{group: "", resources: [secrets]}]\n'
        "- level: Metadata\n"
    )
    arguments = ("policy", "explain", str(tmp_path / "policy.yaml"), "--user", "bob")
    request = ("--verb", "get", "--resource", "secrets", "--namespace", "shop")

    text = run(*arguments, *request).text
    document = explained(*arguments, *request)

    assert document["decision"] == {
        "level": "Request",
        "omitStages": [],
        "omitManagedFields": False,
        "rule": 1,
        "line": 7,
    }
    assert [[failed["field"] for failed in rule["failed"]] for rule in document["rules"]] == [
        ["users"],
        [],
        [],
    ]
    assert 'users: needs one of [alice], found "bob"' in text
    assert "rule 1   line 7    Request         decides" in text
    assert "by rule 1" in text
    assert "policy.yaml:7" in text


def test_explain_says_which_group_is_forgotten() -> None:
    request = ("--verb", "get", "--resource", "pods")

    assert "add it with -g" in run("policy", "explain", "gce", "--user", "bob", *request).err
    assert run("policy", "explain", "metadata", "--user", "bob", *request).err == ""
    assert run("policy", "explain", "gce", *request).err == ""
    assert run(*EXPLAIN, *request).err == ""


def test_explain_an_event_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(recorded("all.events.jsonl"))

    done = run("policy", "explain", "gce", "--event", log, "--audit-id", "cm-create")

    assert done.code == 0
    assert "create configmaps" in done.text
    missing = run("policy", "explain", "gce", "--event", log, "--audit-id", "nobody")
    assert missing.code == 1
    assert 'no event whose auditID starts with "nobody"' in missing.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--verb", "get"),
        ("--resource", "pods"),
        ("--path", "/api", "--verb", "get"),
        ("--path", "no-slash"),
        ("--path", "/api/v1/watch"),
        ("--method", "POST", "--verb", "get", "--resource", "pods"),
        ("--path", "/api", "--name", "x"),
        ("--resource", "pods/log", "--subresource", "exec", "--verb", "get"),
        ("--event", "audit.log", "--verb", "get"),
        ("--audit-id", "x", "--path", "/api"),
    ],
)
def test_explain_needs_a_whole_request(arguments: tuple[str, ...]) -> None:
    done = run(*EXPLAIN, *arguments)

    assert done.code == 2
    assert "Error: " in done.err


def test_a_group_needs_a_user() -> None:
    done = run("policy", "explain", "gce", "-g", "ops", "--path", "/api")

    assert done.code == 2
    assert "-g needs --user" in done.err


def test_each_request_of_a_log_is_explained_once() -> None:
    first, second = (f'{{"auditID":"{name}","stage":"STAGE"}}\n' for name in "ab")
    log = "".join(
        each.replace("STAGE", stage)
        for stage in ("RequestReceived", "ResponseComplete")
        for each in (first, second)
    )
    assert (
        run("policy", "explain", "gce", "--event", "-", stdin=log.encode()).text.count("decision")
        == 2
    )


def test_what_clients_chose_cannot_forge_output() -> None:
    line = b'{"auditID":"x","stage":"Panic","user":{"username":"a\\nrequest  b\\u001b[31m"}}'

    done = run("policy", "explain", "gce", "--event", "-", stdin=line)

    assert done.text.count("\nrequest") == 0
    assert "\x1b" not in done.text


def test_bytes_that_are_no_text_are_escapes_in_json() -> None:
    log = recorded("gce.legacy.log").split(b"\n")[0].replace(b'user="', b'user="\\xff')

    done = run("policy", "explain", "gce", "--event", "-", "-o", "json", stdin=log)

    assert json.loads(done.out)["request"]["user"].startswith("\udcff")


def test_a_bundled_policy_can_be_checked() -> None:
    assert run("policy", "check", "metadata", "recommended") == (0, b"", "")


def test_list_and_show() -> None:
    names = [entry["name"] for entry in json.loads(run("policy", "list", "-o", "json").out)]

    assert names == ["everything", "gce", "metadata", "recommended"]
    for name in names:
        assert name in run("policy", "list").text
        assert load_policy(run("policy", "show", name).out).rules
    assert run("policy", "show", "nothing").code == 2


GREEN = b"\x1b[32m"


def in_terminal(*arguments: str, **environment: str) -> bytes:
    """Run the command with a terminal as its output, and return what it wrote there."""
    leader, follower = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    variables = {**inherited, "TERM": "xterm-256color", **environment}
    with subprocess.Popen([*COMMAND, *arguments], stdout=follower, env=variables) as process:
        os.close(follower)
        written = b""
        while piece := read_terminal(leader):
            written += piece
    os.close(leader)
    assert process.returncode == 0
    return written


def read_terminal(leader: int) -> bytes:
    try:
        return os.read(leader, 65536)
    except OSError:  # Linux says so when the other end is closed
        return b""


def test_colour_only_on_terminals() -> None:
    arguments = (*EXPLAIN, "--path", "/api/v1/pods")

    assert GREEN in in_terminal(*arguments)
    assert GREEN not in in_terminal(*arguments, NO_COLOR="1")
    assert b"\x1b" not in run(*arguments).out


COMMANDS = [
    ("policy", "check"),
    ("policy", "evaluate"),
    ("policy", "explain"),
    ("policy", "list"),
    ("policy", "show"),
    ("convert",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_and_the_exit_codes(command: tuple[str, ...]) -> None:
    done = run(*command, "--help")

    assert done.code == 0
    assert f"  kubewitness {' '.join(command)}" in done.text.partition("Example")[2]
    assert "Exit codes: 0 fine, 1 problems found, 2 wrong usage." in done.text
