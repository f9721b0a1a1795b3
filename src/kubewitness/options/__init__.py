"""Every flag of auditing: what kube-apiserver has, and a few of ours, each declared once.

`AuditOptions` is the whole as a value. `load_options` makes it of a command line, an environment
and a file, and says everything that is wrong with them at once, where it stands. This is the room
that knows every concrete backend. Not here: printing.

Read first: `model` (the settings), `flags` (how flags come from them), `load` (what goes before
what), `pipeline` (what wraps what). Source: audit specification section 12.
"""

from kubewitness.options.composition import composition, describe
from kubewitness.options.flags import FLAGS, Flag
from kubewitness.options.load import Loaded, examine_options, load_options
from kubewitness.options.model import AuditOptions, LogOptions, WebhookOptions
from kubewitness.options.pasted import read_pasted
from kubewitness.options.pipeline import build_pipeline
from kubewitness.options.reference import reference, reference_rows
from kubewitness.options.validate import validate

__all__ = [
    "FLAGS",
    "AuditOptions",
    "Flag",
    "Loaded",
    "LogOptions",
    "WebhookOptions",
    "build_pipeline",
    "composition",
    "describe",
    "examine_options",
    "load_options",
    "read_pasted",
    "reference",
    "reference_rows",
    "validate",
]
