"""The methods by name: what each needs, and which one fits a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from greffon.backbones import stage_shapes
from greffon.errors import OptionError
from greffon.explaining.activation import class_activation, grad_cam, grad_cam_plus
from greffon.explaining.network import Network
from greffon.explaining.pixel import integrated_gradients, occlusion
from greffon.heads import LinearHead
from greffon.model import Model
from greffon.model.modules import has_maps

__all__ = ["METHODS", "Method", "chosen_method", "methods_for"]


@final
@dataclass(frozen=True, slots=True)
class Method:
    """A way to tell which places of a photo speak for a class.

    Parameters
    ----------
    name
        As on the command line.
    title
        For people.
    says
        What a map of it is, as one sentence.
    unit
        What a value of it is, for a colour bar.
    compute
        The network, normalised pictures (n, 3, height, width) and classes (n,) to maps, float32 (n, height, width).
    needs
        ``"exact"``: scores that are sums over places; ``"slopes"``: scores that have derivatives; ``"scores"``: nothing else.
    from_places
        Whether it reads the last stage's places, of which there must then be several.
    signed
        Whether values below zero speak against the class.
    adds_up
        ``"mean"``: the mean of a map is the score. ``"sum"``: its sum is the score less that of an empty picture.
    """

    name: str
    title: str
    says: str
    unit: str
    compute: Callable[[Network, Tensor, Tensor], Tensor]
    needs: Literal["exact", "slopes", "scores"]
    from_places: bool = False
    signed: bool = False
    adds_up: Literal["", "mean", "sum"] = ""


#: The best first: ``auto`` takes the first of them that is exact, then the first that fits.
METHODS: tuple[Method, ...] = (
    Method(
        "cam", "class activation map",
        "The score of the class at each place of the last feature map; the mean over all places is the score of the photo, exactly.",
        "score at this place", class_activation, "exact", from_places=True, signed=True, adds_up="mean",
    ),
    Method(
        "gradcam", "Grad-CAM",
        "The channels of the last feature map, each weighed by how much the score rises with it on average; without what speaks against"
        " the class.",
        "what speaks for the class, in no unit", grad_cam, "slopes", from_places=True,
    ),
    Method(
        "gradcam++", "Grad-CAM++",
        "As Grad-CAM, but places count the more, the fewer of them share a channel: it covers several things of one class more evenly.",
        "what speaks for the class, in no unit", grad_cam_plus, "slopes", from_places=True,
    ),
    Method(
        "occlusion", "occlusion",
        "How much score is lost where a grey patch, a quarter of each side, covers the photo.",
        "score lost where covered", occlusion, "scores", signed=True,
    ),
    Method(
        "integrated-gradients", "integrated gradients",
        "What each pixel adds to the score on the way from an empty picture to the photo; all of them add up to the difference of"
        " the two scores.",
        "part of the score, by pixel", integrated_gradients, "slopes", signed=True, adds_up="sum",
    ),
)  # fmt: skip


def methods_for(model: Model) -> tuple[Method, ...]:
    """The methods that can explain a model, in the order of ``METHODS``."""
    return tuple(one for one in METHODS if not _hindrance(one, model))


def chosen_method(name: str, model: Model) -> Method:
    """The method of a name; ``"auto"``: the class activation map where it is exact, else Grad-CAM, else occlusion.

    Raises
    ------
    OptionError
        There is no such method, or it cannot explain this model; it tells which can.
    """
    if name == "auto":
        return methods_for(model)[0]
    found = next((one for one in METHODS if one.name == name), None)
    if found is None:
        raise OptionError(f"explain: --method must be auto or one of {', '.join(one.name for one in METHODS)}, got {name!r}")
    hindrance = _hindrance(found, model)
    if hindrance:
        raise OptionError(f"explain: {name} cannot explain this model: {hindrance}",
                          hint=f"These can: {', '.join(one.name for one in methods_for(model))}.")  # fmt: skip
    return found


def _hindrance(method: Method, model: Model) -> str:
    """Why a method cannot explain a model, or ""."""
    if method.needs != "scores" and not isinstance(model.head, LinearHead):
        return f"the votes of its head, {model.head.kind}, have no derivatives"
    if method.from_places and stage_shapes(model.backbone.plan)[-1][1][1:] == (1, 1):
        return "its last stage has a single place"
    if method.needs == "exact" and not has_maps(model):
        return f"its scores are not sums over places, as its features are the {model.representation}"
    return ""
