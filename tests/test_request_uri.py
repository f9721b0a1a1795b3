"""Targets and queries: normalised, decoded and refused as Go does it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.errors import RequestError
from kubewitness.request import normalize_target
from kubewitness.request.uri import parse_query
from vectors import vectors

CASES = vectors("request_uri")
WIRE_TEXT = st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))
ORIGIN_FORMS = st.text("abZ09-._~$&+,/:;=@!'()*[]%25aFz|\"\\^`{}<>#? é日", max_size=30).map(
    "/".__add__
)


@pytest.mark.parametrize("case", CASES, ids=[case["target"] for case in CASES])
def test_vector(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(RequestError) as refused:
            normalize_target(case["target"])
        assert refused.value.status == 400
    else:
        assert normalize_target(case["target"]) == (case["requestURI"], case["path"])


@pytest.mark.parametrize(
    "target",
    [
        "",
        "pods",
        "?a=b",
        "**",
        "*?a",
        "1http://h/x",
        "://h/x",
        "/a%",
        "/a%2",
        "/a%2g",
        "/a\tb",
        "/a\x7f",
        "/a?b\n",
        "/\ud800",
        "http://h:port/x",
        "http://h h/x",
        "http://h%41/x",
        "http://[::1/x",
        "http://a/b%zz",
        "http://u%zz@h/x",
    ],
)
def test_a_target_go_refuses_is_a_400(target: str) -> None:
    with pytest.raises(RequestError) as refused:
        normalize_target(target)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("target", "uri", "path"),
    [
        ("http://h", "/", ""),
        ("http://h?x=/y", "/?x=/y", ""),
        ("HTTPS://u:p@[fe80::1%25eth0]:6443/a%2fb?x", "/a%2fb?x", "/a/b"),
        ("http:///x", "/x", "/x"),
        ("http:/x", "/x", "/x"),
        ("mailto:a@b?c", "a@b?c", ""),
        ("/x??", "/x??", "/x"),
        ("/%3f?%zz", "/%3f?%zz", "/?"),
        ("/a b", "/a%20b", "/a b"),
    ],
)
def test_rare_forms(target: str, uri: str, path: str) -> None:
    assert normalize_target(target) == (uri, path)


def test_bytes_that_are_not_utf8_survive() -> None:
    raw = b"/\xff%fe\xc3%a9?\xfd".decode("utf-8", "surrogateescape")
    uri, path = normalize_target(raw)
    assert uri == "/%FF%FE%C3%A9?\udcfd"
    assert path.encode("utf-8", "surrogateescape") == b"/\xff\xfe\xc3\xa9"


@given(st.one_of(st.text(), WIRE_TEXT, ORIGIN_FORMS))
def test_any_text_is_normalised_or_refused(target: str) -> None:
    status, uri, path = 200, "/", "/"
    try:
        uri, path = normalize_target(target)
    except RequestError as refused:
        status = refused.status
    assert status in {200, 400}
    assert uri
    assert path == "" or path[0] in "/*"


@given(st.one_of(WIRE_TEXT.map("/".__add__), ORIGIN_FORMS))
def test_normalising_twice_changes_nothing(target: str) -> None:
    try:
        uri, path = normalize_target(target)
    except RequestError:
        return
    assert normalize_target(uri) == (uri, path)


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        ("", {}),
        ("a", {"a": [""]}),
        ("a=", {"a": [""]}),
        ("a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        ("&&a=1&", {"a": ["1"]}),
        ("=1", {"": ["1"]}),
        ("a=b=c", {"a": ["b=c"]}),
        ("a+b=c+d%2B", {"a b": ["c d+"]}),
        ("a=%zz&b=%4&%=1&c=1", {"c": ["1"]}),
        ("a=1;b=2&c=3%3B4", {"c": ["3;4"]}),
        ("a=%ff", {"a": ["\udcff"]}),
        ("a=\ud800&b=1", {"b": ["1"]}),
        ("a=%E6%97%A5", {"a": ["日"]}),
    ],
)
def test_query(raw: str, values: dict[str, list[str]]) -> None:
    assert parse_query(raw) == values


def test_a_query_of_too_many_pairs_is_not_read() -> None:
    assert parse_query("&".join(["a=1"] * 10_000)) == {"a": ["1"] * 10_000}
    assert parse_query("&".join(["a=1"] * 10_001)) == {}


@given(st.one_of(st.text(), WIRE_TEXT, st.text("ab=&;%2f+")))
def test_a_query_never_raises_and_keys_have_values(raw: str) -> None:
    assert all(parse_query(raw).values())
