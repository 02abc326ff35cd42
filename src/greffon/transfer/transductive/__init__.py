"""Transductive transfer: the source has labels, the target has none."""

from greffon.transfer.transductive.domains import Labelled, Unlabelled

__all__ = ["Labelled", "Unlabelled"]
