"""What a server would start with, and which is still hardly what was meant.

Most of it are settings without effect. kube-apiserver says nothing about any of these.

Source: audit specification sections 6 and 12 for what has no effect.
"""

from collections.abc import Iterator, Mapping

from kubewitness.errors import Problem
from kubewitness.options.flags import FLAG_OF, FLAGS, Flag
from kubewitness.options.kinds import Kind
from kubewitness.options.model import (
    API_VERSION,
    MODES,
    AuditOptions,
    LogOptions,
    WebhookOptions,
)
from kubewitness.options.origin import Origin, origin_of

_POD_GRACE_SECONDS = 30
_ROTATION = ("maxage", "maxbackup", "compress")


def advise(
    options: AuditOptions, origins: Mapping[str, Origin], *, wants_policy: bool = True
) -> tuple[Problem, ...]:
    """Return what is odd about options.

    Args:
        options: The options.
        origins: Where values came from, by flag name; only what was given can be without effect.
        wants_policy: Whether a policy is applied at all, so that its absence is worth a word.
    """
    found = list(_about_the_whole(options, origins, wants_policy=wants_policy))
    found += [
        origins[flag.name].problem(reason)
        for flag in FLAGS
        if flag.name in origins and (reason := _oddity(flag, options))
    ]
    return tuple(found)


def _about_the_whole(
    options: AuditOptions, origins: Mapping[str, Origin], *, wants_policy: bool
) -> Iterator[Problem]:
    policy = origin_of(FLAG_OF["audit-policy-file"], origins)
    is_on = bool(options.log.path or options.webhook.config_file)
    if wants_policy and not options.policy_file:
        yield policy.problem("no policy file is given, so nothing is recorded")
    elif not is_on:
        message = "neither --audit-log-path nor --audit-webhook-config-file"
        yield policy.problem(f"events go nowhere: {message} is given")


def _oddity(flag: Flag, options: AuditOptions) -> str:
    if flag.kind is Kind.STRING and _is_quoted(str(flag.value(options))):
        return "the quotes are part of the value; in YAML they go around the whole item"
    if flag.kind is Kind.DURATION and flag.value(options) < 0:  # type: ignore[operator]
        return f"{flag.shown(flag.value(options))} is negative, which counts as 0s"
    if flag.path[0] == "log":
        return _without_effect(flag, options.log, switch="path") or _of_rotation(flag, options.log)
    if flag.path[0] == "webhook":
        return _without_effect(flag, options.webhook, switch="config_file")
    if flag.path == ("shutdown_timeout",) and options.shutdown_timeout >= _POD_GRACE_SECONDS:
        return f"Kubernetes kills a pod after {_POD_GRACE_SECONDS} s unless it is told to wait"
    return ""


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def _without_effect(flag: Flag, settings: LogOptions | WebhookOptions, *, switch: str) -> str:
    backend, *path = flag.path
    if path == [switch]:
        return ""
    if not getattr(settings, switch):
        return f"has no effect without --audit-{backend}-{switch.replace('_', '-')}"
    if path == ["version"] and settings.version == API_VERSION:
        return f"there is no version but {API_VERSION}; leave it out"
    if path[0] == "truncate" and path != ["truncate", "enabled"] and not settings.truncate.enabled:
        return f"has no effect without --audit-{backend}-truncate-enabled"
    return _of_batch(path, settings, f"audit-{backend}")


def _of_batch(path: list[str], settings: LogOptions | WebhookOptions, prefix: str) -> str:
    if path[0] != "batch" and path != ["max_in_flight"]:
        return ""
    if settings.mode in MODES and settings.mode != "batch":
        return f"has no effect in mode {settings.mode}; --{prefix}-mode=batch uses it"
    if path[-1] in ("throttle_qps", "throttle_burst") and not settings.batch.throttle_enable:
        return f"has no effect without --{prefix}-batch-throttle-enable"
    return ""


def _of_rotation(flag: Flag, log: LogOptions) -> str:
    name = flag.path[-1]
    if log.path == "-" and name in (*_ROTATION, "maxsize"):
        return "has no effect: standard output is not rotated"
    if log.maxsize == 0 and name in _ROTATION:
        return "has no effect: with --audit-log-maxsize=0 the file is not rotated"
    return ""
