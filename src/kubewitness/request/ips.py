"""Who sent a request: the ``sourceIPs`` of its event, from the client inwards.

Everything but the last address is the client's word. Which peers may be believed is a question
for the reader of the log, not for this module.

Source: audit specification section 5.5; apimachinery ``pkg/util/net/http.go``.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

_HOST_PORT = re.compile(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):[^:\[\]]*")
_LEADING_ZEROS = re.compile(r"(?<![0-9A-Fa-f])0+(?=[0-9A-Fa-f])")
_MAX_CACHED = 1024
_MAX_CACHED_LENGTH = 45


def source_ips(remote_address: str, x_forwarded_for: str, x_real_ip: str) -> tuple[str, ...]:
    """Return the addresses of a request, canonical, the direct peer last. Never raises.

    Args:
        remote_address: The peer, as ``host:port`` or a bare address.
        x_forwarded_for: The *first* ``X-Forwarded-For`` header line, ``""`` without one.
        x_real_ip: The ``X-Real-Ip`` header, ``""`` without one.

    Texts that are no address are left out. A real IP is added when the chain lacks it, the peer
    when it does not already end the chain.

    Source: audit specification section 5.5; vectors ``source_ips.json``.
    """
    chain = [ip for part in x_forwarded_for.split(",") if (ip := _canonical(part.strip()))]
    real = _canonical(x_real_ip)
    if real and real not in chain:
        chain.append(real)
    peer = _peer(remote_address)
    if peer and chain[-1:] != [peer]:
        chain.append(peer)
    return tuple(chain)


def _peer(remote_address: str) -> str:
    match = _HOST_PORT.fullmatch(remote_address)
    host = (match["bracketed"] or match["host"] or "") if match else ""
    return _canonical(host) or _canonical(remote_address)


def _canonical(text: str) -> str:
    """Return the canonical form of an address, ``""`` if the text is none.

    Leading zeros are dropped (``010.0.0.1`` is 10.0.0.1, never octal) and an IPv4 address in IPv6
    clothing comes out as IPv4. Zones are refused.
    """
    if not text or "%" in text:
        return ""
    return _cached(text) if len(text) <= _MAX_CACHED_LENGTH else _read(text)


def _read(text: str) -> str:
    digits = _LEADING_ZEROS.sub("", text)
    try:
        if ":" not in digits:
            return str(IPv4Address(digits))
        address = IPv6Address(digits)
    except ValueError:
        return ""
    return str(address.ipv4_mapped or address)


_cached = lru_cache(_MAX_CACHED)(_read)
