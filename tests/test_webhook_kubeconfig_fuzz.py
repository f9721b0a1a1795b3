"""Whatever the bytes: a Kubeconfig that leads to an address, or a KubeconfigError."""

import base64
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from kubewitness.backends.kubeconfig import load_kubeconfig, post_url, proxy_of
from kubewitness.errors import KubeconfigError


def kubeconfig(cluster: dict[str, Any], user: dict[str, Any]) -> bytes:
    whole = {
        "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    return yaml.safe_dump(whole).encode()


def load_somehow(data: bytes) -> None:
    try:
        loaded = load_kubeconfig(data, "webhook.yaml", directory=Path())
    except KubeconfigError as error:
        problems = error.problems
    else:
        assert str(URL(post_url(loaded), encoded=True)).endswith("?timeout=30s")
        URL(proxy_of(loaded, {"HTTPS_PROXY": "p:1"}) or "")
        problems = loaded.warnings
    assert all(problem.line >= 1 and str(problem).isprintable() for problem in problems)


@given(st.binary())
@example(b"- a")
@example(b"\xff\xfe")
def test_any_bytes_are_a_kubeconfig_or_a_kubeconfig_error(data: bytes) -> None:
    load_somehow(data)


PIECES = st.sampled_from(
    [
        "https://",
        "h",
        "é",
        ":",
        "80",
        "/",
        "..",
        "%2F",
        "%",
        "@",
        "[",
        "]",
        "::1",
        "?",
        "#",
        "\\",
        "\0",
        " ",
    ]
)
TEXTS = st.one_of(
    st.text(),
    st.lists(PIECES).map("".join),
    st.binary().map(lambda data: base64.b64encode(data).decode()),
)
VALUES = st.one_of(
    TEXTS, st.none(), st.booleans(), st.integers(), st.lists(TEXTS), st.dictionaries(TEXTS, TEXTS)
)
KEYS = (
    "server",
    "proxy-url",
    "certificate-authority",
    "certificate-authority-data",
    "tls-server-name",
)
USER_KEYS = (
    "token",
    "as",
    "as-uid",
    "as-groups",
    "as-user-extra",
    "tokenFile",
    "username",
    "client-key",
    "client-certificate-data",
    "exec",
)


@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES),
    st.dictionaries(st.sampled_from(USER_KEYS), VALUES),
    TEXTS,
)
def test_any_values_are_a_kubeconfig_or_a_kubeconfig_error(
    cluster: dict[str, Any], user: dict[str, Any], server: str
) -> None:
    load_somehow(kubeconfig(cluster, user))
    load_somehow(kubeconfig(cluster | {"server": server}, user))
    load_somehow(kubeconfig({"server": "https://h" + server}, user))
