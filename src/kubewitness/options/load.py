"""Options from every source at once: argument before variable before file before default.

Source: audit specification section 12 for the arguments; variables and the file are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kubewitness.errors import OptionsError, Problem
from kubewitness.options.advice import advise
from kubewitness.options.arguments import parse_arguments
from kubewitness.options.flags import with_values
from kubewitness.options.model import AuditOptions
from kubewitness.options.origin import Gathered, Origin
from kubewitness.options.sources import read_file, read_variables
from kubewitness.options.validate import validate

_NO_ENVIRONMENT: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What the sources say.

    Attributes:
        options: The options; with problems, those of the settings that could be read.
        origins: Where each setting that is given came from, by flag name.
        problems: What keeps the options from being used; empty from `load_options`.
        warnings: What is odd.
        ignored: The arguments that are not about auditing, in their order.
    """

    options: AuditOptions
    origins: Mapping[str, Origin]
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    ignored: tuple[str, ...]


def load_options(
    arguments: Sequence[str] = (),
    *,
    environment: Mapping[str, str] = _NO_ENVIRONMENT,
    file: str | Path | None = None,
    wants_policy: bool = True,
) -> Loaded:
    """Return the options that a command line, an environment and a file set.

    Args:
        arguments: A command line; what is not about auditing is handed back.
        environment: For example ``os.environ``; only ``KUBEWITNESS_AUDIT_…`` are looked at.
        file: A configuration file, YAML or JSON.
        wants_policy: Whether to warn when no policy is given.

    Raises:
        OptionsError: They cannot be used; it holds every problem of every source.
    """
    loaded = examine_options(
        arguments, environment=environment, file=file, wants_policy=wants_policy
    )
    if loaded.problems:
        raise OptionsError(loaded.problems)
    return loaded


def examine_options(
    arguments: Sequence[str] = (),
    *,
    environment: Mapping[str, str] = _NO_ENVIRONMENT,
    file: str | Path | None = None,
    wants_policy: bool = True,
) -> Loaded:
    """Do what `load_options` does, but return the problems beside the rest."""
    from_arguments = parse_arguments(arguments)
    sources = (_read(file), read_variables(environment), from_arguments)
    settings = [each for source in sources for each in source.settings]
    options = with_values(AuditOptions(), {each.flag.name: each.value for each in settings})
    origins = {each.flag.name: each.origin for each in settings}
    refused = {name for source in sources for name in source.refused}
    problems = [each for source in reversed(sources) for each in source.problems]
    problems += validate(options, origins, refused=refused)
    warnings = [each for source in reversed(sources) for each in source.warnings]
    if not any(source.problems for source in sources):  # else the options are not what was meant
        warnings += advise(options, origins, wants_policy=wants_policy)
    return Loaded(
        options=options,
        origins=origins,
        problems=tuple(problems),
        warnings=tuple(warnings),
        ignored=tuple(from_arguments.ignored),
    )


def _read(file: str | Path | None) -> Gathered:
    if file is None:
        return Gathered()
    try:
        return read_file(Path(file).read_bytes(), str(file))
    except OSError as error:
        return Gathered(problems=[Problem(str(file), 0, 0, "", error.strerror or str(error))])
