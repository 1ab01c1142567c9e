"""What Prometheus reads at /metrics. Every label's values are few and known: none is made of what users write."""

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

from webhook.decision import Decision

__all__ = ["CONTENT_TYPE", "Metrics"]

# Seconds. A decision takes a fraction of the first; the API server gives up after the last.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Metrics:
    """The figures of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        reviews = Counter(
            "podrate_reviews",
            "Reviews answered, by the object's kind, what became of it, and why.",
            ("kind", "result", "reason"),
            registry=self._registry,
        )
        bad = Counter(
            "podrate_bad_requests",
            "Requests that were no review, by the status of the answer.",
            ("status",),
            registry=self._registry,
        )
        # Looking a child up by its labels costs more than counting.
        self._reviews = cache(reviews.labels)
        self._bad = cache(bad.labels)
        self._seconds = Histogram(
            "podrate_review_seconds",
            "Time from a review's headers to its answer.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)

    def reviewed(self, kind: str, decision: Decision, seconds: float) -> None:
        """Count a review of an object of `kind` that was answered."""
        self._reviews(kind, decision.result, decision.reason).inc()
        self._seconds.observe(seconds)

    def refused(self, status: int) -> None:
        """Count a request that was no review."""
        self._bad(status).inc()

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Show what `value` returns whenever somebody looks."""
        Gauge(f"podrate_{name}", what, registry=self._registry).set_function(value)

    def text(self) -> str:
        """All of it in Prometheus' text form, whose content type is CONTENT_TYPE."""
        return generate_latest(self._registry).decode()
