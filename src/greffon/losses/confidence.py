"""How sure a network is of images without labels, and which labels it gives them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["class_confusion", "entropies", "information_maximisation", "pseudo_labels"]


def entropies(logits: Tensor) -> Tensor:
    """Shannon's entropy of each row of probabilities, in nats: (n, c) to (n,)."""
    log_p = functional.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(1)


def information_maximisation(logits: Tensor) -> Tensor:
    """The mean of the images' entropies minus the entropy of their mean: every image sure, all classes used; a scalar.

    Liang et al. 2020 (SHOT), arXiv:2002.08546, section 3.2: L_ent + L_div. It is minus the mutual information of image and class
    (Krause et al. 2010), from -log c, the best, to 0.

    Parameters
    ----------
    logits
        (n, c).
    """
    mean = functional.softmax(logits, dim=1).mean(0)
    return entropies(logits).mean() + torch.special.xlogy(mean, mean.clamp(min=1e-30)).sum()


def class_confusion(logits: Tensor, temperature: float = 2.5) -> Tensor:
    """Minimum class confusion: how much probability the images give to two classes at once; a scalar from 0 to 1.

    Jin et al. 2020 (MCC), arXiv:1912.03699, section 3: probabilities at a temperature, images weighted by 1 + exp(-entropy) with
    a mean of 1, the (c, c) correlations of the classes normalised in every row, and of these the mean over the rows of
    what stands off the diagonal. The weights have no gradient, as in the authors' code.

    Parameters
    ----------
    logits
        (n, c).
    """
    p = functional.softmax(logits / temperature, dim=1)
    weights = 1 + torch.exp(-entropies(logits / temperature).detach())
    confusion = (p * (weights / weights.mean())[:, None]).t() @ p
    confusion = confusion / confusion.sum(1, keepdim=True).clamp(min=1e-30)
    return (confusion.sum() - confusion.trace()) / len(confusion)


def pseudo_labels(features: Tensor, logits: Tensor, rounds: int = 1) -> Tensor:
    """Labels of images by the nearest of the centres of the classes: int64 (n,).

    Liang et al. 2020 (SHOT), arXiv:2002.08546, section 3.3, with the cosine distance: centres weighted by the probabilities
    first, then, ``rounds`` times, centres of the images that are nearest to each. As in the authors' code the features are
    lengthened by a 1, and a class that no image is taken for has no centre.

    Parameters
    ----------
    features, logits
        (n, d) and (n, c), of all images.
    """
    rows = functional.normalize(torch.cat([features, torch.ones_like(features[:, :1])], 1), dim=1)
    weights = functional.softmax(logits, dim=1)
    used = torch.bincount(logits.argmax(1), minlength=logits.shape[1]) > 0
    found = _nearest(rows, weights, used)
    for _ in range(rounds):
        found = _nearest(rows, functional.one_hot(found, logits.shape[1]).to(rows.dtype), used)
    return found


def _nearest(rows: Tensor, weights: Tensor, used: Tensor) -> Tensor:
    centres = weights.t() @ rows / weights.sum(0)[:, None].clamp(min=1e-8)
    likeness = rows @ functional.normalize(centres, dim=1).t()
    return likeness.masked_fill(~used | (weights.sum(0) == 0), -torch.inf).argmax(1)
