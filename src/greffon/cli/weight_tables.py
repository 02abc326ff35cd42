"""What a person sees of weights and of classified photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from greffon.images import Preprocess
    from greffon.jobs.classify import Ranking
    from greffon.jobs.weights import Imported, StoredWeights, Tensors

__all__ = ["import_lines", "preprocess_line", "ranking_lines", "stored_table", "tensor_table"]


def import_lines(result: Imported) -> Iterator[str]:
    """What became of a file, line by line."""
    yield result.verdict
    yield (f"  {result.tensors} tensors, {result.parameters:,} numbers, {'with' if result.classifier else 'without'} classifier,"
           f" in {result.layout}'s layout; fingerprint {result.fingerprint[:16]}…")  # fmt: skip
    for note in result.notes:
        yield f"  {note}"
    yield f"  preprocessing: {preprocess_line(result.preprocess)}"
    yield f"    ({result.why_preprocess})"
    yield f"use it: --backbone {result.name}"


def preprocess_line(one: Preprocess) -> str:
    """From pixels to what a network sees, in a line."""
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (one.mean, one.std))
    scale = "" if one.scale == 1 else f" times {one.scale:.6g}"
    deviation = "" if one.std == (1.0, 1.0, 1.0) else f", by {std}"
    fitted = f"shorter side {one.resize_to}, middle" if one.resize == "shortest" else "pressed into"
    return f"{one.channels.upper()}{scale}, less {mean}{deviation}; {fitted} {one.height} × {one.width}, {one.interpolation}"


def stored_table(found: Sequence[StoredWeights]) -> Table:
    """The weights on this machine."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(caption=None if found else "none yet: greffon weights import FILE, or what train, embed and classify fetch")
    for column in ("name", "kind", "network", "classifier", "MB", "weights of", "licence", "from"):
        table.add_column(column, justify="right" if column == "MB" else "left", overflow="fold")
    for one in found:
        table.add_row(one.name, one.kind, one.architecture, "yes" if one.classifier else "", f"{one.bytes / 1e6:.1f}",
                      escape(one.weights_of), escape(one.licence), escape(one.origin))  # fmt: skip
    return table


def tensor_table(one: Tensors) -> Iterator[str | Table]:
    """The weights of a network, and what is known of them."""
    from rich.table import Table

    stored = one.stored
    yield f"{stored.name}: {stored.weights_of}"
    yield f"  network {stored.architecture}, licence {stored.licence}, from {stored.origin}"
    yield f"  preprocessing: {preprocess_line(one.entry.preprocess)}"
    yield f"  fingerprint {stored.fingerprint}"
    yield f"  {stored.file}"
    table = Table()
    for column in ("tensor", "shape", "mean", "deviation", "published"):
        table.add_column(column, justify="left" if column in ("tensor", "published") else "right")
    for name, shape, mean, std, same in one.rows:
        told = "" if same is None else "yes" if same else "no"
        table.add_row(name, " × ".join(map(str, shape)), f"{mean:.5f}", f"{std:.5f}", told)
    yield table


def ranking_lines(one: Ranking) -> Iterator[str]:
    """The best classes of a photo, with bars of their probabilities."""
    yield str(one.path)
    for name, probability in one.top:
        yield f"  {100 * probability:5.1f} %  {'█' * round(24 * probability):24}  {name.label}  ({name.wnid})"
