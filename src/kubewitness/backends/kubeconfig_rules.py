"""What a kubeconfig's values mean together: the sections that count, and what is wrong in them.

The values are those of `kubeconfig`, by their keys in the file; of what no context chose only the
names are judged, as upstream does. Not here: the form of the file, and the files it points to.

Source: audit specification section 8.1; upstream client-go ``tools/clientcmd/validation.go``.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from kubewitness.backends.address import is_host, parse_address, with_scheme
from kubewitness.documents import closest, quoted, shown

Fault = tuple[str, str]
"""The path of a field, and what is wrong there."""

_INSTEAD = "use tokenFile, or client-certificate and client-key: they are read again on change"


class Section(NamedTuple):
    """The fields of a context, cluster or user that are set, and the path of their mapping."""

    values: Mapping[str, Any]
    path: str


class Choice(NamedTuple):
    """The sections that count; None for what is not there."""

    context: Section | None
    cluster: Section | None
    user: Section | None

    @property
    def is_http(self) -> bool:
        """Whether nothing is encrypted, so that nothing secret may be sent."""
        server = self.cluster.values.get("server", "") if self.cluster else ""
        return bool(server) and with_scheme(server).lower().startswith("http:")


def choose(values: Mapping[str, Any]) -> Choice:
    """Follow the current context to its cluster and user."""
    context = _find(values, "context", values.get("current-context"))
    names = context.values if context else {}
    return Choice(
        context,
        cluster=_find(values, "cluster", names.get("cluster")),
        user=_find(values, "user", names.get("user")),
    )


def _find(values: Mapping[str, Any], kind: str, name: str | None) -> Section | None:
    for index, entry in enumerate(values.get(f"{kind}s", ())):
        if name and entry.get("name") == name:
            fields = {key: value for key, value in entry.get(kind, {}).items() if value}
            return Section(fields, f"{kind}s[{index}].{kind}")
    return None


def faults(values: Mapping[str, Any], choice: Choice) -> Iterator[Fault]:
    """Yield everything that is wrong with the names and with the sections that count."""
    if (values.get("apiVersion", "v1"), values.get("kind", "Config")) != ("v1", "Config"):
        yield "kind", 'this is no kubeconfig; one has "apiVersion: v1" and "kind: Config"'
        return
    if not values.keys() - {"apiVersion", "kind"}:
        yield "", "it is empty; write clusters, contexts and current-context (and users)"
        return
    for kind in ("cluster", "context", "user"):
        yield from _name_faults(values, kind)
    yield from _missing(values, "context", "current-context", values.get("current-context"))
    if choice.context is not None:
        names, path = choice.context
        yield from _missing(values, "cluster", f"{path}.cluster", names.get("cluster"))
        if "user" in names:
            yield from _missing(values, "user", f"{path}.user", names["user"])
    if choice.cluster is not None:
        yield from _cluster_faults(choice.cluster, is_http=choice.is_http)
    if choice.user is not None and not choice.is_http:
        yield from _user_faults(choice.user)


def _name_faults(values: Mapping[str, Any], kind: str) -> Iterator[Fault]:
    seen: dict[str, int] = {}
    for index, entry in enumerate(values.get(f"{kind}s", ())):
        name = entry.get("name")
        if not name:
            yield f"{kind}s[{index}].name", f"missing; write a name for this {kind}"
        elif name in seen:
            message = f"{kind}s[{seen[name]}] has the name {quoted(name)}, too; choose another"
            yield f"{kind}s[{index}].name", message
        else:
            seen[name] = index


def _missing(values: Mapping[str, Any], kind: str, path: str, name: str | None) -> Iterator[Fault]:
    """Say why a name names nothing, if it does not."""
    entries = values.get(f"{kind}s", ())
    known = [entry["name"] for entry in entries if entry.get("name")]
    if name in known or len(known) < len(entries):  # of what has no name, that is said already
        return
    meant = closest(name, known) if name else None
    lack = f"there is no {kind} {quoted(name)}" if name else f"missing; write the name of a {kind}"
    if meant:
        yield path, f"{lack}, did you mean {quoted(meant)}?"
    elif known:
        yield path, f"{lack}; known here: {', '.join(map(shown, known))}"
    else:
        yield path, f'{lack}; "{kind}s" has none'


def _cluster_faults(cluster: Section, *, is_http: bool) -> Iterator[Fault]:
    values, path = cluster
    if fault := _server_fault(values.get("server", "")):
        yield f"{path}.server", fault
    if fault := proxy_fault(values.get("proxy-url", "http://unset")):
        yield f"{path}.proxy-url", fault
    if is_http:
        return
    if "insecure-skip-tls-verify" in values and _has(values, "certificate-authority"):
        message = "with it no certificate-authority is used; remove one of the two"
        yield f"{path}.insecure-skip-tls-verify", message
    name = values.get("tls-server-name", "")
    if name and not is_host(name):
        yield f"{path}.tls-server-name", "not the name of a host, as a certificate may have it"
    yield from _pem_faults(cluster, "certificate-authority-data", "CERTIFICATE-----")


def _server_fault(server: str) -> str:
    if not server:
        return 'missing; write the URL that events are sent to, for example "https://host/path"'
    try:
        address = parse_address(with_scheme(server))
    except ValueError as error:
        return str(error)
    if address.has_user:
        return "the URL holds a user; write username and password in the user section"
    if "://" not in server and address.path not in ("", "/"):
        return "a path, but no scheme; write http:// or https:// before it"
    return ""


def proxy_fault(proxy: str) -> str:
    """Say why a URL is no proxy's that can be used; empty when it is one."""
    try:
        parse_address(proxy)
    except ValueError as error:
        return str(error)
    return ""


def _user_faults(user: Section) -> Iterator[Fault]:
    values, path = user
    for plugin in sorted(values.keys() & {"exec", "auth-provider"}):
        yield f"{path}.{plugin}", f"{plugin} is not supported; {_INSTEAD}"
    for there, lacking in (("certificate", "key"), ("key", "certificate")):
        if _has(values, f"client-{there}") and not _has(values, f"client-{lacking}"):
            names = f"client-{lacking} or client-{lacking}-data"
            yield f"{path}.client-{lacking}", f"missing; write {names} for the client-{there}"
    yield from _pem_faults(user, "client-certificate-data", "CERTIFICATE-----")
    yield from _pem_faults(user, "client-key-data", "PRIVATE KEY-----")
    if values.keys() & {"token", "tokenFile"} and values.keys() & {"username", "password"}:
        yield path, "a token and a username or password, of which only one can be sent; remove one"
    yield from _header_faults(user)


def ineffective(choice: Choice) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield the path of a section, those of its fields that have no effect, and why."""
    for section, verb in ((choice.cluster, "used"), (choice.user, "sent")):
        if section is None:
            continue
        plain = tuple(key for key in section.values if key not in _PLAIN)
        if choice.is_http and plain:
            why = "the server is http, write https:// before its host"
            yield section.path, plain, f"not {verb}: {', '.join(plain)}; {why}"
        for key, winner in _WINNERS.items():
            if not choice.is_http and {key, winner} <= section.values.keys():
                yield section.path, (key,), f"not {verb}: {key}; {winner} is set, too, and wins"


_PLAIN = ("server", "proxy-url", "disable-compression")
"""What matters to an http server, too."""

_WINNERS = {
    "certificate-authority": "certificate-authority-data",
    "client-certificate": "client-certificate-data",
    "client-key": "client-key-data",
    "token": "tokenFile",
}


def _has(values: Mapping[str, Any], key: str) -> bool:
    return key in values or f"{key}-data" in values


def _pem_faults(section: Section, key: str, label: str) -> Iterator[Fault]:
    data: bytes = section.values.get(key, b"")
    if data and not re.search(rb"-----BEGIN [A-Z ]*" + label.encode(), data):
        yield f"{section.path}.{key}", f'not the base64 of PEM ("-----BEGIN …{label}")'


def _header_faults(user: Section) -> Iterator[Fault]:
    values, path = user
    extra = values.get("as-user-extra", {})
    others = values.keys() & {"as-uid", "as-groups", "as-user-extra"}
    if others and "as" not in values:
        yield f"{path}.as", f"missing; {', '.join(sorted(others))} cannot be sent without it"
    texts = {key: [values.get(key, "")] for key in ("token", "as", "as-uid")}
    texts["as-groups"] = values.get("as-groups", [])
    texts |= {f"as-user-extra.{shown(key)}": extra[key] for key in extra}
    for key, lines in texts.items():
        if not all(map(is_header_text, lines)):
            yield f"{path}.{key}", "it holds a line end or another control character; remove it"


def is_header_text(text: str) -> bool:
    """Tell whether a text can be sent as the value of an HTTP header."""
    return not any(character < " " or character == "\x7f" for character in text)
