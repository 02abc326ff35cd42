"""Which weights are these? Told by the tensors themselves, or by the published hash of the file they came in.

The published ones; a variant, which shares layers with them; or unknown ones. It matters because the preprocessing belongs to
the weights: a network that was trained on BGR and is fed RGB still answers, only worse.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor

from greffon.backbones.catalogue import Entry
from greffon.backbones.network import Blueprint, fingerprint
from greffon.backbones.reading import convolutions
from greffon.images import Preprocess

__all__ = ["Verdict", "convention_of", "file_sha256", "identified", "layer_digest", "published_hash"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What is known of some weights.

    Parameters
    ----------
    kind
        ``"published"``; ``"variant"``: layers of the published ones beside others; ``"unknown"``.
    words
        The same in a sentence, for people.
    tensors
        The weights; where their first convolution was written for RGB and the published one is for BGR, it is turned back.
    """

    kind: Literal["published", "variant", "unknown"]
    words: str
    tensors: dict[str, Tensor]


def identified(plan: Blueprint, tensors: Mapping[str, Tensor], file: Path | None = None) -> Verdict:
    """Compare weights with the published ones of the network's row in the catalogue.

    Parameters
    ----------
    tensors
        Checked, in timm's names, float32.
    file
        Where they came from: torchvision's files carry the beginning of their sha256 in their published names.
    """
    row, kept = plan.entry, dict(tensors)
    whole = f"{row.name}: the published weights ({row.weights_of})"
    if row.fingerprint and fingerprint({key: tensors[key] for key in plan.trunk_keys()}) == row.fingerprint:
        return Verdict("published", f"{whole}, all {_count(plan)} convolutions", kept)
    if row.layers:
        first = row.layers[0][0]
        equal = [link for link, digest in row.layers if layer_digest(tensors, link) == digest]
        turned = {**kept, f"{first}.weight": tensors[f"{first}.weight"].flip(1).contiguous()}
        flipped = first not in equal and layer_digest(turned, first) == row.layers[0][1]
        if flipped and len(equal) == len(row.layers) - 1:
            words = f"{whole}, written for RGB; the first convolution was turned back to BGR"
            return Verdict("published", words, turned)
        if equal or flipped:
            names = {link: layer for layer, link in convolutions(plan).items()}
            other = [names[link] for link, _ in row.layers if link not in equal and not (flipped and link == first)]
            words = (f"a variant of {row.name}: {len(row.layers) - len(other)} of {len(row.layers)} convolutions are the published"
                     f" ones ({row.weights_of}), and {', '.join(other)} are not")  # fmt: skip
            return Verdict("variant", words + ("; the first was written for RGB and turned back to BGR" if flipped else ""),
                           turned if flipped else kept)  # fmt: skip
    published = published_hash(row)
    if file is not None and published and file_sha256(file).startswith(published):
        return Verdict("published", f"{whole}, by the file's published sha256 ({published}…)", kept)
    if row.fingerprint:
        return Verdict("unknown", f"unknown weights: no layer of them is one of the published ones of {row.name}", kept)
    return Verdict("unknown", f"unknown weights: the fingerprint of the published ones of {row.name} is not in the catalogue", kept)


def convention_of(preprocess: Preprocess) -> Literal["caffe", "torch", ""]:
    """Caffe's way (BGR, means subtracted, no scaling), PyTorch's (RGB, ImageNet's mean and deviation), or neither."""
    if preprocess.channels == "bgr" and preprocess.scale == 1.0 and preprocess.std == (1.0, 1.0, 1.0):
        return "caffe"
    near = all(abs(a - b) < 1e-3 for a, b in zip(preprocess.mean, (0.485, 0.456, 0.406), strict=True))
    return "torch" if preprocess.channels == "rgb" and near and abs(preprocess.scale - 1 / 255) < 1e-9 else ""


def layer_digest(tensors: Mapping[str, Tensor], link: str) -> str:
    """16 hexadecimal digits over a layer's weight and bias."""
    return fingerprint({"weight": tensors[f"{link}.weight"], "bias": tensors[f"{link}.bias"]})[:16]


def published_hash(row: Entry) -> str:
    """The beginning of the sha256 of torchvision's file, for rows whose weights are torchvision's; else ""."""
    if not row.name.endswith((".tv_in1k", ".tv2_in1k")):
        return ""
    from torchvision.models import get_model_weights

    try:
        weights = get_model_weights(row.architecture)
    except ValueError:
        return ""
    wanted = "IMAGENET1K_V2" if row.name.endswith(".tv2_in1k") else "IMAGENET1K_V1"
    urls = [one.value.url for one in weights if one.name == wanted]
    match = re.search(r"-([0-9a-f]{8,64})\.pth$", urls[0]) if urls else None
    return match[1] if match else ""


def _count(plan: Blueprint) -> int:
    return sum(
        isinstance(part, torch.nn.Conv2d)
        for stage in plan.stages
        for link in stage.links
        for part in plan.model.get_submodule(link).modules()
    )


def file_sha256(file: Path) -> str:
    """Of the whole content."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
