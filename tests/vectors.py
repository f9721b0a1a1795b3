"""The golden data of the tests: answers and recordings of the real API server."""

import gzip
import json
from importlib import resources
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
POLICIES = ("all", "metadata", "gce", "seed", "features")


def vectors(name: str) -> list[dict[str, Any]]:
    """Return the cases of one vector file, for example ``requestinfo``."""
    document = json.loads(gzip.decompress((DATA / "vectors" / f"{name}.json.gz").read_bytes()))
    cases: list[dict[str, Any]] = document["vectors"]
    return cases


def recorded(name: str) -> bytes:
    """Return one recorded file, decompressed, for example ``all.events.jsonl``."""
    return gzip.decompress((DATA / "conformance" / f"{name}.gz").read_bytes())


def cluster_log() -> bytes:
    """Return five minutes of a small cluster, as its API server logged them."""
    return gzip.decompress(
        (resources.files("kubewitness") / "data/cluster.audit.log.gz").read_bytes()
    )


def transcript(policy: str = "all") -> list[dict[str, Any]]:
    """Return the 153 requests sent to the real server, with its answers."""
    lines = recorded(f"{policy}.transcript.jsonl").split(b"\n")
    return [json.loads(line) for line in lines if line]
