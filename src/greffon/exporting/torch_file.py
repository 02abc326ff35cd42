"""``torch.export``: the same graph for those who run PyTorch. A ``.pt2`` is a zip of JSON and of raw tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from greffon.errors import BackboneError
from greffon.exporting.graph import quiet
from greffon.exporting.photo import SUPPORT, can_be_exported, tall_first
from greffon.images import Preprocess
from greffon.model import Model
from greffon.model.modules import Crown, Trunk

__all__ = ["Photo", "write_torch"]


@final
class Photo(nn.Module):
    """uint8 (n, h, w, 3) of any size to what the network sees, float32 (n, 3, height, width); see ``exporting.photo``."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        can_be_exported(preprocess)
        self._pre = preprocess
        self._order = [2, 1, 0] if preprocess.channels == "bgr" else [0, 1, 2]
        self.mean = nn.Parameter(torch.tensor(preprocess.mean).view(1, 3, 1, 1), requires_grad=False)
        self.std = nn.Parameter(torch.tensor(preprocess.std).view(1, 3, 1, 1), requires_grad=False)

    def forward(self, photo: Tensor) -> Tensor:
        pre = self._pre
        h, w = photo.shape[1], photo.shape[2]
        down, new_h = self._along(h, w, pre.height)
        across, new_w = self._along(w, h, pre.width)
        planes = photo.permute(0, 3, 1, 2).double()
        if tall_first():
            first = self._height_first(h, w, new_h, new_w)
            # Both ways, and the one that Pillow takes: a branch would hold to one size.
            resized = torch.where(first, _levels(_levels(down @ planes) @ across.T), _levels(down @ _levels(planes @ across.T)))
        else:
            resized = _levels(down @ _levels(planes @ across.T))
        return (resized.float()[:, self._order] * pre.scale - self.mean) / self.std

    def _along(self, side: Any, other: Any, out: int) -> tuple[Tensor, Any]:
        """The matrix of one side, float64 (out, side), and the length of the resized whole.

        It has Pillow's weights, whole numbers of 22 bits.
        """
        pre = self._pre
        full, start = out, 0
        if pre.resize == "shortest":
            full = side * pre.resize_to // torch.sym_min(side, other)
            half = (full - out) // 2
            start = half + ((full - out) % 2) * (half % 2)
        places = 2 * (torch.arange(out)[:, None] + start) + 1
        source = 2 * torch.arange(side)[None] + 1
        unit = torch.sym_max(full, side) * 2
        distance = (source * full - places * side).double() / unit
        if pre.resize == "shortest":
            extreme = _number(torch.sym_max(side, other)) > _number(16 * torch.sym_min(side, other))
            distance = torch.where(extreme, _distance_in_box(side, full, start, out), distance)
        weights = _filter(pre.interpolation, torch.abs(distance))
        return torch.floor(weights / weights.sum(1, keepdim=True) * 2**22 + 0.5), full

    def _height_first(self, h: Any, w: Any, new_h: Any, new_w: Any) -> Tensor:
        """Pillow's rule, bool (); see ``exporting.photo``."""
        lost, beside = _number(h - new_h), _number(torch.sym_max(w - new_w, 0))
        found = lost > 2 * beside
        if self._pre.resize == "squash":
            return found
        extreme = _number(torch.sym_max(h, w)) > _number(16 * torch.sym_min(h, w))
        crop = _number(h - self._pre.height) > _number(2 * torch.sym_max(w - self._pre.width, 0))
        return torch.where(extreme, crop, found)


def _distance_in_box(side: Any, full: Any, start: Any, out: int) -> Tensor:
    """Where the crop is a box to Pillow, which holds the box in float32; see ``exporting.photo``."""
    old = _number(side).double()
    step = old / _number(full).double()
    begin = (_number(start).double() * step).float()
    end = torch.minimum((_number(start) + out).double() * step, old).float()
    scale = (end - begin).double() / out
    centres = begin.double() + (torch.arange(out, dtype=torch.float64)[:, None] + 0.5) * scale
    return (torch.arange(side, dtype=torch.float64)[None] - centres + 0.5) / scale.clamp_min(1)


def _number(value: Any) -> Tensor:
    return torch.full((), value, dtype=torch.int64)


def _levels(sums: Tensor) -> Tensor:
    return torch.floor((sums + 2**21) / 2**22).clamp(0, 255)


def _filter(kind: str, a: Tensor) -> Tensor:
    if kind == "bilinear":
        return torch.relu(1 - a)
    if kind == "bicubic":
        near, far = (1.5 * a - 2.5) * a * a + 1, (((a - 5) * a + 8) * a - 4) * -0.5
        return torch.where(a < 1, near, torch.where(a < 2, far, torch.zeros_like(a)))
    return torch.where(a < SUPPORT[kind], torch.sinc(a) * torch.sinc(a / 3), torch.zeros_like(a))


@final
class _Whole(nn.Module):
    def __init__(self, model: Model, *, maps: bool) -> None:
        super().__init__()
        self.photo = Photo(model.backbone.preprocess)
        self.trunk = Trunk(model)
        self.crown = Crown(model, maps=maps)
        self.eval()

    def forward(self, photo: Tensor) -> tuple[Tensor, ...]:
        return self.crown(self.trunk(self.photo(photo)))


def write_torch(model: Model, file: Path, *, maps: bool, properties: Mapping[str, Any]) -> None:
    """Write a ``.pt2``: uint8 (n, h, w, 3) to a tuple in the order of the outputs; ``greffon.json`` in it is the properties.

    Raises BackboneError where the network cannot be written so.
    """
    sides = {1: torch.export.Dim("h", min=1, max=2**20), 2: torch.export.Dim("w", min=1, max=2**20)}
    sizes = ({0: torch.export.Dim("n", min=1, max=65536), **sides},)
    try:
        with quiet(), torch.no_grad():
            example = torch.zeros(2, 37, 53, 3, dtype=torch.uint8)
            program = torch.export.export(_Whole(model, maps=maps), (example,), dynamic_shapes=sizes)
            torch.export.save(program, str(file), extra_files={"greffon.json": json.dumps(properties, ensure_ascii=False)})
    except Exception as error:  # torch raises many kinds
        reason = (str(error) or type(error).__name__).strip().splitlines()[0][:160]
        raise BackboneError(f"{model.backbone.name} cannot be written by torch.export ({reason})") from error
