"""From a request to its answer: read, decode, run, say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, final

import numpy as np
from starlette.requests import ClientDisconnect, Request

from greffon.errors import ImageError
from greffon.images import Preprocess
from greffon.server.answers import Example, Explanation, ImageAnswer, Prediction, ProblemAnswer
from greffon.server.batching import Answer
from greffon.server.deciding import best_first, class_set, set_limit
from greffon.server.explaining import CELLS, covered, heat_of
from greffon.server.limits import ServerLimits
from greffon.server.problems import Problem
from greffon.server.requests import Encoded, Room, read_body, read_images
from greffon.server.shelf import Served, Shelf
from greffon.settings import processors

__all__ = ["COVERAGE", "MOST_NEAREST", "Desk", "Tally", "Wishes"]

#: Training photos that may be asked for beside each image.
MOST_NEAREST = 20
#: Of sets of classes, where none is asked for.
COVERAGE = 0.9

_T = TypeVar("_T")


@final
@dataclass(slots=True)
class Tally:
    """What a request was, for the log: counts alone."""

    model: str = ""
    images: int = 0
    bytes: int = 0
    problem: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What shall be told of each image; see the parameters of the route."""

    top: int
    coverage: float | None
    abstain: float
    nearest: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Like:
    """How one image stands to the training photos: its novelty, or None; the positions of the nearest ones, and their distances."""

    novelty: float | None
    nearest: tuple[tuple[int, float], ...]


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Limits:
    """Up to which score a class is in the set, and up to which novelty an image is known; None where that is not asked for."""

    score: float | None
    novelty: float | None


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A picture as the network sees it, uint8 (height, width, 3), and the sides of its photo."""

    picture: np.ndarray
    height: int
    width: int


@final
class Desk:
    """Answers requests for predictions and explanations."""

    def __init__(self, shelf: Shelf, limits: ServerLimits) -> None:
        self._shelf, self._limits = shelf, limits
        self._room = Room(limits.max_waiting_bytes)
        self._threads = ThreadPoolExecutor(processors(), thread_name_prefix="greffon-decode")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()

    async def predict(self, request: Request, tally: Tally, *, model: str, wishes: Wishes) -> Prediction:
        """See the route of that name. Raises Problem."""
        with self._shelf.get(model).used() as served:
            tally.model = served.name
            limits = _limits(served, wishes)
            encoded, held = await self._read(request, tally)
            try:
                with served.batcher.admit(len(encoded)) as due:
                    seen = await _unless_gone(request, self._decode(encoded, served))
                    right = [one for one in seen if isinstance(one, _Seen)]
                    problems = [one for one in seen if isinstance(one, Problem)]
                    if not right:
                        raise problems[0] if len(problems) == 1 else _all_failed(problems)
                    answers = await _unless_gone(request, served.batcher.run([one.picture for one in right], due))
            finally:
                self._room.give(held)
            told = zip(answers, await self._likes(answers, served, wishes), strict=True)
            results = [
                _told_problem(one.name, found) if isinstance(found, Problem) else _told(one.name, *next(told), served, wishes.top, limits)
                for one, found in zip(encoded, seen, strict=True)
            ]
            return Prediction(model=served.name, results=results)

    async def explain(self, request: Request, tally: Tally, *, model: str, label: str) -> Explanation:
        """See the route of that name. Raises Problem."""
        with self._shelf.get(model).used() as served:
            tally.model = served.name
            classes = served.export.classes
            if label and label not in classes:
                raise Problem("wrong-parameter", f"label: the model has no class {label[:80]!r}")
            encoded, held = await self._read(request, tally)
            exact = served.export.maps
            try:
                if len(encoded) != 1:
                    raise Problem("too-many-images", f"{len(encoded)} images; one is explained at a time")
                with served.batcher.admit(1 if exact else 1 + CELLS**2, patient=not exact) as due:
                    (seen,) = await _unless_gone(request, self._decode(encoded, served))
                    if isinstance(seen, Problem):
                        raise seen
                    pre = served.export.preprocess
                    pictures = [seen.picture] if exact else covered(seen.picture, pre)
                    answers = await _unless_gone(request, served.batcher.run(pictures, due, maps=exact, patient=not exact))
            finally:
                self._room.give(held)
            row = answers[0].probabilities
            number = classes.index(label) if label else best_first(row, 1)[0]
            heat = answers[0].maps[number] if exact and answers[0].maps is not None else heat_of(_rows(answers), number)
            return Explanation(
                model=served.name,
                label=classes[number],
                probability=float(row[number]),
                method="cam" if exact else "occlusion",
                map=np.asarray(heat, np.float64).tolist(),
                box=list(pre.seen_box(seen.height, seen.width)),
            )

    async def _likes(self, answers: Sequence[Answer], served: Served, wishes: Wishes) -> list[_Like]:
        own = served.export.remembered
        if own is None or not (wishes.abstain or wishes.nearest):
            return [_Like(None, ())] * len(answers)
        features = np.stack([one.features for one in answers if one.features is not None])
        most = max(wishes.nearest, own.neighbours)
        near, distances = await asyncio.get_running_loop().run_in_executor(self._threads, own.nearest, features, most)
        new = distances[:, : own.neighbours].mean(1).tolist()
        return [
            _Like(novelty if wishes.abstain else None, tuple(zip(places[: wishes.nearest], apart[: wishes.nearest], strict=True)))
            for novelty, places, apart in zip(new, near.tolist(), distances.tolist(), strict=True)
        ]

    async def _read(self, request: Request, tally: Tally) -> tuple[list[Encoded], int]:
        """The images, and how much of the room they hold."""
        body = await read_body(request, self._limits, self._room)
        try:
            encoded = await read_images(request, body, self._limits)
        except BaseException:
            self._room.give(len(body))
            raise
        tally.images, tally.bytes = len(encoded), len(body)
        return encoded, len(body)

    async def _decode(self, encoded: Sequence[Encoded], served: Served) -> list[_Seen | Problem]:
        loop, pre = asyncio.get_running_loop(), served.export.preprocess
        jobs = [loop.run_in_executor(self._threads, _seen, one.data, pre, self._limits) for one in encoded]
        try:
            return list(await asyncio.gather(*jobs))
        finally:
            for job in jobs:  # the client has gone: what has not begun need not
                job.cancel()


def _rows(answers: Sequence[Answer]) -> np.ndarray:
    return np.stack([one.probabilities for one in answers])


def _seen(data: bytes, preprocess: Preprocess, limits: ServerLimits) -> _Seen | Problem:
    if not data:
        return Problem("no-image", "the image has 0 bytes")
    try:
        photo = preprocess.decode(data, limits=limits.images)
    except ImageError as error:
        over = "limit of" in error.what and "pixels" in error.what
        return Problem("too-many-pixels" if over else "unreadable-image", error.what)
    return _Seen(preprocess.fit(photo), photo.shape[0], photo.shape[1])


async def _unless_gone(request: Request, work: Awaitable[_T]) -> _T:
    """The result of ``work``, which is given up when the client goes. Its body must have been read."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect()
    finally:
        for one in (task, gone):
            one.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _all_failed(problems: Sequence[Problem]) -> Problem:
    first = problems[0]
    return Problem(first.kind, f"none of the {len(problems)} images can be read; the first: {first.detail}")


def _told_problem(name: str, problem: Problem) -> ImageAnswer:
    return ImageAnswer(name=name, problem=ProblemAnswer.model_validate(problem.to_dict()))


def _limits(served: Served, wishes: Wishes) -> _Limits:
    """Raises Problem where something is wished for that the model does not carry."""
    scores, own = served.export.conformal, served.export.remembered
    if wishes.nearest and own is None:
        raise Problem("wrong-parameter", "nearest: the model carries none of its training photos")
    if wishes.abstain and (own is None or own.scores is None):
        raise Problem("wrong-parameter", "abstain: the model carries nothing by which it could tell what is new to it")
    return _Limits(
        score=None if scores is None else _score_limit(scores, wishes.coverage),
        novelty=own.limit(wishes.abstain) if own is not None and wishes.abstain else None,
    )


def _score_limit(scores: np.ndarray, coverage: float | None) -> float | None:
    """Who asks for no coverage gets the usual one, or no sets where that cannot be."""
    if coverage is None and len(scores) / (len(scores) + 1) < COVERAGE:
        return None
    return set_limit(scores, COVERAGE if coverage is None else coverage)


def _told(name: str, answer: Answer, like: _Like, served: Served, top: int, limits: _Limits) -> ImageAnswer:
    row, classes = answer.probabilities, served.export.classes
    order = best_first(row, top)
    labels = None if limits.score is None else [classes[number] for number in class_set(row, limits.score)]
    known = None if like.novelty is None or limits.novelty is None else like.novelty <= limits.novelty
    return ImageAnswer(
        name=name,
        label=None if known is False else classes[order[0]],
        probability=float(row[order[0]]),
        probabilities={classes[number]: float(row[number]) for number in order},
        labels=labels,
        unsure=None if labels is None else len(labels) != 1,
        novelty=like.novelty,
        known=known,
        nearest=[_example(served, *one) for one in like.nearest] or None,
    )


def _example(served: Served, place: int, distance: float) -> Example:
    own = served.export.remembered
    assert own is not None
    return Example(label=served.export.classes[own.labels[place]], distance=distance, name=own.names[place] or None,
                   thumbnail=own.picture(place))  # fmt: skip
