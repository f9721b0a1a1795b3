"""``kubewitness policy``: check a policy, decide with it, have the decision explained."""

import sys
from collections.abc import Iterator
from typing import Any

import click
import msgspec
from rich.console import Console

from kubewitness.cli.inputs import open_policy, policy_bytes, read_inputs
from kubewitness.cli.output import (
    EXIT_CODES,
    LineWriter,
    Reporter,
    console,
    fail,
    lenient_option,
    output_option,
    print_json,
)
from kubewitness.errors import PolicyError, Problem, RequestError, printable
from kubewitness.event import UserInfo
from kubewitness.policy import (
    Decision,
    Explanation,
    Policy,
    RuleTrace,
    bundled_policies,
    load_policy,
)
from kubewitness.request import RequestAttributes, attributes_of, resolve

_MOST_SHOWN = 160
_MOST_REMEMBERED = 65_536


@click.group()
def policy() -> None:
    """Check audit policies, decide with them, and see why they decide as they do.

    POLICY is a file, or the name of a bundled policy (see "policy list").
    """


@policy.command(
    epilog=f"""\b
Examples:
  kubewitness policy check audit-policy.yaml
  kubewitness policy check --lenient -o json *.yaml

{EXIT_CODES}"""
)
@click.argument("files", nargs=-1, required=True)
@lenient_option
@output_option
def check(files: tuple[str, ...], *, lenient: bool, output: str) -> None:
    """Find everything that is wrong with policy FILES.

    Prints "file:line:col: field: message" for every problem. Unknown and duplicate keys are
    problems, because the API server only warns of them in its log and then applies the rule
    without them; with --lenient they are shown, but do not fail the check.
    """
    problems: list[Problem] = []
    dropped: list[Problem] = []
    for name in files:
        found, tolerated = _check(name, lenient=lenient)
        problems += found
        dropped += tolerated
    if output == "json":
        print_json({"problems": problems, "dropped": dropped})
    else:
        for problem in problems:
            click.echo(str(problem))
        for problem in dropped:
            click.echo(f"{problem} (dropped)")
    sys.exit(1 if problems else 0)


def _check(name: str, *, lenient: bool) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    source = click.format_filename(name)
    try:
        return (), load_policy(policy_bytes(name), source, lenient=lenient).dropped
    except OSError as error:
        return (Problem(source, 0, 0, "", error.strerror or str(error)),), ()
    except PolicyError as error:
        return tuple(sorted(error.problems, key=lambda each: (each.line, each.column))), ()


@policy.command(
    epilog=f"""\b
Examples:
  kubewitness policy evaluate recommended audit.log
  zcat audit.log.gz | kubewitness policy evaluate policy.yaml - | sort | uniq -c

{EXIT_CODES}"""
)
@click.argument("policy_name", metavar="POLICY")
@click.argument("events", nargs=-1)
@lenient_option
def evaluate(policy_name: str, events: tuple[str, ...], *, lenient: bool) -> None:
    """Print what POLICY would record of each of EVENTS.

    EVENTS are audit logs: files, directories or - for standard input (the default). Prints one
    JSON line an event: level, omitStages, omitManagedFields, and the index of the rule that
    decided (null if none matched). What is no event is reported with file and line (the first
    100 of each file), and reading goes on.
    """
    chosen = open_policy(policy_name, lenient=lenient)
    lines: dict[int | None, bytes] = {}  # the output of each rule, made once
    reporter = Reporter()
    writer = LineWriter(sys.stdout.buffer)
    for _, reader in read_inputs(events, reporter=reporter, before_read=writer.flush):
        for event in reader:
            decision = chosen.evaluate(attributes_of(event))
            line = lines.get(decision.rule)
            if line is None:
                line = lines[decision.rule] = msgspec.json.encode(_decision(decision)) + b"\n"
            writer.write(line)
    writer.flush()
    reporter.exit()


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "level": decision.level,
        "omitStages": decision.omit_stages,
        "omitManagedFields": decision.omit_managed_fields,
        "rule": decision.rule,
    }


@policy.command(
    epilog=f"""\b
Examples:
  kubewitness policy explain recommended --user bob -g system:authenticated \\
      --verb get --resource secrets --namespace shop
  kubewitness policy explain policy.yaml --user ann --method POST --path /api/v1/namespaces
  kubewitness policy explain policy.yaml --event audit.log --audit-id 5ad0e9ed

{EXIT_CODES}"""
)
@click.argument("policy_name", metavar="POLICY")
@click.option("--user", help="The user's name. Left out: no user, as after failed authentication.")
@click.option("-g", "--group", "groups", multiple=True, help="A group of the user; repeatable.")
@click.option("--method", help="HTTP method, with --path.  [default: GET]")
@click.option("--path", help="URL path and query, for example /api/v1/pods?watch=1.")
@click.option("--verb", help="Kubernetes verb, with --resource.")
@click.option("--resource", help="Resource in the plural, for example pods or pods/exec.")
@click.option("--api-group", default="", help='API group of the resource.  [default: "", core]')
@click.option("-n", "--namespace", default="", help="Namespace of the object.")
@click.option("--name", default="", help="Name of the object.")
@click.option("--subresource", default="", help="Subresource, for example log.")
@click.option("--event", "events", help="An audit log instead: explain its requests.")
@click.option("--audit-id", help="With --event: only the request whose auditID starts like this.")
@lenient_option
@output_option
def explain(policy_name: str, *, lenient: bool, output: str, **request: Any) -> None:
    """Say, rule by rule, why POLICY decides as it does about a request.

    Describe the request by --method and --path or by --verb and --resource, or take it from a
    recorded event with --event.
    """
    _refuse_contradictions(request)
    chosen = open_policy(policy_name, lenient=lenient)
    reporter = Reporter()
    if request["events"] is None:
        requests = iter([_described(request)])
        _note_missing_group(request, chosen)
    else:
        requests = _recorded(request, reporter)
    explanations = (chosen.explain(attributes) for attributes in requests)
    _print_explanations(explanations, chosen, output)
    reporter.exit()


def _note_missing_group(request: dict[str, Any], chosen: Policy) -> None:
    """Say so when a user was described as no API server would ever see them."""
    known = {"system:authenticated", "system:unauthenticated"}
    groups_matter = any(rule.user_groups for rule in chosen.rules)
    if request["user"] is not None and groups_matter and known.isdisjoint(request["groups"]):
        note = "note: every authenticated user has the group system:authenticated; add it with -g"
        click.echo(note, err=True)


def _print_explanations(explanations: Iterator[Explanation], chosen: Policy, output: str) -> None:
    out = console()
    for index, explanation in enumerate(explanations):
        if output == "json":
            print_json(_explanation(explanation, chosen))
        else:
            if index:
                out.print()
            _print_explanation(explanation, chosen, out)


_BY_RESOURCE = ("verb", "resource", "api_group", "namespace", "name", "subresource")
_BY_PATH = ("path", "method")


def _refuse_contradictions(request: dict[str, Any]) -> None:
    """End the command if it is told of a request in more ways than one."""
    given = {name for name, value in request.items() if value}
    by_resource, by_path = given & {*_BY_RESOURCE}, given & {*_BY_PATH}
    if "events" in given and given - {"events", "audit_id"}:
        fail("--event brings the whole request; leave the other options out")
    if "audit_id" in given and "events" not in given:
        fail("--audit-id chooses from the log that --event names")
    if by_resource and by_path:
        fail("give either --path with --method, or --resource with --verb and the like")
    if "groups" in given and "user" not in given:
        fail("-g needs --user: only a user has groups")
    if "subresource" in given and "/" in str(request["resource"]):
        fail("give the subresource either as --subresource or after a slash in --resource")


def _described(request: dict[str, Any]) -> RequestAttributes:
    user = request["user"]
    who = None if user is None else UserInfo(username=user, groups=tuple(request["groups"]))
    if request["path"] is not None:
        try:
            info = resolve(request["method"] or "GET", request["path"])
        except RequestError as error:
            fail(f"--path {request['path']}: {error}")
        return RequestAttributes.of_request(info, who)
    if not (request["resource"] and request["verb"]):
        fail("describe the request: --path (and --method), or --verb and --resource, or --event")
    resource, _, subresource = request["resource"].partition("/")
    return RequestAttributes(
        user=user,
        groups=tuple(request["groups"]),
        verb=request["verb"],
        is_resource_request=True,
        api_group=request["api_group"],
        resource=resource,
        subresource=request["subresource"] or subresource,
        namespace=request["namespace"],
        name=request["name"],
    )


def _recorded(request: dict[str, Any], reporter: Reporter) -> Iterator[RequestAttributes]:
    """Yield the requests of a log, each once although it has an event for every stage."""
    wanted = request["audit_id"]
    explained: set[tuple[str, RequestAttributes]] = set()
    found = False
    for _, reader in read_inputs([request["events"]], reporter=reporter):
        for event in reader:
            if wanted is not None and not event.audit_id.startswith(wanted):
                continue
            attributes = attributes_of(event)
            found = True
            if (event.audit_id, attributes) not in explained:
                if len(explained) >= _MOST_REMEMBERED:
                    explained.clear()
                explained.add((event.audit_id, attributes))
                yield attributes
    if not found:
        sought = "no event" if wanted is None else f'no event whose auditID starts with "{wanted}"'
        reporter(Problem(click.format_filename(request["events"]), 0, 0, "", sought))


def _explanation(explanation: Explanation, chosen: Policy) -> dict[str, Any]:
    return {
        "policy": chosen.source,
        "request": explanation.request,
        "decision": {**_decision(explanation.decision), "line": explanation.line or None},
        "rules": explanation.rules,
    }


def _print_explanation(explanation: Explanation, chosen: Policy, out: Console) -> None:
    decision = explanation.decision
    out.print(f"request   {_request_text(explanation.request)}")
    out.print(f"decision  {_decision_text(decision)}", style="bold")
    if decision.rule is None:
        out.print("          no rule matches, so nothing is recorded")
    else:
        out.print(f"          by rule {decision.rule} ({chosen.source}:{explanation.line})")
    out.print()
    for trace in explanation.rules:
        style = (
            "green" if trace.rule == decision.rule else "dim" if _is_late(trace, decision) else ""
        )
        text = f"rule {trace.rule:<3} line {trace.line:<4} {trace.level:<15} "
        out.print(text + _trace_text(trace, decision), style=style)


def _is_late(trace: RuleTrace, decision: Decision) -> bool:
    return decision.rule is not None and trace.rule > decision.rule


def _trace_text(trace: RuleTrace, decision: Decision) -> str:
    if trace.rule == decision.rule:
        return "decides"
    if trace.matches:
        return "would match, but an earlier rule decides"
    return "; ".join(_shortened(str(condition)) for condition in trace.failed)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"


def _request_text(request: RequestAttributes) -> str:
    groups = f" ({', '.join(request.groups)})" if request.groups else ""
    who = "no user" if request.user is None else f"{request.user}{groups}"
    if not request.is_resource_request:
        return printable(f"{who}: {request.verb} {request.path}")
    kind = request.resource + (f"/{request.subresource}" if request.subresource else "")
    name = f' "{request.name}"' if request.name else ""
    group = f" of {request.api_group}" if request.api_group else ""
    where = f" in namespace {request.namespace}" if request.namespace else ""
    return printable(f"{who}: {request.verb} {kind}{name}{group}{where}")


def _decision_text(decision: Decision) -> str:
    omitted = f", without {', '.join(decision.omit_stages)}" if decision.omit_stages else ""
    fields = ", without managed fields" if decision.omit_managed_fields else ""
    return f"{decision.level}{omitted}{fields}"


@policy.command(
    "list",
    epilog=f"""\b
Example:
  kubewitness policy list -o json

{EXIT_CODES}""",
)
@output_option
def list_policies(*, output: str) -> None:
    """List the bundled policies and what each is for."""
    bundled = bundled_policies()
    if output == "json":
        print_json([{"name": each.name, "summary": each.summary} for each in bundled])
        return
    width = max(len(each.name) for each in bundled)
    for each in bundled:
        click.echo(f"{each.name:<{width}}  {each.summary}")


@policy.command(
    epilog=f"""\b
Example:
  kubewitness policy show recommended > audit-policy.yaml

{EXIT_CODES}"""
)
@click.argument("name")
def show(name: str) -> None:
    """Print the bundled policy NAME, comments included."""
    bundled = {each.name: each.data for each in bundled_policies()}
    if name not in bundled:
        fail(f"no bundled policy {name}; these are: {', '.join(bundled)}")
    sys.stdout.buffer.write(bundled[name])
