"""Predictions over HTTP: POST /predict, GET /healthz, GET /metrics."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamtrain import __version__
from streamtrain.contracts.metrics import NAMES, LabelMetrics
from streamtrain.errors import BadModel, CheckpointError, DataError, StreamtrainError
from streamtrain.serving.admission import RETRY, Bodies, Disconnected, Timed
from streamtrain.serving.limits import Limits
from streamtrain.serving.predictor import Predictor
from streamtrain.serving.requests import Refused, check_headers, read_rows

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


class PredictRequest(BaseModel):
    """rows: each `feasign:slot feasign:slot ...`, or values by name, {"user": [1, 2], "price": 0.3}; a label (slot 1),
    unknown slots and unknown names are ignored."""

    rows: list[str | dict[str, Any]]


class ModelVersion(BaseModel):
    """The model that made the predictions."""

    day: str
    pass_id: int
    digest: str
    event_time: str | None


class PredictResponse(BaseModel):
    """predictions: one a row, in order; of a model with several targets a list for each, by its name."""

    predictions: list[float] | dict[str, list[float]]
    model: ModelVersion


def create_app(predictor: Predictor, limits: Limits | None = None) -> FastAPI:
    """The app. The caller starts what loads models, `Predictor.watch`, and bounds connections by
    connections.limited()."""
    limits = limits or Limits()
    app = FastAPI(title="streamtrain", version=__version__, docs_url="/docs", redoc_url=None)
    registry = CollectorRegistry()
    registry.register(_ModelMetrics(predictor))
    requests = Counter("streamtrain_requests", "Requests to /predict.", ["status"], registry=registry)
    seconds = Histogram(
        "streamtrain_request_seconds",
        "Duration of /predict, request and answer.",
        buckets=_SECONDS,
        registry=registry,
    )
    predictions = _Predictions(predictor, limits, Counter("streamtrain_rows", "Rows predicted.", registry=registry))
    app.add_middleware(Timed, seconds=limits.request_s)
    app.add_middleware(_Measured, path="/predict", requests=requests, seconds=seconds)  # around all others

    @app.exception_handler(StreamtrainError)
    def refuse(_request: Request, error: StreamtrainError) -> JSONResponse:
        status = 400 if isinstance(error, DataError) else 503 if isinstance(error, CheckpointError) else 500
        return JSONResponse({"error": str(error)}, status)

    @app.exception_handler(Refused)
    def refuse_request(_request: Request, refused: Refused) -> JSONResponse:
        return JSONResponse({"error": refused.reason}, refused.status, refused.headers)

    @app.exception_handler(HTTPException)
    def refuse_route(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    body = {"required": True, "content": {"application/json": {"schema": PredictRequest.model_json_schema()}}}

    @app.post("/predict", response_model=PredictResponse, openapi_extra={"requestBody": body})
    async def predict(request: Request) -> Response:
        return await predictions.answer(request)

    @app.get("/healthz")
    @app.head("/healthz", include_in_schema=False)
    def healthz() -> JSONResponse:
        """503 until a model is loaded. age_seconds: since the model's event_time."""
        version = predictor.version
        timestamp = version.event_timestamp if version else None
        health: dict[str, Any] = {
            "status": "ok" if version else "waiting for a first model",
            "source": predictor.source,
            "model": version.to_json() if version else None,
            "age_seconds": None if timestamp is None else time.time() - timestamp,
            "problems": list(predictor.problems),
        }
        return JSONResponse(health, 200 if version else 503)

    @app.get("/metrics")
    @app.head("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


class _Predictions:
    """POST /predict. As many requests compute as the predictor has threads, others wait, up to the limit of both: so
    /healthz and /metrics, which have threads of their own, always answer."""

    def __init__(self, predictor: Predictor, limits: Limits, rows: Counter) -> None:
        self._predictor = predictor
        self._limits = limits
        self._rows = rows
        self._bodies = Bodies(limits)
        self._threads = ThreadPoolExecutor(predictor.threads, thread_name_prefix="predict")
        self._places = threading.BoundedSemaphore(limits.requests)

    async def answer(self, request: Request) -> Response:
        """Raises Refused, and what Predictor.answer() raises."""
        check_headers(request.headers, self._limits)
        try:
            async with self._bodies.read(request) as body:
                if not self._places.acquire(blocking=False):
                    raise Refused(503, f"{self._limits.requests} requests wait already: try again", RETRY)
                future = self._threads.submit(self._compute, body)
                # not at this coroutine's end: a thread goes on when its request's time is over
                future.add_done_callback(lambda _: self._places.release())
                return Response(await asyncio.wrap_future(future), media_type="application/json")
        except Disconnected:
            return Response(status_code=499)  # nobody reads it; the requests by status show it

    def _compute(self, body: bytes) -> bytes:
        rows = read_rows(body, self._limits)
        by_name, version = self._predictor.answer_by_name(rows, name="row")
        for name, predictions in by_name.items():
            wrong = np.flatnonzero(~np.isfinite(predictions))
            if wrong.size:
                what = f"{name} {predictions[wrong[0]]}" if len(by_name) > 1 else str(predictions[wrong[0]])
                raise BadModel(f"row {int(wrong[0]) + 1}: model {version} predicts {what}, no number")
        self._rows.inc(len(rows))
        lists = {name: predictions.tolist() for name, predictions in by_name.items()}
        answer = lists if len(lists) > 1 else next(iter(lists.values()))
        return orjson.dumps({"predictions": answer, "model": version.to_json()})


class _Measured:
    """Counts and times the requests to one path, from their first byte to the answer's last."""

    def __init__(self, app: ASGIApp, path: str, requests: Counter, seconds: Histogram) -> None:
        self._app = app
        self._path = path
        self._requests = requests
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        begin = time.perf_counter()
        try:
            await self._app(scope, receive, sending)
        finally:
            self._seconds.observe(time.perf_counter() - begin)
            self._requests.labels(str(status)).inc()


class _ModelMetrics(Collector):
    """The running model's figures at the time of the request."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def collect(self) -> Iterator[Metric]:
        predictor = self._predictor
        yield CounterMetricFamily("streamtrain_reloads", "Models that replaced the running one.", predictor.reloads)
        yield CounterMetricFamily(
            "streamtrain_failed_reloads", "Models that turned out damaged.", predictor.failed_reloads
        )
        yield GaugeMetricFamily("streamtrain_problems", "Problems that /healthz lists.", len(predictor.problems))
        if report := predictor.consistency:
            yield GaugeMetricFamily("streamtrain_consistency_ok", "1: online and offline agree.", int(report["ok"]))
            if worst := report.get("worst"):
                name = "streamtrain_consistency_largest_difference"
                yield GaugeMetricFamily(name, "Relative to 1 + the value.", worst["relative"])
        version = predictor.version
        if version is None:
            return
        yield GaugeMetricFamily("streamtrain_model_keys", "Keys in the table.", predictor.keys)
        yield GaugeMetricFamily("streamtrain_model_table_bytes", "Memory of the table.", predictor.memory)
        yield from _of_labels(predictor.metrics)
        if (timestamp := version.event_timestamp) is not None:
            name = "streamtrain_model_event_time_seconds"
            yield GaugeMetricFamily(name, "End of the newest split in the model.", timestamp)
            yield GaugeMetricFamily("streamtrain_model_age_seconds", "Time since then.", time.time() - timestamp)
        info = GaugeMetricFamily("streamtrain_model_info", "The running model.", labels=["day", "pass_id", "digest"])
        info.add_metric([version.day, str(version.pass_id), version.digest], 1)
        yield info


def _of_labels(labels: Mapping[str, LabelMetrics]) -> Iterator[Metric]:
    """A gauge a metric; what the pass's rows do not define is absent."""
    for name in ("rows", *NAMES):
        words = f"{name} of the pass that the running model was published after, predicted before it and while trained."
        gauge = GaugeMetricFamily(f"streamtrain_model_{name}", words, labels=["label", "of"])
        for label, metrics in labels.items():
            for kind, values in (("predict", metrics.predict), ("train", metrics.train)):
                if values is not None and (value := getattr(values, name)) is not None:
                    gauge.add_metric([label, kind], value)
        if gauge.samples:
            yield gauge
