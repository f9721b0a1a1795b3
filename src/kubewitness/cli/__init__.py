"""The command line: parse arguments, call the rooms below, print what they return.

One module a command group; `inputs` opens what the arguments name, `output` prints. No rule of
auditing lives here. Exit codes everywhere: 0 fine, 1 problems found, 2 wrong usage.
"""

import io
import os
import signal
import sys
from typing import Any

import click

from kubewitness.cli.convert import convert
from kubewitness.cli.options import options
from kubewitness.cli.output import EXIT_CODES
from kubewitness.cli.policy import policy
from kubewitness.cli.proxy import proxy


class _Command(click.Group):
    """The whole command, with what every part of it needs of its surroundings."""

    def invoke(self, ctx: click.Context) -> Any:
        if hasattr(signal, "SIGPIPE"):  # a reader that left early is no problem of ours
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.ClickException(f"cannot write the output: {error.strerror}") from None
        return result


@click.group(
    cls=_Command,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(package_name="kubewitness", message="%(prog)s %(version)s")
def main() -> None:
    """Kubernetes auditing: policies, events and audit logs, exactly as kube-apiserver has them."""


main.add_command(policy)
main.add_command(convert)
main.add_command(options)
main.add_command(proxy)
