"""Inductive transfer: the target has labels."""

from greffon.transfer.inductive.probing import (
    CANDIDATES,
    Probe,
    Trial,
    cross_validate,
    fit_probe,
    representations,
    should_balance,
)

__all__ = ["CANDIDATES", "Probe", "Trial", "cross_validate", "fit_probe", "representations", "should_balance"]
