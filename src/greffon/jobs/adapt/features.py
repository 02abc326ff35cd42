"""Adapting on features: the cut stands above the last stage, and a head is fitted for the target."""

from __future__ import annotations

import numpy as np

from greffon.activations import QuantisedEngine, Tap, chosen_engine, compute
from greffon.errors import DataError
from greffon.heads import Normaliser
from greffon.jobs.adapt.outcome import Outcome, Task
from greffon.model import Model
from greffon.transfer.transductive import VOTERS, adapt_features

__all__ = ["adapt_on_features"]


def adapt_on_features(task: Task) -> Outcome:
    """Run the whole network once over both domains, and find the head that serves the target.

    Raises DataError where none of a domain's photos can be read.
    """
    network, listener, source, target = task.network, task.progress, task.pair.source, task.pair.target
    assert source is not None
    data, there = source.dataset, target.dataset
    paths, digests = [*data.paths, *there.paths], [*source.digests, *target.digests]
    by_content = [paths[i] for i in sorted(range(len(paths)), key=digests.__getitem__)]
    engine, plan = chosen_engine(network, Tap("pooled"), task.precision, by_content, listener, images=len(paths))
    kept = compute(paths, network, Tap("pooled"), engine, store=task.store, progress=listener, digests=digests,
                   executor=task.executor)  # fmt: skip
    read = np.array([i for i in range(len(paths)) if i not in kept.failed], np.int64)
    own, others = read[read < len(data)], read[read >= len(data)]
    for which, name in ((own, "source"), (others, "target")):
        if not len(which):
            raise DataError(f"{name}: none of its photos could be read")
    widths, labels = network.widths(), data.labels[own]
    records, theirs = kept.batch(own), kept.batch(others)
    found = adapt_features(
        records, labels, len(data.classes), theirs, widths, method=task.method, seed=task.seed, progress=listener
    )
    look = found.representation
    before, other = look.take(records, widths), look.take(theirs, widths)
    first = Normaliser.fit(before, look.norm)
    model = Model(
        backbone=network,
        cut="none",
        classes=data.classes,
        representation=look,
        normaliser=found.normaliser,
        head=found.head,
        precision=engine.precision,
        training={
            "strategy": "adaptation on features",
            "transfer": "transductive",
            "method": found.method,
            "asked": task.method,
            "voters": list(VOTERS) if task.method == "auto" else [],
            "adapted": found.adapted,
            "why": found.why,
            "agreement": found.agreement,
            "domain_distance": found.distance,
            "seed": task.seed,
            "plan": plan.to_dict(),
        },
        figures={},
        data=task.figures_of_data(len(kept.failed)),
        quantised=engine.graph if isinstance(engine, QuantisedEngine) else None,
    )
    return Outcome(
        model=model,
        method=found.method,
        adapted=found.adapted,
        why=found.why,
        positions=others - len(data),
        probabilities=found.probabilities,
        source_only=found.source_only,
        source_labels=labels,
        before=(first.apply(before), first.apply(other)),
        # The source as a source, the target as a target: each about its own mean where something was adapted.
        after=(first.apply(before), found.normaliser.apply(other)),
        failed={paths[i]: reason for i, reason in sorted(kept.failed.items())},
        plan=plan,
        computed=kept.computed,
        reused=kept.reused,
        evidence=found.evidence,
        agreement=found.agreement if task.method == "auto" else float("nan"),
        distance=found.distance,
        proportions=found.proportions,
    )
