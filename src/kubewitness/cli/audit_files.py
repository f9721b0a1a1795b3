"""The files that audit flags name, looked at as a server would: read, but never made or changed."""

import os
from collections.abc import Callable
from pathlib import Path

from kubewitness.backends.kubeconfig import load_kubeconfig
from kubewitness.documents import quoted
from kubewitness.errors import InputError, Problem
from kubewitness.options import AuditOptions
from kubewitness.policy import load_policy

Findings = tuple[tuple[Problem, ...], tuple[Problem, ...]]
"""Problems, and warnings."""


def examine_files(options: AuditOptions) -> Findings:
    """Return what is wrong with the policy, the kubeconfig and the place of the log."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for path, look in (
        (options.policy_file, _policy),
        (options.webhook.config_file, _kubeconfig),
        (options.log.path, _log),
    ):
        if path:
            found = look(path)
            problems += found[0]
            warnings += found[1]
    return tuple(problems), tuple(warnings)


def _policy(path: str) -> Findings:
    return _read(path, lambda data: load_policy(data, path).dropped)


def _kubeconfig(path: str) -> Findings:
    directory = Path(path).parent
    return _read(path, lambda data: load_kubeconfig(data, path, directory=directory).warnings)


def _read(path: str, load: Callable[[bytes], tuple[Problem, ...]]) -> Findings:
    try:
        return (), tuple(load(Path(path).read_bytes()))
    except OSError as error:
        return (Problem(path, 0, 0, "", error.strerror or str(error)),), ()
    except InputError as error:
        return error.problems, ()


def _log(path: str) -> Findings:
    message = "" if path == "-" else _log_fault(Path(path))
    return ((Problem("--audit-log-path", 0, 0, "", message),) if message else ()), ()


def _log_fault(path: Path) -> str:
    """Return why events cannot be written to a file; directories that lack would be made."""
    if path.exists():
        if path.is_dir():
            return f"{quoted(str(path))} is a directory; name a file in it"
        return "" if os.access(path, os.W_OK) else f"{quoted(str(path))} cannot be written"
    around = next(each for each in path.absolute().parents if each.exists())
    if not around.is_dir():
        return f"{quoted(str(around))} is not a directory"
    writable = os.access(around, os.W_OK | os.X_OK)
    return "" if writable else f"no file can be made in {quoted(str(around))}"
