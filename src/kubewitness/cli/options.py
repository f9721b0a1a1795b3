"""``kubewitness options``: what a server would do with its audit flags, and what the flags are."""

import sys
from collections.abc import Iterator
from typing import Any

import click

from kubewitness.cli.audit_files import examine_files
from kubewitness.cli.output import console, fail, output_option, print_json
from kubewitness.errors import Problem, printable
from kubewitness.options import (
    FLAGS,
    Flag,
    Loaded,
    composition,
    describe,
    examine_options,
    read_pasted,
    reference,
    reference_rows,
)

_OURS = "kube-apiserver does not have this flag"
_TWO_LINE = "kube-apiserver does not have this format"
_EXIT_CODES = "Exit codes: 0 a server would start with these flags, 2 it would not."


@click.group()
def options() -> None:
    """Check the audit flags of a server, and look them up."""


class _PastedArguments(click.Command):
    """A command with arguments of another one: what is not an option of ours is theirs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Sort the arguments; ``--`` is needed only when both have an option of one name."""
        known = {
            name: isinstance(each, click.Option) and not each.is_flag
            for each in self.get_params(ctx)
            for name in each.opts
            if name.startswith("-")
        }
        own: list[str] = []
        pasted: list[str] = []
        remaining = iter(args)
        for argument in remaining:
            name = argument.partition("=")[0]
            if argument == "--":
                pasted += remaining
            elif name in known:
                own.append(argument)
                if known[name] and name == argument:
                    own += [each for each in [next(remaining, None)] if each is not None]
            else:
                pasted.append(argument)
        return super().parse_args(ctx, [*own, "--", *pasted])


@options.command(
    cls=_PastedArguments,
    epilog=f"""\b
Examples:
  kubewitness options check -- --audit-log-path=/var/log/audit.log --audit-log-maxage 30
  kubewitness options check --files < /etc/kubernetes/manifests/kube-apiserver.yaml

{_EXIT_CODES}""",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--files", is_flag=True, help="Look at the files that the flags name, too.")
@click.option("--config", metavar="FILE", help="A configuration file of ours to read with them.")
@output_option
def check(arguments: tuple[str, ...], *, files: bool, config: str | None, output: str) -> None:
    """Say what a server would do with ARGUMENTS, and everything that is wrong with them.

    ARGUMENTS are those of kube-apiserver, or of any server with its audit flags, as they stand on
    its command line or in the lines of a manifest; other flags than those of auditing are ignored.
    Without ARGUMENTS they are read from standard input: a manifest, lines of one, or a command.

    --files also reads the policy and the kubeconfig, and looks whether the log can be written; no
    file is made or changed. Variables are not read.
    """
    loaded = examine_options(_given(arguments, config), file=config)
    found = examine_files(loaded.options, loaded.origins) if files else ((), ())
    problems = (*loaded.problems, *found[0])
    warnings = (*loaded.warnings, *found[1])
    if output == "json":
        print_json(_report(loaded, problems, warnings))
    else:
        _print_report(loaded, would_start=not problems)
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        for problem in problems:
            click.echo(f"error: {problem}", err=True)
    sys.exit(2 if problems else 0)


def _given(arguments: tuple[str, ...], config: str | None) -> list[str]:
    if arguments or config is not None:
        return [*arguments]
    text = "" if sys.stdin.isatty() else sys.stdin.buffer.read().decode("utf-8", "replace")
    if not text.strip():
        fail("no arguments; give those of a server after --, or a manifest on standard input")
    return read_pasted(text)


def _ignored(loaded: Loaded) -> list[str]:
    """Return the flags that are not about auditing; their values may be words of their own."""
    return [each for each in loaded.ignored if each.startswith("-") and each.strip("-\\ ")]


def _settings(loaded: Loaded) -> Iterator[tuple[Flag, str, str]]:
    """Yield each flag that is given, its value, and where kube-apiserver differs."""
    for flag in FLAGS:
        if flag.name in loaded.origins:
            value = flag.shown(flag.value(loaded.options))
            is_two_line = flag.path == ("log", "format") and value == "two-line"
            yield flag, value, _OURS if flag.ours else _TWO_LINE if is_two_line else ""


def _report(
    loaded: Loaded, problems: tuple[Problem, ...], warnings: tuple[Problem, ...]
) -> dict[str, Any]:
    return {
        "flags": [
            {
                "flag": flag.argument,
                "value": flag.value(loaded.options),
                "shown": value,
                "help": flag.help,
                "kubeApiserver": not note,
                "origin": loaded.origins[flag.name]._asdict(),
            }
            for flag, value, note in _settings(loaded)
        ],
        "ignored": _ignored(loaded),
        "composition": composition(loaded.options),
        "description": describe(loaded.options),
        "warnings": warnings,
        "problems": problems,
    }


def _print_report(loaded: Loaded, *, would_start: bool) -> None:
    out = console()
    for flag, value, note in _settings(loaded):
        out.print(printable(f"{flag.argument}={value}"), style="bold")
        out.print(f"    {flag.help}")
        if note:
            out.print(f"    {note}.", style="yellow")
    if loaded.origins:
        out.print()
    if would_start:
        out.print(f"Backends: {composition(loaded.options)}", style="bold")
        for line in describe(loaded.options):
            out.print(f"    {line}")
    else:
        out.print("A server does not start with these.", style="bold")
    if ignored := _ignored(loaded):
        names = ", ".join(dict.fromkeys(each.partition("=")[0] for each in ignored))
        out.print()
        out.print(printable(f"not looked at: {names}"), style="dim")


@options.command(
    "reference",
    epilog="""\b
Example:
  kubewitness options reference -o json""",
)
@output_option
def show_reference(*, output: str) -> None:
    """Print what every audit flag is for, as Markdown."""
    if output == "json":
        print_json(reference_rows())
    else:
        click.echo(reference(), nl=False)
