"""Feature extraction: the cut stands above the last stage, and a head is fitted on the pooled features."""

from __future__ import annotations

import time

import numpy as np

from greffon.activations import Activations, QuantisedEngine, Tap, chosen_engine, compute
from greffon.jobs.train.outcome import Outcome, Task
from greffon.jobs.train.remembering import remember
from greffon.jobs.train.reporting import grown
from greffon.model import Model
from greffon.transfer.inductive import fit_probe, representations

__all__ = ["extract"]


def extract(task: Task, *, head: str, pool: str, stages: str, norm: str) -> Outcome:
    """Run the whole network once over every image, and choose and fit a head by cross-validation."""
    dataset, network, listener = task.dataset, task.network, task.progress
    choices = representations(pool, stages, norm)
    tap = Tap("map", "none") if pool == "flatten" else Tap("pooled")
    learned = task.learned()
    engine, plan = chosen_engine(
        network,
        tap,
        task.precision,
        [dataset.paths[i] for i in learned],
        listener,
        least=task.min_fidelity,
        images=len(dataset),
        labels=dataset.labels[learned],
    )
    activations = compute(dataset.paths, network, tap, engine, store=task.store, progress=listener, digests=task.scan.digests,
                          executor=task.executor)  # fmt: skip
    # No choice is made on the val images here, so those of a drawn split are learned from too.
    roles = ("train", "val") if task.drawn else ("train",)
    fit_on = _positions(task, roles, activations)
    balanced = None if task.class_weights == "auto" else task.class_weights == "balanced"
    began = time.perf_counter()
    probe = fit_probe(
        activations.batch(fit_on),
        network.widths(),
        dataset.labels[fit_on],
        len(dataset.classes),
        groups=task.scan.groups[fit_on],
        head=head,
        representations=choices,
        balanced=balanced,
        seed=task.seed,
        progress=listener,
    )
    head_seconds = time.perf_counter() - began
    growth = grown(task, probe, activations.batch(fit_on), fit_on)
    test = _positions(task, ("test",), activations)
    model = Model(
        backbone=network,
        cut="none",
        classes=dataset.classes,
        representation=probe.representation,
        normaliser=probe.normaliser,
        head=probe.head,
        precision=engine.precision,
        training={
            "strategy": "feature extraction",
            "head": head,
            "strength": probe.strength,
            "balanced": probe.balanced,
            "chosen_by": "cross-validation on the images that the head was fitted on",
            "trials": [
                {
                    "representation": str(t.representation),
                    "strength": t.strength,
                    "accuracy": t.accuracy,
                    "log_loss": t.log_loss,
                    "folds": t.folds,
                }
                for t in probe.trials
            ],
            "fitted_on": list(roles),
            "seed": task.seed,
            "fractions": list(task.fractions),
            "min_fidelity": task.min_fidelity,
            "fidelity": plan.fidelity.to_dict() if plan.fidelity else None,
            "plan": plan.to_dict(),
            **({"learning_curve": growth.to_dict()} if growth is not None else {}),
        },
        figures={},
        data=task.figures_of_data(len(activations.failed)),
        quantised=engine.graph if isinstance(engine, QuantisedEngine) else None,
    )
    features, probabilities = None, np.zeros((0, len(dataset.classes)))
    if len(test):
        features = model.features(activations.batch(test))
        probabilities = model.head.probabilities(features)
    return Outcome(
        model=remember(task, model, fit_on, fit_on, activations.batch),
        dataset=dataset,
        test=test,
        probabilities=probabilities,
        failed=activations.failed,
        computed=activations.computed,
        reused=activations.reused,
        plan=plan,
        timing={"pass_seconds": round(activations.seconds, 2), "head_seconds": round(head_seconds, 2)},
        probe=probe,
        features=features,
        growth=growth,
        held_out=(fit_on[probe.asked], probe.held_out),
    )


def _positions(task: Task, roles: tuple[str, ...], activations: Activations) -> np.ndarray:
    wanted = [i for i, role in enumerate(task.dataset.splits) if role in roles and i not in activations.failed]
    return np.array(wanted, np.int64)
