"""Adaptation above the cut: deep methods, trained by the one loop."""

from greffon.transfer.transductive.above.adapting import ABOVE, adapt_above, suggested_rates
from greffon.transfer.transductive.above.adversarial import CDAN, DANN
from greffon.transfer.transductive.above.confidence import MCC, Shot
from greffon.transfer.transductive.above.matching import AFN, DAN, JAN, DeepCoral
from greffon.transfer.transductive.above.method import Method, ramp

__all__ = [
    "ABOVE",
    "AFN",
    "CDAN",
    "DAN",
    "DANN",
    "JAN",
    "MCC",
    "DeepCoral",
    "Method",
    "Shot",
    "adapt_above",
    "ramp",
    "suggested_rates",
]
