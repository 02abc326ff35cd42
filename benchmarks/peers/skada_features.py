# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""Adaptation on features in skada, method by method, as its gallery puts pipelines together.

    python skada_features.py FOLDER [--methods coral,tca]

Reads FOLDER/features.npz: source (n, d), labels (n,), target (m, d). Labels of the target are not there. Writes
FOLDER/skada.npz: for each method and each way to scale, the classes that the target's rows get, int64 (m,).

Everything stands at skada's defaults, but for the number of components, which is greffon's, and the head: logistic
regression throughout. ``rows`` are the features as they come, each row of length one; ``scaled`` has a StandardScaler before
the method. Where greffon sets something else, skada has a second try with greffon's setting: the linear kernel of TCA, and
the two strengths of optimal transport in units of the median cost.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import skada
from job import Answer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

COMPONENTS = 64
ENTROPY, CLASSES = 0.05, 0.1


def _head() -> LogisticRegression:
    # skada gives weights to whatever can take some.
    head = LogisticRegression(max_iter=2000)
    head.set_fit_request(sample_weight=True)
    return head


#: Of the median cost between the domains: the steps of a pipeline.
METHODS: Mapping[str, Callable[[float], list[Any]]] = {
    "source-only": lambda cost: [_head()],
    "coral": lambda cost: [skada.CORALAdapter(), _head()],
    "subspace": lambda cost: [skada.SubspaceAlignmentAdapter(n_components=COMPONENTS, random_state=0), _head()],
    "tca": lambda cost: [skada.TransferComponentAnalysisAdapter(n_components=COMPONENTS), _head()],
    "tca-linear": lambda cost: [skada.TransferComponentAnalysisAdapter(kernel="linear", n_components=COMPONENTS), _head()],
    "optimal-transport": lambda cost: [skada.ClassRegularizerOTMappingAdapter(), _head()],
    "optimal-transport-strengths": lambda cost: [
        skada.ClassRegularizerOTMappingAdapter(reg_e=ENTROPY * cost, reg_cl=CLASSES * cost),
        _head(),
    ],
    "optimal-transport-linear": lambda cost: [skada.LinearOTMappingAdapter(), _head()],
    "optimal-transport-exact": lambda cost: [skada.OTMappingAdapter(), _head()],
    "label-transport": lambda cost: [skada.OTLabelPropAdapter(), _head()],
    "jdot": lambda cost: [skada.JDOTClassifier(LogisticRegression(max_iter=2000))],
}


def _cost(a: np.ndarray, b: np.ndarray) -> float:
    """The median squared distance."""
    return float(np.median((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T))


def guessed(steps: list[Any], source: np.ndarray, labels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """What a pipeline that was fitted on both says of the target: int64 (m,)."""
    pipeline = skada.make_da_pipeline(*steps)
    domains = np.concatenate([np.full(len(source), 1), np.full(len(target), -2)])
    # -1 is skada's word for a label that is not known.
    given = np.concatenate([labels, np.full(len(target), -1)])
    pipeline.fit(np.concatenate([source, target]), given, sample_domain=domains)
    return np.asarray(pipeline.predict(target, sample_domain=domains[len(source) :]), np.int64)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--methods", default=",".join(METHODS))
    options = arguments.parse_args()
    with np.load(options.folder / "features.npz") as given:
        source, labels, target = (given[name] for name in ("source", "labels", "target"))
    # In double precision, as its own data sets are: some of its solvers fail in single.
    source, target = source.astype(np.float64), target.astype(np.float64)
    warnings.simplefilter("ignore")
    spread = np.concatenate([source, target]).std(0)
    alive = np.where(spread > 0, spread, 1)
    costs = {"rows": _cost(source, target), "scaled": _cost(source / alive, target / alive)}
    found: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    failed: dict[str, str | int | float] = {}
    for name in options.methods.split(","):
        for way in ("rows", "scaled"):
            began = time.perf_counter()
            try:
                scaler = [StandardScaler()] if way == "scaled" else []
                found[f"{name}/{way}"] = guessed([*scaler, *METHODS[name](costs[way])], source, labels, target)
            except (ValueError, np.linalg.LinAlgError, FloatingPointError) as error:
                failed[f"failed: {name}/{way}"] = str(error).splitlines()[0][:200]
            seconds[f"{name}/{way}"] = time.perf_counter() - began
    np.savez(options.folder / "skada.npz", **found)  # type: ignore[arg-type]  # the stubs take a name for a flag
    Answer(
        tool="skada",
        settings={"components": COMPONENTS, **failed},
        images={"source": len(source), "target": len(target)},
        seconds=seconds,
    ).show("skada", "pot", "scikit-learn", "numpy")


if __name__ == "__main__":
    main()
