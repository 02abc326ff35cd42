"""Why a model says what it says: heat maps of photos."""

from greffon.explaining.maps import HeatMaps, heat_maps
from greffon.explaining.methods import METHODS, Method, chosen_method, methods_for
from greffon.explaining.overlay import overlaid, peak_of, scale_colours, shown_levels

__all__ = [
    "METHODS",
    "HeatMaps",
    "Method",
    "chosen_method",
    "heat_maps",
    "methods_for",
    "overlaid",
    "peak_of",
    "scale_colours",
    "shown_levels",
]
