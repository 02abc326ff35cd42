"""What a practitioner should be told of a target without labels, before the model is believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["concerns"]

#: Of photos below which figures of a target mean little.
_FEW = 30


def concerns(
    probabilities: np.ndarray, source_labels: np.ndarray, classes: Sequence[str], agreement: float
) -> tuple[str, ...]:
    """Sentences on what seems odd: too few photos, other class proportions, classes that seem missing or new.

    A class seems missing where the target has less than a fifth of the photos that the source's proportions let expect, and
    at least eight were expected. Photos of a class that the source does not have are pressed into one that it has, which then
    holds far more than expected: 1.6 times as many in a trial with a class taken out of the source. All are guesses from
    guesses; the words say so.

    Parameters
    ----------
    probabilities
        float64 (m, c): of the target.
    source_labels
        int64 (n,), or none where the source's photos are not at hand.
    agreement
        The share of votes for the winner, or NaN.
    """
    m, c = probabilities.shape
    guess = probabilities.argmax(1)
    share = np.bincount(guess, minlength=c) / m
    said = []
    if m < _FEW:
        said.append(
            f"the target has {m} photos: with so few, nothing can be learned from them for sure; give {_FEW} or more"
        )
    if len(source_labels):
        known = np.bincount(source_labels, minlength=c) / len(source_labels)
        apart = float(np.abs(share - known).sum() / 2)
        if m >= _FEW and apart > 0.1 + np.sqrt(c / (4 * m)):
            most = np.argsort(-np.abs(share - known), kind="stable")[:3]
            told = ", ".join(f"{classes[i]} {100 * known[i]:.0f} % → {100 * share[i]:.0f} %" for i in most)
            said.append(
                f"the class proportions seem to differ between source and target, by {100 * apart:.0f} points in all"
                f" (estimated: {told}); methods that align the domains may bend towards the source's"
            )
        missing = [classes[i] for i in range(c) if m * known[i] >= 8 and share[i] < known[i] / 5]
        if missing:
            said.append(f"these classes of the source seem to be missing from the target: {', '.join(missing)}")
        unseen = [classes[i] for i in range(c) if known[i] == 0]
        if unseen:
            said.append(f"these classes have no photo in the source, and cannot be found: {', '.join(unseen)}")
        for i in range(c):
            expected = m * known[i]
            if m >= _FEW and expected > 0 and m * share[i] > 1.4 * expected + 2 * np.sqrt(expected):
                said.append(
                    f"{int(m * share[i] + 0.5)} photos were put to {classes[i]!r}, {share[i] / known[i]:.1f} times as many as in the"
                    " source's proportions: there are more of them, or photos of a class that the source does not have were put there;"
                    " look at them"
                )
    if not np.isnan(agreement) and agreement < 0.5:
        said.append(
            f"the methods agree on little ({100 * agreement:.0f} % of the votes): label some photos of the target and measure"
        )
    return tuple(said)
