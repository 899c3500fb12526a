"""The numbers that `/metrics` shows, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable

from textclf import extras

_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one service. `waiting` returns the texts in its queue, `interpreter_seconds` the time in its interpreters.

    Raises MissingPackageError without prometheus-client.
    """

    def __init__(self, waiting: Callable[[], int], interpreter_seconds: Callable[[], float]) -> None:
        extras.require("prometheus_client", "to serve a model")
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        self._registry = CollectorRegistry()
        self._generate = generate_latest
        self.media_type: str = CONTENT_TYPE_LATEST
        self._requests = Counter("textclf_requests", "Finished requests.", ("path", "status"), registry=self._registry)
        self._request_seconds = Histogram(
            "textclf_request_seconds",
            "Seconds from the first byte to the response.",
            ("path",),
            registry=self._registry,
        )
        self._texts = Counter("textclf_texts", "Texts or questions with a result.", registry=self._registry)
        self._batch_texts = Histogram(
            "textclf_batch_texts", "Texts in a batch.", registry=self._registry, buckets=_BATCH_SIZES
        )
        self._batch_seconds = Histogram("textclf_batch_seconds", "Seconds of a batch.", registry=self._registry)
        Gauge("textclf_queue_texts", "Texts that wait.", registry=self._registry).set_function(waiting)
        Gauge(
            "textclf_interpreter_seconds", "Seconds inside the model's runtime so far.", registry=self._registry
        ).set_function(interpreter_seconds)
        ProcessCollector(registry=self._registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, str(status)).inc()
        self._request_seconds.labels(path).observe(seconds)

    def batch(self, texts: int, seconds: float) -> None:
        self._texts.inc(texts)
        self._batch_texts.observe(texts)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        return self._generate(self._registry)
