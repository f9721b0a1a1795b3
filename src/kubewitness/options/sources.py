"""Settings from the environment and from a configuration file.

Variables are ``KUBEWITNESS_`` and the flag's name in capitals; the file is a flat mapping of flag
names without their dashes, in YAML or JSON::

    audit-policy-file: policy.yaml
    audit-log-path: /var/log/audit.log
    audit-webhook-batch-max-wait: 10s

kube-apiserver has neither. Not here: opening the file (`load`).
"""

from collections.abc import Mapping

from yaml.nodes import Node

from kubewitness.documents import Reading, Shape, closest, compose
from kubewitness.documents.reading import Decode
from kubewitness.documents.scalars import Kind as NodeKind
from kubewitness.documents.scalars import boolean_of
from kubewitness.errors import DocumentError
from kubewitness.options.flags import FLAG_OF, FLAGS, VARIABLE_PREFIX, Flag
from kubewitness.options.kinds import Kind
from kubewitness.options.origin import Gathered, Origin

_NODE_KINDS = {
    Kind.STRING: NodeKind.STRING,
    Kind.BOOL: NodeKind.BOOLEAN,
    Kind.INT: NodeKind.NUMBER,
    Kind.INT64: NodeKind.NUMBER,
    Kind.FLOAT32: NodeKind.NUMBER,
    Kind.DURATION: NodeKind.STRING,
}
_EXAMPLES = {
    Kind.STRING: "a string, in quotes if need be",
    Kind.BOOL: "true or false, without quotes",
    Kind.INT: "a whole number, without quotes",
    Kind.INT64: "a whole number, without quotes",
    Kind.FLOAT32: "a number, without quotes",
    Kind.DURATION: "a number with its unit, like 10s",
}


def read_variables(environment: Mapping[str, str]) -> Gathered:
    """Take the settings out of an environment; variables of other names are not looked at."""
    gathered = Gathered()
    flag_of = {flag.variable: flag for flag in FLAGS}
    for name in sorted(environment):
        origin = Origin(f"${name}")
        if (flag := flag_of.get(name)) is not None:
            gathered.take(flag, environment[name], origin)
        elif name.startswith(VARIABLE_PREFIX):
            meant = closest(name, flag_of)
            hint = f", did you mean ${meant}?" if meant else ""
            gathered.problems.append(origin.problem(f"no such variable{hint}"))
    return gathered


def read_file(data: bytes, source: str) -> Gathered:
    """Take the settings out of a configuration file; an empty one has none.

    Args:
        data: The text, YAML or JSON.
        source: The file's name, for problems.
    """
    gathered = Gathered()
    try:
        root = compose(data, source)
    except DocumentError as error:
        gathered.problems.extend(error.problems)
        return gathered
    reading = Reading(source)
    if root is not None:
        found = reading.mapping(root, "", _SHAPE)
        for name, text in found.items():
            gathered.take(FLAG_OF[name], text, Origin(source, *reading.places[name], name))
    wrong = [*gathered.problems, *reading.wrong, *reading.dropped]
    gathered.problems[:] = sorted(wrong, key=lambda each: (each.line, each.column))
    gathered.refused.update(each.field for each in wrong)
    return gathered


def _decode(flag: Flag) -> Decode:
    def decode(reading: Reading, node: Node, path: str) -> str | None:
        hint = f"; write {_EXAMPLES[flag.kind]}"
        if not reading.expect(node, path, _NODE_KINDS[flag.kind], hint):
            return None
        if flag.kind is Kind.BOOL:
            return flag.shown(boolean_of(node))
        return str(node.value)

    return decode


_SHAPE = Shape({flag.name: _decode(flag) for flag in FLAGS}, example="{audit-log-path: audit.log}")
