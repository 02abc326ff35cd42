"""The option ``--ray``: the same commands on a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from greffon.activations import Executor
    from greffon.transfer.inductive import Launcher

__all__ = [
    "BARE",
    "RayOption",
    "RayWorkersOption",
    "cluster_features",
    "embed_on_cluster",
    "executor_of",
    "helpers_of",
    "launcher_of",
    "train_from_features",
    "with_addresses",
]

RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Run the frozen part on a Ray cluster: HOST:PORT, auto or local. Without an address: the one that runs here, or a new one.",
        rich_help_panel="On a cluster",
    ),
]
RayWorkersOption = Annotated[
    int, typer.Option(min=0, help="With --ray: so many workers; 0: one a processor, or a GPU.", rich_help_panel="On a cluster")
]

#: What the option is given where its address is left out.
BARE = "any"
_ADDRESS = re.compile(r"(\[[\da-fA-F:.]+\]|[\w.\-]+)(:\d+)?|ray://.*")


def with_addresses(words: Sequence[str]) -> list[str]:
    """The words of a command line, in which a ``--ray`` without an address is given one.

    Whether the word after it is an address or a photo is told by what it looks like, and by whether there is such a file.
    """
    found: list[str] = []
    for i, word in enumerate(words):
        following = words[i + 1] if i + 1 < len(words) else ""
        if word == "--":
            return [*found, *words[i:]]
        found.append(f"--ray={BARE}" if word == "--ray" and not _is_address(following) else word)
    return found


def _is_address(word: str) -> bool:
    if word in ("auto", "local"):
        return True
    return bool(_ADDRESS.fullmatch(word)) and not word.startswith("-") and not Path(word).exists()


@contextmanager
def executor_of(address: str | None, workers: int = 0) -> Iterator[Executor | None]:
    """What ``jobs`` are handed: the executor of a cluster while the block lasts, or None where none was asked for."""
    if address is None:
        if workers:
            from greffon.errors import OptionError

            raise OptionError("--ray-workers: means nothing without --ray")
        yield None
        return
    from greffon.distributed.cluster import connected
    from greffon.distributed.executing import RayExecutor

    with connected("" if address == BARE else address) as cluster:
        yield RayExecutor(cluster, workers)


def launcher_of(executor: Executor | None) -> Launcher | None:
    """What trains on the cluster that an executor is of; None where there is none."""
    from greffon.distributed.executing import RayExecutor
    from greffon.distributed.fitting import RayLauncher

    return RayLauncher(executor.cluster, executor.workers) if isinstance(executor, RayExecutor) else None


@contextmanager
def helpers_of(unfreeze: str, ray: str | None) -> Iterator[Launcher | None]:
    """The launcher of processes that ``torchrun`` has started, in the first of them; None without torchrun.

    In the others, this helps the first one, and ends the process.
    """
    from greffon.distributed.torchrun import TorchrunLauncher, assist, joined, started_by_torchrun

    if not started_by_torchrun():
        yield None
        return
    from greffon.errors import OptionError

    if unfreeze == "none" or ray is not None:
        what = "--ray has processes of its own" if ray is not None else "without --unfreeze no stage is trained"
        raise OptionError(f"torchrun: several processes train the stages above the cut together, and {what}",
                          hint="Run it without torchrun.")  # fmt: skip
    with joined() as ranks:
        if ranks.rank:
            assist(ranks)
            raise typer.Exit
        launcher = TorchrunLauncher(ranks)
        try:
            yield launcher
        finally:
            launcher.end()


def embed_on_cluster(
    data: str,
    *,
    out: str,
    address: str,
    workers: int,
    backbone: str,
    weights: Path | None,
    size: int,
    stages: str,
    pool: str,
    precision: str,
    quiet: bool,
) -> None:
    """``greffon embed --ray``."""
    from greffon.cli.terminal import listener
    from greffon.distributed.cluster import must_be_installed

    must_be_installed()  # before the seconds that torch takes
    from greffon.distributed.embedding import embed as job

    with listener(quiet) as progress:
        result = job(data, out=out, address="" if address == BARE else address, workers=workers, backbone=backbone, weights=weights,
                     size=size, stages=stages, pool=pool, precision=precision, progress=progress)  # fmt: skip
    print(f"{result.folder}: {result.rows} rows of {result.features} features in {result.files} files")


def train_from_features(
    data: Path, *, out: Path, backbone: str, weights: Path | None, class_weights: str, seed: int, quiet: bool
) -> None:
    """``greffon train`` on a folder that ``embed --ray`` wrote."""
    from greffon.cli.terminal import accuracy_line, evaluation_tables, listener
    from greffon.cli.terminal import out as console
    from greffon.distributed.learning import train_on_features

    with listener(quiet) as progress:
        result = train_on_features(
            data,
            out=out,
            backbone="" if backbone == "vgg16" else backbone,
            weights=weights,
            balanced=None if class_weights == "auto" else class_weights == "balanced",
            seed=seed,
            progress=progress,
        )
    for table in evaluation_tables(result.evaluation):
        console().print(table)
    console().print(accuracy_line(result.evaluation), markup=False)
    console().print(f"model: {out}    {result.rows} rows", markup=False)


def cluster_features(data: Path, *, out: Path, k: int | None, score: bool, seed: int, as_json: bool, quiet: bool) -> None:
    """``greffon cluster`` on a folder that ``embed --ray`` wrote."""
    import json

    from greffon.cli.terminal import listener, percent
    from greffon.cli.terminal import out as console
    from greffon.distributed.grouping import cluster_features as job

    with listener(quiet) as progress:
        figures = job(data, out=out, k=k, score=score, seed=seed, progress=progress)
    if as_json:
        print(json.dumps(figures, ensure_ascii=False))
        return
    console().print(f"{figures['n']} photos in {figures['k']} clusters of {', '.join(map(str, figures['sizes'][:20]))}", markup=False)
    if "accuracy" in figures:
        console().print(f"against the labels of {figures['scored']} photos in {figures['classes']} classes: accuracy"
                        f" {percent(figures['accuracy'])}, NMI {figures['nmi']:.3f}, ARI {figures['ari']:.3f}", markup=False)  # fmt: skip
    console().print(f"photo by photo: {out / 'assignments.csv'}    {figures['seconds']:.1f} s", markup=False)
