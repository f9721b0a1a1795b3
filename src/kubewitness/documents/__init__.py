"""YAML and JSON files that people write: where everything in them stands, and what is wrong there.

Policies, kubeconfigs and our own configuration are read through here, by the scalar rules of the
Go library that Kubernetes reads YAML with. Not here: what any of these files mean, and how they are
opened; audit events, which are JSON that machines write, are for `codec`.

Read first: `reading` (nodes to plain values). Below it, `compose` makes the nodes of YAML and
`json_nodes` those of JSON, `scalars` says what a node is; `wording` quotes what others chose.

Source: audit specification section 2.2.
"""

from kubewitness.documents.compose import compose
from kubewitness.documents.reading import (
    Decode,
    Reading,
    Shape,
    boolean,
    ignored,
    mappings,
    string,
    string_map,
    strings,
)
from kubewitness.documents.wording import closest, quoted, shown

__all__ = [
    "Decode",
    "Reading",
    "Shape",
    "boolean",
    "closest",
    "compose",
    "ignored",
    "mappings",
    "quoted",
    "shown",
    "string",
    "string_map",
    "strings",
]
