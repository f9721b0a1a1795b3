"""``kubewitness options``, and commands that have all audit flags, as users run them."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from command import COMMAND, ENVIRONMENT, Outcome, run
from kubewitness.options import FLAGS, reference

POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n"
KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- {name: a, cluster: {server: "https://audit.example.com/k8s"}}
contexts:
- {name: a, context: {cluster: a, user: ""}}
current-context: a
"""
MANIFEST = """\
spec:
  containers:
  - command:
    - kube-apiserver
    - --v=2
    - --audit-policy-file=policy.yaml
    - --audit-log-path=logs/audit.log
    - --audit-webhook-config-file=webhook.yaml
    image: kube-apiserver
"""
CHECK = ("options", "check")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "webhook.yaml").write_text(KUBECONFIG)
    return tmp_path


def names_in(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))


def report(*arguments: str, code: int = 0) -> Any:
    done = run(*CHECK, "-o", "json", "--", *arguments)
    assert (done.code, done.err) == (code, "")
    return json.loads(done.out)


def test_check_says_what_each_flag_means_and_what_they_come_to() -> None:
    done = run(
        *CHECK, "--", "kube-apiserver", "--v=2", "--audit-policy-file=/p", "--audit-log-path", "/x",
        "--audit-log-maxage=0x1e", "--audit-log-maxsize=9", "--secure-port", "6443", "--v=3",
    )  # fmt: skip

    assert (done.code, done.err) == (0, "")
    assert done.text.splitlines() == [
        "--audit-policy-file=/p",
        "    File with the audit policy: what is recorded. Empty: nothing is.",
        "--audit-log-path=/x",
        '    File that events are written to, a line each; "-" is standard output. Empty: no log.',
        "--audit-log-maxage=30",
        "    Days that rotated files are kept, by the time in their names; 0 keeps them all.",
        "--audit-log-maxsize=9",
        "    Megabytes (of 1048576 bytes) at which the file is rotated; 0 never rotates it.",
        "",
        "Backends: ignoreErrors<log>",
        "    The policy /p decides what is recorded.",
        "    Events are written to the file /x, in the format json.",
        "    Each request waits until its events are written.",
        "    It is served even when its first event cannot be written.",
        "    The file is rotated at 9 MB; at most 100 rotated files are kept, for 30 days at most.",
        "",
        "not looked at: --v, --secure-port",
    ]


def test_check_says_everything_that_is_wrong() -> None:
    done = run(*CHECK, "--", "--audit-log-path=/x", "--audit-log-maxage=-1", "--audit-lg-path=/y")

    assert done.code == 2
    assert "A server does not start with these." in done.text
    assert "Backends" not in done.text
    assert done.err.splitlines() == [
        "error: --audit-lg-path: no such flag, did you mean --audit-log-path?",
        "error: --audit-log-maxage: -1 is negative; 0 keeps rotated files for ever",
    ]


def test_warnings_do_not_fail_the_check() -> None:
    done = run(*CHECK, "--", "--audit-log-path=/x")

    assert done.code == 0
    assert done.err.splitlines() == [
        "warning: --audit-policy-file: no policy file is given, so nothing is recorded"
    ]


@pytest.mark.parametrize(
    ("argument", "note"),
    [
        ("--audit-webhook-max-in-flight=3", "kube-apiserver does not have this flag."),
        ("--audit-shutdown-timeout=3s", "kube-apiserver does not have this flag."),
        ("--audit-log-format=two-line", "kube-apiserver does not have this format."),
    ],
)
def test_what_kube_apiserver_has_not_is_noted(argument: str, note: str) -> None:
    done = run(*CHECK, "--", argument, "--audit-log-path=/x")

    assert (done.code, done.text.count(note)) == (0, 1)
    (found,) = [each for each in report(argument)["flags"] if not each["kubeApiserver"]]
    assert argument == f"{found['flag']}={found['shown']}"


def test_check_for_programs() -> None:
    found = report("--audit-log-path=/x", "--audit-webhook-batch-max-wait=5s", "--v=2", "word")

    assert found == {
        "flags": [
            {
                "flag": "--audit-log-path",
                "value": "/x",
                "shown": "/x",
                "help": next(each.help for each in FLAGS if each.name == "audit-log-path"),
                "kubeApiserver": True,
                "origin": {"source": "--audit-log-path", "line": 0, "column": 0, "field": ""},
            },
            {
                "flag": "--audit-webhook-batch-max-wait",
                "value": 5.0,
                "shown": "5s",
                "help": next(each.help for each in FLAGS if each.name.endswith("k-batch-max-wait")),
                "kubeApiserver": True,
                "origin": {
                    "source": "--audit-webhook-batch-max-wait",
                    "line": 0,
                    "column": 0,
                    "field": "",
                },
            },
        ],
        "ignored": ["--v=2"],
        "composition": "ignoreErrors<log>",
        "description": found["description"],
        "warnings": [
            {
                "source": "--audit-policy-file",
                "line": 0,
                "column": 0,
                "field": "",
                "message": "no policy file is given, so nothing is recorded",
            },
            {
                "source": "--audit-webhook-batch-max-wait",
                "line": 0,
                "column": 0,
                "field": "",
                "message": "has no effect without --audit-webhook-config-file",
            },
        ],
        "problems": [],
    }
    assert report("--audit-log-maxage=x", code=2)["problems"][0]["source"] == "--audit-log-maxage"


def test_the_two_dashes_can_be_left_out() -> None:
    arguments = ("- --audit-log-path=/x", "-audit-log-mode=x", "-v", "3", "--etcd-servers=x")

    assert run(*CHECK, *arguments, "-o", "json").out == run(
        *CHECK, "--output=json", "--", *arguments
    ).out  # fmt: skip


def test_a_manifest_on_standard_input(place: Path) -> None:
    done = run(*CHECK, stdin=MANIFEST.encode(), cwd=place)

    assert (done.code, done.err) == (0, "")
    assert "Backends: union[ignoreErrors<log>,buffered<webhook>]" in done.text
    assert done.text.endswith("\nnot looked at: --v\n")


def test_a_manifest_without_auditing_is_no_mistake() -> None:
    done = run(*CHECK, stdin=b"spec:\n  command:\n  - kube-apiserver\n  - --v=2\n")

    assert (done.code, "Backends: nowhere" in done.text) == (0, True)


def test_nothing_to_check_is_wrong_usage() -> None:
    done = run(*CHECK, stdin=b" \n")

    assert done.code == 2
    assert "no arguments; give those of a server after --" in done.err


def test_a_terminal_is_not_waited_for() -> None:
    main, terminal = pty.openpty()
    done = subprocess.run(
        [*COMMAND, *CHECK], stdin=terminal, capture_output=True, timeout=30, check=False
    )
    os.close(main)
    os.close(terminal)

    assert done.returncode == 2
    assert b"no arguments" in done.stderr


def test_files_are_looked_at_and_none_is_made(place: Path) -> None:
    before = names_in(place)
    done = run(*CHECK, "--files", stdin=MANIFEST.encode(), cwd=place)

    assert (done.code, done.err) == (0, "")
    assert names_in(place) == before


def test_files_that_cannot_be_used(place: Path) -> None:
    (place / "policy.yaml").write_text(POLICY + "  verb: [get]\n")
    (place / "webhook.yaml").write_text(KUBECONFIG.replace("current-context: a", ""))
    (place / "logs").write_text("a file")
    done = run(*CHECK, "--files", stdin=MANIFEST.encode(), cwd=place)

    assert done.code == 2
    first, second, third = done.err.splitlines()
    assert first == (
        "error: --audit-policy-file: policy.yaml:5:3: rules[0].verb: "
        'unknown key "verb", did you mean "verbs"?'
    )
    assert second.startswith("error: --audit-webhook-config-file: webhook.yaml:")
    assert "current-context" in second
    assert third == f'error: --audit-log-path: "{place / "logs"}" is not a directory'


def test_files_that_are_missing(place: Path) -> None:
    done = run(
        *CHECK, "--files", "--", "--audit-policy-file=p", "--audit-webhook-config-file=w",
        "--audit-log-path=.", cwd=place,
    )  # fmt: skip

    assert (done.code, done.err.splitlines()) == (
        2,
        [
            "error: --audit-policy-file: p: No such file or directory",
            "error: --audit-webhook-config-file: w: No such file or directory",
            'error: --audit-log-path: "." is a directory; name a file in it',
        ],
    )


def test_standard_output_can_always_be_written(place: Path) -> None:
    done = run(
        *CHECK, "--files", "--", "--audit-policy-file=policy.yaml", "--audit-log-path=-", cwd=place
    )

    assert (done.code, done.err) == (0, "")


def test_check_reads_a_configuration_file_that_it_is_told_of(place: Path) -> None:
    (place / "c.yaml").write_text("audit-log-path: /x\naudit-policy-file: p\naudit-log-maxage: 5\n")
    done = run(*CHECK, "--config", "c.yaml", "--", "--audit-log-maxage=6", cwd=place)

    assert (done.code, done.err) == (0, "")
    assert "--audit-log-maxage=6\n" in done.text


def test_the_reference() -> None:
    assert run("options", "reference").text == reference()

    rows = json.loads(run("options", "reference", "-o", "json").out)
    assert [row["flag"] for row in rows] == [each.argument for each in FLAGS]
    assert rows[1] == {
        "flag": "--audit-log-path",
        "type": "string",
        "default": "",
        "variable": "KUBEWITNESS_AUDIT_LOG_PATH",
        "key": "audit-log-path",
        "help": FLAGS[1].help,
        "kubeApiserver": True,
        "oldName": None,
    }


SERVER = """
import click
from kubewitness.cli.audit_flags import AuditCommand

@click.command(cls=AuditCommand)
@click.option("--listen", default="here")
@click.argument("names", nargs=-1)
def serve(listen, names, audit):
    print(listen, names, audit.options.log.path, audit.options.log.maxage)

serve()
"""


def serve(*arguments: str, cwd: Path | None = None, **variables: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-c", SERVER, *arguments],
        capture_output=True,
        cwd=cwd,
        env={**ENVIRONMENT, **variables},
        check=False,
    )
    err = done.stderr.decode()
    assert "Traceback" not in err, err
    return Outcome(done.returncode, done.stdout, err)


def test_a_server_takes_audit_flags_among_its_own() -> None:
    done = serve("a", "--audit-log-path", "/x", "--listen=there", "b", "--audit-policy-file=p")

    assert (done.code, done.text, done.err) == (0, "there ('a', 'b') /x 366\n", "")


def test_a_server_leaves_what_stands_after_two_dashes() -> None:
    done = serve("--audit-policy-file=p", "--audit-log-path=/x", "--", "--audit-log-maxage=3")

    assert done.text == "here ('--audit-log-maxage=3',) /x 366\n"


def test_a_server_reads_variables_and_a_file(place: Path) -> None:
    (place / "c.yaml").write_text("audit-log-path: /file\naudit-log-maxage: 5\n")
    done = serve("--config=c.yaml", cwd=place, KUBEWITNESS_AUDIT_LOG_PATH="/variable")

    assert done.text == "here () /variable 5\n"
    assert done.err.startswith("warning: --audit-policy-file: no policy file is given")


def test_a_server_does_not_start_with_problems(place: Path) -> None:
    (place / "c.yaml").write_text("audit-log-pth: /file\n")
    done = serve(
        "--config=c.yaml", "--audit-log-maxage=x", cwd=place, KUBEWITNESS_AUDIT_LOG_COMPRESS="x"
    )

    assert (done.code, done.text) == (2, "")
    assert done.err.splitlines() == [
        'error: --audit-log-maxage: "x" is not a whole number',
        'error: $KUBEWITNESS_AUDIT_LOG_COMPRESS: "x" is neither true nor false',
        (
            'error: c.yaml:1:1: audit-log-pth: unknown key "audit-log-pth", '
            'did you mean "audit-log-path"?'
        ),
    ]


def test_a_wrong_audit_flag_is_named_before_what_it_leads_to() -> None:
    done = serve("--audit-lg-path", "/x", "--other")

    assert (done.code, done.err) == (
        2,
        "error: --audit-lg-path: no such flag, did you mean --audit-log-path?\n",
    )
    assert "No such option" in serve("--other").err


@pytest.mark.parametrize("more", [[], ["--audit-log-maxage=x"]])
def test_the_help_of_a_server_has_every_flag(more: list[str]) -> None:
    done = serve(*more, "--help")

    assert done.code == 0
    shown = [line.strip().partition("  ")[0] for line in done.text.splitlines()]
    assert [each for each in shown if each.startswith("--audit")] == [
        f"{each.argument} {each.kind}" for each in FLAGS
    ]
    assert "[default: 366]" in done.text
    assert "--config FILE" in done.text
    assert "batch-initial-backoff" not in done.text
