"""Where a server is, by its URL, and which proxy the environment puts before it: pure functions.

Not here: a kubeconfig's fields (`kubeconfig`), and connections.

Source: audit specification section 8.2; Go's ``net/url``, ``path.Join`` and
``golang.org/x/net/http/httpproxy``.
"""

import posixpath
import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from kubewitness.documents import quoted

_SCHEMES = {"http": 80, "https": 443}
_NAME = re.compile(r"[A-Za-z0-9._~-]+")
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_ENCODED_PATH = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:@/\[\]-]*")
_NO_PROXY_PORT = re.compile(r"(?:\[(?P<v6>[^]]*)\]|(?P<name>[^:]*)):(?P<port>[^:]*)")


class Address(NamedTuple):
    """The parts of an http or https URL that lead to a server; query and fragment do not.

    Attributes:
        host: In ASCII, without brackets.
        port: None where the URL has none.
        path: As it is written, percent-encoded or not.
        has_user: Whether the URL holds a user, with or without a password.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    has_user: bool


def with_scheme(text: str) -> str:
    """Return a URL; what has no scheme is a bare ``host:port``, which means http."""
    return text if "://" in text else f"http://{text}"


def parse_address(url: str) -> Address:
    """Take a URL apart.

    Raises:
        ValueError: It is not one of http or https. The text says why, and holds nothing of the URL
            but its scheme, because URLs may hold passwords.
    """
    if "://" not in url:
        raise ValueError("no scheme; write http:// or https:// before it")
    try:
        parts = urlsplit(url)
        host, port = _ascii(parts.hostname or ""), parts.port
    except ValueError:
        raise ValueError("not a URL with a host and a port") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"the scheme {quoted(parts.scheme)} is not supported, write http or https")
    if " " in url or not url.isprintable() or _BROKEN_ESCAPE.search(parts.path):
        raise ValueError("not a URL; percent-encode what may not stand in one")
    return Address(parts.scheme, host, port, parts.path, parts.username is not None)


def _ascii(host: str) -> str:
    if ":" in host:
        return str(IPv6Address(host))
    name = host.encode("idna").decode()
    if not _NAME.fullmatch(name):
        raise ValueError(host)
    return name


def is_host(text: str) -> bool:
    """Tell whether a text can be the name or the address of a host."""
    try:
        return bool(_ascii(text))
    except ValueError:
        return False


def request_url(address: Address, query: str) -> str:
    """Return the URL of a request to an address, without a user; its path is cleaned."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    port = "" if address.port is None else f":{address.port}"
    return f"{address.scheme}://{host}{port}{_clean(address.path)}?{query}"


def _clean(path: str) -> str:
    """Clean a path as ``path.Join`` does, and encode it anew unless nothing had to be cleaned."""
    decoded = unquote(path, errors="surrogateescape")
    cleaned = posixpath.normpath("/" + decoded.lstrip("/"))
    if cleaned == decoded and _ENCODED_PATH.fullmatch(path):
        return path
    return quote(cleaned, safe="/$&+,:;=@", errors="surrogateescape")


def proxy_variable(address: Address, environment: Mapping[str, str]) -> str | None:
    """Return the name of the variable that holds the proxy before an address, if there is one.

    As in Go, what is on this machine is never proxied, nor is what ``NO_PROXY`` names.
    """
    upper = f"{address.scheme}_proxy".upper()
    set_names = [name for name in (upper, upper.lower()) if environment.get(name)]
    exempt = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    return set_names[0] if set_names and not _is_direct(address, exempt) else None


def _is_direct(address: Address, exempt: str) -> bool:
    host = address.host.lower()
    number = _number(host)
    if host == "localhost" or (number is not None and number.is_loopback):
        return True
    port = str(address.port or _SCHEMES[address.scheme])
    entries = [entry.strip().lower() for entry in exempt.split(",")]
    return any(_is_exempt(entry, host, port, number) for entry in entries if entry)


def _is_exempt(entry: str, host: str, port: str, number: IPv4Address | IPv6Address | None) -> bool:
    """Tell whether one entry of ``NO_PROXY`` covers a host: a network, an address or a domain."""
    if entry == "*":
        return True
    if "/" in entry:
        return _is_within(number, entry)
    found = _NO_PROXY_PORT.fullmatch(entry)
    name = (found["v6"] or found["name"] or "") if found else entry
    if not name or (found and found["port"] not in ("", port)):
        return False
    if (exempt := _number(name)) is not None:
        return exempt == number
    if name.startswith("*."):
        name = name[1:]
    return host == name or host.endswith("." + name.removeprefix("."))


def _is_within(number: IPv4Address | IPv6Address | None, network: str) -> bool:
    try:
        return number is not None and number in ip_network(network, strict=False)
    except ValueError:
        return False


def _number(host: str) -> IPv4Address | IPv6Address | None:
    try:
        number = ip_address(host)
    except ValueError:
        return None
    return getattr(number, "ipv4_mapped", None) or number
