"""Command lines by pflag's rules, and whatever people paste."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.backends import Seconds
from kubewitness.errors import OptionsError
from kubewitness.options import (
    FLAGS,
    AuditOptions,
    Flag,
    composition,
    examine_options,
    load_options,
    read_pasted,
)
from kubewitness.options.flags import with_values
from kubewitness.options.kinds import Kind, parse_value

KUBEADM = """\
apiVersion: v1
kind: Pod
metadata:
  name: kube-apiserver
  namespace: kube-system
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=192.168.1.10
    - --audit-policy-file=/etc/kubernetes/audit/policy.yaml
    - --audit-log-path=/var/log/kubernetes/audit.log
    - "--audit-log-maxage=30"   # a month
    - '--audit-log-maxbackup=10'
    - --audit-webhook-config-file=/etc/kubernetes/audit/webhook.yaml
    - --audit-webhook-batch-max-wait=5s
    - --etcd-servers=https://127.0.0.1:2379
    image: registry.k8s.io/kube-apiserver:v1.36.0
    volumeMounts:
    - mountPath: /etc/kubernetes/audit
      name: audit
"""


def read(*arguments: str) -> AuditOptions:
    return load_options(arguments).options


def wrong(*arguments: str) -> list[str]:
    with pytest.raises(OptionsError) as refused:
        AuditOptions.from_arguments(arguments)
    return [str(problem) for problem in refused.value.problems]


def warned(*arguments: str) -> list[str]:
    """Return the warnings beside those on the whole."""
    said = map(str, load_options(arguments, wants_policy=False).warnings)
    return [each for each in said if not each.startswith("--audit-policy-file: events go nowhere")]


def test_a_value_stands_after_an_equals_sign_or_in_the_next_word() -> None:
    options = read("--audit-log-path=/a=b", "--audit-log-maxage", "7", "--audit-policy-file", "-x")

    assert (options.log.path, options.log.maxage, options.policy_file) == ("/a=b", 7, "-x")


def test_a_bool_takes_no_next_word() -> None:
    options = read("--audit-log-compress", "--audit-log-path", "/x")

    assert options.log.compress
    assert (
        read("--audit-webhook-batch-throttle-enable=false").webhook.batch.throttle_enable is False
    )
    assert wrong("--audit-log-compress", "false") == [
        (
            "--audit-log-compress: does not take the false after it, and is true; "
            "write --audit-log-compress=false"
        )
    ]


def test_the_last_one_counts_but_each_must_be_right() -> None:
    assert read("--audit-log-maxage=1", "--audit-log-maxage=2").log.maxage == 2
    assert wrong("--audit-log-maxage=x", "--audit-log-maxage=2") == [
        '--audit-log-maxage: "x" is not a whole number'
    ]


def test_two_dashes_end_the_flags() -> None:
    loaded = load_options(["--v=2", "--", "--audit-log-path=/x"])

    assert loaded.options == AuditOptions()
    assert loaded.ignored == ("--v=2", "--", "--audit-log-path=/x")


def test_two_dashes_can_be_a_value() -> None:
    assert read("--audit-log-path", "--", "--audit-log-maxage=3").log.maxage == 3


def test_underscores_count_as_dashes() -> None:
    assert read("--audit_log_path=/a_b").log.path == "/a_b"


def test_a_flag_as_a_value_is_taken_with_a_warning() -> None:
    arguments = ("--audit-log-path", "--audit-log-maxage=3")

    assert read(*arguments).log.path == "--audit-log-maxage=3"
    assert warned(*arguments) == [
        (
            '--audit-log-path: takes the word after it, "--audit-log-maxage=3", as its value; '
            "write --audit-log-path=…"
        )
    ]


def test_the_old_name_sets_the_same_and_the_last_one_wins() -> None:
    old, new = "--audit-webhook-batch-initial-backoff", "--audit-webhook-initial-backoff"

    assert read(f"{old}=1s", f"{new}=2s").webhook.initial_backoff == Seconds(2)
    assert read(f"{new}=2s", old, "1s").webhook.initial_backoff == Seconds(1)
    assert warned(f"{old}=1s", "--audit-webhook-config-file=w") == [
        f"{old}: an old name; write {new}"
    ]
    assert wrong(f"{old}=5")[0].startswith(f'{old}: "5" is not a duration')


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--audit-log-paht=/x", "--audit-log-paht: no such flag, did you mean --audit-log-path?"),
        (
            "--audit-webhook-kubeconfig",
            ("--audit-webhook-kubeconfig: no such flag, did you mean --audit-webhook-config-file?"),
        ),
        ("--auditlog-path=/x", "--auditlog-path: no such flag, did you mean --audit-log-path?"),
        (
            "-audit-log-path=/x",
            "-audit-log-path: flags start with two dashes here; write --audit-log-path",
        ),
        (
            "-audit-webhook-batch-initial-backoff=1s",
            (
                "-audit-webhook-batch-initial-backoff: flags start with two dashes here; "
                "write --audit-webhook-initial-backoff"
            ),
        ),
        ("--audit-zzzzzzzzzzzzzzzzzzz", "--audit-zzzzzzzzzzzzzzzzzzz: no such flag"),
        (
            "--audit-log-path /x",
            (
                "--audit-log-path /x: a flag and its value in one argument: "
                "write --audit-log-path=/x"
            ),
        ),
        ("--audit-log-path", "--audit-log-path: needs a value: --audit-log-path=…"),
        ("--audit-log-maxage=", '--audit-log-maxage: "" is not a whole number'),
        ("--audit-log-compress=yes", '--audit-log-compress: "yes" is neither true nor false'),
        ("--audit-\x1b[31m=", "--audit-\\x1b[31m: no such flag"),
    ],
)
def test_what_is_wrong_with_one_argument(argument: str, message: str) -> None:
    assert wrong(argument) == [message]


def test_everything_is_reported_at_once() -> None:
    found = wrong(
        "--audit-log-path=/x", "--audit-log-maxage=abc", "--audit-lg-path=/y",
        "--audit-log-mode=fast", "--audit-log-maxsize=-1", "--audit-webhook-batch-max-wait=5",
        "--audit-webhook-config-file",
    )  # fmt: skip

    assert [each.partition(":")[0] for each in found] == [
        "--audit-log-maxage",
        "--audit-lg-path",
        "--audit-webhook-batch-max-wait",
        "--audit-webhook-config-file",
        "--audit-log-mode",
        "--audit-log-maxsize",
    ]


def test_other_arguments_are_handed_back_as_they_were() -> None:
    rest = ("kube-apiserver", "--v=2", "--secure-port", "6443", "-", "", "- --x", '"a-b"')

    assert load_options([*rest, "--audit-log-path=/x"]).ignored == rest


@pytest.mark.parametrize(
    "arguments",
    [
        ["- --audit-log-path=/x"],
        ["-", "--audit-log-path=/x", "\\"],
        ['"--audit-log-path=/x"'],
        ["- '--audit-log-path=/x'"],
        ["    - --audit-log-path=/x \\"],
        ['"--audit-log-path=/x",'],
        ["kube-apiserver", "--audit-log-path=/x"],
    ],
)
def test_pasted_items_are_the_arguments_in_them(arguments: list[str]) -> None:
    assert read(*arguments).log.path == "/x"


def test_quotes_within_an_item_stay_and_are_pointed_out() -> None:
    assert read('- --audit-log-path="/x"').log.path == '"/x"'
    assert warned('- --audit-log-path="/x"') == [
        (
            "--audit-log-path: the quotes are part of the value; "
            "in YAML they go around the whole item"
        )
    ]


def test_a_manifest_of_kubeadm() -> None:
    loaded = load_options(read_pasted(KUBEADM))

    assert loaded.warnings == ()
    assert composition(loaded.options) == "union[ignoreErrors<log>,buffered<webhook>]"
    assert (loaded.options.log.maxage, loaded.options.log.maxbackup) == (30, 10)
    assert loaded.options.webhook.batch.max_wait == Seconds(5)
    assert len(loaded.origins) == 6


LINES = [line for line in KUBEADM.splitlines() if "--audit" in line]
ITEMS = [re.findall(r"--audit[^\s\"']+", line)[0] for line in LINES]
COMMAND_LINE = """\
kube-apiserver --etcd-servers=http://localhost:2379 \\
  --audit-policy-file=/etc/kubernetes/audit/policy.yaml --audit-log-path /var/log/kubernetes/audit.log \\
  --audit-log-maxage=30 --audit-log-maxbackup=10  \\
  "--audit-webhook-config-file=/etc/kubernetes/audit/webhook.yaml" --audit-webhook-batch-max-wait=5s # all
"""  # noqa: E501


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(LINES),
        "\n".join(LINES).strip(),  # the first line lost its indentation
        "\r\n".join(line.strip() for line in LINES),
        f"command: [kube-apiserver, {', '.join(ITEMS)}]",
        json.dumps({"command": ["kube-apiserver", "--", *ITEMS]}, indent=2),
        COMMAND_LINE,
        COMMAND_LINE.replace("\n", "\r\n"),
    ],
)
def test_parts_of_a_manifest_and_commands(text: str) -> None:
    expected = load_options(read_pasted(KUBEADM)).options

    assert load_options(read_pasted(text)).options == expected


def _text_of(flag: Flag) -> st.SearchStrategy[Any]:
    by_kind: dict[Kind, st.SearchStrategy[Any]] = {
        Kind.STRING: st.text(max_size=8).filter(lambda text: "\0" not in text),
        Kind.BOOL: st.booleans(),
        Kind.INT: st.integers(-(1 << 63), (1 << 63) - 1),
        Kind.INT64: st.integers(-(1 << 63), (1 << 63) - 1),
        Kind.FLOAT32: st.floats(width=32, allow_nan=False, allow_infinity=False).map(
            lambda number: parse_value(Kind.FLOAT32, repr(number))
        ),
        Kind.DURATION: st.integers(0, 1 << 52).map(lambda ns: ns / 1_000_000_000),
    }
    return by_kind[flag.kind]


@given(st.fixed_dictionaries({}, optional={each.name: _text_of(each) for each in FLAGS}))
def test_options_written_as_arguments_are_read_back(values: dict[str, Any]) -> None:
    options = with_values(AuditOptions(), values)
    arguments = [f"{each.argument}={each.shown(each.value(options))}" for each in FLAGS]

    assert examine_options(arguments).options == options
    words = [word for each in arguments for word in each.split("=", 1)]
    bools = {each.argument for each in FLAGS if each.kind is Kind.BOOL}
    if bools.isdisjoint(words):
        assert examine_options(words).options == options


_WORDS = st.sampled_from(
    [
        "--",
        "-",
        "",
        "=",
        "- ",
        "'",
        "true",
        "5s",
        "1",
        "--v",
        "-o",
        "--audit",
        "--audit-",
        "-audit=",
    ]
    + [each.argument for each in FLAGS]
)


@given(st.lists(st.lists(_WORDS | st.text(max_size=5), max_size=3).map("".join), max_size=6))
def test_any_arguments_give_options_or_problems(arguments: list[str]) -> None:
    problems = examine_options(arguments).problems

    assert all(str(problem).isprintable() for problem in problems)
    if problems:
        with pytest.raises(OptionsError):
            AuditOptions.from_arguments(arguments)
    else:
        assert AuditOptions.from_arguments(arguments).shutdown_timeout >= 0


@given(st.text() | st.lists(_WORDS | st.sampled_from(["\n", " ", "\\\n", "- "])).map("".join))
def test_any_text_can_be_pasted(text: str) -> None:
    assert isinstance(examine_options(read_pasted(text)).options, AuditOptions)
