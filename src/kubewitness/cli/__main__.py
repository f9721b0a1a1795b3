"""Run the command line as ``python -m kubewitness.cli``."""

from kubewitness.cli import main

main(prog_name="kubewitness")
