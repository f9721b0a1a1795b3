"""The resolution of requests: the real server's answers, and its long-running ones."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.errors import RequestError
from kubewitness.request import RequestInfo, is_long_running, normalize_target, resolve
from vectors import vectors

CASES = vectors("requestinfo")
RENAMED = {
    "is_resource_request": "isResourceRequest",
    "api_prefix": "apiPrefix",
    "api_group": "apiGroup",
    "api_version": "apiVersion",
    "field_selector": "fieldSelector",
    "label_selector": "labelSelector",
}
SEGMENTS = st.sampled_from(
    [
        "",
        "api",
        "apis",
        "v1",
        "apps",
        "watch",
        "proxy",
        "namespaces",
        "blue",
        "status",
        "log",
        "%2f",
    ]
)
TARGETS = st.lists(SEGMENTS, max_size=8).map(lambda parts: "/" + "/".join(parts))
QUERIES = st.text("watchlimfedSor=&%3D,.0!()", max_size=20).map("?".__add__)


def as_vector(info: RequestInfo) -> dict[str, Any]:
    fields = msgspec.structs.asdict(info) | {"parts": list(info.parts)}
    return {RENAMED.get(name, name): value for name, value in fields.items()}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vector(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(RequestError) as refused:
            resolve(case["method"], case["url"])
        assert (refused.value.status, str(refused.value)) == (500, case["error"])
    else:
        assert as_vector(resolve(case["method"], case["url"])) == case["expect"]


def test_the_error_names_the_normalised_url() -> None:
    with pytest.raises(RequestError) as refused:
        resolve("GET", "http://h/api/v1/wat%63h/?a|b")
    assert str(refused.value).endswith(" from url, /api/v1/wat%63h/?a|b")


def test_a_malformed_target_is_a_400() -> None:
    with pytest.raises(RequestError) as refused:
        resolve("GET", "/api/v1/pods/%zz")
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("fieldSelector=metadata.name%3Dx&limit=", ""),
        ("fieldSelector=metadata.name%3Dx&limit=5&limit=z", "x"),
        ("fieldSelector=metadata.name%3Dx&labelSelector=a%20in%20%28b%29", "x"),
        ("fieldSelector=metadata.name%3Dx&labelSelector=a%3Db%3Dc", ""),
        ("fieldSelector=metadata.name%3Dx&watch=%zz&continue=%zz", "x"),
        ("fieldSelector=metadata.name%3Dx;&fieldSelector=metadata.name%3Dy", "y"),
        ("fieldselector=metadata.name%3Dx", ""),
    ],
)
def test_one_bad_option_drops_the_name(query: str, name: str) -> None:
    info = resolve("GET", f"/api/v1/pods?{query}")
    assert (info.verb, info.name) == ("list", name)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/v1/pods", False),
        ("GET", "/api/v1/pods?watch=1", True),
        ("GET", "/api/v1/watch/pods", True),
        ("GET", "/api/v1/proxy/nodes/n/x", True),
        ("GET", "/api/v1/namespaces/a/pods/p/log", True),
        ("GET", "/api/v1/namespaces/a/pods/p/log?follow=true", True),
        ("POST", "/api/v1/namespaces/a/pods/p/exec", True),
        ("GET", "/api/v1/namespaces/a/pods/p/attach", True),
        ("POST", "/api/v1/namespaces/a/pods/p/portforward", True),
        ("GET", "/api/v1/namespaces/a/services/s/proxy/x", True),
        ("GET", "/api/v1/nodes/n/proxy/metrics", True),
        ("GET", "/apis/any.group/v1/things/t/log", True),
        ("POST", "/api/v1/namespaces/a/pods/p/eviction", False),
        ("GET", "/api/v1/namespaces/a/pods/p/status", False),
        ("GET", "/debug/pprof/profile", True),
        ("GET", "/debug/pprof/", True),
        ("GET", "/debug/pprof", False),
        ("GET", "/healthz", False),
        ("GET", "/logs/exec", False),
        ("WATCH", "/healthz", True),
    ],
)
def test_long_running(method: str, target: str, *, expected: bool) -> None:
    assert is_long_running(resolve(method, target)) is expected


@given(st.text(), st.one_of(st.text(), st.builds("{}{}".format, TARGETS, QUERIES)))
def test_any_request_is_resolved_or_refused(method: str, target: str) -> None:
    status, info = 200, RequestInfo()
    try:
        info = resolve(method, target)
    except RequestError as refused:
        status = refused.status
    assert status in {200, 400, 500}
    assert info.is_resource_request is bool(info.parts)


@given(st.sampled_from(["GET", "POST", "DELETE", "OPTIONS"]), TARGETS, QUERIES)
def test_resolving_the_normalised_target_is_the_same(method: str, path: str, query: str) -> None:
    try:
        info = resolve(method, path + query)
    except RequestError:
        return
    assert resolve(method, normalize_target(path + query)[0]) == info
