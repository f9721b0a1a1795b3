"""What must be so for a server to start, what is merely odd, and what the options come to.

`REFUSED` and `ODD` are the tables to add to: arguments, and what is said about them.
"""

import pytest

from kubewitness.backends import LogConfig
from kubewitness.errors import OptionsError
from kubewitness.options import (
    AuditOptions,
    LogOptions,
    composition,
    describe,
    examine_options,
    load_options,
    validate,
)

LOG = "--audit-log-path=/x"
WEBHOOK = "--audit-webhook-config-file=/w"
POLICY = "--audit-policy-file=/p"


REFUSED: dict[str, list[str]] = {
    "--audit-P-mode=Batch": [
        '--audit-P-mode: unknown mode "Batch", did you mean "batch"?',
    ],
    "--audit-P-mode=x": [
        '--audit-P-mode: unknown mode "x"; one of batch, blocking, blocking-strict',
    ],
    "--audit-P-mode=": [
        '--audit-P-mode: unknown mode ""; one of batch, blocking, blocking-strict',
    ],
    "--audit-P-mode=batch --audit-P-batch-buffer-size=0 --audit-P-batch-max-size=-1": [
        "--audit-P-batch-buffer-size: 0 leaves events no room to wait; write 1 or more",
        "--audit-P-batch-max-size: -1 is no size for a batch; write 1 or more",
    ],
    (
        "--audit-P-mode=batch --audit-P-batch-throttle-enable "
        "--audit-P-batch-throttle-qps=-0.5 --audit-P-batch-throttle-burst=0"
    ): [
        (
            "--audit-P-batch-throttle-qps: -0.5 lets no batch through; write more, "
            "or --audit-P-batch-throttle-enable=false"
        ),
        (
            "--audit-P-batch-throttle-burst: 0 lets no batch through; write 1 or more, "
            "or --audit-P-batch-throttle-enable=false"
        ),
    ],
    "--audit-P-truncate-max-event-size=0": [
        "--audit-P-truncate-max-event-size: 0 is no size for an event; write 1 or more",
    ],
    "--audit-P-truncate-max-batch-size=9": [
        (
            "--audit-P-truncate-max-batch-size: 9 is less than one event may have, 102400 "
            "(--audit-P-truncate-max-event-size)"
        ),
    ],
    "--audit-P-truncate-max-event-size=10485761": [
        (
            "--audit-P-truncate-max-event-size: 10485761 is more than a batch may have, 10485760 "
            "(--audit-P-truncate-max-batch-size)"
        ),
    ],
    "--audit-P-truncate-max-event-size=x --audit-P-truncate-max-batch-size=9": [
        '--audit-P-truncate-max-event-size: "x" is not a whole number',
    ],
    "--audit-P-truncate-max-event-size=99999999 --audit-P-truncate-max-batch-size=x": [
        '--audit-P-truncate-max-batch-size: "x" is not a whole number',
    ],
    "--audit-P-version=v1": [
        '--audit-P-version: unknown version "v1"; there is one, audit.k8s.io/v1',
    ],
    "--audit-P-version=a/b/c": [
        '--audit-P-version: unknown version "a/b/c"; there is one, audit.k8s.io/v1',
    ],
    "--audit-P-mode=x --audit-P-truncate-max-event-size=-1 --audit-P-version=x": [
        '--audit-P-mode: unknown mode "x"; one of batch, blocking, blocking-strict',
        "--audit-P-truncate-max-event-size: -1 is no size for an event; write 1 or more",
        '--audit-P-version: unknown version "x"; there is one, audit.k8s.io/v1',
    ],
}


def problems(*arguments: str) -> list[str]:
    return [str(problem) for problem in examine_options(arguments).problems]


def warnings(*arguments: str) -> list[str]:
    return [str(warning) for warning in load_options(arguments).warnings]


@pytest.mark.parametrize("backend", ["log", "webhook"])
@pytest.mark.parametrize("arguments", REFUSED)
def test_what_no_server_starts_with(arguments: str, backend: str) -> None:
    expected = [each.replace("-P-", f"-{backend}-") for each in REFUSED[arguments]]
    given = arguments.replace("-P-", f"-{backend}-").split(" ")

    assert problems(*given, LOG, WEBHOOK) == expected
    judged = [each for each in expected if "whole number" not in each]
    assert problems(*given) == [each for each in expected if each not in judged]  # it is off


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("--audit-log-format=JSON", 'unknown format "JSON", did you mean "json"?'),
        ("--audit-log-format=x", 'unknown format "x"; one of json, legacy, two-line'),
        ("--audit-log-maxage=-1", "-1 is negative; 0 keeps rotated files for ever"),
        ("--audit-log-maxbackup=-1", "-1 is negative; 0 keeps any number of rotated files"),
        ("--audit-log-maxsize=-1", "-1 is negative; 0 never rotates the file"),
        ("--audit-webhook-max-in-flight=0", "0 lets nothing be sent; write 1 or more"),
        ("--audit-shutdown-timeout=-1s", "-1s is negative; 0s does not wait"),
    ],
)
def test_what_only_one_flag_can_be_wrong_with(argument: str, problem: str) -> None:
    assert problems(LOG, WEBHOOK, argument) == [f"{argument.partition('=')[0]}: {problem}"]


def test_faults_of_both_backends_come_together() -> None:
    assert problems(LOG, WEBHOOK, "--audit-log-mode=x", "--audit-webhook-mode=x") == [
        f'--audit-{backend}-mode: unknown mode "x"; one of batch, blocking, blocking-strict'
        for backend in ("log", "webhook")
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        "--audit-log-batch-buffer-size=0",  # mode blocking does not look at it
        "--audit-webhook-batch-throttle-enable=false --audit-webhook-batch-throttle-qps=0",
        "--audit-log-truncate-max-event-size=5 --audit-log-truncate-max-batch-size=5",
        "--audit-webhook-batch-max-wait=-1s --audit-webhook-initial-backoff=-1s",
        "--audit-log-maxage=0 --audit-log-maxbackup=0 --audit-log-maxsize=0",
        "--audit-log-format=legacy --audit-log-mode=blocking-strict",
    ],
)
def test_what_a_server_starts_with(arguments: str) -> None:
    assert problems(LOG, WEBHOOK, POLICY, *arguments.split()) == []


def test_options_made_by_a_program_are_judged_alike() -> None:
    options = AuditOptions(log=LogOptions(path="/x", mode="no", maxage=-1))

    assert [str(each) for each in validate(options)] == [
        '--audit-log-mode: unknown mode "no"; one of batch, blocking, blocking-strict',
        "--audit-log-maxage: -1 is negative; 0 keeps rotated files for ever",
    ]
    assert isinstance(options.log, LogConfig)


def test_from_arguments() -> None:
    assert AuditOptions.from_arguments([LOG]).log.path == "/x"
    with pytest.raises(OptionsError, match="--audit-log-mode: unknown mode"):
        AuditOptions.from_arguments([LOG, "--audit-log-mode=x"])


ODD: dict[str, list[str]] = {
    "LOG WEBHOOK POLICY": [],
    "": ["--audit-policy-file: no policy file is given, so nothing is recorded"],
    "LOG": ["--audit-policy-file: no policy file is given, so nothing is recorded"],
    "POLICY": [
        (
            "--audit-policy-file: events go nowhere: neither --audit-log-path nor "
            "--audit-webhook-config-file is given"
        )
    ],
    "LOG POLICY --audit-webhook-mode=batch --audit-webhook-truncate-enabled": [
        "--audit-webhook-mode: has no effect without --audit-webhook-config-file",
        "--audit-webhook-truncate-enabled: has no effect without --audit-webhook-config-file",
    ],
    "WEBHOOK POLICY --audit-log-maxage=3": [
        "--audit-log-maxage: has no effect without --audit-log-path"
    ],
    "LOG POLICY --audit-log-batch-max-size=3 --audit-log-batch-throttle-qps=3": [
        (
            f"--audit-log-batch-{name}: has no effect in mode blocking; "
            "--audit-log-mode=batch uses it"
        )
        for name in ("max-size", "throttle-qps")
    ],
    "WEBHOOK POLICY --audit-webhook-mode=blocking-strict --audit-webhook-max-in-flight=2": [
        (
            "--audit-webhook-max-in-flight: has no effect in mode blocking-strict; "
            "--audit-webhook-mode=batch uses it"
        )
    ],
    "LOG POLICY --audit-log-mode=batch --audit-log-batch-throttle-qps=3": [
        "--audit-log-batch-throttle-qps: has no effect without --audit-log-batch-throttle-enable"
    ],
    "WEBHOOK POLICY --audit-webhook-truncate-max-batch-size=200000": [
        (
            "--audit-webhook-truncate-max-batch-size: has no effect without "
            "--audit-webhook-truncate-enabled"
        )
    ],
    "POLICY --audit-log-path=- --audit-log-maxage=3 --audit-log-maxsize=0": [
        "--audit-log-maxage: has no effect: standard output is not rotated",
        "--audit-log-maxsize: has no effect: standard output is not rotated",
    ],
    "LOG POLICY --audit-log-maxsize=0 --audit-log-maxbackup=3 --audit-log-compress": [
        f"--audit-log-{name}: has no effect: with --audit-log-maxsize=0 the file is not rotated"
        for name in ("maxbackup", "compress")
    ],
    "LOG POLICY --audit-log-version=audit.k8s.io/v1": [
        "--audit-log-version: there is no version but audit.k8s.io/v1; leave it out"
    ],
    "WEBHOOK POLICY --audit-webhook-batch-max-wait=-1s": [
        "--audit-webhook-batch-max-wait: -1s is negative, which counts as 0s"
    ],
    "LOG POLICY --audit-shutdown-timeout=30s": [
        "--audit-shutdown-timeout: Kubernetes kills a pod after 30 s unless it is told to wait"
    ],
    "LOG --audit-policy-file='p'": [
        (
            "--audit-policy-file: the quotes are part of the value; "
            "in YAML they go around the whole item"
        )
    ],
}


@pytest.mark.parametrize("arguments", ODD)
def test_what_is_odd(arguments: str) -> None:
    known = {"LOG": LOG, "WEBHOOK": WEBHOOK, "POLICY": POLICY}
    given = [known.get(word, word) for word in arguments.split()]

    assert warnings(*given) == ODD[arguments]


def test_who_applies_no_policy_is_not_told_that_there_is_none() -> None:
    assert load_options([LOG], wants_policy=False).warnings == ()


def test_nothing_is_odd_about_options_that_could_not_be_read() -> None:
    assert examine_options(["--audit-log-paht=/x", "--audit-log-maxage=3"]).warnings == ()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "nowhere"),
        ("LOG", "ignoreErrors<log>"),
        ("WEBHOOK", "buffered<webhook>"),
        ("LOG WEBHOOK", "union[ignoreErrors<log>,buffered<webhook>]"),
        (
            (
                "LOG WEBHOOK --audit-log-truncate-enabled --audit-log-mode=batch "
                "--audit-webhook-truncate-enabled --audit-webhook-mode=blocking-strict"
            ),
            "union[truncate<buffered<log>>,truncate<webhook>]",
        ),
        ("LOG --audit-log-mode=blocking-strict", "log"),
        ("WEBHOOK --audit-webhook-mode=blocking", "ignoreErrors<webhook>"),
    ],
)
def test_the_composition_is_written_as_upstream_does(arguments: str, expected: str) -> None:
    known = {"LOG": LOG, "WEBHOOK": WEBHOOK}
    given = [known.get(word, word) for word in arguments.split()]

    assert composition(load_options(given).options) == expected


def test_the_description_says_what_happens() -> None:
    arguments = (
        POLICY, LOG, WEBHOOK, "--audit-log-mode=blocking-strict", "--audit-log-maxage=0",
        "--audit-log-compress", "--audit-webhook-truncate-enabled",
        "--audit-webhook-batch-max-wait=5s",
    )  # fmt: skip

    assert describe(load_options(arguments).options) == (
        "The policy /p decides what is recorded.",
        "Events are written to the file /x, in the format json.",
        "Each request waits until its events are written.",
        "It is refused when its first event cannot be written.",
        "The file is rotated at 100 MB; at most 100 rotated files are kept, compressed, for ever.",
        "Events are sent to the server that the kubeconfig /w names.",
        (
            "Requests do not wait: events are sent from a buffer, up to 400 at a time, "
            "after 5s at most."
        ),
        "When 10000 events wait, further ones are lost.",
        "At most 10 batches a second are sent, 15 in a burst.",
        "Events larger than 102400 bytes lose their request and response objects.",
        "What cannot be sent is tried again after 10s, and then a few times more.",
    )
