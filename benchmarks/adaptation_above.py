"""Adaptation above the cut: what is named rightly, by greffon's methods and by a plain loop, on the same draws of two domains.

    python benchmarks/adaptation_above.py SOURCE:TARGET [...] [--methods deep-coral,mcc,dann] [--tools greffon,torch]
                                          [--draws 5] [--images 504] [--device cpu] [--processes 1]

A draw has so many photos of each domain, every class in its share. Each run is a process: ``greffon_adapt.py``, with what
``greffon adapt`` does by itself, and ``peers/torch_adapt.py``, as the scripts of Transfer-Learning-Library do it. Its rates are
given by ``--rate`` and ``--head-rate``. Only accuracy counts here, so greffon's runs share one cache and several run side by
side; speed is ``adaptation_speed.py``. ``--tools torch --device cuda`` runs the loop on a graphics processor, where it is quick.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, final

from adaptation import domains_of
from contestants import run_script
from greffon.backbones import load_backbone
from greffon.errors import GreffonError
from job_folder import make_domain_job
from peers.job import Answer
from record import record

TOOLS = {"greffon": "greffon_adapt.py", "torch": "peers/torch_adapt.py"}


@final
@dataclass(frozen=True, slots=True)
class _Task:
    """One run."""

    tool: str
    method: str
    draw: int
    job: Path
    more: tuple[str, ...]

    def __call__(self) -> Answer:
        words = [str(self.job), "--method", self.method, "--seed", str(self.draw), *self.more]
        answer = run_script(Path(sys.executable), TOOLS[self.tool], words).answer
        print(f"{self.tool}, {self.method}, draw {self.draw}: {100 * (answer.accuracy or 0):.1f} %", file=sys.stderr, flush=True)
        return answer


def figures_of(answers: list[Answer]) -> dict[str, Any]:
    """Accuracy of every draw, in the order of the draws, and its mean."""
    each = [answer.accuracy or 0.0 for answer in answers]
    return {
        "accuracy": {"mean": round(mean(each), 4), "draws": [round(one, 4) for one in each]},
        "tested": answers[0].tested,
        "settings": answers[0].settings,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pairs", nargs="+", metavar="SOURCE:TARGET")
    arguments.add_argument("--methods", default="deep-coral,mcc,dann")
    arguments.add_argument("--tools", default="greffon,torch")
    arguments.add_argument("--draws", type=int, default=5)
    arguments.add_argument("--images", type=int, default=504, help="photos of each domain; 0: every one")
    arguments.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the plain loop")
    arguments.add_argument("--precision", default="auto", help="of greffon's frozen part")
    arguments.add_argument("--rate", type=float, default=1e-4, help="of the plain loop")
    arguments.add_argument("--head-rate", type=float, default=1e-3, help="of the plain loop")
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--name", default="adaptation_above")
    options = arguments.parse_args()
    tools = options.tools.split(",")
    if strange := [name for name in tools if name not in TOOLS]:
        sys.exit(f"adaptation_above: --tools must be of {', '.join(TOOLS)}, got {strange[0]!r}")
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // options.processes))
    more = {
        # The views of all draws are the same, so that the frozen part runs over them once.
        "greffon": ("--views-seed", "0", "--precision", options.precision),
        "torch": ("--device", options.device, "--rate", str(options.rate), "--head-rate", str(options.head_rate)),
    }
    figures: dict[str, Any] = {"images": options.images, "draws": options.draws, "pairs": {}}
    try:
        network = load_backbone("vgg16")
        for pair in options.pairs:
            source, target = domains_of(pair)
            with tempfile.TemporaryDirectory(prefix="greffon-job-") as folder, ThreadPoolExecutor(options.processes) as pool:
                jobs = []
                for draw in range(options.draws):
                    own = Path(folder) / str(draw)
                    own.mkdir()
                    jobs.append(make_domain_job(own, source, target, options.images, draw, network).folder)
                tasks = {
                    (method, tool): [_Task(tool, method, draw, job, more[tool]) for draw, job in enumerate(jobs)]
                    for method in options.methods.split(",")
                    for tool in tools
                }
                running = {key: [pool.submit(task) for task in own] for key, own in tasks.items()}
                found: dict[str, dict[str, Any]] = {}
                for (method, tool), own in running.items():
                    found.setdefault(method, {})[tool] = figures_of([one.result() for one in own])
            figures["pairs"][pair] = found
    except GreffonError as error:
        sys.exit(f"adaptation_above: {error}")
    record(options.name, figures, notes=_NOTES)


_NOTES = (
    "the target's labels were read to count alone; greffon's runs shared a cache, several ran side by side, and the views of"
    " all draws were the same"
)


if __name__ == "__main__":
    main()
