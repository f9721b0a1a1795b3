"""docs/proxy.md and the manifests say what is there."""

import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from kubewitness.backends.kubeconfig import load_kubeconfig
from kubewitness.capture.proxy import Forwarding
from kubewitness.capture.proxy.forwarding import identifying_headers
from kubewitness.capture.proxy.impersonation import targets_of
from kubewitness.cli import main
from kubewitness.cli.proxy import proxy
from kubewitness.event import UserInfo
from kubewitness.metrics import ProxyMetrics
from kubewitness.options import FLAGS
from kubewitness.policy import bundled_policies
from kubewitness.recorder import Headers

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "proxy.md").read_text()
DEPLOY = ROOT / "deploy" / "proxy"


def documents() -> list[dict[str, Any]]:
    return [
        document
        for path in sorted(DEPLOY.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in documents() if each["kind"] == kind]


def test_every_flag_of_the_proxy_is_in_the_table_as_it_is() -> None:
    rows = re.findall(r"^\| `(--[\w-]+)` \| (.*?) \| (.*) \|$", DOCUMENT, re.MULTILINE)
    wanted = [
        (option.opts[0], option.help)
        for option in proxy.params
        if option.name != "audit_config" and hasattr(option, "help")
    ]

    assert [(flag, text) for flag, _, text in rows] == wanted


def test_every_metric_of_the_proxy_has_its_heading() -> None:
    registry = CollectorRegistry()
    ProxyMetrics(registry)
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in registry.collect()
    }

    assert set(re.findall(r"^### (kubewitness_\w+)$", DOCUMENT, re.MULTILINE)) == names


def test_the_manifests_are_all_in_the_kustomization() -> None:
    (kustomization,) = of_kind("Kustomization")
    generated = kustomization["configMapGenerator"][0]["files"]
    named = {"kustomization.yaml", *kustomization["resources"], *generated}

    assert {path.name for path in DEPLOY.iterdir()} == named


def test_the_deployment_starts_the_proxy_with_flags_that_exist() -> None:
    (deployment,) = of_kind("Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    command, *flags = container["args"]
    known = {option.opts[0] for option in proxy.params} | {flag.argument for flag in FLAGS}

    assert command in main.commands
    assert {flag.partition("=")[0] for flag in flags} <= known
    needed = {option.opts[0] for option in proxy.params if option.required}
    assert needed <= {flag.partition("=")[0] for flag in flags}


def test_every_file_that_a_flag_names_is_mounted() -> None:
    (deployment,) = of_kind("Deployment")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    files = [flag.partition("=")[2] for flag in container["args"] if "=/" in flag]

    assert {volume["name"] for volume in spec["volumes"]} == mounts.keys()
    assert all(any(file.startswith(f"{path}/") for path in mounts.values()) for file in files)


def test_kubeconfig_and_policy_of_the_manifests_can_be_used() -> None:
    data = (DEPLOY / "upstream.kubeconfig").read_bytes()
    kubeconfig = load_kubeconfig(data, "upstream.kubeconfig", directory=DEPLOY)

    assert kubeconfig.server == "https://kubernetes.default.svc"
    assert kubeconfig.token_file is not None
    recommended = next(each for each in bundled_policies() if each.name == "recommended")
    assert (DEPLOY / "policy.yaml").read_bytes() == recommended.data


def is_covered(rule: str, resource: str, subresource: str) -> bool:
    """Match a resource as RBAC does; upstream ``pkg/apis/rbac/v1/evaluation_helpers.go``."""
    combined = f"{resource}/{subresource}" if subresource else resource
    return rule in ("*", combined) or (bool(subresource) and rule == f"*/{subresource}")


def test_the_proxy_may_impersonate_all_that_it_sends_on_of_a_certificate() -> None:
    digest = "authentication.kubernetes.io/credential-id"
    user = UserInfo(
        username="alice",
        groups=("dev", "system:authenticated"),
        extra={digest: ("X509SHA256=0",)},
    )
    (role,) = of_kind("ClusterRole")
    targets = list(targets_of(Headers(identifying_headers(user, Forwarding.IMPERSONATE))))

    assert {target.resource for target in targets} == {"users", "groups", "userextras"}
    for target in targets:
        assert any(
            target.group in rule["apiGroups"]
            and rule["verbs"] == ["impersonate"]
            and any(
                is_covered(each, target.resource, target.subresource) for each in rule["resources"]
            )
            for rule in role["rules"]
        ), target


def test_every_role_is_bound_to_the_account_that_the_pods_have() -> None:
    (deployment,) = of_kind("Deployment")
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    bindings = of_kind("ClusterRoleBinding")

    assert {binding["roleRef"]["name"] for binding in bindings} == {
        "system:auth-delegator",
        "kubewitness-proxy-impersonator",
    }
    assert all(binding["subjects"][0]["name"] == account for binding in bindings)
