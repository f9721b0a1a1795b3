"""The door of the room."""

from kubewitness import request


def test_the_door_is_exactly_this() -> None:
    assert request.__all__ == [
        "RequestAttributes",
        "RequestInfo",
        "attributes_of",
        "derive_object_ref",
        "is_long_running",
        "normalize_target",
        "object_reference",
        "parse_query",
        "resolve",
        "source_ips",
    ]
