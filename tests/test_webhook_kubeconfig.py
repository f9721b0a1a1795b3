"""The webhook's kubeconfig: what is taken from it, where it leads, and every mistake in it.

`CLUSTER_MISTAKES` and `USER_MISTAKES` are the tables to add to: what is written in a kubeconfig
that is sound otherwise, and the problems it makes.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubewitness.backends.kubeconfig import Kubeconfig, load_kubeconfig
from kubewitness.errors import KubeconfigError

DIRECTORY = Path("/etc/audit")
SECRET = "hunter2"  # noqa: S105
PEM = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"
MANY: dict[str, Any] = {  # of what a file may hold, as much as goes together
    "as": "jane",
    "as-groups": ["a", "b"],
    "as-uid": "7",
    "as-user-extra": {"scopes": ["v", "w"]},
    "token": SECRET,
}


PATH = "clusters[0].cluster"
USER = "users[0].user"
NEEDS_HTTPS = "the server is http, write https:// before its host"


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def text_of(cluster: object, user: object = None, **top: object) -> bytes:
    """Return a kubeconfig whose current context has these sections."""
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    } | top
    return yaml.safe_dump(whole, sort_keys=False).encode()


def load(cluster: object, user: object = None, **top: object) -> Kubeconfig:
    return load_kubeconfig(text_of(cluster, user, **top), "webhook.yaml", directory=DIRECTORY)


def problems(data: bytes) -> list[str]:
    """Return the problems of a refused kubeconfig, as they are printed, without the source."""
    with pytest.raises(KubeconfigError) as refused:
        load_kubeconfig(data, "webhook.yaml", directory=DIRECTORY)
    assert SECRET not in str(refused.value)
    lines = str(refused.value).split("\n")
    assert all(line.startswith("webhook.yaml:") for line in lines)
    return [line.removeprefix("webhook.yaml:") for line in lines]


def fields(data: bytes, *, path: str = "") -> list[str]:
    """Return the problems without their positions, and without the path of their mapping."""
    texts = [line.split(" ", 1)[1] for line in problems(data)]
    return [text.removeprefix(path).lstrip(".: ") for text in texts]


HTTPS = {"server": "https://audit.example/k8s"}

CERTIFICATE = coded(PEM)
TAKEN_OF_CLUSTER: list[tuple[str, object, str, object]] = [
    ("server", "https://h:6443/k8s", "server", "https://h:6443/k8s"),
    ("server", "h:80", "server", "http://h:80"),
    ("certificate-authority", "ca.pem", "certificate_authority", DIRECTORY / "ca.pem"),
    ("certificate-authority", "/ca.pem", "certificate_authority", Path("/ca.pem")),
    ("certificate-authority-data", CERTIFICATE, "certificate_authority_data", PEM),
    ("insecure-skip-tls-verify", True, "insecure_skip_tls_verify", True),
    ("tls-server-name", "other", "tls_server_name", "other"),
    ("proxy-url", "http://p:3128", "proxy_url", "http://p:3128"),
    ("disable-compression", True, "disable_compression", True),
    ("unknown", True, "warnings", ()),
]


@pytest.mark.parametrize(("field", "value", "attribute", "expected"), TAKEN_OF_CLUSTER)
def test_a_field_of_the_cluster_is_taken(
    field: str, value: object, attribute: str, expected: object
) -> None:
    loaded = load(HTTPS | {field: value})

    assert getattr(loaded, attribute) == expected
    assert loaded.warnings == ()


TAKEN_OF_USER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"client-certificate": "c.pem", "client-key": "k.pem"},
        {"client_certificate": DIRECTORY / "c.pem", "client_key": DIRECTORY / "k.pem"},
    ),
    (
        {"client-certificate-data": CERTIFICATE, "client-key-data": coded(KEY)},
        {"client_certificate_data": PEM, "client_key_data": KEY},
    ),
    ({"client-certificate": "c.pem", "client-key-data": coded(KEY)}, {"client_key_data": KEY}),
    ({"token": SECRET}, {"token": SECRET}),
    ({"tokenFile": "t"}, {"token_file": DIRECTORY / "t"}),
    ({"username": "jane", "password": SECRET}, {"username": "jane", "password": SECRET}),
    ({"as": "jane", "as-uid": "7"}, {"impersonate": "jane", "impersonate_uid": "7"}),
    (MANY, {"impersonate_groups": ("a", "b"), "impersonate_extra": (("scopes", ("v", "w")),)}),
    ({"unknown": {}}, {"warnings": ()}),
]


@pytest.mark.parametrize(("user", "expected"), TAKEN_OF_USER)
def test_a_field_of_the_user_is_taken(user: dict[str, Any], expected: dict[str, Any]) -> None:
    loaded = load(HTTPS, user)

    assert {name: getattr(loaded, name) for name in expected} == expected
    assert SECRET not in repr(loaded)


def test_json_and_a_context_without_user_are_fine() -> None:
    text = json.dumps(
        yaml.safe_load(text_of(HTTPS, contexts=[{"name": "main", "context": {"cluster": "c"}}]))
    )

    assert load_kubeconfig(text.encode(), "-", directory=DIRECTORY).server == HTTPS["server"]


def test_what_no_context_chose_may_be_incomplete() -> None:
    others = [{"name": "other", "cluster": {"server": "ftp://x"}}, {"name": "c", "cluster": HTTPS}]

    loaded = load({}, clusters=others, users=[{"name": "u"}, {"name": "v", "user": {"exec": {}}}])

    assert loaded.server == HTTPS["server"]


TLS = "certificate-authority, insecure-skip-tls-verify"
CA_WINS = "certificate-authority; certificate-authority-data is set, too, and wins"
WARNED: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    (
        {"server": "http://h", "disable-compression": True},
        {"token": SECRET, "as": "jane", "exec": {"command": "x"}},
        [f"{USER}: not sent: token, as, exec; {NEEDS_HTTPS}"],
    ),
    (
        {"server": "h:80", "certificate-authority": "x", "insecure-skip-tls-verify": True},
        {},
        [f"{PATH}: not used: {TLS}; {NEEDS_HTTPS}"],
    ),
    (
        HTTPS | {"certificate-authority": "x", "certificate-authority-data": CERTIFICATE},
        {"tokenFile": "t", "token": SECRET},
        [
            f"{PATH}: not used: {CA_WINS}",
            f"{USER}: not sent: token; tokenFile is set, too, and wins",
        ],
    ),
    ({"server": "http://h", "disable-compression": True}, {}, []),
]


@pytest.mark.parametrize(("cluster", "user", "expected"), WARNED)
def test_what_has_no_effect_is_said(
    cluster: dict[str, Any], user: dict[str, Any], expected: list[str]
) -> None:
    loaded = load(cluster, user)

    assert [str(warning).split(" ", 1)[1] for warning in loaded.warnings] == expected
    assert SECRET not in repr(loaded)


def test_to_an_http_server_nothing_of_the_user_is_kept() -> None:
    loaded = load({"server": "HTTP://h"}, MANY | {"client-key": "k", "tokenFile": "t"})

    assert loaded == Kubeconfig(server="HTTP://h", warnings=loaded.warnings)


NO_BOOLEAN = "expected a boolean, found a string; write true or false, without quotes"
CLUSTER_MISTAKES = {  # by the YAML of a cluster
    "{}": [
        'server: missing; write the URL that events are sent to, for example "https://host/path"'
    ],
    "{server: ftp://h}": ['server: the scheme "ftp" is not supported, write http or https'],
    "{server: 'https://'}": ["server: not a URL with a host and a port"],
    "{server: https://h:99999}": ["server: not a URL with a host and a port"],
    "{server: 'https://[::1'}": ["server: not a URL with a host and a port"],
    "{server: https://a..b}": ["server: not a URL with a host and a port"],
    "{server: https://h/a b}": ["server: not a URL; percent-encode what may not stand in one"],
    "{server: https://h/%zz}": ["server: not a URL; percent-encode what may not stand in one"],
    "{server: h:80/path}": ["server: a path, but no scheme; write http:// or https:// before it"],
    "{server: https://jane:hunter2@h}": [
        "server: the URL holds a user; write username and password in the user section"
    ],
    "{server: https://h, proxy-url: socks5://jane:hunter2@p}": [
        'proxy-url: the scheme "socks5" is not supported, write http or https'
    ],
    "{server: https://h, proxy-url: hunter2@p:3128}": [
        "proxy-url: no scheme; write http:// or https:// before it"
    ],
    "{server: https://h, proxy-url: 'http://jane:hunter2@'}": [
        "proxy-url: not a URL with a host and a port"
    ],
    "{server: https://h, insecure-skip-tls-verify: true, certificate-authority: x}": [
        "insecure-skip-tls-verify: with it no certificate-authority is used; remove one of the two"
    ],
    "{server: https://h, certificate-authority-data: hunter2}": [
        'certificate-authority-data: not base64; write what "base64 -w0 FILE" prints'
    ],
    "{server: https://h, certificate-authority-data: aHVudGVyMg==}": [
        'certificate-authority-data: not the base64 of PEM ("-----BEGIN …CERTIFICATE-----")'
    ],
    "{server: 5, disable-compression: 'yes'}": [
        "server: expected a string, found a number; write it in quotes",
        f"disable-compression: {NO_BOOLEAN}",
    ],
    "[hunter2]": ["expected a mapping, found a list"],
    "hunter2": ["expected a mapping, found a string"],
}


@pytest.mark.parametrize("cluster", CLUSTER_MISTAKES)
def test_a_mistake_in_a_cluster_is_pointed_at(cluster: str) -> None:
    found = fields(text_of(yaml.safe_load(cluster)), path=PATH)

    assert found == CLUSTER_MISTAKES[cluster]


NEEDS_KEY = "client-key: missing; write client-key or client-key-data for the client-certificate"
NEEDS_CERTIFICATE = (
    "client-certificate: missing; "
    "write client-certificate or client-certificate-data for the client-key"
)
TWO_WAYS = "a token and a username or password, of which only one can be sent; remove one"
UNPRINTABLE = "it holds a line end or another control character; remove it"
INSTEAD = "use tokenFile, or client-certificate and client-key: they are read again on change"
USER_MISTAKES = {  # by the YAML of a user
    "{client-certificate: x}": [NEEDS_KEY],
    "{client-certificate: x, client-key: ''}": [NEEDS_KEY],
    "{client-key-data: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t}": [NEEDS_CERTIFICATE],
    "{client-certificate: x, client-key-data: eA==}": [
        'client-key-data: not the base64 of PEM ("-----BEGIN …PRIVATE KEY-----")'
    ],
    "{client-certificate: x, client-key-data: [hunter2]}": [
        "client-key-data: expected a string, found a list",
        NEEDS_KEY,
    ],
    "{token: hunter2, username: jane}": [TWO_WAYS],
    "{tokenFile: x, password: hunter2}": [TWO_WAYS],
    "{exec: {command: x}, auth-provider: {name: gcp}}": [
        f"auth-provider: auth-provider is not supported; {INSTEAD}",
        f"exec: exec is not supported; {INSTEAD}",
    ],
    "{as-uid: '7', as-groups: [g], as-user-extra: {k: [v]}}": [
        "as: missing; as-groups, as-uid, as-user-extra cannot be sent without it"
    ],
    '{as: "a\\nb", as-user-extra: {k: ["a\\0"]}, token: "hunter2\\n"}': [
        f"token: {UNPRINTABLE}",
        f"as: {UNPRINTABLE}",
        f"as-user-extra.k: {UNPRINTABLE}",
    ],
    "{as: jane, as-groups: hunter2, exec: hunter2, token: 7, as-user-extra: [hunter2]}": [
        "as-groups: expected a list, found a string",
        "exec: expected a mapping, found a string",
        "token: expected a string, found a number; write it in quotes",
        "as-user-extra: expected a mapping, found a list",
    ],
    "hunter2": ["expected a mapping, found a string"],
}


@pytest.mark.parametrize("user", USER_MISTAKES)
def test_a_mistake_in_a_user_is_pointed_at(user: str) -> None:
    assert fields(text_of(HTTPS, yaml.safe_load(user)), path=USER) == USER_MISTAKES[user]


NO_CONTEXT = ["current-context: missing; write the name of a context; known here: main"]
TOP_MISTAKES: list[tuple[dict[str, Any], list[str]]] = [
    ({"current-context": None}, NO_CONTEXT),
    ({"current-context": ""}, NO_CONTEXT),
    (
        {"current-context": "mian"},
        ['current-context: there is no context "mian", did you mean "main"?'],
    ),
    (
        {"contexts": []},
        ['current-context: there is no context "main"; "contexts" has none'],
    ),
    (
        {"contexts": [{"name": "main", "context": {"cluster": "v", "user": "w"}}]},
        [
            'contexts[0].context.cluster: there is no cluster "v"; known here: c',
            'contexts[0].context.user: there is no user "w"; known here: u',
        ],
    ),
    (
        {"contexts": [{"name": "main"}]},
        ["contexts[0].context.cluster: missing; write the name of a cluster; known here: c"],
    ),
    (
        {"users": [{"name": "u"}, {"name": "u"}, {}]},
        [
            'users[1].name: users[0] has the name "u", too; choose another',
            "users[2].name: missing; write a name for this user",
        ],
    ),
    ({"clusters": "hunter2"}, ["clusters: expected a list, found a string"]),
    ({"users": {"hunter2": 1}}, ["users: expected a list, found a mapping"]),
    (
        {"kind": "Policy"},
        ['kind: this is no kubeconfig; one has "apiVersion: v1" and "kind: Config"'],
    ),
]


@pytest.mark.parametrize(("top", "expected"), TOP_MISTAKES)
def test_a_mistake_in_the_names_is_pointed_at(top: dict[str, Any], expected: list[str]) -> None:
    assert fields(text_of(HTTPS, **top)) == expected


EMPTY = "1:1: it is empty; write clusters, contexts and current-context (and users)"
WHOLE_FILES = {
    b"": [EMPTY],
    b"{}": [EMPTY],
    b"hunter2": ["1:1: expected a mapping, found a string"],
    b"a: [": ["1:5: not YAML: expected the node content, but found '<stream end>'"],
    b"password: *hunter2": ["1:11: not YAML: found undefined alias; put the text in quotes"],
    b"password: !hunter2!x": ["1:11: not YAML: found undefined tag handle; put the text in quotes"],
    b"\xff\xff": ["1:1: not text in UTF-8: invalid start byte"],
    b"{a}": [
        '1:2: not JSON, as which a text that starts with "{" is read: object keys must be strings'
    ],
}


@pytest.mark.parametrize("data", WHOLE_FILES)
def test_a_file_that_is_no_kubeconfig(data: bytes) -> None:
    assert problems(data) == WHOLE_FILES[data]


def test_all_mistakes_come_at_once_with_their_places() -> None:
    text = b"""\
current-context: main
contexts:
- {name: main, context: {cluster: c, user: nobody}}
clusters:
- name: c
  cluster:
    server: ftp://h
    proxy-url: socks5://p
    certificate-authority-data: "%"
"""
    assert [line.split(" ")[:2] for line in problems(text)] == [
        ["9:33:", f"{PATH}.certificate-authority-data:"],
        ["3:44:", "contexts[0].context.user:"],
        ["7:13:", f"{PATH}.server:"],
        ["8:16:", f"{PATH}.proxy-url:"],
    ]
