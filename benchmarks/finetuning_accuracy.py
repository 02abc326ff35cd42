"""Fine-tuning against feature extraction: repeated five-fold cross-validation, paired on the same images.

    python benchmarks/finetuning_accuracy.py DATA... [--repeats 1] [--unfreeze block5] [--views 4] [--epochs 10]

Finished folds are kept in ``--folds FILE``: an interrupted run goes on where it was. The store keeps the frozen pass, which
is the same in every fold. Near-duplicates stay in one fold. Feature extraction is what ``greffon train`` does without
``--unfreeze``: it chooses its representation within each training fold; fine-tuning takes 15 % of the training fold to
choose the epoch on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from crossvalidation import Finished, Fold, corrected_interval, fold_differences, right_by_image
from greffon.activations import Engine, Store, Tap, chosen_engine, compute
from greffon.backbones import Backbone, load_backbone
from greffon.datasets import Scan, folds, read_dataset, scan
from greffon.errors import GreffonError
from greffon.images import views
from greffon.jobs.train import FineTuning
from greffon.metrics import paired_difference, wilson_interval
from greffon.progress import Silent
from greffon.training import Recipe
from greffon.transfer.inductive import TRAINED, Layout, fit_probe, frozen_part, run_tuning, with_val
from record import record

__all__ = ["STRATEGIES", "Study", "compared", "cross_validated"]

STRATEGIES = ("feature extraction", "fine-tuning")
_FOLDS = 5
_VAL_SHARE = 0.15


@final
@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """One data set, the network, and what fine-tuning is asked to do.

    Parameters
    ----------
    looked
        The images, near-duplicates grouped.
    pooled, below
        The engines of feature extraction and of the pass below the cut. They are chosen once, on pixels alone; labels have no
        part in it.
    """

    looked: Scan
    network: Backbone
    pooled: Engine
    below: Engine
    unfreeze: str
    wishes: FineTuning
    store: Store

    @property
    def labels(self) -> np.ndarray:
        return self.looked.dataset.labels

    def name(self) -> str:
        """All that a result depends on."""
        wishes = self.wishes
        parts = (
            self.looked.dataset.fingerprint(self.looked.digests),
            self.network.fingerprint,
            self.pooled.fingerprint,
            self.below.fingerprint,
            self.unfreeze,
            f"{wishes.views} {wishes.policy} {wishes.keep}",
            str(wishes.settled(self.labels, "auto", 0)),
            str(TRAINED),
        )
        return " | ".join(parts)

    def predictions(self, strategy: str, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        """Train on some images, int64 (n,), and say what others are, int64 (m,): float64 (m, c)."""
        return self._probed(train, test, seed) if strategy == STRATEGIES[0] else self._tuned(train, test, seed)

    def _probed(self, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        dataset, widths = self.looked.dataset, self.network.widths()
        found = compute(
            dataset.paths, self.network, Tap("pooled"), self.pooled,
            store=self.store, progress=Silent(), digests=self.looked.digests,
        )  # fmt: skip
        probe = fit_probe(
            found.batch(train), widths, self.labels[train], len(dataset.classes),
            groups=self.looked.groups[train], seed=seed, progress=Silent(),
        )  # fmt: skip
        return probe.probabilities(found.batch(test), widths)

    def _tuned(self, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        given = self.looked.dataset
        roles = np.full(len(given), "test", object)
        roles[train] = "train"
        dataset = with_val(replace(given, splits=tuple(roles.tolist())), self.looked.groups, _VAL_SHARE, seed)
        layout = Layout(self.unfreeze, self.wishes.views, self.wishes.keep)
        # The views have one seed for all repeats: another would ask for another pass.
        frozen = frozen_part(
            self.network, self.below, layout, views(self.wishes.policy, self.wishes.views, 0), dataset, self.looked.digests,
            store=self.store, progress=Silent(),
        )  # fmt: skip
        recipe = self.wishes.settled(dataset.labels[dataset.where("train")], "auto", seed)
        run = run_tuning(self.network, layout, frozen, dataset, recipe, TRAINED, progress=Silent())
        if not np.array_equal(run.test, test):
            raise ValueError("an image of the fold could not be read")
        return run.probabilities


def cross_validated(study: Study, finished: Finished, repeats: int, seed: int) -> dict[str, list[Fold]]:
    """The folds of both strategies, those that are not finished computed now; the strategies take turns."""
    name, dataset = study.name(), study.looked.dataset
    for repeat in range(repeats):
        parts = folds(study.labels, study.looked.groups, _FOLDS, seed + repeat)
        for number, (train, test) in enumerate(parts):
            for strategy in STRATEGIES:
                if finished.get(name, strategy, repeat, number) is not None:
                    continue
                began = time.perf_counter()
                told = study.predictions(strategy, train, test, seed + repeat)
                truth = study.labels[test]
                fold = Fold(
                    study=name,
                    strategy=strategy,
                    repeat=repeat,
                    fold=number,
                    train=len(train),
                    positions=test.tolist(),
                    right=(told.argmax(1) == truth).astype(int).tolist(),
                    true_probability=[round(float(p), 6) for p in told[np.arange(len(test)), truth]],
                    seconds=round(time.perf_counter() - began, 2),
                )
                finished.add(fold)
                line = f"{dataset.root.name}, repeat {repeat}, fold {number}, {strategy}: {np.mean(fold.right):.4f}"
                print(f"{line} ({fold.seconds:.0f} s)", file=sys.stderr, flush=True)
    done = {strategy: finished.of(name, strategy) for strategy in STRATEGIES}
    return {strategy: [fold for fold in own if fold.repeat < repeats] for strategy, own in done.items()}


def compared(results: dict[str, list[Fold]], n: int) -> dict[str, Any]:
    """Accuracy of each strategy on n images, and fine-tuning's gain over feature extraction, in points."""
    frozen, tuned = (results[strategy] for strategy in STRATEGIES)
    figures: dict[str, Any] = {"n": n, "folds": len(tuned)}
    for strategy, own in results.items():
        right = right_by_image(own, n)
        figures[strategy] = {
            "accuracy": round(float(right.mean()), 4),
            "interval": [round(end, 4) for end in wilson_interval(round(float(right.sum())), n)],
            "log_loss": round(float(-np.log(np.maximum(_truths(own), 1e-6)).mean()), 4),
            "folds": [round(float(np.mean(fold.right)), 4) for fold in own],
            "seconds_a_fold": round(float(np.median([fold.seconds for fold in own])), 1),
        }
    differences = fold_differences(tuned, frozen)
    share = float(np.mean([len(fold.positions) / fold.train for fold in tuned]))
    gain, low_high = paired_difference(
        *(right_by_image([f for f in own if f.repeat == 0], n) == 1 for own in (tuned, frozen))
    )
    figures["gain_points"] = round(100 * float(differences.mean()), 2)
    figures["gain_interval_points"] = _points(corrected_interval(differences, share))
    figures["gain_first_repeat_points"] = round(100 * gain, 2)
    figures["gain_first_repeat_interval_points"] = _points(low_high)
    return figures


def _truths(own: Sequence[Fold]) -> np.ndarray:
    return np.concatenate([fold.true_probability for fold in own])


def _points(interval: tuple[float, float]) -> list[float]:
    return [round(100 * end, 2) for end in interval]


def studied(data: Path, network: Backbone, unfreeze: str, wishes: FineTuning, precision: str, store: Store) -> Study:
    """Look at a data set and choose the engines."""
    looked = scan(read_dataset(data), book=store, progress=Silent())
    paths = looked.dataset.paths
    pooled, _ = chosen_engine(network, Tap("pooled"), precision, paths, Silent())
    count = len(paths) * wishes.views
    below, _ = chosen_engine(network, Tap("map", unfreeze), precision, paths, Silent(), images=count, keep=wishes.keep)
    return Study(looked, network, pooled, below, unfreeze, wishes, store)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("data", type=Path, nargs="+")
    arguments.add_argument("--repeats", type=int, default=1)
    arguments.add_argument("--unfreeze", default="block5")
    arguments.add_argument("--views", type=int, default=4)
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--size", type=int, default=0)
    arguments.add_argument("--precision", default="auto", help="of the frozen part")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--folds", type=Path, default=Path(__file__).parent / ".finetuning_folds.jsonl")
    arguments.add_argument("--name", default="finetuning_accuracy")
    options = arguments.parse_args()
    recipe = Recipe(learning_rate=0.0, head_learning_rate=0.0, epochs=options.epochs)
    wishes = FineTuning(views=options.views, recipe=recipe)
    figures: dict[str, Any] = {}
    try:
        network, finished, store = load_backbone("vgg16", size=options.size), Finished(options.folds), Store()
        for data in options.data:
            study = studied(data, network, options.unfreeze, wishes, options.precision, store)
            results = cross_validated(study, finished, options.repeats, options.seed)
            engines = {"pooled": study.pooled.precision, "below": study.below.precision}
            figures[f"{data.parent.name}/{data.name}"] = {"engines": engines, **compared(results, len(study.labels))}
    except GreffonError as error:
        sys.exit(f"finetuning_accuracy: {error}")
    record(options.name, figures, notes=_NOTES)


_NOTES = (
    "gain: fine-tuning's accuracy minus feature extraction's on the same images. gain_interval: corrected resampled t over all"
    " folds (Nadeau and Bengio 2003); gain_first_repeat_interval: Tango's score interval over the images of the first repeat"
)


if __name__ == "__main__":
    main()
