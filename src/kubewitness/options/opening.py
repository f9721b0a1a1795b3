"""The files that options name, opened: every fault of theirs is said at the flag that names them.

Source: audit specification sections 2 and 8.1.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from kubewitness.backends.kubeconfig import Kubeconfig, load_kubeconfig
from kubewitness.errors import InputError, OptionsError, Problem
from kubewitness.options.flags import FLAG_OF
from kubewitness.options.model import AuditOptions
from kubewitness.options.origin import Origin, origin_of
from kubewitness.policy import Policy, load_policy

_T = TypeVar("_T")

POLICY_FILE = "audit-policy-file"
CONFIG_FILE = "audit-webhook-config-file"
LOG_PATH = "audit-log-path"


def open_policy(options: AuditOptions, origins: Mapping[str, Origin]) -> Policy | None:
    """Load the policy file; None if there is none.

    Raises:
        OptionsError: It cannot be read or used.
    """
    path = options.policy_file
    if not path:
        return None
    return attempt(POLICY_FILE, origins, lambda: load_policy(Path(path).read_bytes(), path))


def open_kubeconfig(options: AuditOptions, origins: Mapping[str, Origin]) -> Kubeconfig | None:
    """Load the webhook's kubeconfig; None if there is none.

    Raises:
        OptionsError: It cannot be read, or names no usable server.
    """
    path = options.webhook.config_file
    if not path:
        return None

    def load() -> Kubeconfig:
        return load_kubeconfig(Path(path).read_bytes(), path, directory=Path(path).parent)

    return attempt(CONFIG_FILE, origins, load)


def attempt(name: str, origins: Mapping[str, Origin], action: Callable[[], _T]) -> _T:
    """Do something with what a flag names.

    Raises:
        OptionsError: What went wrong, at the flag.
    """
    origin = origin_of(FLAG_OF[name], origins)
    try:
        return action()
    except InputError as error:
        raise OptionsError(at_flag(origin, error.problems)) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        problem = origin.problem(f"{where}{error.strerror or error}")
        raise OptionsError((problem,)) from None


def at_flag(origin: Origin, problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    """Return problems of a file as problems of the flag that names it."""
    return tuple(origin.problem(str(problem)) for problem in problems)
