"""``greffon cluster``, and what is printed of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from greffon.cli.distributing import RayOption, RayWorkersOption, executor_of
from greffon.cli.options import BackboneOption, JsonOption, PrecisionOption, QuietOption, SizeOption, WeightsOption
from greffon.cli.terminal import listener, percent

if TYPE_CHECKING:
    from greffon.jobs.cluster import ClusterResult

__all__ = ["cluster", "cluster_lines"]


def cluster(
    photos: Annotated[Path, typer.Argument(help="Photos without labels: a folder, however deep, or a table; or what embed --ray wrote.")],
    out: Annotated[
        Path, typer.Option(help="The folder to write: assignments.csv, metrics.json, clusters.html, sheets/.")
    ],
    k: Annotated[int | None, typer.Option("-k", "--k", help="How many clusters; left away, it is estimated.")] = None,
    method: Annotated[
        str, typer.Option(help="auto (several, on several looks, joined), kmeans, mixture, ward, hdbscan or spectral.")
    ] = "auto",
    most_k: Annotated[int, typer.Option(help="The largest number that is tried where it is estimated.")] = 20,
    score: Annotated[
        bool, typer.Option("--score", help="Compare with the labels of folders or table; it changes nothing else.")
    ] = False,
    names: Annotated[
        Path | None, typer.Option(help="Names as clusters.html saves them: the clusters in --out are named, not made anew.")
    ] = None,
    to_dataset: Annotated[
        Path | None, typer.Option(help="A folder to fill with links, one folder a name, or a .csv file; for train.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Photos of less confidence do not go into the data set.")] = 0.0,
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same clusters.")] = 0,
    precision: PrecisionOption = "auto",
    ray: RayOption = None,
    ray_workers: RayWorkersOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Sort photos without labels into clusters, to look at and to name.

    Example: greffon cluster photos/ --out clusters
    """
    from greffon.cli.terminal import out as console
    from greffon.jobs.cluster import cluster as job

    if (photos / "_manifest.json").is_file():
        from greffon.cli.distributing import cluster_features

        cluster_features(photos, out=out, k=k, score=score, seed=seed, as_json=as_json, quiet=quiet)
        return
    with listener(quiet) as progress, executor_of(ray, ray_workers) as executor:
        result = job(photos, out=out, k=k, method=method, most_k=most_k, score=score, names=names, to_dataset=to_dataset,
                     threshold=threshold, backbone=backbone, weights=weights, size=size, seed=seed, precision=precision,
                     executor=executor, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    for line in cluster_lines(result):
        console().print(line, markup=False) if isinstance(line, str) else console().print(line)


def cluster_lines(result: ClusterResult) -> list[Any]:
    """What is printed after photos were clustered."""
    from rich.markup import escape
    from rich.table import Table

    figures, table = result.figures, Table()
    with_names = any(one.name for one in result.photos)
    table.add_column("cluster")
    for name in ("photos", "confidence"):
        table.add_column(name, justify="right")
    if with_names:
        table.add_column("named")
    for c in range(result.k):
        mine = [one for one in result.photos if one.cluster == c]
        row = [str(c), str(len(mine)), f"{sum(one.confidence for one in mine) / max(len(mine), 1):.2f}"]
        if with_names:
            row.append(escape(", ".join(dict.fromkeys(one.name for one in mine if one.name))) or "-")
        table.add_row(*row)
    lines: list[Any] = [table]
    counted = figures["count"]
    lines.append(f"{figures['n']} photos in {result.k} clusters"
                 + (f", {figures['in_none']} in none" if figures["in_none"] else "")
                 + (f", {len(figures['unreadable'])} unreadable" if figures["unreadable"] else "")
                 + (f"; {figures['method']} on {figures['look']}" if result.k > 1 else ""))  # fmt: skip
    if counted:
        told = ", ".join(f"{name} {value}" for name, value in counted["choices"].items())
        lines.append(f"k was estimated: {counted['taken']} (would take: {told}; see {result.folder / 'k.png'})")
    elif figures["asked_k"] is None:
        lines.append("fewer than four photos differ, so that nothing speaks for more than one cluster")
    if "accuracy" in figures:
        lines.append(f"against the labels of {figures['scored']} photos in {figures['classes']} classes: accuracy"
                     f" {percent(figures['accuracy'])}, NMI {figures['nmi']:.3f}, ARI {figures['ari']:.3f}")  # fmt: skip
    if result.dataset is not None:
        lines.append(f"{result.in_dataset} photos for greffon train: {result.dataset}")
    lines.append(f"look and name: {result.folder / 'clusters.html'}    photo by photo: {result.folder / 'assignments.csv'}"
                 f"    {figures['seconds']:.1f} s")  # fmt: skip
    return lines
