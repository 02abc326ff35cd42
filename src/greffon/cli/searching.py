"""The commands that find like by like: ``index``, ``search``, ``duplicates``, ``outliers``, ``map``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from greffon.cli.options import BackboneOption, JsonOption, PrecisionOption, QuietOption, SizeOption, WeightsOption
from greffon.cli.terminal import listener

__all__ = ["IndexArgument", "PhotosArgument", "duplicates", "index", "map_photos", "outliers", "search"]

PhotosArgument = Annotated[Path, typer.Argument(help="Photos: a folder, however deep, or a table. Labels are not read.")]
IndexArgument = Annotated[Path, typer.Argument(help="A folder that greffon index made.")]


def index(
    photos: PhotosArgument,
    out: Annotated[Path, typer.Option(help="The folder to write; an earlier index there is replaced.")],
    kind: Annotated[
        str, typer.Option(help="auto; exact: compare with all photos; cells: with the nearest cells (for many; needs FAISS).")
    ] = "auto",
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    precision: PrecisionOption = "auto",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same cells.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make photos fit to be searched.

    Example: greffon index photos/ --out my-index
    """
    from greffon.jobs.index import index as job

    with listener(quiet) as progress:
        result = job(photos, out=out, kind=kind, backbone=backbone, weights=weights, size=size, precision=precision, seed=seed,
                     progress=progress)  # fmt: skip
    told = result.to_dict()
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    aside = f", {len(result.unreadable)} set aside" if result.unreadable else ""
    cells = f", in {told['cells']:,} cells, {told['probes']} of which a search looks into" if told["cells"] else ""
    print(f"{result.folder}: {told['photos']:,} photos{aside}, {told['features']} numbers each by {told['backbone']}{cells}")


def search(
    index: IndexArgument,
    images: Annotated[list[str], typer.Argument(help="Photos to search with: files, folders, patterns.")],
    k: Annotated[int, typer.Option("-k", help="So many are found for each.")] = 20,
    out: Annotated[Path | None, typer.Option(help="A contact sheet to write: .html or .png.")] = None,
    backbone: Annotated[str, typer.Option(help="The network of the index, where it has moved.")] = "",
    weights: WeightsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the photos that are most like a photo. --json prints a line for each photo.

    Example: greffon search my-index photo.jpg -k 10 --out alike.html
    """
    from greffon.jobs.search import search as job

    with listener(quiet) as progress:
        results = job(index, images, k=k, out=out, backbone=backbone, weights=weights, progress=progress)
        for one in results:
            if as_json:
                print(json.dumps(one.to_dict(), ensure_ascii=False))
            elif one.fault:
                progress.warn(f"{one.path}: {one.fault}")
            else:
                print(one.path)
                for hit in one.hits:
                    print(f"  {hit.similarity:.3f}  {hit.name}{'  (the same file)' if hit.same else ''}")
    if out is not None and not as_json:
        print(out)


def duplicates(
    index: IndexArgument,
    out: Annotated[Path | None, typer.Option(help="A file to write: .csv, or a contact sheet, .html or .png.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find photos that are the same, or the same but for recompression, resizing or mirroring.

    Example: greffon duplicates my-index --out same.html
    """
    from greffon.jobs.duplicates import duplicates as job

    with listener(quiet) as progress:
        result = job(index, out=out, progress=progress)
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    names = result.index.names
    for number, (rows, exact, mirrored) in enumerate(zip(result.groups, result.exact, result.mirrored, strict=True)):
        print(f"group {number + 1}")
        for row, same, turned in zip(rows.tolist(), exact.tolist(), mirrored.tolist(), strict=True):
            print(f"  {names[row]}{'  (identical file)' if same else ''}{'  (mirrored)' if turned else ''}")
    print(f"{sum(map(len, result.groups))} of {len(names)} photos are in {len(result.groups)} groups")
    if out is not None:
        print(out)


def outliers(
    index: IndexArgument,
    count: Annotated[int, typer.Option("--count", "-n", help="So many are shown.")] = 20,
    neighbours: Annotated[int, typer.Option(help="The distance is the mean to so many of the nearest.")] = 10,
    out: Annotated[Path | None, typer.Option(help="A file to write: .csv with all, or a contact sheet, .html or .png.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Rank photos by how far they lie from those that are nearest to them.

    Example: greffon outliers my-index --out strange.html
    """
    from greffon.jobs.outliers import outliers as job

    with listener(quiet) as progress:
        result = job(index, count=count, neighbours=neighbours, out=out, progress=progress)
    told = result.to_dict(count)
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    for row, one in zip(result.found.order.tolist(), told["outliers"], strict=False):
        print(f"  {one['distance']:.3f}  score {one['score']:6.2f}  {result.index.names[row]}")
    print(f"{told['suspects']} of {told['photos']} photos have a score above 3.5")
    if out is not None:
        print(out)


def map_photos(
    photos: Annotated[Path, typer.Argument(help="Photos: a folder, however deep, a table, or an index. Labels are not read.")],
    out: Annotated[Path, typer.Option(help="The .html page to write.")],
    method: Annotated[str, typer.Option(help="tsne, pca, or umap where it is installed.")] = "tsne",
    backbone: BackboneOption = "vgg16",
    weights: WeightsOption = None,
    size: SizeOption = 0,
    precision: PrecisionOption = "auto",
    most: Annotated[int, typer.Option(help="Of more photos so many are drawn by chance.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same map.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Lay photos out on one page, those that are alike beside each other.

    Example: greffon map photos/ --out map.html
    """
    from greffon.jobs.mapping import map_photos as job

    with listener(quiet) as progress:
        result = job(photos, out=out, method=method, backbone=backbone, weights=weights, size=size, precision=precision, most=most,
                     seed=seed, progress=progress)  # fmt: skip
    if as_json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return
    print(f"{result.file}: {len(result.names):,} of {result.photos:,} photos, by {result.flat.method}")
