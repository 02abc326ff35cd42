"""``greffon describe``: what a backbone is made of."""

from __future__ import annotations

from greffon.backbones.catalogue import entry
from greffon.backbones.describe import Description, describe_plan
from greffon.backbones.network import blueprint
from greffon.model import is_model_folder, load_model

__all__ = ["describe"]


def describe(name: str, *, size: int = 0) -> Description:
    """Describe a backbone, for square images of ``size`` pixels (the catalogue's size, if 0). No weights are read.

    >>> describe("vgg16").stages[4].receptive_field
    212

    Raises
    ------
    BackboneError
        No such backbone; it cannot be cut into stages; or the images are too small for it.
    """
    plan = load_model(name).backbone.plan if is_model_folder(name) else blueprint(entry(name))
    return describe_plan(plan, size, size)
