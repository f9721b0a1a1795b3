"""``kubewitness convert``: audit logs from any format into any other."""

import sys
from collections.abc import Callable

import click

from kubewitness.cli.inputs import read_inputs
from kubewitness.cli.output import EXIT_CODES, LineWriter, Reporter
from kubewitness.codec import (
    Dialect,
    Format,
    TwoLineWriter,
    encode,
    encode_legacy,
)
from kubewitness.errors import EncodeError, Problem
from kubewitness.event import Event
from kubewitness.request import derive_object_ref

_Encode = Callable[[Event, Dialect | None], bytes]


@click.command(
    epilog=f"""\b
Examples:
  kubewitness convert --to legacy audit.log | less
  kubewitness convert --from legacy --to json /var/log/kubernetes/ > events.jsonl
  gunzip -c old.log.gz | kubewitness convert --to json -

{EXIT_CODES}"""
)
@click.option(
    "--from",
    "source_format",
    type=click.Choice([member.value for member in Format]),
    default=Format.AUTO.value,
    show_default=True,
    help="What to read. Anything else in the input is a problem.",
)
@click.option(
    "--to",
    "target_format",
    type=click.Choice(["json", "legacy", "two-line"]),
    required=True,
    help="json: a line an event, as --audit-log-format=json. legacy: one line of text an event. "
    "two-line: a request line and a response line, as before Kubernetes 1.12.",
)
@click.argument("files", nargs=-1)
def convert(source_format: str, target_format: str, files: tuple[str, ...]) -> None:
    """Convert audit logs: JSON, legacy text and the old two-line text.

    FILES are files, directories or - for standard input (the default). JSON may come a line an
    event, in arrays, in EventLists or indented, any input also gzipped. What is no event is
    reported with file and line on standard error (the first 100 of each file), and reading goes on.

    Text holds less than JSON does. Converted to JSON, an event from text gets its objectRef (and
    in the oldest format its verb) from the request URI by the API server's own rules; the level
    and whatever else the text does not say stay empty.
    """
    reporter = Reporter()
    writer = LineWriter(sys.stdout.buffer)
    encode_as = _encoder(target_format)
    readers = read_inputs(
        files, reporter=reporter, accept=Format(source_format), before_read=writer.flush
    )
    for name, reader in readers:
        for event in reader:
            try:
                writer.write(encode_as(event, reader.dialect))
            except EncodeError as error:
                reporter(Problem(name, reader.line, 0, "", str(error)))
    writer.flush()
    reporter.exit()


def _encoder(target_format: str) -> _Encode:
    if target_format == "json":
        return lambda event, dialect: encode(event if dialect is None else derive_object_ref(event))
    if target_format == "legacy":
        return _to_legacy
    writer = TwoLineWriter()
    return lambda event, _: writer.encode(event)


def _to_legacy(event: Event, dialect: Dialect | None) -> bytes:
    if dialect is Dialect.TWO_LINE:  # holds HTTP methods, where the one-line format has verbs
        event = derive_object_ref(event)
    return encode_legacy(event, user_agent=dialect is not Dialect.ONE_LINE_NO_USER_AGENT)
