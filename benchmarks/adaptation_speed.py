"""Adaptation above the cut, end to end from photos: greffon against a loop that runs the frozen part in every epoch.

    python benchmarks/adaptation_speed.py SOURCE:TARGET [--methods deep-coral,mcc,dann] [--images 0] [--epochs 10] [--rounds 1]

The same photos, VGG16's tensors, cut (block5), epochs and batches; each contestant is a process of its own, turn by turn.
greffon begins with an empty cache: the look at the photos, the choice of the engine, its calibration and the pass over all
views are in its time. ``torch`` is the plain loop (``peers/torch_adapt.py``), ``torch_channels_last`` the same in the layout
that is fast here, ``torch_bfloat16`` that under autocast, and ``skada`` the modules of ``skada.deep``, which hold decoded photos
in memory and do not vary them (``peers/skada_adapt.py``). ``--peers torch`` runs that one alone.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptation import domains_of
from contestants import HERE, Contestant, Run, run_fresh, run_script, turns
from greffon.backbones import load_backbone
from greffon.errors import GreffonError
from greffon.metrics import wilson_interval
from job_folder import make_domain_job
from peers.job import Job
from record import record
from side_by_side import ratios, summary

__all__ = ["contestants_for", "figures_of"]

#: How many times faster than the plain loop greffon must be.
LEAST_RATIO = 5.0
SKADA = HERE / ".venv-skada/bin/python"
#: The Python, the script and what it is told more.
PEERS: Mapping[str, tuple[Path, str, Sequence[str]]] = {
    "torch": (Path(sys.executable), "peers/torch_adapt.py", ()),
    "torch_channels_last": (Path(sys.executable), "peers/torch_adapt.py", ("--layout", "channels_last")),
    "torch_bfloat16": (Path(sys.executable), "peers/torch_adapt.py", ("--layout", "channels_last", "--precision", "bfloat16")),
    "skada": (SKADA, "peers/skada_adapt.py", ()),
}


def contestants_for(job: Job, method: str, peers: Sequence[str], common: Sequence[str], views: int) -> dict[str, Contestant]:
    """greffon, and each peer, on one job by one method."""
    given = [str(job.folder), "--method", method, *common]
    found: dict[str, Contestant] = {
        "greffon": functools.partial(run_fresh, "greffon_adapt.py", [*given, "--views", str(views)])
    }
    for name in peers:
        python, script, more = PEERS[name]
        found[name] = functools.partial(run_script, python, script, [*given, *more])
    return found


def figures_of(runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Ratios of the whole processes and of the epochs, and accuracy on the target: of the first round."""
    accuracy = {name: own[0].answer.accuracy for name, own in runs.items()}
    return {
        "from_photos_to_answers": ratios(runs, lambda run: run.wall),
        "without_looks_but_the_last": ratios(runs, _without_looks),
        "an_epoch": ratios(runs, lambda run: sum(run.answer.epochs) / len(run.answer.epochs)),
        "accuracy": accuracy,
        "accuracy_interval": {name: wilson_interval(own[0].answer.right or 0, own[0].answer.tested or 0) for name, own in runs.items()},
        "runs": summary(runs),
    }


def _without_looks(run: Run) -> float:
    """Seconds of a run without the looks at the target after all epochs but the last. greffon's stay in: they are in its epochs."""
    looks = run.answer.seconds.get("validation", 0.0)
    return run.wall - looks * (1 - 1 / len(run.answer.epochs))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pair", metavar="SOURCE:TARGET")
    arguments.add_argument("--methods", default="deep-coral,mcc,dann")
    arguments.add_argument("--peers", default=",".join(PEERS))
    arguments.add_argument("--images", type=int, default=0, help="photos of each domain; 0: every one")
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--views", type=int, default=4)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--name", default="adaptation_speed")
    options = arguments.parse_args()
    common = [f"--{name}={getattr(options, name)}" for name in ("epochs", "batch", "seed")]
    peers = options.peers.split(",")
    if strange := [name for name in peers if name not in PEERS]:
        sys.exit(f"adaptation_speed: --peers must be of {', '.join(PEERS)}, got {strange[0]!r}")
    figures: dict[str, Any] = {"pair": options.pair, "epochs": options.epochs, "rounds": options.rounds, "methods": {}}
    try:
        source, target = domains_of(options.pair)
        with tempfile.TemporaryDirectory(prefix="greffon-job-") as folder:
            job = make_domain_job(Path(folder), source, target, options.images, options.seed, load_backbone("vgg16"))
            figures["photos"] = {"source": len(job.train), "target": len(job.test)}
            for method in options.methods.split(","):
                runs = turns(options.rounds, contestants_for(job, method, peers, common, options.views))
                figures["methods"][method] = figures_of(runs)
    except GreffonError as error:
        sys.exit(f"adaptation_speed: {error}")
    lowest = {
        name: min(one["from_photos_to_answers"][f"ratio_{name}"]["lowest"] for one in figures["methods"].values()) for name in peers
    }
    figures["lowest_ratio"] = lowest
    if "torch" in lowest:
        figures["requirement"] = {"least_ratio_to_torch": LEAST_RATIO, "kept": lowest["torch"] >= LEAST_RATIO}
    record(options.name, figures, notes=_NOTES)


_NOTES = (
    "each contestant is a process of its own, run turn by turn; a ratio is the peer's seconds over greffon's, median of the"
    " rounds; greffon's cache had the weights alone; load: processes that wanted a processor in the minute before each run"
)


if __name__ == "__main__":
    main()
