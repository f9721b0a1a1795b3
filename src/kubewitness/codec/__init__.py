"""Bytes to events and back: the formats, and nothing about what they mean.

Read first: `encode` (what Kubernetes writes, byte for byte), `decode` (what it and others wrote),
`legacy` (the text formats); then `read` (streams of anything) and below it `framing` (where a
record ends), `measure` and `tape`. `times`, `duration`, `gotext` and `grammar` hold Go's and
JSON's small print.

Not here: files and sockets (callers bring streams), the URL rules (`request`), rotation and
delivery (`backends`).

Source: audit specification sections 1 and 6.
"""

from kubewitness.codec.decode import decode, decode_all
from kubewitness.codec.encode import compact, encode, encode_list
from kubewitness.codec.legacy import Dialect, TwoLineWriter, encode_legacy
from kubewitness.codec.read import EventReader, Format, read_events

__all__ = [
    "Dialect",
    "EventReader",
    "Format",
    "TwoLineWriter",
    "compact",
    "decode",
    "decode_all",
    "encode",
    "encode_legacy",
    "encode_list",
    "read_events",
]
