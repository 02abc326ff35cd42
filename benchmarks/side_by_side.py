"""greffon and another tool side by side: the same photos, splits and tensors, turn by turn, as ratios.

    python benchmarks/side_by_side.py ROW DATA [--images 64] [--rounds 3] [--epochs 2]

    frozen-torch      the frozen pass against PyTorch as people write it: eager, float32, NCHW
    frozen-keras      the frozen pass against keras.applications.VGG16.predict
    epoch             an epoch of fine-tuning block5 after the pass against a plain PyTorch loop, in four ways
    finetune-fastai   from nothing to a model with block5 fine-tuned against fastai's vision_learner
    head-keras        from nothing to a trained head against Keras's transfer-learning guide

Each row is written to ``results/side_by_side_ROW.json``: ratios above 1 say that greffon took less time.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from contestants import HERE, Contestant, ContestantError, Run, run_script, run_train, turns
from greffon.backbones import load_backbone
from greffon.errors import GreffonError
from greffon.metrics import wilson_interval
from job_folder import make_job
from peers.job import Job
from record import record

__all__ = ["agreement", "ratios", "summary"]

KERAS = HERE / ".venv-keras/bin/python"
FASTAI = HERE / ".venv-fastai/bin/python"
#: Below this mean cosine two tools did not compute the same features. Keras's network is fed the same crops.
LEAST_COSINE = 0.98


@final
@dataclass(frozen=True, slots=True)
class Options:
    """What every row may be told."""

    rounds: int
    epochs: int
    views: int
    unfreeze: str
    precision: str
    pass_of: int


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("row", choices=ROWS)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--images", type=int, default=64, help="photos of the data set in all; 0: every one")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--epochs", type=int, default=2)
    arguments.add_argument("--views", type=int, default=4)
    arguments.add_argument("--unfreeze", default="block5")
    arguments.add_argument("--precision", choices=("float32", "bfloat16"), default="float32",
                           help="of the peer that has greffon's precision and layout (epoch)")  # fmt: skip
    arguments.add_argument("--pass-of", type=int, default=2000,
                           help="photos that greffon chooses its engine for (frozen-torch, frozen-keras)")  # fmt: skip
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    told = Options(options.rounds, options.epochs, options.views, options.unfreeze, options.precision, options.pass_of)
    try:
        with tempfile.TemporaryDirectory(prefix="greffon-job-") as folder:
            job = make_job(Path(folder), options.data, options.images, options.seed, load_backbone("vgg16"))
            figures = ROWS[options.row](job, told)
    except GreffonError as error:
        sys.exit(f"side_by_side: {error}")
    shown = {"data": options.data.name, "photos": job.counts(), "rounds": options.rounds, **figures}
    record(f"side_by_side_{options.row.replace('-', '_')}", shown, notes=_NOTES)


_NOTES = (
    "each contestant is a process of its own, run turn by turn; a ratio is the peer's seconds over greffon's, median of"
    " the rounds; load: processes that wanted a processor in the minute before each run; the weights lay unpacked for both"
)


# --- the rows -----------------------------------------------------------------------------------------------------


def frozen_torch(job: Job, options: Options) -> dict[str, Any]:
    peer = functools.partial(run_script, Path(sys.executable), "peers/torch_frozen.py", [str(job.folder)])
    return _frozen(job, options, "torch", peer)


def frozen_keras(job: Job, options: Options) -> dict[str, Any]:
    peer = functools.partial(run_script, KERAS, "peers/keras_frozen.py", [str(job.folder)])
    return _frozen(job, options, "keras", peer)


def _frozen(job: Job, options: Options, name: str, peer: Contestant) -> dict[str, Any]:
    ours = functools.partial(
        run_script, Path(sys.executable), "greffon_frozen.py", [str(job.folder), "--pass-of", str(options.pass_of)]
    )
    runs = turns(options.rounds, {"greffon": ours, name: peer})
    cosine = agreement(np.load(job.folder / "features_greffon.npy"), np.load(job.folder / f"features_{name}.npy"))
    if cosine < LEAST_COSINE:
        raise ContestantError(
            f"greffon and {name} gave other features: mean cosine {cosine:.4f}, expected {LEAST_COSINE}"
        )
    return {
        "from_files": ratios(runs, lambda run: 1 / run.answer.rates["pass"]),
        "network_alone": ratios(runs, lambda run: 1 / run.answer.rates["network"]),
        "features_mean_cosine": round(cosine, 5),
        "runs": summary(runs),
    }


def epoch(job: Job, options: Options) -> dict[str, Any]:
    """Seconds of an epoch, the look at the val photos after it included on both sides."""
    same = ["--layout", "channels_last", "--precision", options.precision]
    ways = {
        "torch": ["--inputs", "files"],
        "torch_decoded": ["--inputs", "tensors"],
        "torch_same_precision": ["--inputs", "files", *same],
        "torch_same_precision_decoded": ["--inputs", "tensors", *same],
    }
    base = [str(job.folder), "--epochs", str(options.epochs)]

    def ours() -> Run:
        run = run_train(job, _finetuning(options))
        if len(run.answer.epochs) != options.epochs:
            raise ContestantError(f"greffon train ran {len(run.answer.epochs)} epochs, expected {options.epochs}")
        trained_in = run.answer.settings["training_precision"]
        if trained_in != options.precision:
            raise ContestantError(f"greffon trains in {trained_in}, the peer that should do the same in {options.precision}",
                                  hint=f"Give --precision {trained_in}.")  # fmt: skip
        return run

    contestants: dict[str, Contestant] = {"greffon": ours}
    for name, way in ways.items():
        script = functools.partial(run_script, Path(sys.executable), "peers/torch_finetune.py", [*base, *way])
        contestants[name] = script
    runs = turns(options.rounds, contestants)
    return {
        "epoch": ratios(runs, lambda run: statistics.median(run.answer.epochs)),
        "runs": summary(runs),
    }


def finetune_fastai(job: Job, options: Options) -> dict[str, Any]:
    arguments = [str(job.folder), "--epochs", str(options.epochs)]
    peer = functools.partial(run_script, FASTAI, "peers/fastai_finetune.py", arguments)
    ours = functools.partial(run_train, job, _finetuning(options))
    return _whole(turns(options.rounds, {"greffon": ours, "fastai": peer}))


def head_keras(job: Job, options: Options) -> dict[str, Any]:
    arguments = [str(job.folder), "--epochs", str(options.epochs)]
    peer = functools.partial(run_script, KERAS, "peers/keras_head.py", arguments)
    ours = functools.partial(run_train, job, [])
    return _whole(turns(options.rounds, {"greffon": ours, "keras": peer}))


def _finetuning(options: Options) -> list[str]:
    given = ["--unfreeze", options.unfreeze, "--views", str(options.views), "--epochs", str(options.epochs)]
    return [] if options.unfreeze == "none" else given


def _whole(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Wall time from the start of a process to its end, and the accuracy that it came to on the same test photos."""
    accuracies = {name: own[0].answer.accuracy for name, own in runs.items()}
    intervals = {
        name: wilson_interval(own[0].answer.right or 0, own[0].answer.tested or 0) for name, own in runs.items()
    }
    peer = next(name for name in runs if name != "greffon")
    return {
        "from_nothing_to_model": ratios(runs, lambda run: run.wall),
        "accuracy": accuracies,
        "accuracy_interval": intervals,
        "greffon_not_below_the_peers_interval": (accuracies["greffon"] or 0.0) >= intervals[peer][0],
        "runs": summary(runs),
    }


#: The rows, by the name that the command takes.
ROWS: dict[str, Callable[[Job, Options], dict[str, Any]]] = {
    "frozen-torch": frozen_torch,
    "frozen-keras": frozen_keras,
    "epoch": epoch,
    "finetune-fastai": finetune_fastai,
    "head-keras": head_keras,
}


# --- figures ------------------------------------------------------------------------------------------------------


def ratios(runs: Mapping[str, Sequence[Run]], seconds: Callable[[Run], float]) -> dict[str, Any]:
    """Medians of each contestant, and how many times greffon's seconds go into each peer's, round by round.

    ``seconds`` may be those of one photo: ratios are the same.
    """
    times = {name: [seconds(run) for run in own] for name, own in runs.items()}
    figures: dict[str, Any] = {"seconds": {name: float(f"{statistics.median(own):.4g}") for name, own in times.items()}}
    for name in times:
        if name != "greffon":
            each = [theirs / ours for theirs, ours in zip(times[name], times["greffon"], strict=True)]
            figures[f"ratio_{name}"] = {
                "median": round(statistics.median(each), 2),
                "lowest": round(min(each), 2),
                "rounds": [round(value, 2) for value in each],
            }
    return figures


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean cosine of the features of the same photos, (n, d) and (m, d): the first photos of one may be all of the other."""
    count = min(len(ours), len(theirs))
    a, b = ours[:count].astype(np.float64), theirs[:count].astype(np.float64)
    return float(((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).mean())


def summary(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """What each contestant said of itself, with medians over the rounds."""
    told: dict[str, Any] = {}
    for name, own in runs.items():
        answers = [run.answer for run in own]
        told[name] = {
            "settings": answers[0].settings,
            "versions": answers[0].versions,
            "wall_seconds": [round(run.wall, 2) for run in own],
            "load": [round(run.load, 1) for run in own],
            "seconds": {
                part: round(statistics.median(a.seconds[part] for a in answers), 3) for part in answers[0].seconds
            },
            "images_per_second": {
                part: round(statistics.median(a.rates[part] for a in answers), 2) for part in answers[0].rates
            },
            "epoch_seconds": [[round(value, 3) for value in a.epochs] for a in answers],
            "accuracy": [a.accuracy for a in answers],
        }
    return told


if __name__ == "__main__":
    main()
