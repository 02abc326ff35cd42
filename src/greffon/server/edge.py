"""Around every request: its key, its headers, its line in the log, its figures, and an answer whatever happens."""

from __future__ import annotations

import secrets
import time
from typing import Any, final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from greffon.server.keys import Keys
from greffon.server.logs import Log
from greffon.server.measures import Measures
from greffon.server.predicting import Tally
from greffon.server.problems import Problem, problem_response

__all__ = ["Edge", "Stage"]

#: What everybody may see: the page, and whether the server lives.
_OPEN = ("/", "/app.css", "/app.js", "/icon.svg", "/healthz", "/readyz")
#: Addresses that figures are kept of; others are counted together.
_KNOWN = (*_OPEN, "/metrics", "/openapi.json", "/v1/models", "/v1/predict", "/v1/explain")

#: Nothing from elsewhere, no script or style in the page itself, no page around it.
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self';"
    " media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@final
class Stage:
    """How far the server's life has gone."""

    def __init__(self) -> None:
        self.stopping = False


@final
class Edge:
    """The outermost ASGI application."""

    def __init__(self, app: ASGIApp, *, keys: Keys, stage: Stage, measures: Measures, log: Log) -> None:
        self._app, self._keys, self._stage, self._measures, self._log = app, keys, stage, measures, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass the server's start and stop on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, tally, number = time.perf_counter(), Tally(), secrets.token_hex(8)
        scope.setdefault("state", {})["tally"] = tally
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *self._headers(number, message["headers"])]}
            await send(message)

        self._measures.connected.inc()
        try:
            await self._answered(scope, receive, answer, tally)
        except Exception as error:
            self._log.fault("fault", error)
            tally.problem = "fault"
            if not status:
                await problem_response(Problem("fault", f"see the server's log, request {number}"))(scope, receive, answer)
        finally:
            self._measures.connected.dec()
            self._tell(scope, tally, number, status or 499, time.perf_counter() - began)

    async def _answered(self, scope: Scope, receive: Receive, send: Send, tally: Tally) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["path"] not in _OPEN and not self._keys.accept(headers):
            tally.problem = "no-key"
            detail = "send one of the server's keys as Authorization: Bearer KEY"
            problem = Problem("no-key", detail, headers={"WWW-Authenticate": "Bearer"})
            await problem_response(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _headers(self, number: str, there: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        wanted = {**_HEADERS, "x-request-id": number, "cache-control": "no-store"}
        if self._stage.stopping:
            wanted["connection"] = "close"
        names = {name.lower() for name, _ in there}
        return [(name.encode(), value.encode()) for name, value in wanted.items() if name.encode() not in names]

    def _tell(self, scope: Scope, tally: Tally, number: str, status: int, seconds: float) -> None:
        path = scope["path"] if scope["path"] in _KNOWN else "other"
        self._measures.request(path, status, seconds)
        if tally.problem:
            self._measures.problem(tally.problem)
        values: dict[str, Any] = {
            "request": number,
            "method": scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other",
            "path": path,
            "status": status,
            "milliseconds": round(1000 * seconds, 1),
        }
        values |= {name: value for name, value in (("model", tally.model), ("images", tally.images), ("bytes", tally.bytes),
                                                   ("problem", tally.problem)) if value}  # fmt: skip
        self._log.write("request", values=values)
