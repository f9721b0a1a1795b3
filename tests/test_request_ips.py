"""Source addresses: which texts count, in which order, and in which spelling."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubewitness.request import source_ips
from vectors import vectors

CASES = vectors("source_ips")
ADDRESSES = st.one_of(st.ip_addresses().map(str), st.text("0123456789abcf:.%[] x"), st.text())


@pytest.mark.parametrize("case", CASES, ids=[f"{n}" for n in range(len(CASES))])
def test_vector(case: dict[str, Any]) -> None:
    found = source_ips(case["remoteAddr"], case["xForwardedFor"], case["xRealIp"])
    assert list(found) == case["expect"]


@pytest.mark.parametrize(
    ("remote_address", "canonical"),
    [
        ("000010.0.0.255:1", "10.0.0.255"),
        ("1.2.3.4:", "1.2.3.4"),
        ("[1.2.3.4]:80", "1.2.3.4"),
        ("1::2:80", "1::2:80"),
        ("[2001:0DB8::00001]:80", "2001:db8::1"),
        ("[::ffff:010.1.1.1]:80", "10.1.1.1"),
        ("::1.2.3.4", "::102:304"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
    ],
)
def test_peer(remote_address: str, canonical: str) -> None:
    assert source_ips(remote_address, "", "") == (canonical,)


@pytest.mark.parametrize(
    "remote_address",
    [
        "",
        "[::1]",
        "[::1]80",
        "::1::",
        "1.2.3:80",
        "1.2.3.4.5",
        "0x1.2.3.4",
        "1.2.3.4%1",
        "1.2.3.\u0661",
    ],
)
def test_not_an_address(remote_address: str) -> None:
    assert source_ips(remote_address, "", "") == ()


@given(ADDRESSES, st.lists(ADDRESSES).map(", ".join), ADDRESSES)
def test_what_comes_out_is_canonical(peer: str, forwarded: str, real: str) -> None:
    found = source_ips(peer, forwarded, real)
    assert list(found) == [str(ip_address(ip)) for ip in found]
    assert source_ips("", ",".join(found), "") == found
