"""Transductive transfer: the source has labels, the target has none."""

from greffon.transfer.transductive.above import ABOVE, Method, adapt_above
from greffon.transfer.transductive.domains import Labelled, Unlabelled

__all__ = ["ABOVE", "Labelled", "Method", "Unlabelled", "adapt_above"]
