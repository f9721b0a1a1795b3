"""A little server with audit flags, for tests that kill it: it makes events until it is stopped.

Prints the number of each event once the pipeline has accepted it. SIGTERM ends it in good order,
SIGHUP has it open its log anew.
"""

import itertools
import os
import signal
import sys
from types import FrameType

import click
from msgspec import Raw

from collecting import event
from kubewitness.cli.audit_flags import AuditCommand, open_pipeline
from kubewitness.options import Loaded

_BODY = Raw(b'{"spec":"%s"}' % (b"x" * 2000))
_stopped = False


def _stop(signal: int, frame: FrameType | None) -> None:  # noqa: ARG001
    global _stopped  # noqa: PLW0603
    _stopped = True


@click.command(cls=AuditCommand, wants_policy=False)
@click.option("--events", default=1_000_000)
def serve(events: int, audit: Loaded) -> None:
    """Make events until SIGTERM."""
    signal.signal(signal.SIGTERM, _stop)
    pipeline = open_pipeline(audit)
    signal.signal(signal.SIGHUP, lambda *_: pipeline.reopen())
    with pipeline:
        for number in itertools.count():
            if _stopped or number >= events:
                break
            if pipeline.process_events([event(number, request_object=_BODY)]):
                os.write(1, b"%d\n" % number)
    sys.exit(1 if pipeline.statistics().dropped else 0)


if __name__ == "__main__":
    serve()
