"""Which backends options ask for, without building any: as upstream writes it, and in words.

Source: audit specification section 6.1.
"""

from collections.abc import Iterator

from kubewitness.documents import shown
from kubewitness.options.flags import FLAG_OF
from kubewitness.options.model import AuditOptions, LogOptions, WebhookOptions

_WRAPPERS = {"batch": "buffered<{}>", "blocking": "ignoreErrors<{}>"}


def composition(options: AuditOptions) -> str:
    """Return the backends as they wrap each other: ``union[ignoreErrors<log>,buffered<webhook>]``.

    It is ``nowhere`` when no backend is on.
    """
    parts = []
    if options.log.path:
        parts.append(_wrapped("log", options.log))
    if options.webhook.config_file:
        parts.append(_wrapped("webhook", options.webhook))
    if len(parts) > 1:
        return f"union[{','.join(parts)}]"
    return parts[0] if parts else "nowhere"


def describe(options: AuditOptions) -> tuple[str, ...]:
    """Return the same in words: a sentence on what is recorded, and a few a backend."""
    policy = options.policy_file
    lines = [f"The policy {shown(policy)} decides what is recorded." if policy else _NO_POLICY]
    if options.log.path:
        lines += _described_log(options.log)
    if options.webhook.config_file:
        lines += _described_webhook(options)
    return tuple(lines)


_NO_POLICY = "No policy file is given, and without one nothing is recorded."


def _wrapped(name: str, settings: LogOptions | WebhookOptions) -> str:
    inner = _WRAPPERS.get(settings.mode, "{}").format(name)
    return f"truncate<{inner}>" if settings.truncate.enabled else inner


def _described_log(log: LogOptions) -> Iterator[str]:
    target = "standard output" if log.path == "-" else f"the file {shown(log.path)}"
    yield f"Events are written to {target}, in the format {shown(log.format)}."
    yield from _described_delivery(log, "written")
    if log.path == "-":
        return
    if not log.maxsize:
        yield "The file grows without end; something else must rotate it."
        return
    kept = f"at most {log.maxbackup} rotated files" if log.maxbackup else "any number of them"
    age = f"for {log.maxage} days at most" if log.maxage else "for ever"
    packed = ", compressed" if log.compress else ""
    yield f"The file is rotated at {log.maxsize} MB; {kept} are kept{packed}, {age}."


def _described_webhook(options: AuditOptions) -> Iterator[str]:
    webhook = options.webhook
    yield f"Events are sent to the server that the kubeconfig {shown(webhook.config_file)} names."
    yield from _described_delivery(webhook, "sent")
    wait = FLAG_OF["audit-webhook-initial-backoff"].shown(webhook.initial_backoff)
    yield f"What cannot be sent is tried again after {wait}, and then a few times more."


def _described_delivery(settings: LogOptions | WebhookOptions, done: str) -> Iterator[str]:
    if settings.mode == "batch":
        yield from _described_batch(settings, done)
    else:
        yield f"Each request waits until its events are {done}."
        strict = settings.mode == "blocking-strict"
        served = "It is refused" if strict else "It is served even"
        yield f"{served} when its first event cannot be {done}."
    truncate = settings.truncate
    if truncate.enabled:
        yield (
            f"Events larger than {truncate.max_event_size} bytes lose their request and response "
            "objects."
        )


def _described_batch(settings: LogOptions | WebhookOptions, done: str) -> Iterator[str]:
    batch = settings.batch
    wait = FLAG_OF["audit-webhook-batch-max-wait"].shown(batch.max_wait)
    size = "one" if batch.max_size == 1 else f"up to {batch.max_size}"
    patience = f", after {wait} at most" if batch.max_size > 1 and batch.max_wait > 0 else ""
    yield f"Requests do not wait: events are {done} from a buffer, {size} at a time{patience}."
    yield f"When {batch.buffer_size} events wait, further ones are lost."
    if batch.throttle_enable:
        rate = FLAG_OF["audit-webhook-batch-throttle-qps"].shown(batch.throttle_qps)
        yield f"At most {rate} batches a second are {done}, {batch.throttle_burst} in a burst."
