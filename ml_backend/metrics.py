"""What the server counts, for Prometheus; one registry a server, so that tests do not collide."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 100)


class Metrics:
    """Counters and histograms of the server; names begin with `segstudio_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "segstudio_requests", "Requests by endpoint and status.", ["endpoint", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.answers = Counter(
            "segstudio_answers", "Answered tasks by outcome.", ["mode", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.prewarmed = Counter(
            "segstudio_prewarmed", "Tasks encoded ahead of the annotator, by outcome.",
            ["outcome"], registry=self.registry,
        )  # fmt: skip
        self.webhooks = Counter(
            "segstudio_webhooks", "Webhooks by what came of them.", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.stage_s = Histogram(
            "segstudio_stage_seconds", "Seconds of a stage.", ["stage"],
            buckets=_BUCKETS_S, registry=self.registry,
        )  # fmt: skip
        self.request_s = Histogram(
            "segstudio_request_seconds", "Seconds of a request.", ["endpoint"],
            buckets=_BUCKETS_S, registry=self.registry,
        )  # fmt: skip

    def watch(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Expose a value that is read when someone asks."""
        Gauge(f"segstudio_{name}", help_text, registry=self.registry).set_function(read)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
