"""A command line by the rules of pflag, as far as it is about auditing.

``--flag=value`` and ``--flag value``; ``--flag`` alone is true for a bool, and no word after it is
taken; a flag given again replaces its earlier value; ``--`` ends the flags; ``_`` in a flag's name
counts as ``-``. What kube-apiserver would stop at first, is all reported. Arguments of other flags
are handed back: whether ``--other value`` are one or two cannot be known, and does not matter,
unless such a value is itself spelled like an audit flag.

Source: audit specification section 12; ``spf13/pflag`` and ``component-base/cli/flag``.
"""

from collections.abc import Iterator, Sequence

from kubewitness.documents import closest, quoted, shown
from kubewitness.options.flags import FLAG_OF, PREFIX, RENAMED, Flag
from kubewitness.options.kinds import Kind
from kubewitness.options.origin import Gathered, Origin
from kubewitness.options.pasted import cleaned

_BARE_BOOLEANS = frozenset(("true", "false"))


def parse_arguments(arguments: Sequence[str]) -> Gathered:
    """Take the audit flags out of the arguments of a command; a program's name may lead them."""
    gathered = Gathered()
    remaining = iter(arguments)
    after_switch: Flag | None = None  # a bool without value, when it was the last word
    for raw in remaining:
        argument = cleaned(raw)
        if raw == "--":
            gathered.ignored.extend([raw, *remaining])
        elif _is_ours(argument):
            after_switch = _take(argument, remaining, gathered)
        else:
            if after_switch is not None and raw in _BARE_BOOLEANS:
                _refuse_bare_boolean(after_switch, raw, gathered)
            gathered.ignored.append(raw)
            after_switch = None
    return gathered


def _is_ours(argument: str) -> bool:
    return argument.startswith((f"--{PREFIX}", f"-{PREFIX}"))


def _take(argument: str, remaining: Iterator[str], gathered: Gathered) -> Flag | None:
    """Read one flag and its value; return the flag if it is a bool without one."""
    written, has_value, text = argument.partition("=")
    name = written.lstrip("-").replace("_", "-")
    flag = FLAG_OF.get(RENAMED.get(name, name))
    if flag is None or not written.startswith("--"):
        gathered.problems.append(Origin(written).problem(_unknown(name)))
        return None
    origin = Origin(f"--{name}")
    if name in RENAMED:
        gathered.warnings.append(origin.problem(f"an old name; write {flag.argument}"))
    if has_value:
        gathered.take(flag, text, origin)
    elif flag.kind is Kind.BOOL:
        gathered.take(flag, "true", origin)
        return flag
    else:
        _take_next(flag, origin, remaining, gathered)
    return None


def _take_next(flag: Flag, origin: Origin, remaining: Iterator[str], gathered: Gathered) -> None:
    text = next(remaining, None)
    if text is None:
        gathered.refuse(flag, origin, f"needs a value: {origin.source}=…")
        return
    if text.startswith("--"):
        message = f"takes the word after it, {quoted(text)}, as its value; write {origin.source}=…"
        gathered.warnings.append(origin.problem(message))
    gathered.take(flag, text, origin)


def _unknown(name: str) -> str:
    if name in FLAG_OF or name in RENAMED:
        return f"flags start with two dashes here; write --{RENAMED.get(name, name)}"
    first, space, value = name.partition(" ")
    if space and first in FLAG_OF:
        return f"a flag and its value in one argument: write --{first}={shown(value.strip())}"
    meant = closest(name, FLAG_OF)
    return "no such flag" + (f", did you mean --{meant}?" if meant else "")


def _refuse_bare_boolean(flag: Flag, text: str, gathered: Gathered) -> None:
    message = f"does not take the {text} after it, and is true; write {flag.argument}={text}"
    gathered.refuse(flag, Origin(flag.argument), message)
