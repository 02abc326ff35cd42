"""greffon's feature methods beside skada's: the same features, the same draws, accuracy and seconds.

    python benchmarks/adaptation_peers.py SOURCE:TARGET... [--seeds 3] [--share 0.9]

Each draw of a pair (see ``adaptation.py``) is handed over in one representation, without the target's labels: one matrix for
everyone. greffon's methods see just that matrix here, in one setting; ``auto``, shown beside them, has all its
representations. skada has two tries, on the features as they are and scaled, and the better one counts: it needs the target's
labels to know which, and greffon's methods do not have such a choice. Everyone computes with one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from adaptation import Pair, drawn, pair_of
from contestants import HERE, run_script
from greffon.activations import Store
from greffon.backbones import load_backbone
from greffon.errors import GreffonError
from greffon.progress import Silent
from greffon.transfer.transductive import METHODS, Domains, adapt_features, look_at
from record import record

__all__ = ["SAME", "better_of", "comparison"]

SKADA = HERE / ".venv-skada/bin/python"
#: Methods of greffon, and what skada calls the same; its further tries count for it.
SAME: Mapping[str, tuple[str, ...]] = {
    "source-only": ("source-only",),
    "coral": ("coral",),
    "subspace": ("subspace",),
    "tca": ("tca", "tca-linear"),
    "optimal-transport": ("optimal-transport", "optimal-transport-strengths"),
}

#: Name → shares of the target named rightly, one for each draw, and seconds.
Runs = dict[str, list[tuple[float, float]]]


def greffon_runs(pair: Pair, whole: Domains, seed: int) -> dict[str, tuple[float, float]]:
    """greffon's methods on one draw, in one setting and one representation; and ``auto`` on all of them."""
    found: dict[str, tuple[float, float]] = {}
    with threadpool_limits(1):
        for name, settings in METHODS.items():
            began = time.perf_counter()
            guess = settings[-1].probabilities(whole.source, whole.target, seed).argmax(1)
            found[name] = (float((guess == pair.truth).mean()), time.perf_counter() - began)
        began = time.perf_counter()
        chosen = adapt_features(pair.source, pair.labels, pair.classes, pair.target, pair.widths, seed=seed, progress=Silent())
        found["auto"] = (float((chosen.probabilities.argmax(1) == pair.truth).mean()), time.perf_counter() - began)
    return found


def skada_runs(pair: Pair, whole: Domains) -> tuple[dict[str, tuple[float, float]], dict[str, Any]]:
    """skada's methods on the same features, by ``method/way``; and its settings and versions."""
    with tempfile.TemporaryDirectory(prefix="greffon-skada-") as name:
        folder = Path(name)
        np.savez(folder / "features.npz", source=whole.source.features, labels=pair.labels, target=whole.target.features)
        run = run_script(SKADA, "peers/skada_features.py", [str(folder)])
        with np.load(folder / "skada.npz") as told:
            right = {key: float((told[key] == pair.truth).mean()) for key in told.files}
    about = {"settings": run.answer.settings, "versions": run.answer.versions}
    return {key: (value, run.answer.seconds[key]) for key, value in right.items()}, about


def better_of(runs: Mapping[str, Sequence[tuple[float, float]]], names: Sequence[str], draws: int) -> str | None:
    """The key ``method/way`` of these methods that is best on the mean, of those that came through every draw."""
    known = [key for key, own in runs.items() if key.partition("/")[0] in names and len(own) == draws]
    return max(known, key=lambda key: float(np.mean([right for right, _ in runs[key]])), default=None)


def comparison(ours: Mapping[str, Sequence[tuple[float, float]]], theirs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any]:
    """The figures of one pair: what both have, what each has alone, and where greffon is behind."""
    draws = len(next(iter(ours.values())))
    same: dict[str, Any] = {}
    for name, names in SAME.items():
        best = better_of(theirs, names, draws)
        if best is None:
            continue
        a, b = ours[name], theirs[best]
        each = [100 * (one[0] - other[0]) for one, other in zip(a, b, strict=True)]
        same[name] = {
            "greffon": _row(a),
            "skada": {"which": best, **_row(b)},
            "difference_points": {"mean": round(float(np.mean(each)), 2), "range": [round(min(each), 2), round(max(each), 2)]},
            "greffon_not_behind": float(np.mean(each)) >= 0,
            "ratio_of_seconds": round(float(np.median([other[1] / one[1] for one, other in zip(a, b, strict=True)])), 2),
        }
    best_of_all = better_of(theirs, sorted({key.partition("/")[0] for key in theirs}), draws)
    assert best_of_all is not None
    return {
        "same_method": same,
        "greffon": {name: _row(own) for name, own in ours.items()},
        "skada": {key: _row(own) for key, own in theirs.items()},
        "auto_beside_the_best_of_skada": {
            "auto": _row(ours["auto"])["mean"],
            "skada": _row(theirs[best_of_all])["mean"],
            "which": best_of_all,
        },
        "behind": [name for name, row in same.items() if not row["greffon_not_behind"]],
        "slower": [name for name, row in same.items() if row["ratio_of_seconds"] < 1],
    }


def _row(runs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    right = [100 * share for share, _ in runs]
    return {
        "mean": round(float(np.mean(right)), 2),
        "range": [round(min(right), 2), round(max(right), 2)],
        "seconds": round(float(np.median([seconds for _, seconds in runs])), 3),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pairs", nargs="+", metavar="SOURCE:TARGET")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--share", type=float, default=0.9)
    options = arguments.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the peer
    figures: dict[str, Any] = {"seeds": options.seeds, "share": options.share, "pairs": {}}
    try:
        network, store = load_backbone("vgg16"), Store()
        for text in options.pairs:
            pair = pair_of(text, network, store)
            ours: Runs = {}
            theirs: Runs = {}
            for seed in range(options.seeds):
                some = drawn(pair, options.share, seed)
                whole = look_at(some.source, some.labels, some.classes, some.target, some.widths)[-1]
                told, figures["peer"] = skada_runs(some, whole)
                for runs, new in ((ours, greffon_runs(some, whole, seed)), (theirs, told)):
                    for name, one in new.items():
                        runs.setdefault(name, []).append(one)
                print(f"{pair.name}, seed {seed}", file=sys.stderr, flush=True)
            figures["pairs"][pair.name] = comparison(ours, theirs)
    except GreffonError as error:
        sys.exit(f"adaptation_peers: {error}")
    record("adaptation_peers", figures, notes=_NOTES)


_NOTES = (
    "per cent of the target's photos: mean, least and most of the draws, which are 90 % of both domains; seconds: median, one"
    " thread, without reading and starting; a ratio of seconds above 1 says that greffon took less; of skada the better of its"
    " tries in hindsight"
)


if __name__ == "__main__":
    main()
