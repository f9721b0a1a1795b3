"""What the bundled policy `recommended` promises, as tables and as laws."""

import gzip
from importlib import resources
from itertools import product

import pytest
from hypothesis import given, settings
from msgspec import structs

from kubewitness.codec import decode
from kubewitness.event import Event, Level, Stage
from kubewitness.policy import Decision
from kubewitness.request import RequestAttributes, attributes_of
from test_policy_bundled import AUTHENTICATED, POLICY, READS, WRITES, requests_about

RECOMMENDED = POLICY["recommended"]

GROUPS_OF = {
    None: (),
    "system:anonymous": ("system:unauthenticated",),
    "alice": ("dev", AUTHENTICATED),
    "kubernetes-admin": ("system:masters", AUTHENTICATED),
    "system:apiserver": ("system:masters", AUTHENTICATED),
    "system:kube-controller-manager": (AUTHENTICATED,),
    "system:kube-scheduler": (AUTHENTICATED,),
    "system:kube-proxy": (AUTHENTICATED,),
    "system:node:a": ("system:nodes", AUTHENTICATED),
    "system:serviceaccount:kube-system:generic-garbage-collector": (
        *("system:serviceaccounts", "system:serviceaccounts:kube-system", AUTHENTICATED),
    ),
    "system:serviceaccount:ci:deployer": (
        *("system:serviceaccounts", "system:serviceaccounts:ci", AUTHENTICATED),
    ),
}
EVERYBODY = list(GROUPS_OF)
SYSTEM = [user for user in EVERYBODY if user and user.startswith("system:") and ":ci:" not in user]
SYSTEM.remove("system:anonymous")
KUBE_SYSTEM = "system:serviceaccount:kube-system:generic-garbage-collector"


def about(user: str | None, verb: str, what: str, *, group: str = "") -> Decision:
    """Decide a request of an object: ``pods`` or ``pods/exec``."""
    resource, _, subresource = what.partition("/")
    return RECOMMENDED.evaluate(
        RequestAttributes(
            user=user,
            groups=GROUPS_OF[user],
            verb=verb,
            is_resource_request=True,
            api_group=group,
            resource=resource,
            subresource=subresource,
            namespace="kube-system",
            name="one",
        )
    )


def at(user: str | None, path: str, verb: str = "get") -> Decision:
    """Decide a request of a path."""
    return RECOMMENDED.evaluate(
        RequestAttributes(user=user, groups=GROUPS_OF[user], verb=verb, path=path)
    )


CREDENTIALS = [
    ("", "secrets"),
    ("", "secrets/status"),
    ("", "serviceaccounts/token"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("vault.example.com", "secrets"),
    ("oauth.openshift.io", "oauthaccesstokens"),
    ("route.openshift.io", "routes"),
]


@pytest.mark.parametrize("user", EVERYBODY)
@pytest.mark.parametrize(("group", "what"), CREDENTIALS)
def test_credentials_are_kept_at_metadata_whoever_touches_them(
    user: str | None, group: str, what: str
) -> None:
    for verb in (*WRITES, *READS, "proxy", ""):
        assert about(user, verb, what, group=group).level is Level.METADATA


@pytest.mark.parametrize("user", EVERYBODY)
def test_config_maps_are_never_above_metadata(user: str | None) -> None:
    for verb in (*WRITES, *READS):
        level = about(user, verb, "configmaps").level
        hum = verb in READS and user in SYSTEM and user not in (KUBE_SYSTEM, "system:kube-proxy")
        assert level is (Level.NONE if hum else Level.METADATA)


@settings(max_examples=500)
@given(requests_about(RECOMMENDED))
def test_no_request_of_a_credential_is_above_metadata(request: RequestAttributes) -> None:
    decision = RECOMMENDED.evaluate(request)
    holds_credentials = (
        request.resource in {"secrets", "tokenreviews"}
        or (request.resource, request.subresource) == ("serviceaccounts", "token")
        or (request.resource, request.api_group) == ("configmaps", "")
        or request.api_group == "authentication.k8s.io"
    )

    if request.is_resource_request and holds_credentials:
        assert decision.level.rank <= Level.METADATA.rank
    if request.is_resource_request and request.resource == "secrets":
        assert decision.level is Level.METADATA


@settings(max_examples=500)
@given(requests_about(RECOMMENDED))
def test_failed_logins_are_always_kept(request: RequestAttributes) -> None:
    decision = RECOMMENDED.evaluate(request)

    assert Stage.RESPONSE_STARTED not in decision.omit_stages
    assert Stage.PANIC not in decision.omit_stages
    if request.user is None:
        assert decision.level is not Level.NONE


@pytest.mark.parametrize("user", EVERYBODY)
@pytest.mark.parametrize("verb", ["get", "create", "connect", ""])
@pytest.mark.parametrize("way", ["exec", "attach", "portforward"])
def test_ways_into_a_workload_are_kept_whole(user: str | None, verb: str, way: str) -> None:
    assert about(user, verb, f"pods/{way}").level is Level.REQUEST_RESPONSE


@pytest.mark.parametrize("user", EVERYBODY)
def test_other_ways_are_kept(user: str | None) -> None:
    assert about(user, "patch", "pods/ephemeralcontainers").level is Level.REQUEST_RESPONSE
    for verb, what in product(
        (*WRITES, "get", "proxy"), ("pods/proxy", "services/proxy", "nodes/proxy")
    ):
        assert about(user, verb, what).level is Level.METADATA
    assert about(user, "get", "pods/log").level is Level.METADATA


RIGHTS = [
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("certificates.k8s.io", "certificatesigningrequests"),
    ("certificates.k8s.io", "certificatesigningrequests/approval"),
    ("certificates.k8s.io", "certificatesigningrequests/status"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("apiregistration.k8s.io", "apiservices"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("", "serviceaccounts"),
]


@pytest.mark.parametrize("user", EVERYBODY)
@pytest.mark.parametrize(("group", "what"), RIGHTS)
def test_changes_of_rights_are_kept_with_the_answer(
    user: str | None, group: str, what: str
) -> None:
    for verb in WRITES:
        assert about(user, verb, what, group=group).level is Level.REQUEST_RESPONSE


@pytest.mark.parametrize("user", EVERYBODY)
def test_finding_ones_bearings_is_kept(user: str | None) -> None:
    for verb, what in product(READS, ("roles", "clusterrolebindings")):
        found = about(user, verb, what, group="rbac.authorization.k8s.io")
        assert found.level is Level.METADATA
    for what in ("selfsubjectaccessreviews", "selfsubjectrulesreviews"):
        assert about(user, "create", what, group="authorization.k8s.io").level is Level.REQUEST


@pytest.mark.parametrize("user", EVERYBODY)
@pytest.mark.parametrize("group", ["", "events.k8s.io"])
def test_event_objects_are_noise_but_deleting_them_is_not(user: str | None, group: str) -> None:
    known = AUTHENTICATED in GROUPS_OF[user]
    for verb in ("create", "patch", "list", "watch"):
        assert (about(user, verb, "events", group=group).level is Level.NONE) == known
    for verb in ("delete", "deletecollection"):
        assert about(user, verb, "events", group=group).level is Level.REQUEST


@pytest.mark.parametrize("user", EVERYBODY)
@pytest.mark.parametrize(
    ("group", "what"),
    [
        ("", "pods"),
        ("", "namespaces"),
        ("", "nodes"),
        ("", "pods/eviction"),
        ("", "pods/binding"),
        ("apps", "deployments"),
        ("apps", "deployments/scale"),
        ("networking.k8s.io", "networkpolicies"),
        ("policy", "poddisruptionbudgets"),
        ("example.com", "gizmos"),
    ],
)
def test_writes_carry_bodies(user: str | None, group: str, what: str) -> None:
    for verb in WRITES:
        assert about(user, verb, what, group=group).level is Level.REQUEST


@pytest.mark.parametrize("user", ["alice", "system:serviceaccount:ci:deployer", None])
def test_a_status_or_endpoints_written_by_hand_carry_their_bodies(user: str | None) -> None:
    assert about(user, "patch", "services/status").level is Level.REQUEST
    assert about(user, "update", "endpoints").level is Level.REQUEST


def test_what_the_system_derives_is_kept_without_bodies() -> None:
    endpoints = "system:kube-controller-manager"
    assert about("system:node:a", "patch", "pods/status").level is Level.METADATA
    assert about(KUBE_SYSTEM, "update", "deployments/status", group="apps").level is Level.METADATA
    assert about(endpoints, "update", "endpoints").level is Level.METADATA
    assert (
        about(endpoints, "create", "endpointslices", group="discovery.k8s.io").level
        is Level.METADATA
    )
    assert about(endpoints, "delete", "endpoints").level is Level.REQUEST


@pytest.mark.parametrize("user", EVERYBODY)
def test_the_hum_is_dropped_only_for_those_who_hum(user: str | None) -> None:
    dropped = Level.NONE if user in SYSTEM else Level.METADATA
    assert about(user, "list", "services").level is dropped
    assert about(user, "watch", "endpointslices", group="discovery.k8s.io").level is dropped
    lease = about(user, "update", "leases", group="coordination.k8s.io").level
    elects = user in SYSTEM and user != "system:kube-proxy"
    assert lease is (
        Level.NONE if elects or user == "system:serviceaccount:ci:deployer" else Level.REQUEST
    )


def test_a_node_that_looks_around_is_kept() -> None:
    for what in ("namespaces", "serviceaccounts", "limitranges", "replicationcontrollers"):
        assert about("system:node:a", "list", what).level is Level.METADATA
    assert about("system:node:a", "list", "deployments", group="apps").level is Level.METADATA
    assert about("system:node:a", "get", "configmaps").level is Level.NONE
    assert about("system:node:a", "get", "secrets").level is Level.METADATA


@pytest.mark.parametrize("user", EVERYBODY)
def test_probes_are_dropped_and_other_paths_kept(user: str | None) -> None:
    kept = Level.METADATA
    for path in ("/healthz", "/healthz/etcd", "/livez", "/readyz/ping", "/version"):
        assert at(user, path).level is (kept if user is None else Level.NONE)
    discovers = AUTHENTICATED in GROUPS_OF[user]
    for path in ("/", "/api", "/api/v1", "/apis/apps/v1", "/openapi/v3", "/metrics"):
        assert at(user, path).level is (Level.NONE if discovers else kept)
    for path in ("/debug/pprof/heap", "/logs/kube-apiserver.log", "/flagz"):
        control_plane = user in {
            *("system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"),
        }
        assert at(user, path).level is (Level.NONE if control_plane else kept)
    assert at(user, "/healthz", "post").level is kept


@given(requests_about(RECOMMENDED))
def test_people_are_never_dropped_but_for_events_probes_and_discovery(
    request: RequestAttributes,
) -> None:
    groups = tuple(group for group in request.groups if not group.startswith("system:serv"))
    if "system:nodes" in groups or (request.user or "").startswith("system:"):
        return
    person = structs.replace(request, groups=groups)
    if RECOMMENDED.evaluate(person).level is Level.NONE:
        assert request.resource == "events" if request.is_resource_request else request.path


@pytest.fixture(scope="module")
def cluster() -> list[Event]:
    """Return the five minutes of a cluster that come with the package."""
    packed = resources.files("kubewitness").joinpath("data/cluster.audit.log.gz").read_bytes()
    return [decode(line) for line in gzip.decompress(packed).split(b"\n") if line]


def test_the_recorded_incident_is_kept_whole(cluster: list[Event]) -> None:
    """A stolen token lists secrets, starts a privileged pod, binds cluster-admin, covers traces."""
    by_people = [
        event
        for event in cluster
        if not event.user.username.startswith("system:") or ":ci:" in event.user.username
    ]
    requests = [
        request for request in map(attributes_of, by_people) if request.resource != "events"
    ]
    decisions = {
        (request.verb, request.resource, request.subresource): RECOMMENDED.evaluate(request).level
        for request in requests
        if request.is_resource_request
    }

    assert Level.NONE not in decisions.values()
    assert decisions["list", "secrets", ""] is Level.METADATA
    assert decisions["create", "pods", ""] is Level.REQUEST
    assert decisions["create", "clusterrolebindings", ""] is Level.REQUEST_RESPONSE
    assert decisions["create", "serviceaccounts", ""] is Level.REQUEST_RESPONSE
