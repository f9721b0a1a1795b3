"""The flags: kube-apiserver's own table, how values are read, and the reference made of them."""

import math
from pathlib import Path

import pytest

from kubewitness.options import FLAGS, AuditOptions, reference
from kubewitness.options.kinds import Kind, parse_value, show_value

ROOT = Path(__file__).parent.parent

# Source: audit specification section 12, in its order.
UPSTREAM = """
audit-policy-file string
audit-log-path string
audit-log-maxage int 366
audit-log-maxbackup int 100
audit-log-maxsize int 100
audit-log-compress bool false
audit-log-format string json
audit-log-version string audit.k8s.io/v1
audit-log-mode string blocking
audit-log-batch-buffer-size int 10000
audit-log-batch-max-size int 1
audit-log-batch-max-wait duration 0s
audit-log-batch-throttle-enable bool false
audit-log-batch-throttle-qps float32 0
audit-log-batch-throttle-burst int 0
audit-log-truncate-enabled bool false
audit-log-truncate-max-event-size int64 102400
audit-log-truncate-max-batch-size int64 10485760
audit-webhook-config-file string
audit-webhook-initial-backoff duration 10s
audit-webhook-version string audit.k8s.io/v1
audit-webhook-mode string batch
audit-webhook-batch-buffer-size int 10000
audit-webhook-batch-max-size int 400
audit-webhook-batch-max-wait duration 30s
audit-webhook-batch-throttle-enable bool true
audit-webhook-batch-throttle-qps float32 10
audit-webhook-batch-throttle-burst int 15
audit-webhook-truncate-enabled bool false
audit-webhook-truncate-max-event-size int64 102400
audit-webhook-truncate-max-batch-size int64 10485760
"""
OURS = """
audit-log-shared bool false
audit-webhook-max-in-flight int 16
audit-shutdown-timeout duration 20s
"""


def table(*, ours: bool) -> list[str]:
    rows = [(each.name, each.kind, each.shown(each.default)) for each in FLAGS if each.ours is ours]
    return [" ".join(row).strip() for row in rows]


def test_upstreams_flags_are_all_here_with_its_types_and_defaults() -> None:
    assert len(UPSTREAM.split("\n")) == 31 + 2
    assert table(ours=False) == UPSTREAM.strip().split("\n")


def test_what_upstream_has_not_is_marked() -> None:
    assert table(ours=True) == OURS.strip().split("\n")


def test_a_default_is_what_the_options_start_with() -> None:
    assert [each.value(AuditOptions()) for each in FLAGS] == [each.default for each in FLAGS]


def test_the_old_name_belongs_to_one_flag() -> None:
    assert [(each.old_name, each.name) for each in FLAGS if each.old_name] == [
        ("audit-webhook-batch-initial-backoff", "audit-webhook-initial-backoff")
    ]


def test_variables_are_named_like_flags() -> None:
    variables = {each.name: each.variable for each in FLAGS}

    assert variables["audit-policy-file"] == "KUBEWITNESS_AUDIT_POLICY_FILE"
    assert variables["audit-log-batch-max-size"] == "KUBEWITNESS_AUDIT_LOG_BATCH_MAX_SIZE"
    assert len(set(variables.values())) == len(FLAGS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("366", 366),
        ("+7", 7),
        ("-7", -7),
        ("0x1f", 31),
        ("0X1F", 31),
        ("-0x10", -16),
        ("0b101", 5),
        ("0o17", 15),
        ("017", 15),
        ("00", 0),
        ("0_7", 7),
        ("1_000_000", 1_000_000),
        ("0x_1f", 31),
        ("9223372036854775807", (1 << 63) - 1),
        ("-9223372036854775808", -(1 << 63)),
        ("0" + "7" * 21, (1 << 63) - 1),
    ],
)
def test_whole_numbers_as_go_reads_them(text: str, value: int) -> None:
    assert parse_value(Kind.INT, text) == value
    assert parse_value(Kind.INT64, text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "abc",
        "1.0",
        "1e3",
        "08",
        "0x",
        "0o",
        "0b2",
        "_1",
        "1_",
        "1__0",
        "--1",
        "\u0663",
    ],
)
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        parse_value(Kind.INT, text)


@pytest.mark.parametrize(
    "text", ["9223372036854775808", "-9223372036854775809", "0x" + "f" * 17, "9" * 100_000]
)
def test_whole_numbers_have_64_bits(text: str) -> None:
    with pytest.raises(ValueError, match="does not fit into 64 bits"):
        parse_value(Kind.INT64, text)


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_true(text: str) -> None:
    assert parse_value(Kind.BOOL, text) is True


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_false(text: str) -> None:
    assert parse_value(Kind.BOOL, text) is False


@pytest.mark.parametrize("text", ["", "yes", "tRUE", "on", "y", " true", "2"])
def test_neither_true_nor_false(text: str) -> None:
    with pytest.raises(ValueError, match="is neither true nor false"):
        parse_value(Kind.BOOL, text)


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("10", 10.0, "10"),
        ("0.1", 0.1, "0.1"),
        (".5", 0.5, "0.5"),
        ("5.", 5.0, "5"),
        ("-1e3", -1000.0, "-1000"),
        ("0x1p-2", 0.25, "0.25"),
        ("0x_1.8p1", 3.0, "3"),
        ("1_0.5", 10.5, "10.5"),
        ("16777217", 16777216.0, "16777216"),
        ("0.123456789123", 0.12345679, "0.12345679"),
        ("1e-60", 0.0, "0"),
        ("3.4028235e38", 3.4028235e38, "3.4028235e+38"),
    ],
)
def test_numbers_of_32_bits(text: str, value: float, shown: str) -> None:
    assert parse_value(Kind.FLOAT32, text) == value
    assert show_value(Kind.FLOAT32, value) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", '"abc" is not a number'),
        ("", '"" is not a number'),
        ("1 ", '"1 " is not a number'),
        ("0x1", '"0x1" is not a number'),
        ("1__0", '"1__0" is not a number'),
        ("\u0661", '"\u0661" is not a number'),
        ("3.5e38", '"3.5e38" is too large for 32 bits'),
        ("-1e999", '"-1e999" is too large for 32 bits'),
        ("0x1p999999999", '"0x1p999999999" is too large for 32 bits'),
        ("NaN", '"NaN" is not a finite number'),
        ("+Inf", '"+Inf" is not a finite number'),
        ("infinity", '"infinity" is not a finite number'),
    ],
)
def test_what_is_no_number_of_32_bits(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"number|large") as error:
        parse_value(Kind.FLOAT32, text)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "seconds", "shown"),
    [
        ("0", 0.0, "0s"),
        ("10s", 10.0, "10s"),
        ("1m30s", 90.0, "1m30s"),
        ("1h", 3600.0, "1h0m0s"),
        ("300ms", 0.3, "300ms"),
        ("-1.5s", -1.5, "-1.5s"),
        ("1ns", 1e-9, "1ns"),
        ("2562047h47m16.854775807s", 9223372036.854775807, "2562047h47m16.854775807s"),
    ],
)
def test_durations(text: str, seconds: float, shown: str) -> None:
    assert parse_value(Kind.DURATION, text) == seconds
    assert show_value(Kind.DURATION, seconds) == shown


@pytest.mark.parametrize("text", ["", "5", "10 s", "1d", "s", "300h" * 100_000])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write a number with its unit"):
        parse_value(Kind.DURATION, text)


def test_any_text_but_nul_is_a_string() -> None:
    assert parse_value(Kind.STRING, ' "a\n') == ' "a\n'
    with pytest.raises(ValueError, match="NUL"):
        parse_value(Kind.STRING, "/x\0")


@pytest.mark.parametrize("kind", [Kind.FLOAT32, Kind.DURATION])
@pytest.mark.parametrize("number", [math.inf, math.nan, 1e300])
def test_whatever_a_program_sets_can_be_shown(kind: Kind, number: float) -> None:
    assert show_value(kind, number)


def test_the_reference_is_the_one_in_the_docs() -> None:
    assert (ROOT / "docs" / "flags.md").read_text() == reference()


def test_every_flag_has_its_heading_and_all_its_names() -> None:
    text = reference()
    headings = [line for line in text.splitlines() if line.startswith("### ")]

    assert headings == [f"### --{each.name}" for each in FLAGS]
    assert all(f"`{each.variable}` | `{each.name}`" in text for each in FLAGS)
    assert "`--audit-webhook-batch-initial-backoff`" in text
