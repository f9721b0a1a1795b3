"""``kubewitness proxy``: audits any cluster, also one whose API server's flags are closed."""

import ipaddress
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from kubewitness.backends.kubeconfig import Kubeconfig, load_kubeconfig
from kubewitness.cli.audit_flags import AuditCommand, refuse, warn
from kubewitness.errors import InputError, KubeconfigError, Problem
from kubewitness.options import Loaded
from kubewitness.options.kinds import Kind, parse_value
from kubewitness.recorder import MAX_BODY

_FILE = click.Path(path_type=Path)
_EPILOG = """\b
Examples:
  kubewitness proxy --upstream-kubeconfig=proxy.kubeconfig \\
      --tls-cert-file=tls.crt --tls-private-key-file=tls.key \\
      --client-ca-file=ca.crt --audit-policy-file=policy.yaml \\
      --audit-log-path=/var/log/kubernetes/audit.log
  kubewitness proxy … --workers=4 --audit-webhook-config-file=webhook.kubeconfig

Exit codes: 0 ended in good order; 1 it cannot serve; 2 wrong usage.
docs/proxy.md has the RBAC that it needs, and manifests."""


class _Duration(click.ParamType[Any]):
    name = "duration"

    def __init__(self, *, least: float = 0.0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            seconds = parse_value(Kind.DURATION, value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if float(seconds) < self._least:
            self.fail(f"{value} is too short", param, ctx)
        return seconds


class _Address(click.ParamType[Any]):
    name = "address:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        host, colon, port = str(value).rpartition(":")
        try:
            address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            address = None
        if address is None or not colon or not port.isdigit() or int(port) > 65535:
            self.fail(f"{value!r} is not an address and a port, like 127.0.0.1:10260", param, ctx)
        return str(address), int(port)


@click.command(cls=AuditCommand, epilog=_EPILOG)
@click.option(
    "--upstream-kubeconfig",
    type=_FILE,
    required=True,
    metavar="FILE",
    help="Kubeconfig of the API server, with the proxy's own credentials.",
)
@click.option(
    "--bind-address",
    default="0.0.0.0",  # noqa: S104  # kube-apiserver's
    show_default=True,
    metavar="IP",
    help="Address to listen on.",
)
@click.option(
    "--secure-port",
    default=6443,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to serve HTTPS on; 0 takes a free one and says which.",
)
@click.option(
    "--tls-cert-file",
    type=_FILE,
    required=True,
    metavar="FILE",
    help="Serving certificate and its chain, PEM. Read again when it changes.",
)
@click.option(
    "--tls-private-key-file", type=_FILE, required=True, metavar="FILE", help="Its key, PEM."
)
@click.option(
    "--client-ca-file",
    type=_FILE,
    metavar="FILE",
    help="Authorities whose client certificates are believed: CN is the user, each O a "
    "group. Without it no client certificate is asked for.",
)
@click.option(
    "--anonymous-auth",
    default=True,
    show_default=True,
    type=bool,
    metavar="BOOL",
    help="Let requests without credentials through, as system:anonymous.",
)
@click.option(
    "--forward-identity",
    default="impersonate",
    show_default=True,
    type=click.Choice(["impersonate", "front-proxy"]),
    help="How the API server learns of a user with a certificate: Impersonate-* (any "
    "cluster) or X-Remote-* (the kubeconfig's certificate is that of a front proxy).",
)
@click.option(
    "--token-identity",
    default="tokenreview",
    show_default=True,
    type=click.Choice(["tokenreview", "selfsubjectreview"]),
    help="How the proxy learns whose a bearer token is: it asks by a TokenReview, or with "
    "the token itself.",
)
@click.option(
    "--authentication-token-webhook-cache-ttl",
    "token_ttl",
    default="2m",
    show_default=True,
    type=_Duration(),
    help="How long it remembers whose a token is.",
)
@click.option(
    "--request-timeout",
    default="1m",
    show_default=True,
    type=_Duration(least=0.001),
    help="How long a request may take that is not long-running.",
)
@click.option(
    "--shutdown-watch-termination-grace-period",
    "grace",
    default="0s",
    show_default=True,
    type=_Duration(),
    help="How long watches, logs and exec may go on after SIGTERM.",
)
@click.option(
    "--max-body",
    default=MAX_BODY,
    show_default=True,
    type=click.IntRange(0),
    metavar="BYTES",
    help="Bytes of a body that are recorded; a longer one is cut there.",
)
@click.option(
    "--health-bind-address",
    "health",
    default="127.0.0.1:10260",
    show_default=True,
    type=_Address(),
    help="Where /livez, /readyz and /metrics are.",
)
@click.option(
    "--reload-interval",
    default="2s",
    show_default=True,
    type=_Duration(least=0.001),
    help="How often policy and certificates are looked at for changes.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that share the port.",
)
def proxy(audit: Loaded, upstream_kubeconfig: Path, **settings: Any) -> None:
    """Audit the requests to a Kubernetes API server, and pass them on.

    Clients talk to the proxy as they would to the API server; who they are is found out and told
    to it. Every event goes where the audit flags say, which are kube-apiserver's own.
    """
    ctx = click.get_current_context()
    if not audit.options.policy_file:
        message = "needed: without a policy nothing is recorded; see: kubewitness policy show"
        refuse((Problem("--audit-policy-file", message=message),), ctx)
    kubeconfig = _kubeconfig(upstream_kubeconfig, ctx)
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr, level=logging.INFO)
    # Here, so that no other command loads the HTTP stack.
    from kubewitness.cli.proxy_process import Process  # noqa: PLC0415

    try:
        process = Process(_together(audit, settings["workers"]), kubeconfig, settings)
        code = process.run()
    except InputError as error:
        refuse(error.problems, ctx)
    except (OSError, ExceptionGroup) as error:
        raise click.ClickException(_sentence(error)) from None
    ctx.exit(code)


def _kubeconfig(path: Path, ctx: click.Context) -> Kubeconfig:
    try:
        kubeconfig = load_kubeconfig(path.read_bytes(), str(path), directory=path.parent)
    except KubeconfigError as error:
        refuse(error.problems, ctx)
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        refuse((Problem("--upstream-kubeconfig", message=message),), ctx)
    warn(kubeconfig.warnings)
    if not kubeconfig.server.lower().startswith("https:"):
        message = "the proxy needs https here: over http the API server knows nobody"
        refuse((kubeconfig.problem("server", message),), ctx)
    return kubeconfig


def _together(audit: Loaded, workers: int) -> Loaded:
    """Return the options for several processes: they write to one log."""
    if workers == 1:
        return audit
    log = replace(audit.options.log, shared=True)
    return replace(audit, options=replace(audit.options, log=log))


def _sentence(error: OSError | ExceptionGroup) -> str:
    if isinstance(error, ExceptionGroup):
        return "; ".join(str(each) for each in error.exceptions)
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
