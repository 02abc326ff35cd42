"""Which networks there are, where their weights are, and how they are cut."""

from greffon.backbones.catalogue import Entry, entry, names, resized
from greffon.backbones.network import Backbone, Blueprint, Span, Stage, blueprint, fingerprint, stage_shapes
from greffon.backbones.weights import load_backbone

__all__ = [
    "Backbone",
    "Blueprint",
    "Entry",
    "Span",
    "Stage",
    "blueprint",
    "entry",
    "fingerprint",
    "load_backbone",
    "names",
    "resized",
    "stage_shapes",
]
