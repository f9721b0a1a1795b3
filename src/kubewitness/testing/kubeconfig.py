"""Kubeconfigs for what stands before the fake server, and for clients of it."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import yaml

from kubewitness.testing.certificates import Pair


def certificate_user(pair: Pair) -> dict[str, Any]:
    """Return a kubeconfig's user with a client certificate."""
    return {
        "client-certificate-data": b64encode(pair.certificate).decode(),
        "client-key-data": b64encode(pair.key).decode(),
    }


def write(path: Path, *, server: str, ca_pem: bytes, user: dict[str, Any]) -> Path:
    """Write a kubeconfig with one context, and return its path.

    Args:
        path: The file.
        server: The address of the API server.
        ca_pem: What the server's certificate is checked by; empty for plain HTTP.
        user: The credentials.
    """
    cluster = {"server": server}
    if ca_pem:
        cluster["certificate-authority-data"] = b64encode(ca_pem).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": cluster}],
        "users": [{"name": "fake", "user": user}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        "current-context": "fake",
    }
    path.write_text(yaml.safe_dump(document))
    return path
