"""The files that audit flags name, looked at as a server would: read, but never made or changed."""

import os
from collections.abc import Mapping
from pathlib import Path

from kubewitness.backends.credentials import Credentials
from kubewitness.documents import quoted
from kubewitness.errors import OptionsError, Problem
from kubewitness.options import AuditOptions
from kubewitness.options.flags import FLAG_OF
from kubewitness.options.opening import (
    CONFIG_FILE,
    LOG_PATH,
    at_flag,
    attempt,
    open_kubeconfig,
    open_policy,
)
from kubewitness.options.origin import Origin, origin_of

Findings = tuple[tuple[Problem, ...], tuple[Problem, ...]]
"""Problems, and warnings."""


def examine_files(options: AuditOptions, origins: Mapping[str, Origin]) -> Findings:
    """Return what is wrong with the policy, the kubeconfig and the place of the log."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for look in (_policy_warnings, _kubeconfig_warnings):
        try:
            warnings += look(options, origins)
        except OptionsError as error:
            problems += error.problems
    path = options.log.path
    if path not in ("", "-") and (fault := _log_fault(Path(path))):
        problems.append(origin_of(FLAG_OF[LOG_PATH], origins).problem(fault))
    return tuple(problems), tuple(warnings)


def _policy_warnings(options: AuditOptions, origins: Mapping[str, Origin]) -> tuple[Problem, ...]:
    policy = open_policy(options, origins)
    return policy.dropped if policy is not None else ()


def _kubeconfig_warnings(
    options: AuditOptions, origins: Mapping[str, Origin]
) -> tuple[Problem, ...]:
    kubeconfig = open_kubeconfig(options, origins)
    if kubeconfig is None:
        return ()
    attempt(CONFIG_FILE, origins, lambda: Credentials(kubeconfig))
    return at_flag(origin_of(FLAG_OF[CONFIG_FILE], origins), kubeconfig.warnings)


def _log_fault(path: Path) -> str:
    """Return why events cannot be written to a file; directories that lack would be made."""
    try:
        return _place_fault(path)
    except OSError as error:
        return f"{quoted(str(path))}: {error.strerror}"


def _place_fault(path: Path) -> str:
    if path.exists():
        if path.is_dir():
            return f"{quoted(str(path))} is a directory; name a file in it"
        return "" if os.access(path, os.W_OK) else f"{quoted(str(path))} cannot be written"
    around = next(each for each in path.absolute().parents if each.exists())
    if not around.is_dir():
        return f"{quoted(str(around))} is not a directory"
    writable = os.access(around, os.W_OK | os.X_OK)
    return "" if writable else f"no file can be made in {quoted(str(around))}"
