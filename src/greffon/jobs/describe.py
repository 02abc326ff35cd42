"""``greffon describe``: what a backbone is made of."""

from __future__ import annotations

from greffon.backbones.catalogue import entry
from greffon.backbones.describe import Description, describe_plan
from greffon.backbones.network import blueprint

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
    return describe_plan(blueprint(entry(name)), size, size)
