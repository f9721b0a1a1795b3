"""What is read of protobuf: a Status, an object's metadata, and nothing else."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.event import (
    NO_OBJECT,
    ObjectReference,
    Status,
    StatusCause,
    StatusDetails,
    UserInfo,
)
from kubewitness.recorder.protobuf import MAGIC, reference_of, status_of
from test_recorder_bodies import PROTOBUF, body, ended, opened
from vectors import transcript

Field = tuple[int, "int | bytes | str | list[Field]"]


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def message(fields: list[Any]) -> bytes:
    """Encode a message: numbers, texts, bytes and messages by their field numbers."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
            continue
        data = value.encode() if isinstance(value, str) else value
        data = message(data) if isinstance(data, list) else data
        out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def wrapped(api_version: str, kind: str, fields: list[Any]) -> bytes:
    return MAGIC + message(
        [(1, [(1, api_version), (2, kind)]), (2, message(fields)), (3, ""), (4, "")]
    )


NOT_FOUND = wrapped(
    "v1",
    "Status",
    [
        (1, []),
        (2, "Failure"),
        (3, 'pods "web" not found'),
        (4, "NotFound"),
        (
            5,
            [
                (1, "web"),
                (2, ""),
                (3, "pods"),
                (4, [(1, "R"), (2, "m"), (3, "f")]),
                (5, 3),
                (6, "u"),
            ],
        ),
        (6, 404),
    ],
)


def recorded_map() -> bytes:
    (case,) = [case for case in transcript() if case["id"] == "cm-get-protobuf"]
    return base64.b64decode(case["response"]["body"]["base64"])


def test_a_status_is_read_with_its_details() -> None:
    assert status_of(NOT_FOUND) == Status(
        status="Failure",
        message='pods "web" not found',
        reason="NotFound",
        details=StatusDetails(
            name="web",
            kind="pods",
            uid="u",
            causes=(StatusCause(reason="R", message="m", field="f"),),
            retry_after_seconds=3,
        ),
        code=404,
    )


def test_the_metadata_of_what_the_real_server_sent_is_read() -> None:
    reference = reference_of(recorded_map())

    assert reference is not None
    assert (reference.name, reference.namespace) == ("one", "team-a")
    assert reference.uid
    assert reference.resource_version.isdigit()
    assert status_of(recorded_map()) is None


def test_a_refusal_in_protobuf_tells_how_the_request_ended() -> None:
    audit = opened("Metadata", "GET", "/api/v1/namespaces/shop/pods/web")
    assert audit.keeps_response_body(404, PROTOBUF)
    audit.record_response_body(body(NOT_FOUND, PROTOBUF))

    status = ended(audit, 404).response_status
    assert status is not None
    assert (status.reason, status.code) == ("NotFound", 404)


def test_an_object_in_protobuf_completes_the_reference_but_is_not_recorded() -> None:
    audit = opened("Request", "POST")
    audit.record_request_body(body(recorded_map(), PROTOBUF))
    event = ended(audit, 201)

    assert event.object_ref is not None
    assert event.object_ref.name == "one"
    assert event.request_object is NO_OBJECT
    assert event.annotations == {"kubewitness.io/not-recorded": f"requestObject: {PROTOBUF}"}


def test_at_metadata_nothing_is_said_of_objects_that_nobody_asked_for() -> None:
    audit = opened("Metadata", "POST")
    audit.record_request_body(body(recorded_map(), PROTOBUF))
    audit.record_response_body(body(recorded_map(), PROTOBUF))
    assert ended(audit, 201).annotations == {}


def test_an_impersonation_that_was_refused_in_protobuf_is_not_noted() -> None:
    told = (
        'users "bob" is forbidden: User "ann" cannot impersonate resource "users" in API group ""'
    )
    refusal = wrapped(
        "v1",
        "Status",
        [(2, "Failure"), (3, told), (4, "Forbidden"), (5, [(1, "bob"), (3, "users")]), (6, 403)],
    )
    audit = opened("Metadata", "GET")
    audit.impersonate_if_allowed(UserInfo(username="bob"))
    audit.record_response_body(body(refusal, PROTOBUF))
    assert ended(audit, 403).impersonated_user is None


def test_an_impersonation_is_not_noted_when_the_refusal_cannot_be_read() -> None:
    audit = opened("Metadata", "HEAD")
    audit.impersonate_if_allowed(UserInfo(username="bob"))
    assert ended(audit, 403).impersonated_user is None


@pytest.mark.parametrize(
    "fields",
    [
        [(1, [(1, "decoy"), (1, "one")])],
        [(1, [(1, "decoy")]), *[(2, "")] * 9000, (1, [(1, "one")])],
        [(1, [(1, "one")]), (1, [(5, "")])],
    ],
)
def test_the_name_is_the_one_that_go_reads(fields: list[Any]) -> None:
    reference = reference_of(wrapped("v1", "ConfigMap", fields))
    assert reference is not None
    assert reference.name == "one"


def test_fields_in_a_group_are_skipped_as_go_does() -> None:
    start, end = varint(9 << 3 | 3), varint(9 << 3 | 4)
    metadata = message([(1, [(1, "one")])])
    decoy = message([(1, [(1, "decoy")])])
    data = MAGIC + message([(2, metadata + start + decoy + end)])
    reference = reference_of(data)
    assert reference is not None
    assert reference.name == "one"


@pytest.mark.parametrize("filler", [b"\x10\0", b"\x12\0", b"\x0a\0"])
def test_who_sends_more_fields_than_anybody_needs_names_nothing(filler: bytes) -> None:
    padded = MAGIC + message([(1, [(1, "v1"), (2, "ConfigMap")]), (2, filler * 30_000)])
    assert reference_of(padded) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        MAGIC,
        MAGIC + b"\xff" * 20,
        MAGIC + b"\x0a\xff\xff\xff\x7f",
        NOT_FOUND[:-3],
        NOT_FOUND[4:],
        wrapped("v2", "Status", [(3, "m")]),
        MAGIC + message([(1, 5), (2, 7)]),
        wrapped("v1", "Status", [(3, b"\xff"), (6, 404)]),
        wrapped("v1", "Status", [(6, b"x")]),
        wrapped("v1", "ConfigMap", [(1, 5)]),
    ],
)
def test_anything_else_says_nothing(data: bytes) -> None:
    assert status_of(data) is None
    assert reference_of(data) in (None, ObjectReference())


@given(st.binary(max_size=100))
def test_whatever_the_bytes_are_nothing_is_raised(data: bytes) -> None:
    status_of(MAGIC + data)
    reference_of(MAGIC + data)


@given(st.integers(0, len(NOT_FOUND)), st.binary(min_size=1, max_size=4))
def test_a_damaged_status_is_one_or_none(at: int, damage: bytes) -> None:
    damaged = NOT_FOUND[:at] + damage + NOT_FOUND[at + len(damage) :]
    assert isinstance(status_of(damaged), Status | None)
