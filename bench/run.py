"""Speed and memory on the recorded cluster, each figure beside its target.

    make bench                      everything, about five minutes
    .venv/bin/python bench/run.py --only decode --repeat 9

Machines differ and are busy, so every in-process figure is the best of several runs and is also
given as a ratio to `orjson.loads` of the same lines in the same run. The Go figures were measured
with upstream's own code (Kubernetes 1.36.2) on this very data, on a machine of 2 cores.
"""

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from kubewitness.codec import decode, encode, encode_legacy
from kubewitness.codec.legacy import decode_legacy
from kubewitness.policy import Policy, bundled_policies, load_policy
from kubewitness.request import attributes_of

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import backends
import middleware
import proxying
from command import COMMAND, stream
from vectors import cluster_log

MANY = 100
FILE_COPIES = 20


class Figure(NamedTuple):
    name: str
    seconds: float
    items: int
    unit: str
    target: float
    upstream: str = "-"


def best(action: Callable[[], object], repeat: int) -> float:
    """Return the shortest of several runs, in seconds; garbage is collected outside of them."""
    shortest = float("inf")
    for _ in range(repeat):
        gc.collect()
        start = time.perf_counter()
        action()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def each(function: Callable[[Any], object], items: list[Any]) -> Callable[[], None]:
    def run() -> None:
        for item in items:
            function(item)

    return run


class Bench:
    def __init__(self, repeat: int) -> None:
        self.repeat = repeat
        self.lines = cluster_log().split(b"\n")[:-1]
        self.events = [decode(line) for line in self.lines]
        self.attributes = [attributes_of(event) for event in self.events]
        self.policy_data = next(each.data for each in bundled_policies() if each.name == "gce")

    def policy(self) -> Policy:
        return load_policy(self.policy_data, "gce")

    def measure(self, name: str, action: Callable[[], object], **figure: object) -> Figure:
        count = figure.pop("count", len(self.lines))
        seconds = best(action, self.repeat)
        return Figure(name, seconds, count, **figure)  # type: ignore[arg-type]

    def figures(self) -> Iterator[tuple[str, Callable[[], Figure]]]:
        yield "orjson", self.orjson
        yield "decode", self.decode
        yield "encode", self.encode
        yield "legacy", self.encode_legacy
        yield "legacy", self.decode_legacy
        yield "warm", self.warm
        yield "cold", self.cold
        yield "many", self.many
        yield "log", self.log
        yield "webhook", self.webhook
        yield "webhook", self.webhook_with_tls
        yield "stalled", self.stalled_median
        yield "stalled", self.stalled_slowest
        yield "evaluate", self.evaluate_file
        yield "convert", self.convert_file

    def orjson(self) -> Figure:
        return self.measure(
            "orjson.loads", each(orjson.loads, self.lines), unit="events/s", target=0
        )

    def decode(self) -> Figure:
        return self.measure(
            "decode", each(decode, self.lines), unit="events/s", target=100_000, upstream="13,000"
        )

    def encode(self) -> Figure:
        return self.measure(
            "encode", each(encode, self.events), unit="events/s", target=100_000, upstream="30,000"
        )

    def encode_legacy(self) -> Figure:
        return self.measure(
            "encode_legacy", each(encode_legacy, self.events), unit="events/s", target=0
        )

    def decode_legacy(self) -> Figure:
        lines = [encode_legacy(event).decode() for event in self.events]
        return self.measure("decode_legacy", each(decode_legacy, lines), unit="events/s", target=0)

    def warm(self) -> Figure:
        evaluate = self.policy().evaluate
        each(evaluate, self.attributes)()
        return self.measure(
            "decision, warm",
            each(evaluate, self.attributes),
            unit="ns",
            target=400,
            upstream="530-640",
        )

    def cold(self) -> Figure:
        decide = self.policy().decide
        return self.measure(
            "decision, cold",
            each(decide, self.attributes),
            unit="ns",
            target=3000,
            upstream="530-640",
        )

    def many(self) -> Figure:
        policy, requests = self.policy(), self.attributes * MANY
        return self.measure(
            "evaluate_many",
            lambda: policy.evaluate_many(requests),
            count=len(requests),
            unit="decisions/s",
            target=5_000_000,
        )

    def log(self) -> Figure:
        with backends.log() as running:
            return self.measure(
                "log, blocking",
                lambda: backends.give(running, self.events),
                unit="events/s",
                target=90_000,
                upstream="30,000",
            )

    def webhook(self) -> Figure:
        return self.over_webhook("webhook, batch", tls=False)

    def webhook_with_tls(self) -> Figure:
        return self.over_webhook("webhook, batch, TLS", tls=True)

    def over_webhook(self, name: str, *, tls: bool) -> Figure:
        with backends.webhook(tls=tls) as running:
            events = self.events * 3
            return self.measure(
                name,
                lambda: backends.feed(running, events),
                count=len(events),
                unit="events/s",
                target=60_000,
            )

    def stalled_median(self) -> Figure:
        median, _ = backends.stalled_calls(self.events)
        return Figure("call, stalled, median", median, 1, "ns", 20_000)

    def stalled_slowest(self) -> Figure:
        _, slowest = backends.stalled_calls(self.events)
        return Figure("call, stalled, p99", slowest, 1, "ns", 1_000_000)

    def evaluate_file(self) -> Figure:
        return self.over_file("policy evaluate FILE", "policy", "evaluate", "gce", target=80_000)

    def convert_file(self) -> Figure:
        return self.over_file("convert FILE --to json", "convert", "--to", "json", target=0)

    def over_file(self, name: str, *arguments: str, target: float) -> Figure:
        with tempfile.NamedTemporaryFile(suffix=".log") as file:
            for _ in range(FILE_COPIES):
                file.write(b"\n".join(self.lines) + b"\n")
            file.flush()
            command = [*COMMAND, *arguments, file.name]
            seconds = best(
                lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True), 3
            )
        return Figure(name, seconds, FILE_COPIES * len(self.lines), "events/s", target)


def report(figure: Figure, yardstick: Figure) -> None:
    per_item = figure.seconds / figure.items
    value = per_item * 1e9 if figure.unit == "ns" else 1 / per_item
    reached = value <= figure.target if figure.unit == "ns" else value >= figure.target
    verdict = "" if not figure.target else "reached" if reached else "MISSED"
    ratio = yardstick.seconds / yardstick.items / per_item
    target = f"{figure.target:,.0f}" if figure.target else "-"
    print(
        f"{figure.name:<24} {value:>14,.0f} {figure.unit:<12} {target:>10} {figure.upstream:>9}"
        f" {ratio:>9.2f}x  {verdict}",
        flush=True,
    )


def gigabyte(log: bytes) -> Iterator[bytes]:
    for _ in range(1_000_000_000 // len(log) + 1):
        yield log


def report_memory() -> None:
    for name, arguments in {
        "policy evaluate": ("policy", "evaluate", "gce"),
        "convert": ("convert", "--to", "legacy"),
    }.items():
        done = stream(*arguments, chunks=gigabyte(cluster_log()))
        at_most(name + ", 1 GB piped", done.peak_memory / 1e6, "MB peak", 100)


def report_growth(bench: Bench) -> None:
    at_most("log, 1 GB written", backends.log_growth(bench.events), "MB more", 10)


def report_capture() -> None:
    """Report what auditing adds to a request, by the middleware and by the proxy."""
    at_most("middleware, a request", middleware.added_cost(), "us more", 60)
    alone = fastest(workers=1)
    at_least("proxy, one process", alone.rate, "GETs/s", 2_500)
    together = fastest(workers=2)
    at_least("proxy, two workers", together.rate, "GETs/s", 3_900, "3,860")
    at_most("  median, 16 at once", together.p50, "ms", 0, "3.6")
    at_most("  p99, 16 at once", together.p99, "ms", 0, "13.7")
    at_most("proxy, p99 at 500/s", proxying.added_latency(), "ms more", 5)
    at_most("proxy, 1,000 watches", proxying.watch_memory(), "MB more", 150)
    growth = proxying.stream_memory()
    at_most("proxy, 1 GB down", growth.download, "MB more", 20)
    at_most("proxy, 1 GB up", growth.upload, "MB more", 20)


def fastest(*, workers: int) -> proxying.Speed:
    """Return the best of several runs, as for the figures within one process."""
    return max((proxying.throughput(workers=workers) for _ in range(5)), key=lambda run: run.rate)


def at_most(name: str, value: float, unit: str, target: float, upstream: str = "-") -> None:
    print_row(name, value, unit, target, upstream, reached=value <= target)


def at_least(name: str, value: float, unit: str, target: float, upstream: str = "-") -> None:
    print_row(name, value, unit, target, upstream, reached=value >= target)


def print_row(
    name: str, value: float, unit: str, target: float, upstream: str, *, reached: bool
) -> None:
    verdict = "" if not target else "reached" if reached else "MISSED"
    aim = f"{target:,.0f}" if target else "-"
    shown = f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}"
    print(f"{name:<24} {shown:>14} {unit:<12} {aim:>10} {upstream:>9}", end="")
    print(f" {'':>10}  {verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeat", type=int, default=7, help="runs of each figure (default 7)")
    parser.add_argument("--only", default="", help="one figure: warm, memory, capture, …")
    arguments = parser.parse_args()
    bench = Bench(arguments.repeat)
    version = ".".join(map(str, sys.version_info[:3]))
    print(
        f"Python {version}, {os.cpu_count()} cores, {len(bench.lines)} events, "
        f"{sum(map(len, bench.lines)) / 1e6:.1f} MB"
    )
    print(f"{'':<24} {'measured':>14} {'':<12} {'target':>10} {'Go':>9} {'to orjson':>10}")
    yardstick = bench.orjson()
    for name, measure in bench.figures():
        if arguments.only in ("", name):
            report(measure(), yardstick)
    if arguments.only in ("", "memory"):
        report_memory()
    if arguments.only in ("", "growth"):
        report_growth(bench)
    if arguments.only in ("", "capture"):
        report_capture()


if __name__ == "__main__":
    main()
