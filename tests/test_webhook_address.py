"""Where the webhook's events are posted, and through which proxy, as Go's client would."""

import pytest

from kubewitness.backends.kubeconfig import Kubeconfig, post_url, proxy_of
from kubewitness.errors import KubeconfigError

SECRET = "hunter2"  # noqa: S105


@pytest.mark.parametrize(
    ("server", "url"),
    {
        "http://h:80": "http://h:80/",
        "https://h": "https://h/",
        "https://h/": "https://h/",
        "HTTPS://h:6443/a/b/": "https://h:6443/a/b",
        "https://h//a//../b/./c": "https://h/b/c",
        "https://h/../..": "https://h/",
        "https://h/a?x=1&timeout=5s#f": "https://h/a",
        "https://h/a%2Fb": "https://h/a%2Fb",
        "https://h/a%2Fb/": "https://h/a/b",
        "https://h/a%20b/é": "https://h/a%20b/%C3%A9",
        "https://h/%FF/": "https://h/%FF",
        "https://h/(a)": "https://h/(a)",
        "https://h/(a)/": "https://h/%28a%29",
        "https://[::1]:8443/x": "https://[::1]:8443/x",
        "https://bücher.example": "https://xn--bcher-kva.example/",
    }.items(),
)
def test_where_events_are_posted(server: str, url: str) -> None:
    assert post_url(Kubeconfig(server=server)) == url + "?timeout=30s"


def test_no_user_gets_into_the_address() -> None:
    assert post_url(Kubeconfig(server=f"https://jane:{SECRET}@h")) == "https://h/?timeout=30s"


PROXIES = {"HTTP_PROXY": "http://plain:1", "HTTPS_PROXY": "http://secure:2"}


@pytest.mark.parametrize(
    ("server", "environment", "proxy"),
    [
        ("http://h", PROXIES, "http://plain:1"),
        ("https://h", PROXIES, "http://secure:2"),
        ("https://h", {"HTTP_PROXY": "http://plain:1"}, None),
        ("https://h", {"https_proxy": "p:3", "HTTPS_PROXY": ""}, "http://p:3"),
        ("https://h", {"https_proxy": "p:3", "HTTPS_PROXY": "q:4"}, "http://q:4"),
        ("https://localhost", PROXIES, None),
        ("https://127.3.2.1", PROXIES, None),
        ("https://[::1]:8443", PROXIES, None),
        ("https://[::ffff:127.0.0.1]", PROXIES, None),
        ("https://localhost.example", PROXIES, "http://secure:2"),
        *(
            (
                f"https://{host}",
                PROXIES | {"no_proxy": exempt},
                None if direct else "http://secure:2",
            )
            for host, exempt, direct in [
                ("a.example", "*", True),
                ("a.example", "x, A.Example ,y", True),
                ("b.a.example", "a.example", True),
                ("ba.example", "a.example", False),
                ("a.example", ".a.example", False),
                ("a.example", "*.a.example", False),
                ("b.a.example", "*.a.example", True),
                ("b.a.example", "*a.example", False),
                ("a.example", "a.example:443", True),
                ("a.example:8443", "a.example:443", False),
                ("10.1.2.3", "10.0.0.0/8", True),
                ("10.1.2.3", "10.9.9.9/8", True),
                ("11.1.2.3", "10.0.0.0/8,10.0.0.0/99", False),
                ("10.1.2.3", "10.1.2.3:443", True),
                ("10.1.2.3", "10.1.2.4", False),
                ("[fe80::1]", "fe80::/10", True),
                ("[fe80::1]", "[fe80::1]:443", True),
                ("[fe80::1]", "fe80::1", True),
                ("a.example", ":443,,[]:443,", False),
            ]
        ),
    ],
)
def test_the_proxy_of_the_environment(
    server: str, environment: dict[str, str], proxy: str | None
) -> None:
    assert proxy_of(Kubeconfig(server=server), environment) == proxy


def test_the_proxy_of_the_file_comes_first() -> None:
    loaded = Kubeconfig(server="https://localhost", proxy_url=f"http://jane:{SECRET}@p")

    assert proxy_of(loaded, PROXIES) == f"http://jane:{SECRET}@p"
    assert SECRET not in repr(loaded)


def test_a_proxy_of_the_environment_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(KubeconfigError) as refused:
        proxy_of(Kubeconfig(server="https://h"), {"https_proxy": f"socks5://jane:{SECRET}@p"})

    assert (
        str(refused.value)
        == 'https_proxy: the scheme "socks5" is not supported, write http or https'
    )
