"""Which network a file's tensors belong to, where nobody says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from greffon.backbones.catalogue import Entry, entry, names
from greffon.backbones.identity import file_sha256, identified, published_hash
from greffon.backbones.network import Blueprint, blueprint, check_tensors
from greffon.backbones.reading import Converted, convert, float32
from greffon.errors import WeightsError

__all__ = ["recognised"]

#: Networks that are tried, in this order: the first one whose names and shapes are those of the file is it.
_TRIED = (
    "vgg16", "vgg19", "vgg11", "vgg13", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn",
    "resnet50", "resnet18", "resnet34", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d", "resnext101_32x8d",
    "inception_v3", "legacy_xception", "inception_v4", "inception_resnet_v2", "densenet121", "densenet169", "densenet201",
    "efficientnet_b0", "tf_efficientnet_b0", "tf_efficientnet_lite0", "mobilenetv2_100", "mobilenetv3_large_100",
    "convnext_tiny", "convnext_base", "regnety_032", "xception41", "xception65", "xception71",
)  # fmt: skip


def recognised(found: Mapping[str, Tensor], kind: str, file: Path) -> Entry:
    """The row of the catalogue that a file's tensors belong to.

    Parameters
    ----------
    found, kind
        As ``reading.convert`` takes them.
    file
        The published hashes of torchvision's files tell apart weights of the same network.

    Raises
    ------
    WeightsError
        No network that is tried has such tensors.
    """
    wrong: list[str] = []
    for architecture in _TRIED:
        plan = blueprint(entry(architecture))
        try:
            came = convert(plan, found, kind)
            tensors = float32(came.tensors)
            check_tensors(plan, tensors)
        except WeightsError as error:
            if _came_near(plan, found):
                wrong.append(error.what)
            continue
        return _row(plan, came, tensors, file)
    some = ", ".join(sorted(found)[:4])
    near = "".join(f"\n  {what}" for what in wrong[:2])
    raise WeightsError(
        f"its tensors ({some}, …) are those of no network that is recognised{near}",
        hint="Name the network with --as, for instance --as resnet50: greffon backbones lists them.",
    )


def _came_near(plan: Blueprint, found: Mapping[str, Tensor]) -> bool:
    """Whether half of the names are those of the network: then what is missing is worth telling."""
    keys = set(plan.trunk_keys())
    return 2 * len(keys & set(found)) > len(keys)


def _row(plan: Blueprint, came: Converted, tensors: Mapping[str, Tensor], file: Path) -> Entry:
    """Of the rows for a network, the one whose published weights these are; else the first."""
    if identified(plan, tensors).kind != "unknown":
        return plan.entry
    found = file_sha256(file)
    for row in _rows(plan.entry.architecture):
        published = published_hash(row)
        if published and found.startswith(published):
            return row
    return plan.entry


def _rows(architecture: str) -> Iterator[Entry]:
    for name in names(architecture):
        yield entry(name)
