"""153 recorded requests under five policies, through the proxy: the real server's events."""

from pathlib import Path

import pytest

import parity
from kubewitness.capture.proxy import Forwarding
from vectors import POLICIES

PARITY = Path(__file__).parent.parent / "docs" / "parity.md"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, parity.Run]:
    return {name: parity.run(name, tmp_path_factory.mktemp(name)) for name in POLICIES}


@pytest.mark.parametrize("name", POLICIES)
def test_every_field_that_a_proxy_can_know_is_the_real_servers(
    name: str, runs: dict[str, parity.Run]
) -> None:
    assert parity.unknown_differences(runs[name]) == []


@pytest.mark.parametrize("name", POLICIES)
def test_there_is_no_event_more_and_none_less(name: str, runs: dict[str, parity.Run]) -> None:
    ours, theirs = runs[name].ours, runs[name].theirs
    lost = {case for policy, case in parity.LOST if policy == name}

    for case in ours.keys() | theirs.keys():
        missing = 1 if case in lost else 0
        assert len(ours.get(case, [])) == len(theirs.get(case, [])) + missing, case


@pytest.mark.parametrize("name", POLICIES)
def test_every_answer_reaches_the_client_as_it_was(name: str, runs: dict[str, parity.Run]) -> None:
    assert runs[name].answers == {}


def test_nothing_is_invented(runs: dict[str, parity.Run]) -> None:
    for run in runs.values():
        for events in run.ours.values():
            for event in events:
                keys = event.get("annotations", {})
                assert all(key.startswith("kubewitness.io/") for key in keys), event
                assert "authenticationMetadata" not in event


def test_the_known_differences_still_are_some(runs: dict[str, parity.Run]) -> None:
    for field, cases, _ in parity.KNOWN:
        for case in cases:
            assert any(
                row.case == case and row.ours.get(field) != row.theirs.get(field)
                for run in runs.values()
                for row in parity.rows(run)
            ), (field, case)


def test_the_table_in_the_docs_is_what_was_measured(runs: dict[str, parity.Run]) -> None:
    assert PARITY.read_text() == parity.table([runs[name] for name in POLICIES])


def test_users_that_the_proxy_impersonates_make_the_same_events(tmp_path: Path) -> None:
    run = parity.run("all", tmp_path, forwarding=Forwarding.IMPERSONATE)

    differing = parity.unknown_differences(run)
    # The proxy judges impersonation there, by the permission that all versions know, and says so.
    assert [each for each in differing if not each.startswith("imp-alice-forbidden:")] == []
    assert {each.split(": ")[1] for each in differing} == {"responseStatus", "responseObject"}
    assert run.answers.keys() == {"imp-alice-forbidden"}
    assert run.answers["imp-alice-forbidden"][0][0] == 403
