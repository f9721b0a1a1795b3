"""A kubeconfig's bytes to the one server that its current context names, and how to reach it.

No value is ever quoted in a message, except names and URL schemes: a password may stand in any
field by mistake, and the file may be a token. Not here: the files that a kubeconfig points to,
which change while we run (`credentials`), and plugins that make credentials (``exec``,
``auth-provider``), which are refused.

Where to read first: `_CLUSTER` and `_USER` at the end are what is read of the format.

Source: audit specification section 8.1; upstream client-go ``tools/clientcmd/validation.go`` and
``client_config.go``.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from yaml.nodes import Node, ScalarNode

from kubewitness.backends.address import parse_address, proxy_variable, request_url, with_scheme
from kubewitness.backends.kubeconfig_rules import (
    Choice,
    choose,
    faults,
    ineffective,
    proxy_fault,
)
from kubewitness.documents import (
    Decode,
    Reading,
    Shape,
    boolean,
    compose,
    mappings,
    shown,
    string,
    strings,
)
from kubewitness.documents.scalars import Kind, kind_of, place
from kubewitness.errors import DocumentError, KubeconfigError, Problem


@dataclass(frozen=True, kw_only=True)
class Kubeconfig:
    """The server of a kubeconfig's current context, and what is shown to it.

    Empty means not set. Where two fields say the same, only the one that wins is set, and with an
    http server nothing that it must not be sent. ``repr()`` holds no secret.

    Attributes:
        server: Its URL, always with a scheme, never with a user.
        impersonate_extra: Pairs of a key and its values, in the order of the file.
        warnings: What in the file has no effect, although it looks as if it had.
        places: For each attribute that a field of the file set, where that field stands.
    """

    server: str
    certificate_authority: Path | None = None
    certificate_authority_data: bytes = field(default=b"", repr=False)
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = field(default="", repr=False)  # it may hold a password
    disable_compression: bool = False
    client_certificate: Path | None = None
    client_certificate_data: bytes = field(default=b"", repr=False)
    client_key: Path | None = None
    client_key_data: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    impersonate: str = ""
    impersonate_uid: str = ""
    impersonate_groups: tuple[str, ...] = ()
    impersonate_extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    warnings: tuple[Problem, ...] = ()
    places: Mapping[str, Problem] = field(default_factory=dict, repr=False, compare=False)

    def problem(self, attribute: str, message: str) -> Problem:
        """Make a problem at the field that set an attribute."""
        return replace(self.places.get(attribute, Problem("kubeconfig")), message=message)


def load_kubeconfig(data: bytes, source: str, *, directory: Path) -> Kubeconfig:
    """Load the current context of a kubeconfig from YAML or JSON bytes.

    Args:
        data: The text of the file.
        source: Its name in messages.
        directory: Where it is; the paths in it are relative to that.

    Raises:
        KubeconfigError: With every problem found, each at its line and column.
    """
    reading = _DiscreetReading(source)
    try:
        root = compose(data, source)
    except DocumentError as error:
        raise KubeconfigError(tuple(map(_without_name, error.problems))) from None
    values = reading.mapping(root, "", _KUBECONFIG) if root is not None else {}
    choice = choose(values)
    found = [fault for fault in faults(values, choice) if not reading.is_refused(fault[0])]
    if wrong := reading.wrong + [reading.problem(*fault) for fault in found]:
        raise KubeconfigError(tuple(wrong))
    return _build(choice, reading, directory)


def post_url(kubeconfig: Kubeconfig) -> str:
    """Return the URL that events are POSTed to, as upstream's client makes it of the server's."""
    return request_url(parse_address(kubeconfig.server), "timeout=30s")


def proxy_of(kubeconfig: Kubeconfig, environment: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy before the server, which may hold a password.

    It is ``proxy-url``, or else what ``HTTP_PROXY``, ``HTTPS_PROXY`` and ``NO_PROXY`` say.

    Raises:
        KubeconfigError: The variable names a proxy that cannot be used.
    """
    if kubeconfig.proxy_url:
        return kubeconfig.proxy_url
    name = proxy_variable(parse_address(kubeconfig.server), environment)
    if name is None:
        return None
    proxy = with_scheme(environment[name])
    if fault := proxy_fault(proxy):
        raise KubeconfigError((Problem(name, message=fault),))
    return proxy


class _DiscreetReading(Reading):
    """Does not quote the values that it refuses."""

    def expect(self, node: Node, path: str, kind: Kind, hint: str = "") -> bool:  # noqa: ARG002
        self.places[path] = place(node)
        found = kind_of(node)
        if found not in (kind, Kind.NULL):
            advice = _ADVICE.get(kind, "") if isinstance(node, ScalarNode) else ""
            self.refuse(node, path, f"expected {kind}, found {found}{advice}")
        return found is kind


_ADVICE = {
    Kind.STRING: "; write it in quotes",
    Kind.BOOLEAN: "; write true or false, without quotes",
}
_NAME_AT_END = re.compile(r"(undefined alias|tag handle) .*")


def _without_name(problem: Problem) -> Problem:
    """Take out of PyYAML's message what it takes for a name: ``password: *word`` is an alias."""
    return replace(
        problem, message=_NAME_AT_END.sub(r"\1; put the text in quotes", problem.message)
    )


def _data(reading: Reading, node: Node, path: str) -> bytes | None:
    """Decode base64, as Go does: line ends do not count."""
    text = string(reading, node, path) or ""
    try:
        return base64.b64decode(re.sub("[\r\n]", "", text), validate=True)
    except ValueError:
        reading.refuse(node, path, 'not base64; write what "base64 -w0 FILE" prints')
        return None


def _extra(reading: Reading, node: Node, path: str) -> dict[str, list[str]] | None:
    if not reading.expect(node, path, Kind.MAPPING):
        return None
    return {
        name: strings(reading, setting.value, f"{path}.{shown(name)}") or []
        for name, setting in reading.settings(node, path).items()
    }


def _presence(reading: Reading, node: Node, path: str) -> bool | None:
    """Note only that a mapping is there, whatever is in it."""
    return reading.expect(node, path, Kind.MAPPING) or None


def _build(choice: Choice, reading: Reading, directory: Path) -> Kubeconfig:
    settings: dict[str, Any] = {}
    places: dict[str, Problem] = {}
    without_effect = list(ineffective(choice))
    unused = {f"{path}.{key}" for path, keys, _ in without_effect for key in keys}
    for section in filter(None, (choice.cluster, choice.user)):
        for key, value in section.values.items():
            if (path := f"{section.path}.{key}") not in unused:
                attribute = _ATTRIBUTES.get(key, key.replace("-", "_"))
                settings[attribute] = directory / value if key in _PATHS else _frozen(value)
                places[attribute] = reading.problem(path, "")
    settings["server"] = with_scheme(settings["server"])
    warnings = [reading.problem(path, message) for path, _, message in without_effect]
    return Kubeconfig(**settings, places=places, warnings=tuple(warnings))


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, tuple(values)) for key, values in value.items())
    return tuple(value) if isinstance(value, list) else value


def _mapping(shape: Shape) -> Decode:
    return lambda reading, node, path: reading.mapping(node, path, shape)


def _named(kind: str, shape: Shape) -> Decode:
    """Decode a list of pairs of a name and a mapping."""
    entry = Shape({"name": string, kind: _mapping(shape)})
    return lambda reading, node, path: mappings(reading, node, path, entry)


_PATHS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_ATTRIBUTES = {
    "tokenFile": "token_file",
    "as": "impersonate",
    "as-uid": "impersonate_uid",
    "as-groups": "impersonate_groups",
    "as-user-extra": "impersonate_extra",
}
"""Attributes whose names are not those of the fields."""

_CLUSTER = Shape(
    {
        "server": string,
        "certificate-authority": string,
        "certificate-authority-data": _data,
        "insecure-skip-tls-verify": boolean,
        "tls-server-name": string,
        "proxy-url": string,
        "disable-compression": boolean,
    }
)
_USER = Shape(
    {
        "client-certificate": string,
        "client-certificate-data": _data,
        "client-key": string,
        "client-key-data": _data,
        "token": string,
        "tokenFile": string,
        "username": string,
        "password": string,
        "as": string,
        "as-uid": string,
        "as-groups": strings,
        "as-user-extra": _extra,
        "exec": _presence,
        "auth-provider": _presence,
    }
)
_KUBECONFIG = Shape(
    {
        "apiVersion": string,
        "kind": string,
        "clusters": _named("cluster", _CLUSTER),
        "contexts": _named("context", Shape({"cluster": string, "user": string})),
        "current-context": string,
        "users": _named("user", _USER),
    }
)
