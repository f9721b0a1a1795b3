"""The command line: parse arguments, call the rooms below, print what they return.

One module a command group; `inputs` opens what the arguments name, `output` prints. No rule of
auditing lives here. Exit codes everywhere: 0 fine, 1 problems found, 2 wrong usage.
"""

import click

from kubewitness.cli.convert import convert
from kubewitness.cli.output import EXIT_CODES
from kubewitness.cli.policy import policy


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXIT_CODES,
)
@click.version_option(package_name="kubewitness", message="%(prog)s %(version)s")
def main() -> None:
    """Kubernetes auditing: policies, events and audit logs, exactly as kube-apiserver has them."""


main.add_command(policy)
main.add_command(convert)
