"""The recorder against 56 runs of the real filter chain."""

import json
from typing import Any

import pytest

from filter_chain import Chain, comparable
from kubewitness.codec import encode
from vectors import vectors

CASES = vectors("chain_events")

# Where upstream is harmful the events differ, on purpose and only here.
OURS: dict[str, dict[str, Any]] = {
    # Upstream loses the last event, because the recorded patch is not JSON.
    "patch yaml": {"requestObject": "a: b\n"},
    "patch empty": {"requestObject": ""},
    # Upstream's bulk call panics at an odd count.
    "annot": {"stage": "ResponseComplete", "responseStatus": {"metadata": {}, "code": 200}},
}


def run(case: dict[str, Any]) -> Chain:
    chain = Chain(case)
    chain.run()
    return chain


def events_of(chain: Chain) -> list[dict[str, Any]]:
    return [dict(comparable(json.loads(encode(event)))) for event in chain.events]


def expected(case: dict[str, Any], audit_id: str) -> list[dict[str, Any]]:
    events = [dict(event) for event in case["events"]]
    for event in events:
        if event["auditID"] == "<UUID>":
            event["auditID"] = audit_id
    return events


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_events_are_upstreams(case: dict[str, Any]) -> None:
    chain = run(case)

    events, wanted = events_of(chain), expected(case, chain.audit_id)
    if case["name"] in OURS:
        assert events[0] == wanted[0]
        last = events[-1]
        assert len(events) == 2
        assert last["stage"] == "ResponseComplete"
        assert OURS[case["name"]].items() <= last.items()
    else:
        assert events == wanted


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_audits_own_answers_are_upstreams(case: dict[str, Any]) -> None:
    answer = run(case).own_answer

    is_audits = "Internal Server Error" in (case["response"] or {}).get("body", "") and (
        case["name"] != "errored"  # that answer is the authorization filter's
    )
    assert (answer is not None) == is_audits
    if answer is not None:
        assert answer.status == case["response"]["status"]
        assert answer.body.decode() == case["response"]["body"]
        assert dict(answer.headers)["Content-Type"] == case["response"]["contentType"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_times_are_those_of_the_steps(case: dict[str, Any]) -> None:
    chain = run(case)

    for event in chain.events:
        assert event.request_received_timestamp == "2026-09-21T14:13:20.000000000Z"
        if event.stage == "RequestReceived":
            assert event.stage_timestamp == event.request_received_timestamp
