"""Commands that have all audit flags: a server with them is set up as kube-apiserver is.

Source: audit specification section 12.
"""

import logging
import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import click

from kubewitness.backends.pipeline import Pipeline
from kubewitness.errors import OptionsError, Problem
from kubewitness.options import FLAGS, Flag, Loaded, build_pipeline, examine_options

PARAMETER = "audit"
_CONFIG = "audit_config"


class AuditCommand(click.Command):
    """A command whose function gets its audit options as the parameter ``audit``, a `Loaded`.

    The flags are read by pflag's rules, wherever they stand before ``--``; with them the variables
    ``KUBEWITNESS_AUDIT_…`` and the file of ``--config``. With a problem in any of them the command
    says everything that is wrong and ends with 2, before its function is called::

        @main.command(cls=AuditCommand)
        @click.option("--listen")
        def serve(listen: str, audit: Loaded) -> None: ...

    Args:
        wants_policy: Whether to warn when no policy file is given.
        arguments: What `click.Command` takes.
    """

    def __init__(self, *, wants_policy: bool = True, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._wants_policy = wants_policy
        self.params.append(_config_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the audit flags out, have click read the rest, and put the options with it."""
        given = examine_options(args)
        try:
            rest = super().parse_args(ctx, [*given.ignored])
        except click.UsageError:
            if given.problems:  # the rest may be odd only because of these
                refuse(given.problems, ctx)
            raise
        loaded = examine_options(
            args,
            environment=os.environ,
            file=ctx.params.pop(_CONFIG),
            wants_policy=self._wants_policy,
        )
        if not ctx.resilient_parsing:
            warn(loaded.warnings)
            if loaded.problems:
                refuse(loaded.problems, ctx)
        ctx.params[PARAMETER] = loaded
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the audit flags."""
        super().format_options(ctx, formatter)
        with formatter.section("Audit flags (kube-apiserver's, but where it says otherwise)"):
            formatter.write_dl([_help(flag) for flag in FLAGS])


def warn(warnings: Iterable[Problem]) -> None:
    """Print warnings to standard error."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def refuse(problems: Iterable[Problem], ctx: click.Context) -> NoReturn:
    """Print problems to standard error, and end the command: it cannot be used so."""
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    ctx.exit(2)


def _config_option() -> click.Option:
    text = "File with audit flags as keys, without dashes, in YAML or JSON. Flags override it."
    return click.Option(["--config", _CONFIG], metavar="FILE", help=text)


def _help(flag: Flag) -> tuple[str, str]:
    default = flag.shown(flag.default)
    return f"{flag.argument} {flag.kind}", flag.help + (
        f"  [default: {default}]" if default else ""
    )


def open_pipeline(audit: Loaded) -> Pipeline:
    """Build what the flags of an `AuditCommand` ask for; with a fault, end the command with 2.

    What backends have to say goes to standard error from then on.
    """
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return build_pipeline(audit.options, origins=audit.origins)
    except OptionsError as error:
        refuse(error.problems, click.get_current_context())
