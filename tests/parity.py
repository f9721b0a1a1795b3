"""Sends the recorded requests through the proxy, and compares its events with the real server's.

As a program it prints docs/parity.md: ``python tests/parity.py > docs/parity.md``.
"""

import base64
import http.client
import json
import ssl
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kubewitness.capture.proxy import Forwarding
from kubewitness.codec import encode
from kubewitness.testing import FakeAPIServer
from proxies import RunningProxy, proxy
from vectors import DATA, POLICIES, recorded, transcript

WHO = {
    "admin": ("kubernetes-admin", "system:masters"),
    "alice": ("alice@example.com", "developers"),
    "bob": ("bob@example.com", "sre", "oncall"),
}
LOST = {("all", "cm-apply-yaml"), ("all", "cm-patch-badjson")}
"""Events that the real server could not encode: the last one of each is missing there."""

FIELDS = (
    "level",
    "auditID",
    "stage",
    "requestURI",
    "verb",
    "user",
    "impersonatedUser",
    "userAgent",
    "sourceIPs",
    "objectRef",
    "responseStatus",
    "responseObject",
    "requestObject of patches",
)

# What differs, by name: the fields, the cases, and why.
KNOWN: list[tuple[str, set[str], str]] = [
    (
        "responseStatus",
        {"nonres-head", "res-head"},
        "An answer to HEAD has no body, so no Status goes over the wire; the code is equal.",
    ),
    (
        "responseObject",
        {"nonres-head", "res-head"},
        "The same.",
    ),
    (
        "responseObject",
        {"cm-get-protobuf"},
        "An answer in protobuf is not decoded; `kubewitness.io/not-recorded` says so.",
    ),
    (
        "responseObject",
        {"cm-get-yaml"},
        "An answer in YAML is recorded as it is, as a JSON string.",
    ),
    (
        "objectRef",
        {"cm-create-yaml"},
        "The name in a body of YAML is not read.",
    ),
]


class Row(NamedTuple):
    """One event compared: what each field is on both sides."""

    case: str
    ours: dict[str, Any]
    theirs: dict[str, Any]


def body_of(case: dict[str, Any]) -> bytes | None:
    body = case["body"]
    if body is None:
        return None
    if "base64" in body:
        return base64.b64decode(body["base64"])
    text: str = body["text"]
    return text.replace("x" * 10, "x" * body["xs"], 1).encode() if "xs" in body else text.encode()


def send(
    connections: dict[str, http.client.HTTPSConnection], case: dict[str, Any]
) -> tuple[int, bytes]:
    """Send one recorded request exactly as it was, and return the answer."""
    connection = connections[case["who"]]
    connection.putrequest(case["method"], case["path"], skip_accept_encoding=True)
    for name, value in case["headers"].items():
        connection.putheader(name, value.encode())
    body = body_of(case)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def connections(running: RunningProxy) -> dict[str, http.client.HTTPSConnection]:
    nobody = running.client_context()
    contexts: dict[str, ssl.SSLContext] = {who: running.user(*names) for who, names in WHO.items()}
    contexts |= {"anon": nobody, "badtoken": nobody}
    return {
        who: http.client.HTTPSConnection("127.0.0.1", running.port, context=context, timeout=20)
        for who, context in contexts.items()
    }


def their_events(name: str) -> dict[str, list[dict[str, Any]]]:
    cases: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in recorded(f"{name}.events.jsonl").split(b"\n"):
        if line:
            event = json.loads(line)
            cases[event["auditID"]].append(event)
    return cases


def our_events(running: RunningProxy, count: int) -> dict[str, list[dict[str, Any]]]:
    cases: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in running.events(count):
        cases[event.audit_id].append(json.loads(encode(event)))
    return cases


class Run(NamedTuple):
    """All cases of one policy, sent: the events of both sides, and the answers that differ."""

    name: str
    ours: dict[str, list[dict[str, Any]]]
    theirs: dict[str, list[dict[str, Any]]]
    answers: dict[str, tuple[Any, Any]]


def run(name: str, place: Path, *, forwarding: Forwarding = Forwarding.FRONT_PROXY) -> Run:
    """Send the cases recorded under a policy to a proxy with that policy."""
    cases, theirs = transcript(name), their_events(name)
    ids = {case["id"] for case in cases}
    theirs = {case: events for case, events in theirs.items() if case in ids}
    expected = sum(map(len, theirs.values())) + sum(policy == name for policy, _ in LOST)
    policy = (DATA / "conformance" / f"{name}.policy.yaml").read_text()
    differing = {}
    with FakeAPIServer(cases, may=may) as server:
        kubeconfig = server.write_kubeconfig(place / "kubeconfig", common_name="front-proxy-client")
        if forwarding is Forwarding.IMPERSONATE:
            kubeconfig = server.write_kubeconfig(place / "kubeconfig")
        with proxy(
            server, place, policy=policy, forwarding=forwarding, kubeconfig=kubeconfig
        ) as running:
            clients = connections(running)
            for case in cases:
                answer = send(clients, case)
                if answer != _answer_of(case):
                    differing[case["id"]] = (answer, _answer_of(case))
            ours = our_events(running, expected)
            for client in clients.values():
                client.close()
    return Run(name, ours, theirs, differing)


def may(spec: dict[str, Any]) -> bool:
    """Judge as the recorded cluster: bob and the masters may impersonate."""
    return spec["user"] == "bob@example.com" or "system:masters" in spec["groups"]


def _answer_of(case: dict[str, Any]) -> tuple[int, bytes]:
    response = case["response"]
    body = response["body"] or {"text": ""}
    data = base64.b64decode(body["base64"]) if "base64" in body else body["text"].encode()
    return response["status"], data


def rows(done: Run) -> Iterator[Row]:
    """Pair the events of both sides, in order."""
    for case, theirs in done.theirs.items():
        ours = done.ours.get(case, [])
        if (done.name, case) in LOST:
            ours = ours[: len(theirs)]
        for index in range(max(len(ours), len(theirs))):
            yield Row(
                case,
                dict(comparable(ours[index])) if index < len(ours) else {},
                dict(comparable(theirs[index])) if index < len(theirs) else {},
            )


def comparable(event: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of an event that a proxy can know."""
    for field in FIELDS:
        if field == "user":
            yield field, _user(event["user"])
        elif field == "requestObject of patches":
            yield field, event.get("requestObject") if event["verb"] == "patch" else None
        else:
            yield field, event.get(field)


def _user(user: dict[str, Any]) -> dict[str, Any]:
    """Blank the digest of the certificate, which is another one than was recorded."""
    extra = {
        key: [value.partition("=")[0] for value in values]
        for key, values in user.get("extra", {}).items()
    }
    return {**user, "extra": extra}


def unknown_differences(done: Run) -> list[str]:
    """Return every difference that is not among the known ones."""
    return [
        f"{row.case}: {field}: ours {row.ours.get(field)!r}, theirs {row.theirs.get(field)!r}"
        for row in rows(done)
        for field in FIELDS
        if row.ours.get(field, _MISSING) != row.theirs.get(field, _MISSING)
        and not any(field == known and row.case in cases for known, cases, _ in KNOWN)
    ]


_MISSING = "no event"


def table(runs: list[Run]) -> str:
    """Return docs/parity.md."""
    lines = [_INTRODUCTION, f"| field | {' | '.join(run.name for run in runs)} |"]
    lines.append("|---|" + "---|" * len(runs))
    lines += [f"| {field} | {' | '.join(_share(run, field) for run in runs)} |" for field in FIELDS]
    lines += ["", "What differs, and why:", "", "| field | cases | reason |", "|---|---|---|"]
    lines += [f"| {field} | {_named(cases)} | {reason} |" for field, cases, reason in KNOWN]
    return "\n".join([*lines, ""])


def _named(cases: set[str]) -> str:
    return ", ".join(f"`{case}`" for case in sorted(cases))


def _share(done: Run, field: str) -> str:
    """Return in how many events a field is equal, of how many."""
    counts = Counter(row.ours.get(field) == row.theirs.get(field) for row in rows(done))
    return f"{counts[True]} of {counts.total()}"


_INTRODUCTION = """\
# Parity of the proxy

<!-- Made by `python tests/parity.py > docs/parity.md`; a test compares the two. -->

153 requests, recorded with the answers of a real kube-apiserver 1.36.2 under five policies, \\
are sent by a real HTTP client through the proxy to a server that replays them. Each event of \\
the proxy is compared with the one that kube-apiserver wrote: in how many of them each field is \\
equal.
"""


def main() -> None:
    runs = []
    for name in POLICIES:
        with tempfile.TemporaryDirectory() as place:
            runs.append(run(name, Path(place)))
    sys.stdout.write(table(runs))


if __name__ == "__main__":
    main()
