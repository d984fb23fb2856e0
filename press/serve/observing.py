"""What the operator sees of the server: a line of JSON for each request, and metrics; no prompt is in either."""

import json
import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from press.serve.scheduling import Scheduler

logger = logging.getLogger("press.serve.requests")

# Where a request's record is kept in its scope.
RECORD = "press.record"
# What a record adds to its line.
FIELDS = "fields"
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
BETWEEN = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


@dataclass
class Record:
    """What is known of a request."""

    id: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    # Empty unless it is one that there is, so that no client fills the metrics with names.
    model: str = ""
    prompt_tokens: int = 0
    # Of these, what was read for an earlier answer.
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str = ""
    # Seconds until the first token.
    first: float | None = None
    last: float = 0.0
    # Why an answer, whose status was sent before, is not complete.
    broken: str = ""

    def fields(self) -> dict[str, Any]:
        """Return what a line of the log says of it."""
        values = {
            "request": self.id,
            "status": self.status,
            "seconds": round(time.monotonic() - self.began, 4),
            "model": self.model,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "finish_reason": self.finish_reason,
            "first_token_seconds": self.first and round(self.first, 4),
            "broken": self.broken,
        }
        return {name: value for name, value in values.items() if value not in ("", 0, None)}


class Metrics:
    """The server's metrics, in a registry of its own."""

    def __init__(self, scheduler: "Scheduler") -> None:
        self._registry = CollectorRegistry()
        model, own = ["model"], {"registry": self._registry}
        asked, left, read = [*model, "status"], [*model, "why"], [*model, "kind"]
        self.requests = Counter("press_requests", "Requests by model and status", asked, **own)
        self.broken = Counter("press_broken_answers", "Answers that were not complete, by model and why", left, **own)
        self.tokens = Counter("press_tokens", "Tokens by model, of prompts (some cached) and completions", read, **own)
        times = {"buckets": SECONDS, **own}
        self.seconds = Histogram("press_request_seconds", "Seconds of a request that was answered", model, **times)
        self.first = Histogram("press_first_token_seconds", "Seconds until the first token", model, **times)
        pause = "Seconds between two tokens"
        self.between = Histogram("press_between_tokens_seconds", pause, model, buckets=BETWEEN, **own)
        running = Gauge("press_running_answers", "Answers that are being given", **own)
        running.set_function(lambda: scheduler.running)
        waiting = Gauge("press_waiting_answers", "Answers that wait for a place among them", **own)
        waiting.set_function(lambda: scheduler.waiting)

    def page(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def token(self, record: Record) -> None:
        """Count a token that was written."""
        now = time.monotonic()
        if record.first is None:
            record.first = now - record.began
            self.first.labels(record.model).observe(record.first)
        else:
            self.between.labels(record.model).observe(now - record.last)
        record.last = now

    def ended(self, record: Record) -> None:
        """Count a request that has ended."""
        self.requests.labels(record.model, str(record.status)).inc()
        self.tokens.labels(record.model, "prompt").inc(record.prompt_tokens)
        self.tokens.labels(record.model, "cached").inc(record.cached_tokens)
        self.tokens.labels(record.model, "completion").inc(record.completion_tokens)
        if record.broken:
            self.broken.labels(record.model, record.broken).inc()
        elif record.finish_reason:
            self.seconds.labels(record.model).observe(time.monotonic() - record.began)


class Observed:
    """Gives each request an id, which its response and its line of the log have, and counts it."""

    def __init__(self, app: "ASGIApp", metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope[RECORD] = Record()

        async def sent(message: "Message") -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", record.id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            self._metrics.ended(record)
            # The path of a request that nothing here answers is its client's text, which may be anything.
            route = getattr(scope.get("route"), "path", "")
            logger.info("request", extra={FIELDS: {"method": scope["method"], "route": route, **record.fields()}})


class Lines(logging.Formatter):
    """A line of JSON for each record of the log."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, FIELDS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def to_stderr() -> None:
    """Let all of the program's log be lines of JSON on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
