"""The search for hyperparameters: many short trainings on the stored activations, of which the worse ones are given up early.

Optuna (the extra ``tune``) proposes: its tree-structured Parzen estimator (Bergstra et al. 2011). What is given up is
decided by asynchronous successive halving (Li et al. 2020, arXiv:1810.05934): at each rung the best third goes on.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, final

import numpy as np

from greffon.backbones import Backbone
from greffon.errors import DataError, OptionError
from greffon.heads import Representation
from greffon.progress import Progress
from greffon.training import EpochRow, FirstViews, Recipe, Samples, Source, fit
from greffon.transfer.inductive.planning import Layout
from greffon.transfer.inductive.space import SearchSpace, values_of
from greffon.transfer.inductive.starting import Start, grown_on, prepare

__all__ = ["Ground", "Search", "SearchTrial", "load_optuna", "search"]

_SHARE = 3  # one trial in so many goes on at each rung
_STARTUP = 8  # trials before the estimator has a say
_ENOUGH = 12  # trials that an importance is computed from, at least
_GRACE = 0.1  # the share of the time by which the running trial may be over it


@final
@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """Activations at one cut that trials may stand on. All grounds of a search have the same images and views."""

    layout: Layout
    source: Source


@final
@dataclass(frozen=True, slots=True)
class SearchTrial:
    """One training.

    Parameters
    ----------
    epochs
        How many were run.
    log_loss, accuracy
        Of the validation images after its best epoch; nats after temperature scaling, see ``training.EpochRow``.
    ended
        ``"finished"``; ``"pruned"``: given up for better ones; ``"time"``: cut off as the time was over.
    early
        The log-loss of its best epoch up to the first rung, which every trial reaches; None where the time cut it off.
    """

    number: int
    recipe: Recipe
    cut: str
    views: int
    epochs: int
    log_loss: float
    accuracy: float
    ended: Literal["finished", "pruned", "time"]
    early: float | None
    seconds: float

    @property
    def values(self) -> Mapping[str, float | int | str]:
        """What was drawn, by name."""
        return values_of(self.recipe, self.cut, self.views)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        rest = {name: getattr(self, name) for name in ("epochs", "log_loss", "accuracy", "ended", "seconds")}
        return {"trial": self.number, **self.values, **rest}


@final
@dataclass(frozen=True, slots=True)
class Search:
    """What a search found.

    Parameters
    ----------
    recipe, layout
        Of the trial with the least validation log-loss. That figure flatters it, for it was chosen by it.
    trials
        In their order; the first is the default.
    importances
        Name → share of the variance of the log-loss that it alone explains (functional ANOVA: Hutter et al. 2014), the
        greatest first; empty where there were too few trials.
    basis
        In words: what the importances were computed from, or why there are none.
    seconds
        That it took.
    """

    recipe: Recipe
    layout: Layout
    trials: tuple[SearchTrial, ...]
    importances: Mapping[str, float]
    basis: str
    seconds: float

    @property
    def best(self) -> SearchTrial:
        """The trial that was chosen."""
        return _best(self.trials)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "best": self.best.number,
            "default": 0,
            "chosen_by": "log-loss on the validation split, which flatters the chosen one; the test split had no part",
            "importances": dict(self.importances),
            "importances_of": self.basis,
            "seconds": round(self.seconds, 2),
            "trials": [one.to_dict() for one in self.trials],
        }


def search(
    network: Backbone,
    grounds: Sequence[Ground],
    train: Samples,
    val: Samples,
    classes: int,
    recipe: Recipe,
    representation: Representation,
    *,
    seconds: float,
    seed: int = 0,
    most_trials: int = 10_000,
    progress: Progress,
) -> Search:
    """Search for the recipe, the cut and the number of views with the least log-loss on the validation images.

    The first trial is the default. As a trial does what a run of ``fine_tune`` with its recipe does, epoch by epoch, a
    run of the recipe that is found is no worse on the validation images than that trial, nor than the default as far as
    this was run. With the same seed, the trials up to the same number are the same.

    Parameters
    ----------
    grounds
        The first is the default's. A trial uses the first k of the views.
    train, val
        Positions in the sources. There are no others: what is not here has no part in the search.
    recipe
        The default, and whatever is not searched.
    seconds
        No trial begins later; the one that runs then is stopped after an epoch, where it is over by more than a tenth.
    most_trials
        How many trials at most; one at least is begun.

    Raises
    ------
    OptionError
        Optuna is not installed; there are no validation images to choose on.
    DataError
        Fewer than two classes to learn from.
    StoreError
        Activations have gone.
    """
    optuna = load_optuna()
    if not len(val):
        hint = "Give the data a val split, or --split a share of it."
        raise OptionError("--tune chooses on validation images, and there are none", hint=hint)
    if len(np.unique(train.labels)) < 2:
        raise DataError(f"the training split has {len(np.unique(train.labels))} classes, and needs two or more")
    began = time.perf_counter()
    cuts = {ground.layout.cut: ground for ground in grounds}
    first = grounds[0].layout
    space = SearchSpace(recipe, tuple(cuts), first.views)
    starts: dict[str, Start] = {}
    rung = max(1, round(recipe.epochs / _SHARE**2))
    with _quiet():
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=_STARTUP),
            pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=rung, reduction_factor=_SHARE),
        )
        study.enqueue_trial(space.first())
    trials: list[SearchTrial] = []
    asked: list[Any] = []
    while len(trials) < max(1, most_trials) and (not trials or time.perf_counter() - began < seconds):
        with _quiet():
            trial = study.ask()
            drawn, cut, views = space.draw(trial)
        if not trials:
            drawn = recipe  # to the last digit, even where it lies outside of the ranges
        ground = cuts[cut]
        if cut not in starts:
            starts[cut] = prepare(network, cut, ground.source, train, classes, representation)
        source = FirstViews(ground.source, views)
        late = began + (1 + _GRACE) * seconds
        one = _run(network, source, starts[cut], train, val, drawn, views, _Judge(trial, drawn.epochs, late), rung, progress)
        with _quiet():
            state = optuna.trial.TrialState.COMPLETE if one.ended == "finished" else optuna.trial.TrialState.PRUNED
            study.tell(trial, one.log_loss if one.ended == "finished" else None, state=state)
        trials.append(one)
        asked.append(trial)
        progress.say(_told(one, recipe.epochs))
    best = _best(trials)
    importances, basis = _importances(optuna, asked, trials, rung, seed)
    layout = Layout(best.cut, best.views, cuts[best.cut].layout.keep, cuts[best.cut].layout.recompute)
    return Search(best.recipe, layout, tuple(trials), importances, basis, time.perf_counter() - began)


def load_optuna() -> ModuleType:
    """Optuna, imported now. Raises OptionError where it is absent."""
    try:
        with _quiet():
            return importlib.import_module("optuna")
    except ImportError as error:
        raise OptionError(
            f"--tune needs Optuna, which cannot be imported here ({str(error)[:160]})", hint='Install it: pip install "greffon[tune]".'
        ) from error


@final
class _Judge:
    """Told of every epoch of a trial; says when to stop it."""

    def __init__(self, trial: Any, epochs: int, late: float) -> None:
        self.number = int(trial.number)
        self.ended: Literal["finished", "pruned", "time"] = "finished"
        self._trial, self._epochs, self._late = trial, epochs, late
        self._best = math.inf

    def __call__(self, row: EpochRow) -> bool:
        self._best = min(self._best, row.log_loss if row.log_loss is not None else math.inf)
        with _quiet():
            self._trial.report(self._best, row.epoch)
            worse = self._trial.should_prune()
        if row.epoch < self._epochs and worse:
            self.ended = "pruned"
        elif row.epoch < self._epochs and time.perf_counter() > self._late:
            self.ended = "time"
        return self.ended != "finished"


def _run(
    network: Backbone,
    source: Source,
    start: Start,
    train: Samples,
    val: Samples,
    recipe: Recipe,
    views: int,
    judge: _Judge,
    rung: int,
    progress: Progress,
) -> SearchTrial:
    began = time.perf_counter()
    number = judge.number
    grown = grown_on(network, start, recipe)
    history = fit(grown, source, train, val, recipe, progress=_Bars(progress, f"Trial {number}"), watch=judge).history
    seen = [(row.log_loss, row.accuracy) for row in history if row.log_loss is not None and row.accuracy is not None]
    log_loss, accuracy = min(seen, key=lambda pair: pair[0])
    reached = judge.ended != "time" or len(history) > rung
    return SearchTrial(
        number=number,
        recipe=recipe,
        cut=start.cut,
        views=views,
        epochs=len(history) - 1,
        log_loss=log_loss,
        accuracy=accuracy,
        ended=judge.ended,
        early=min(loss for loss, _ in seen[: rung + 1]) if reached else None,
        seconds=time.perf_counter() - began,
    )


@final
class _Bars:
    """A trial's bar, under its own name. What it says of its epochs, and how it fails, is of no concern to the user."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name

    def begin(self, task: str, total: int) -> None:
        self._progress.begin(self._name, total)

    def advance(self, steps: int = 1) -> None:
        self._progress.advance(steps)

    def end(self) -> None:
        self._progress.end()

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass


def _best(trials: Sequence[SearchTrial]) -> SearchTrial:
    return min(trials, key=lambda one: (one.log_loss, one.number))


def _told(one: SearchTrial, epochs: int) -> str:
    ended = {"finished": "", "pruned": ", given up", "time": ", the time is over"}[one.ended]
    values = ", ".join(
        f"{name.replace('_', ' ')} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in one.values.items()
    )
    return (
        f"trial {one.number}{' (the default)' if not one.number else ''}: validation log-loss {one.log_loss:.3f},"
        f" {100 * one.accuracy:.1f} % after {one.epochs} of {epochs} epochs{ended}: {values}"
    )


def _importances(
    optuna: ModuleType, asked: Sequence[Any], trials: Sequence[SearchTrial], rung: int, seed: int
) -> tuple[dict[str, float], str]:
    """Functional ANOVA over trials that ran equally far: those that finished or, where they are few, all at the first rung."""
    finished = [(each, one.log_loss) for each, one in zip(asked, trials, strict=True) if one.ended == "finished"]
    early = [(each, one.early) for each, one in zip(asked, trials, strict=True) if one.early is not None]
    if len(finished) >= _ENOUGH:
        some, basis = finished, f"the log-loss of {len(finished)} trials that finished"
    elif len(early) >= _ENOUGH:
        after = "the first epoch" if rung == 1 else f"{rung} epochs"
        some, basis = early, f"the log-loss of {len(early)} trials after {after}, which all of them ran"
    else:
        return {}, f"{len(trials)} trials are too few to say what mattered: {_ENOUGH} are needed"
    if len({loss for _, loss in some}) < 2:
        return {}, f"no value changed {basis}"
    with _quiet():
        same = optuna.create_study()
        for each, loss in some:
            same.add_trial(optuna.trial.create_trial(params=each.params, distributions=each.distributions, value=loss))
        judge = optuna.importance.FanovaImportanceEvaluator(seed=seed % 2**32)
        try:
            found = optuna.importance.get_param_importances(same, evaluator=judge)
        except (RuntimeError, ValueError):  # no tree found any variance
            return {}, f"no value changed {basis}"
    return {name: float(value) for name, value in found.items()}, basis


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna's remarks on every trial, and on what is experimental in it, are not the user's."""
    logger = logging.getLogger("optuna")
    before = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)
