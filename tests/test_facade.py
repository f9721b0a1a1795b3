"""The public names, and what importing them costs."""

import inspect
import json
import subprocess
import sys

import kubewitness
from kubewitness import errors

EXPECTED = [
    "DecodeError",
    "Decision",
    "EncodeError",
    "Event",
    "EventList",
    "Headers",
    "IncomingRequest",
    "KubewitnessError",
    "Level",
    "ObjectReference",
    "Policy",
    "PolicyError",
    "Problem",
    "Recorder",
    "RequestAttributes",
    "RequestAudit",
    "RequestError",
    "Stage",
    "StateError",
    "Status",
    "UserInfo",
    "attributes_of",
    "bundled_policies",
    "decode",
    "decode_all",
    "encode",
    "encode_legacy",
    "encode_list",
    "load_policy",
    "read_events",
    "resolve",
]


def test_the_public_names_are_these() -> None:
    assert sorted(kubewitness.__all__) == sorted(EXPECTED)
    assert all(inspect.getdoc(getattr(kubewitness, name)) for name in EXPECTED)


def test_import_loads_no_framework() -> None:
    script = "import kubewitness, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}

    assert loaded.isdisjoint(
        {
            "click",
            "rich",
            "aiohttp",
            "prometheus_client",
            "uvloop",
            "asyncio",
            "http",
            "logging",
            "socket",
            "ssl",
            "subprocess",
        }
    )


def test_every_error_is_in_the_tree_and_its_drawing() -> None:
    raised = [
        each
        for each in vars(errors).values()
        if inspect.isclass(each) and issubclass(each, Exception)
    ]

    assert all(issubclass(each, errors.KubewitnessError) for each in raised)
    assert all(each.__name__ in (errors.__doc__ or "") for each in raised)
