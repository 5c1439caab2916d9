"""A service looked at from outside: is it there, how fast does it answer, how often does it fail, what does it take."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from gemma_metamon.serving.metrics import ANSWERED, BATTLES, LATENCY, LONGEST_S, REQUESTS
from gemma_metamon.showdown.accounts import opener_for_secrets
from gemma_metamon.strict_json import on_one_line

ANSWERING: Final = ("/act", "/v1/chat/completions")
"""The routes whose latency is looked at."""
PERCENTILES: Final = (50, 95, 99)
_MOST_BYTES: Final = 4 * 2**20


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What a service must keep; None looks away."""

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    error_rate: float | None = 0.01
    memory_mb: float | None = None


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen at one time.

    Attributes:
        at_s: since the first look.
        fault: why it is not well; "" where it is.
        agent: what it serves.
        answered_ms: how long /health took.
        statuses: requests so far, by status, but for those of /metrics: a monitor's own would hide failures.
        buckets: upper bound in seconds -> answered requests of ANSWERING that took no longer. Those that were refused
            take no time, and would make a slow service look fast.
        memory_mb: that it has.
        battles: that it remembers.
    """

    at_s: float
    fault: str = ""
    agent: str = ""
    answered_ms: float = 0.0
    statuses: Mapping[int, float] = field(default_factory=dict)
    buckets: Mapping[float, float] = field(default_factory=dict)
    memory_mb: float | None = None
    battles: float | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of the time between two looks, or from a service's start to one look.

    Attributes:
        requests: that came.
        error_rate: share that failed by the service's fault, a status of 500 or above, of those that it did not refuse;
            None without any.
        refused_rate: share of all that was refused, 400 to 499.
        latency_ms: percentile of the answered ones -> at most so long; None where nothing was answered, infinity above
            the longest time that is told apart.
    """

    requests: int
    error_rate: float | None
    refused_rate: float | None
    latency_ms: Mapping[int, float | None]


class Monitor:
    """Looks at one service again and again.

    Args:
        url: of the service.
        token: to bear; None bears none.
        timeout_s: for each answer.
    """

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 10.0) -> None:
        self._url, self._token, self._timeout_s = url.rstrip("/"), token, timeout_s
        self._began = time.monotonic()

    def watch(self, polls: int, interval_s: float, on_look: Callable[[Look], None] = lambda look: None) -> list[Look]:
        """So many looks, so far apart; each is told as soon as it was taken."""
        looks: list[Look] = []
        while len(looks) < polls:
            if looks:
                time.sleep(interval_s)
            looks.append(self.look())
            on_look(looks[-1])
        return looks

    def look(self) -> Look:
        """What is seen now; a service that is not well is no error."""
        at_s, began = time.monotonic() - self._began, time.perf_counter()
        try:
            health = json.loads(self._get("/health"))
            answered_ms = 1000 * (time.perf_counter() - began)
            agent = on_one_line(health["agent"])  # it goes to a terminal
            self._get("/ready")
            return _read(self._get("/metrics"), at_s=at_s, agent=agent, answered_ms=answered_ms)
        except urllib.error.HTTPError as error:
            path = error.url.removeprefix(self._url)
            is_unready = (path, error.code) == ("/ready", 503)
            if 300 <= error.code < 400:
                where = on_one_line(error.headers["Location"] or "nowhere")
                return Look(at_s=at_s, fault=f"{path} points to {where}, which is not followed; give its own address")
            return Look(at_s=at_s, fault="it is not ready" if is_unready else f"{path} answers {error.code}")
        except OSError as error:
            return Look(at_s=at_s, fault=f"it cannot be reached ({on_one_line(getattr(error, 'reason', error))})")
        except (ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            return Look(at_s=at_s, fault=f"it answers as no service of gemma-metamon does ({on_one_line(error)})")

    def _get(self, path: str) -> str:
        request = urllib.request.Request(self._url + path)
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        with opener_for_secrets(self._url).open(request, timeout=self._timeout_s) as response:
            content: bytes = response.read(_MOST_BYTES)
        return content.decode()


def figures(looks: Sequence[Look]) -> Figures:
    """Of the service between the first look and the last that saw anything; of one look alone, since its start."""
    seen = [look for look in looks if not look.fault]
    if not seen:
        return Figures(requests=0, error_rate=None, refused_rate=None, latency_ms=dict.fromkeys(PERCENTILES))
    first, last = seen[0], seen[-1]
    statuses, buckets = _less(last.statuses, first.statuses), _less(last.buckets, first.buckets)
    has_begun_anew = min([*statuses.values(), *buckets.values(), 0]) < 0
    if len(seen) == 1 or has_begun_anew:
        statuses, buckets = dict(last.statuses), dict(last.buckets)
    total, refused, failed = (
        sum(count for status, count in statuses.items() if low <= status < high)
        for low, high in ((0, 1000), (400, 500), (500, 1000))
    )
    return Figures(
        requests=int(total),
        error_rate=failed / (total - refused) if total > refused else None,
        refused_rate=refused / total if total else None,
        latency_ms={percent: percentile_ms(buckets, percent) for percent in PERCENTILES},
    )


def percentile_ms(buckets: Mapping[float, float], percent: float) -> float | None:
    """About how long so many of a hundred requests took at most: between a bucket's bounds, in proportion.

    Infinity, where that is above all bounds but the last.

    Args:
        buckets: upper bound in seconds -> requests that took no longer.
        percent: 0-100.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    wanted, low, below = percent / 100 * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if bound == float("inf"):
                return bound
            return 1000 * (low + (bound - low) * (wanted - below) / max(buckets[bound] - below, 1e-12))
        low, below = bound, buckets[bound]
    return 1000 * low


def finite_ms(value: float | None) -> float | None:
    """The same, for files and charts that know no infinity: above LONGEST_S it is that."""
    return None if value is None else min(value, 1000 * LONGEST_S)


def shown_ms(value: float | None) -> str:
    """A percentile, for people."""
    if value is None:
        return "-"
    return f"{value:.4g} ms" if value <= 1000 * LONGEST_S else f"over {1000 * LONGEST_S:.0f} ms"


def problems(looks: Sequence[Look], found: Figures, thresholds: Thresholds) -> list[str]:
    """What is not as it must be, a sentence each; none of a service that is well."""
    faults = dict.fromkeys(look.fault for look in looks if look.fault)
    said = [f"{fault} (seen {sum(look.fault == fault for look in looks)} of {len(looks)} times)" for fault in faults]
    for percent in PERCENTILES:
        limit, value = getattr(thresholds, f"p{percent}_ms"), found.latency_ms[percent]
        if limit is not None and value is not None and value > limit:
            said.append(f"p{percent} is {shown_ms(value)}, above {limit:g}")
    if thresholds.error_rate is not None and (found.error_rate or 0.0) > thresholds.error_rate:
        said.append(f"{found.error_rate:.2%} of the requests failed, above {thresholds.error_rate:.2%}")
    memory = max((look.memory_mb or 0.0 for look in looks), default=0.0)
    if thresholds.memory_mb is not None and memory > thresholds.memory_mb:
        said.append(f"it has {memory:.0f} MB of memory, above {thresholds.memory_mb:g}")
    return said


def _read(text: str, **seen: Any) -> Look:
    statuses: dict[int, float] = {}
    buckets: dict[float, float] = {}
    single: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == f"{REQUESTS}_total" and sample.labels["route"] != "/metrics":
                status = int(sample.labels["status"])
                statuses[status] = statuses.get(status, 0.0) + sample.value
            elif sample.name == f"{LATENCY}_bucket" and _is_of_answers(sample.labels):
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
            elif sample.name in (BATTLES, "process_resident_memory_bytes"):
                single[sample.name] = sample.value
    if BATTLES not in single:
        raise ValueError(f"its metrics have no {BATTLES}")
    memory = single.get("process_resident_memory_bytes")
    return Look(
        **seen,
        statuses=statuses,
        buckets=buckets,
        memory_mb=None if memory is None else memory / 2**20,
        battles=single[BATTLES],
    )


def _is_of_answers(labels: Mapping[str, str]) -> bool:
    return labels["route"] in ANSWERING and labels["outcome"] == ANSWERED


def _less(last: Mapping[Any, float], first: Mapping[Any, float]) -> dict[Any, float]:
    return {key: value - first.get(key, 0.0) for key, value in last.items()}
