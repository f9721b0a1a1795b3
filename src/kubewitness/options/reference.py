"""The flag reference, ``docs/flags.md``, made from the flags themselves."""

from collections.abc import Iterator
from typing import Any

from kubewitness.options.flags import FLAGS, Flag

_INTRODUCTION = """\
# Flags

<!-- Made by `kubewitness options reference`; a test compares the two. -->

The flags of kube-apiserver 1.36 that are about auditing, with its names, types and defaults, and \
a few of our own. They are read as kube-apiserver reads them: `--flag=value` or `--flag value`; \
`--flag` alone is true for a bool; of a repeated flag the last value counts.

Each can also be set by a variable, and by a key of the file that `--config` names, a flat mapping \
in YAML or JSON. An argument goes before a variable, a variable before the file. \
`kubewitness options check -- ARGUMENTS` says what a server would do with them.

| type | values |
|---|---|
| string | any text |
| bool | `true` or `false`; also `1`, `t`, `T`, `TRUE`, `True` and `0`, `f`, `F`, `FALSE`, `False` |
| int, int64 | whole numbers; also `0x1f`, `0b101`, `0o17`, and `017`, which is 15; `1_000` |
| float32 | decimal numbers, `1e3`, `0x1p-2`; finite, unlike kube-apiserver's |
| duration | numbers with units: `300ms`, `10s`, `1m30s`, `2h` |
"""


def reference() -> str:
    """Return the reference as Markdown: a section a flag."""
    return "\n".join([_INTRODUCTION, *(line for flag in FLAGS for line in _section(flag))])


def reference_rows() -> list[dict[str, Any]]:
    """Return the reference for programs: a mapping a flag."""
    return [
        {
            "flag": flag.argument,
            "type": str(flag.kind),
            "default": flag.default,
            "variable": flag.variable,
            "key": flag.name,
            "help": flag.help,
            "kubeApiserver": not flag.ours,
            "oldName": f"--{flag.old_name}" if flag.old_name else None,
        }
        for flag in FLAGS
    ]


def _section(flag: Flag) -> Iterator[str]:
    default = flag.shown(flag.default)
    yield f"### {flag.argument}"
    yield ""
    yield flag.help
    yield ""
    yield "| type | default | variable | configuration key | kube-apiserver |"
    yield "|---|---|---|---|---|"
    cells = (flag.kind, f"`{default}`" if default else "empty", f"`{flag.variable}`")
    yield f"| {' | '.join(cells)} | `{flag.name}` | {'no' if flag.ours else 'yes'} |"
    yield ""
    if flag.old_name:
        yield f"On a command line its old name, `--{flag.old_name}`, is read, too, with a warning."
        yield ""
