"""What a service counts and measures, for Prometheus. Needs prometheus-client, of the extra `serve`."""

from collections.abc import Callable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

PREFIX: Final = "gemma_metamon"
LATENCY: Final = f"{PREFIX}_request_seconds"
REQUESTS: Final = f"{PREFIX}_requests"
BATTLES: Final = f"{PREFIX}_battles"
INSIDE: Final = f"{PREFIX}_requests_inside"
ANSWERED: Final = "answered"
"""The outcome of a request that got what it asked for; the others are "refused" (400-499) and "failed" (500 and above).
"""
_SECONDS: Final = (
    0.001, 0.002, 0.004, 0.008, 0.012, 0.016, 0.024, 0.032, 0.048, 0.064, 0.096, 0.128, 0.192, 0.256, 0.384, 0.512,
    0.768, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0,
)  # fmt: skip
LONGEST_S: Final = _SECONDS[-1]
"""Of two longer times none is known to be the longer one."""
_BATCH: Final = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256)


class Metrics:
    """Of one service; each has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            REQUESTS, "Requests answered, by route and status", ["route", "status"], registry=self.registry
        )
        self._latency = Histogram(
            LATENCY,
            "From a request's arrival to its answer, by route and outcome: answered, refused or failed",
            ["route", "outcome"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            f"{PREFIX}_batch_size", "Decisions made in one step", buckets=_BATCH, registry=self.registry
        )
        self._steps = Histogram(
            f"{PREFIX}_step_seconds", "Of one step of the policy", buckets=_SECONDS, registry=self.registry
        )
        self._reread = Counter(
            f"{PREFIX}_logs_read_anew", "Logs that did not continue what was remembered", registry=self.registry
        )
        self._tokens = Counter(
            f"{PREFIX}_tokens", "Subwords read and written for chats", ["kind"], registry=self.registry
        )

    def watch(self, *, battles: Callable[[], int], inside: Callable[[], int]) -> None:
        """These tell how many battles are remembered, and how many requests are being answered."""
        for name, says, count in (
            (BATTLES, "Battles that are remembered", battles),
            (INSIDE, "Requests that are being answered, this one among them", inside),
        ):
            Gauge(name, says, registry=self.registry).set_function(count)

    def note_request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        outcome = ANSWERED if status < 400 else "refused" if status < 500 else "failed"
        self._latency.labels(route, outcome).observe(seconds)

    def note_step(self, size: int, seconds: float) -> None:
        """The policy decided for so many battles at once."""
        self._batches.observe(size)
        self._steps.observe(seconds)

    def note_reread(self) -> None:
        """A log was read anew."""
        self._reread.inc()

    def note_tokens(self, read: int, written: int) -> None:
        """Of one chat."""
        self._tokens.labels("prompt").inc(read)
        self._tokens.labels("completion").inc(written)

    def as_text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
