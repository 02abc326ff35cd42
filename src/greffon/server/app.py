"""The addresses of the server: the API under /v1, its health, its figures, and the page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from greffon.server.answers import Explanation, Health, ModelAnswer, Models, Prediction, ProblemAnswer
from greffon.server.edge import Edge, Stage
from greffon.server.keys import Keys
from greffon.server.limits import ServerLimits
from greffon.server.logs import Log
from greffon.server.measures import Measures
from greffon.server.predicting import MOST_NEAREST, Desk, Tally, Wishes
from greffon.server.problems import KINDS, MEDIA_TYPE, Problem, problem_response
from greffon.server.requests import Base64Images
from greffon.server.shelf import Served, Shelf

__all__ = ["make_app"]

_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/app.css": ("app.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

_ABOUT = """
Says what is on photos. Send them to `/v1/predict`:

    curl -F image=@photo.jpg http://127.0.0.1:8000/v1/predict
    curl -H 'Content-Type: image/jpeg' --data-binary @photo.jpg http://127.0.0.1:8000/v1/predict

Whatever is wrong is told as problem details (RFC 9457).
"""

_ModelQuery = Annotated[str, Query(description="The name of a model of /v1/models; empty: the first one", max_length=200)]


def _problems(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The part of the description that tells of problems, by status."""
    found: dict[int | str, dict[str, Any]] = {}
    schema = {"$ref": "#/components/schemas/ProblemAnswer"}
    for kind in kinds:
        status, title = KINDS[kind]
        example = {"type": f"urn:greffon:problem:{kind}", "title": title, "status": status, "detail": "..."}
        one = found.setdefault(status, {"description": title, "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}}})
        one["content"][MEDIA_TYPE]["examples"][kind] = {"value": example}
    return found


_IMAGE_PROBLEMS = _problems(
    "bad-request", "no-image", "no-key", "no-such-model", "too-slow", "too-large", "too-many-images", "too-many-pixels", "wrong-type",
    "unreadable-image", "wrong-parameter", "busy", "fault", "stopping", "out-of-time",
)  # fmt: skip

_FILE = {"type": "string", "format": "binary"}


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    """How images are sent. The examples' base64 is a PNG of one grey pixel."""
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
    form = {"type": "object", "properties": {"image": {"type": "array", "items": _FILE, "minItems": 1}}, "required": ["image"]}
    examples = {"one": {"value": {"images": [pixel]}}, "named": {"value": {"images": [{"name": "photo.png", "data": pixel}]}}}
    content = {
        "multipart/form-data": {"schema": form},
        "application/json": {"schema": schema, "examples": examples},
        **{kind: {"schema": _FILE} for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream")},
    }
    return {"requestBody": {"required": True, "content": content}}


def make_app(
    shelf: Shelf,
    limits: ServerLimits,
    *,
    keys: Keys,
    stage: Stage,
    measures: Measures,
    log: Log,
    life: Callable[[], AbstractAsyncContextManager[None]],
) -> Edge:
    """The application of one server.

    Parameters
    ----------
    stage
        Says whether the server is stopping.
    life
        What runs beside it, from its start to its end.
    """
    desk = Desk(shelf, limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        shelf.start()
        async with life():
            yield
        await shelf.stop()
        desk.close()

    app = FastAPI(title="greffon", version=version("greffon"), description=_ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan)
    _add_problems(app)
    _add_health(app, stage, measures)
    _add_api(app, shelf, desk)
    _add_page(app)
    _describe(app)
    return Edge(app, keys=keys, stage=stage, measures=measures, log=log)


def _add_problems(app: FastAPI) -> None:
    def told(request: Request, problem: Problem) -> Response:
        tally: Tally = request.state.tally
        tally.problem = problem.kind
        return problem_response(problem)

    @app.exception_handler(Problem)
    async def of_ours(request: Request, problem: Problem) -> Response:
        return told(request, problem)

    @app.exception_handler(ClientDisconnect)
    async def of_nobody(request: Request, _: ClientDisconnect) -> Response:
        request.state.tally.problem = "client-gone"
        return Response(status_code=499)  # nobody is there to read it

    @app.exception_handler(Exception)
    async def of_a_fault(request: Request, _: Exception) -> Response:
        return told(request, Problem("fault", "see the server's log"))  # the exception goes on, to the log

    @app.exception_handler(RequestValidationError)
    async def of_parameters(request: Request, error: RequestValidationError) -> Response:
        fault = error.errors()[0]
        place = ".".join(str(part)[:40] for part in fault["loc"][1:]) or "the request"
        return told(request, Problem("wrong-parameter", f"{place}: {str(fault['msg'])[:200]}"))

    @app.exception_handler(HTTPException)
    async def of_routes(request: Request, error: HTTPException) -> Response:
        kind = {404: "no-such-page", 405: "wrong-method"}.get(error.status_code, "bad-request")
        detail = f"{request.method[:20]} {request.url.path[:100]}; what there is stands in /openapi.json"
        return told(request, Problem(kind, detail, headers=error.headers))


def _add_health(app: FastAPI, stage: Stage, measures: Measures) -> None:
    @app.get("/healthz", tags=["health"], response_model=Health)
    async def healthz() -> Health:
        """Whether the server lives."""
        return Health(status="ok")

    @app.get("/readyz", tags=["health"], response_model=Health, responses=_problems("stopping"))
    async def readyz() -> Health:
        """Whether requests may be sent: not while it stops."""
        if stage.stopping:
            raise Problem("stopping", "the server is about to stop", headers={"Retry-After": "5"})
        return Health(status="ready")

    @app.get("/metrics", tags=["health"], response_class=Response, responses={200: {"content": {"text/plain": {}}}, **_problems("no-key")})
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_api(app: FastAPI, shelf: Shelf, desk: Desk) -> None:
    body = _body({"$ref": "#/components/schemas/Base64Images"})

    @app.get("/v1/models", tags=["models"], response_model=Models, responses=_problems("no-key"))
    async def models() -> Models:
        """The models that are served."""
        return Models(models=[_model(served, number == 0) for number, served in enumerate(shelf.models.values())])

    @app.post("/v1/predict", tags=["photos"], response_model=Prediction, response_model_exclude_none=True, responses=_IMAGE_PROBLEMS,
              openapi_extra=body)  # fmt: skip
    async def predict(
        request: Request,
        model: _ModelQuery = "",
        top: Annotated[int, Query(ge=0, le=1_000_000, description="So many classes of each image; 0: all")] = 0,
        coverage: Annotated[float | None, Query(gt=0, lt=1, description="Of the sets of classes, where the model carries what they need;"
                                                " by default 0.9, where enough photos were held out for it")] = None,
        abstain: Annotated[float, Query(ge=0, lt=1, description="The share of photos of the known kind that shall be answered, 0.95 say;"
                                        " what is newer than that gets no label. 0: all are answered")] = 0,
        nearest: Annotated[int, Query(ge=0, le=MOST_NEAREST, description="So many training photos that each image is most like")] = 0,
    ) -> Prediction:  # fmt: skip
        """Say what is on one or more photos. A photo that cannot be read is told as such beside the others."""
        wishes = Wishes(top=top, coverage=coverage, abstain=abstain, nearest=nearest)
        return await desk.predict(request, request.state.tally, model=model, wishes=wishes)

    @app.post("/v1/explain", tags=["photos"], response_model=Explanation, responses=_IMAGE_PROBLEMS, openapi_extra=body)
    async def explain(
        request: Request,
        model: _ModelQuery = "",
        label: Annotated[str, Query(description="The class; empty: the most probable one", max_length=1000)] = "",
    ) -> Explanation:
        """Show which part of one photo speaks for a class."""
        return await desk.explain(request, request.state.tally, model=model, label=label)


def _model(served: Served, default: bool) -> ModelAnswer:
    export, own = served.export, served.export.remembered
    return ModelAnswer(name=served.name, default=default, classes=list(export.classes), precision=export.precision, maps=export.maps,
                       sets=export.conformal is not None, abstain=0 if own is None else own.most_kept,
                       examples=0 if own is None else len(own), sha256=export.sha256, card=export.card)  # fmt: skip


def _add_page(app: FastAPI) -> None:
    for address, (name, kind) in _PAGE.items():
        content = files("greffon.server").joinpath("page", name).read_bytes()
        app.add_api_route(address, _file(content, kind), methods=["GET", "HEAD"], include_in_schema=False)


def _file(content: bytes, kind: str) -> Callable[[], Any]:
    async def get() -> Response:
        return Response(content, headers={"content-type": kind, "cache-control": "no-cache"})

    return get


def _describe(app: FastAPI) -> None:
    """The description, made once: with the bodies that are read by hand, and problems as what they are."""
    made = app.openapi()
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for kind in (ProblemAnswer, Base64Images):
        told = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= told.pop("$defs", {})
        schemas[kind.__name__] = told
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "Only where the server has keys"}}
    for path in ("/v1/models", "/v1/predict", "/v1/explain", "/metrics"):
        for operation in made["paths"][path].values():
            operation["security"] = [{}, {"key": []}]
    text = json.loads(json.dumps(made))
    app.openapi = lambda: text  # FastAPI's own way to change it


