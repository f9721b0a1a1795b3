"""Variables, the configuration file, and what goes before what."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.backends import Seconds
from kubewitness.errors import OptionsError
from kubewitness.options import FLAGS, AuditOptions, load_options
from kubewitness.options.kinds import Kind
from kubewitness.options.sources import read_file

NAMES = ", ".join(each.name for each in FLAGS)
WHOLE = """\
# All kinds of values.
audit-policy-file: /etc/policy.yaml
audit-log-path: "-"
audit-log-maxage: 0x1e
audit-log-compress: yes
audit-log-truncate-max-event-size: 1_000
audit-webhook-batch-throttle-qps: 2.5
audit-webhook-batch-max-wait: 1m30s
audit-log-format:
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.yaml"


def in_file(text: str) -> list[str]:
    return [str(problem) for problem in read_file(text.encode(), "c.yaml").problems]


def test_a_file_has_native_values(file: Path) -> None:
    file.write_text(WHOLE)
    options = load_options(file=file).options

    assert (options.policy_file, options.log.path) == ("/etc/policy.yaml", "-")
    assert (options.log.maxage, options.log.compress) == (30, True)
    assert options.log.truncate.max_event_size == 1000
    assert (options.webhook.batch.throttle_qps, options.webhook.batch.max_wait) == (
        2.5,
        Seconds(90),
    )
    assert options.log.format == "json"  # a key without a value leaves the default


def test_a_file_may_be_json(file: Path) -> None:
    file.write_text('{"audit-log-path": "/x", "audit-log-maxsize": 5, "audit-log-compress": true}')
    log = load_options(file=file).options.log

    assert (log.path, log.maxsize, log.compress) == ("/x", 5, True)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "---\n"])
def test_a_file_may_be_empty(text: str) -> None:
    gathered = read_file(text.encode(), "c.yaml")

    assert (gathered.settings, gathered.problems) == ([], [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "audit-log-paht: /x\n",
            '1:1: audit-log-paht: unknown key "audit-log-paht", did you mean "audit-log-path"?',
        ),
        (
            "audit-log-path: /x\n--audit-log-maxage: 3\n",
            (
                '2:1: --audit-log-maxage: unknown key "--audit-log-maxage", '
                'did you mean "audit-log-maxage"?'
            ),
        ),
        ("port: 3\n", f'1:1: port: unknown key "port"; known here: {NAMES}'),
        (
            "audit-log-path: /x\naudit-log-path: /y\n",
            '2:1: audit-log-path: duplicate key "audit-log-path", already set in line 1',
        ),
        (
            "audit-log-path: [/x]\n",
            (
                "1:17: audit-log-path: expected a string, found a list; "
                "write a string, in quotes if need be"
            ),
        ),
        (
            'audit-log-maxage: "3"\n',
            (
                "1:19: audit-log-maxage: expected a number, found a string (3); "
                "write a whole number, without quotes"
            ),
        ),
        ("audit-log-maxage: 3.5\n", '1:19: audit-log-maxage: "3.5" is not a whole number'),
        (
            "audit-log-compress: 1\n",
            (
                "1:21: audit-log-compress: expected a boolean, found a number (1); "
                "write true or false, without quotes"
            ),
        ),
        (
            "audit-webhook-batch-max-wait: 5\n",
            (
                "1:31: audit-webhook-batch-max-wait: expected a string, found a number (5); "
                "write a number with its unit, like 10s"
            ),
        ),
        (
            "audit-webhook-batch-throttle-qps: .inf\n",
            '1:35: audit-webhook-batch-throttle-qps: ".inf" is not a number',
        ),
        (
            "- --audit-log-path=/x\n",
            "1:1: expected a mapping, found a list; an example: {audit-log-path: audit.log}",
        ),
        (
            "audit-log-path: {\n",
            "2:1: not YAML: expected the node content, but found '<stream end>'",
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_at_its_place(text: str, problem: str) -> None:
    assert [each.removeprefix("c.yaml:") for each in in_file(text)][:1] == [problem]


def test_a_file_has_all_its_problems_in_order() -> None:
    text = "audit-log-maxage: x\naudit-log-maxsize: 1.5\nfoo: 1\naudit-log-mode: []\n"

    assert [each.split(":")[1] for each in in_file(text)] == ["1", "2", "3", "4"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    with pytest.raises(OptionsError) as refused:
        load_options(file=missing)

    assert str(refused.value) == f"{missing}: No such file or directory"


def test_variables() -> None:
    environment = {
        "KUBEWITNESS_AUDIT_LOG_PATH": "/x",
        "KUBEWITNESS_AUDIT_LOG_COMPRESS": "t",
        "KUBEWITNESS_AUDIT_WEBHOOK_INITIAL_BACKOFF": "1m",
        "KUBEWITNESS_OTHER": "1",
        "PATH": "/bin",
    }
    options = load_options(environment=environment).options

    assert (options.log.path, options.log.compress) == ("/x", True)
    assert options.webhook.initial_backoff == Seconds(60)


def test_problems_of_variables() -> None:
    environment = {"KUBEWITNESS_AUDIT_LOG_MAXAGE": "a", "KUBEWITNESS_AUDIT_LOG_PAHT": "/x"}
    with pytest.raises(OptionsError) as refused:
        load_options(environment=environment)

    assert [str(each) for each in refused.value.problems] == [
        '$KUBEWITNESS_AUDIT_LOG_MAXAGE: "a" is not a whole number',
        (
            "$KUBEWITNESS_AUDIT_LOG_PAHT: no such variable, "
            "did you mean $KUBEWITNESS_AUDIT_LOG_PATH?"
        ),
    ]


def test_the_environment_counts_only_when_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEWITNESS_AUDIT_LOG_PATH", "/x")

    assert load_options().options == AuditOptions()


def test_argument_before_variable_before_file_before_default(file: Path) -> None:
    keys = ("audit-log-maxage", "audit-log-maxbackup", "audit-log-maxsize")
    file.write_text("".join(f"{key}: 1\n" for key in keys))
    environment = {
        "KUBEWITNESS_AUDIT_LOG_MAXBACKUP": "2",
        "KUBEWITNESS_AUDIT_LOG_MAXSIZE": "2",
        "KUBEWITNESS_AUDIT_LOG_PATH": "/x",
    }
    loaded = load_options(["--audit-log-maxsize=3"], environment=environment, file=file)
    log = loaded.options.log

    assert (log.maxage, log.maxbackup, log.maxsize, log.mode) == (1, 2, 3, "blocking")
    assert {name: str(origin.problem("")) for name, origin in loaded.origins.items()} == {
        "audit-log-maxage": f"{file}:1:19: audit-log-maxage",
        "audit-log-maxbackup": "$KUBEWITNESS_AUDIT_LOG_MAXBACKUP",
        "audit-log-maxsize": "--audit-log-maxsize",
        "audit-log-path": "$KUBEWITNESS_AUDIT_LOG_PATH",
    }


def test_a_problem_is_where_the_value_came_from(file: Path) -> None:
    file.write_text("audit-log-path: /x\naudit-log-maxage: -1\n")
    environment = {"KUBEWITNESS_AUDIT_LOG_MAXBACKUP": "-1"}
    with pytest.raises(OptionsError) as refused:
        load_options(["--audit-log-maxsize=-1"], environment=environment, file=file)

    assert [str(each) for each in refused.value.problems] == [
        f"{file}:2:19: audit-log-maxage: -1 is negative; 0 keeps rotated files for ever",
        "$KUBEWITNESS_AUDIT_LOG_MAXBACKUP: -1 is negative; 0 keeps any number of rotated files",
        "--audit-log-maxsize: -1 is negative; 0 never rotates the file",
    ]


def test_problems_of_all_sources_come_at_once(file: Path) -> None:
    file.write_text("audit-log-maxage: x\n")
    environment = {"KUBEWITNESS_AUDIT_LOG_COMPRESS": "maybe"}
    with pytest.raises(OptionsError) as refused:
        load_options(["--audit-log-maxsize=x"], environment=environment, file=file)

    assert [each.source for each in refused.value.problems] == [
        "--audit-log-maxsize",
        "$KUBEWITNESS_AUDIT_LOG_COMPRESS",
        str(file),
    ]


def test_every_flag_has_its_variable_and_its_key() -> None:
    examples = {
        Kind.STRING: "text",
        Kind.BOOL: "true",
        Kind.INT: "7",
        Kind.INT64: "7",
        Kind.FLOAT32: "7.5",
        Kind.DURATION: "7s",
    }
    text = "".join(f"{each.name}: {examples[each.kind]}\n" for each in FLAGS)
    gathered = read_file(text.encode(), "c.yaml")

    assert gathered.problems == []
    assert [(each.flag.name, each.flag.shown(each.value)) for each in gathered.settings] == [
        (each.name, examples[each.kind]) for each in FLAGS
    ]


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_give_settings_or_problems(data: bytes) -> None:
    gathered = read_file(data, "c.yaml")

    assert all(str(problem).isprintable() for problem in gathered.problems)
