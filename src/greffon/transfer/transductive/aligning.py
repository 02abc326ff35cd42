"""Two clouds of features made alike: functions of (source, target) to (source, target), without a label.

What is learned on the one is then right on the other, so far as the domains differ in what is taken out here.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "components",
    "coral",
    "directions_apart",
    "joint_scatter",
    "per_domain",
    "subspace_alignment",
    "transfer_components",
]

_TINY = 1e-12


def per_domain(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each domain with its own mean and its own variance: what AdaBN does within a network (Li et al. 2016,
    arXiv:1603.04779, algorithm 1), done to its output.

    Parameters
    ----------
    source, target
        (n, d) and (m, d).

    Returns
    -------
    The same shapes; every feature with mean 0 in both, and with variance 1 / d where it moves at all.
    """
    return _standardised(source), _standardised(target)


def _standardised(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(0)
    spread = np.sqrt((centred**2).mean(0))
    alive = spread > 1e-6 * max(float(spread.max(initial=0.0)), 1e-30)
    return centred * np.where(alive, 1 / np.where(alive, spread, 1), 0) / np.sqrt(x.shape[1])


def coral(source: np.ndarray, target: np.ndarray, *, regularisation: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The source whitened and coloured with the target's covariance (Sun, Feng and Saenko 2016, arXiv:1511.05547,
    algorithm 1), both centred first.

    Parameters
    ----------
    source, target
        (n, d) and (m, d).
    regularisation
        What is added to the diagonal of both covariances, in units of their mean variance. (The paper adds 1 to features
        whose variance is 1.)

    Returns
    -------
    float64 (n, d) and (m, d).
    """
    a, b = (x.astype(np.float64) - x.mean(0, dtype=np.float64) for x in (source, target))
    own, other = (_covariance(x, regularisation) for x in (a, b))
    return a @ _power(own, -0.5) @ _power(other, 0.5), b


def _covariance(centred: np.ndarray, regularisation: float) -> np.ndarray:
    covariance = centred.T @ centred / max(len(centred) - 1, 1)
    mean = max(float(np.trace(covariance)) / len(covariance), _TINY)
    return covariance + regularisation * mean * np.eye(len(covariance))


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """Of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, max(_TINY * values[-1], 1e-300)) ** exponent) @ vectors.T


def subspace_alignment(
    source: np.ndarray, target: np.ndarray, *, dimensions: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """The source's principal axes turned to the target's (Fernando et al. 2013, ICCV, equations 1 to 3).

    The source becomes X_S P_S P_S' P_T, the target X_T P_T, both centred first.

    Parameters
    ----------
    source, target
        (n, d) and (m, d).
    dimensions
        Of the subspaces; no more than either cloud has.

    Returns
    -------
    float64 (n, k) and (m, k).
    """
    a, b = (x.astype(np.float64) - x.mean(0, dtype=np.float64) for x in (source, target))
    count = min(dimensions, len(a) - 1, len(b) - 1, a.shape[1]) or 1
    own, other = (_axes(x, count) for x in (a, b))
    count = min(own.shape[1], other.shape[1])
    own, other = own[:, :count], other[:, :count]
    return a @ own @ (own.T @ other), b @ other


def _axes(centred: np.ndarray, count: int) -> np.ndarray:
    """The strongest principal axes as columns, (d, k); those along which nothing moves are left out."""
    _, lengths, rows = np.linalg.svd(centred, full_matrices=False)
    alive = max(int((lengths > 1e-9 * max(float(lengths[0]), _TINY)).sum()), 1)
    return rows[: min(count, alive)].T


def transfer_components(
    source: np.ndarray, target: np.ndarray, *, dimensions: int = 64, regularisation: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Directions that keep the variance of both domains together and in which their means are alike: transfer component
    analysis (Pan et al. 2011, IEEE Transactions on Neural Networks 22, equation 8) with the linear kernel.

    With that kernel the paper's eigenproblem of n + m unknowns is one of d: the d x d scatter of all features against
    the outer product of the difference of the means. What is regularised is the length of a direction (mu K in the
    kernel's terms, as in joint distribution adaptation), not of its n + m coefficients (mu I).

    Parameters
    ----------
    source, target
        (n, d) and (m, d).
    dimensions
        How many components.
    regularisation
        The paper's mu, in units of the mean variance.

    Returns
    -------
    float64 (n, k) and (m, k).
    """
    directions = components([(source.mean(0, dtype=np.float64) - target.mean(0, dtype=np.float64), 1.0)],
                            np.concatenate([source, target]), dimensions, regularisation)  # fmt: skip
    return source @ directions, target @ directions


def components(
    differences: list[tuple[np.ndarray, float]], every: np.ndarray, dimensions: int, regularisation: float
) -> np.ndarray:
    """The directions W, float64 (d, k), with the largest variance W' X H X' W for the least of W' (M + r I) W.

    Parameters
    ----------
    differences
        Differences of means, (d,) each, with their weights: M is the weighted sum of their outer products.
    every
        (n, d): the features of both domains.
    regularisation
        r, in units of the mean variance.
    """
    return directions_apart(differences, joint_scatter(every), dimensions, regularisation)


def joint_scatter(every: np.ndarray) -> np.ndarray:
    """The covariance of the features of both domains together: (n, d) to float64 (d, d)."""
    centred = every.astype(np.float64) - every.mean(0, dtype=np.float64)
    return centred.T @ centred / len(every)


def directions_apart(
    differences: list[tuple[np.ndarray, float]], scatter: np.ndarray, dimensions: int, regularisation: float
) -> np.ndarray:
    """``components`` where the scatter is known: of many rounds on the same features it stays the same."""
    from scipy.linalg import eigh

    unit = max(float(np.trace(scatter)) / len(scatter), _TINY)
    apart = regularisation * unit * np.eye(len(scatter))
    for difference, weight in differences:
        apart += weight * np.outer(difference, difference)
    count = min(dimensions, len(scatter))
    _, directions = eigh(scatter, apart, subset_by_index=(len(scatter) - count, len(scatter) - 1))
    return directions[:, ::-1]
