"""What Prometheus is told. Every server has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["BatchMeasures", "Measures"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@final
class BatchMeasures:
    """Those of the batches of one model; told by the thread that runs them."""

    def __init__(self, size: Histogram, seconds: Histogram, images: Counter) -> None:
        self._size, self._seconds, self._images = size, seconds, images

    def batch(self, images: int, seconds: float) -> None:
        """A batch has run."""
        self._size.observe(images)
        self._seconds.observe(seconds)
        self._images.inc(images)


@final
class Measures:
    """The figures of one server. Labels have few values: addresses that exist, names of models, statuses."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter("greffon_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self._seconds = Histogram(
            "greffon_request_seconds", "Seconds from a request's head to its answer.", ["path"], buckets=_SECONDS, registry=self.registry
        )
        self._problems = Counter("greffon_problems", "Problems told, by kind.", ["kind"], registry=self.registry)
        self._size = Histogram(
            "greffon_batch_images", "Images in a batch.", ["model"], buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry
        )
        self._run = Histogram("greffon_batch_seconds", "Seconds of a batch.", ["model"], buckets=_SECONDS, registry=self.registry)
        self._images = Counter("greffon_images", "Images run.", ["model"], registry=self.registry)
        self._queue = Gauge("greffon_queue_images", "Images that wait or run.", ["model"], registry=self.registry)
        self._reloads = Counter("greffon_reloads", "Models read again.", ["model", "outcome"], registry=self.registry)
        self.connected = Gauge("greffon_requests_open", "Requests being answered.", registry=self.registry)

    def model(self, name: str, waiting: Callable[[], float]) -> BatchMeasures:
        """The figures of one model's batches."""
        self._queue.labels(name).set_function(waiting)
        return BatchMeasures(self._size.labels(name), self._run.labels(name), self._images.labels(name))

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def problem(self, kind: str) -> None:
        """A client was told of a problem."""
        self._problems.labels(kind).inc()

    def reload(self, model: str, outcome: str) -> None:
        """A model was read again: ``"replaced"``, ``"unchanged"`` or ``"refused"``."""
        self._reloads.labels(model, outcome).inc()

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)
