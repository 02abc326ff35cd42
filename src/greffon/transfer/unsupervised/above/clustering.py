"""DeepCluster: the network's own clusters are its labels, drawn anew in every epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from greffon.training import Objective, Seen

__all__ = ["DeepCluster", "cluster_labels"]


@final
@dataclass(frozen=True, slots=True)
class DeepCluster:
    """k-means on the features gives labels, a new classifier learns them, and so on: Caron et al. 2018, arXiv:1807.05520.

    Two things differ from the paper, for it has a million images and we have hundreds. Images are not drawn evenly over the
    clusters but weighed so that every cluster counts alike, which is the same in the mean and lets every image come once in an
    epoch. And the new classifier begins at the middles of the clusters, by the cosine, as in DeepCluster-v2 (Caron et al. 2020,
    arXiv:2006.09882, appendix): a random one is told by a handful of steps of an epoch nothing, and the features are torn by its
    gradients (from 75 to 67 % on paintings).

    Parameters
    ----------
    clusters
        k. The paper has 10,000 for 1.3 million images: many more than classes. Never more than a fifth of the images.
    components
        The features are reduced to so many principal axes, whitened, and brought to length 1, as in the paper (256).
    temperature
        Of the cosines: 0.1 in DeepCluster-v2.
    """

    clusters: int = 50
    components: int = 64
    temperature: float = 0.1

    def objective(self) -> Objective:
        """Cross-entropy with the clusters of ``cluster_labels``, and a classifier that begins anew in every epoch."""
        return Objective(
            self._loss, self._modules, self._relabel, trains_head=False, labelled=False, looks=2, fresh=True, settle=_to_the_middles
        )

    def _modules(self, features: int, classes: int) -> nn.Module:
        return nn.Linear(features, self.clusters, bias=False)

    def _relabel(self, features: Tensor, scores: Tensor) -> Tensor:
        seed = int(torch.randint(2**31 - 1, (1,)))  # the epoch's: the loop has set it
        found = cluster_labels(features.float().cpu().numpy(), self.clusters, self.components, seed)
        return torch.from_numpy(found).to(features.device)

    def _loss(self, own: nn.Module, source: Seen | None, target: Seen, done: float) -> Tensor:
        assert target.labels is not None
        assert target.shares is not None
        weight = own.get_parameter("weight")
        cosines = functional.normalize(target.features, dim=1) @ functional.normalize(weight, dim=1).t()
        weights = 1 / target.shares
        each = functional.cross_entropy(cosines / self.temperature, target.labels, reduction="none")
        return (weights * each).sum() / weights.sum()


def _to_the_middles(own: nn.Module, features: Tensor, labels: Tensor) -> None:
    """Each row of the classifier to the mean direction of a cluster's images. One without images stays as it was drawn."""
    weight = own.get_parameter("weight")
    rows = functional.normalize(features, dim=1)
    for cluster in torch.unique(labels).tolist():
        weight[cluster] = functional.normalize(rows[labels == cluster].mean(0), dim=0)


def cluster_labels(features: np.ndarray, clusters: int, components: int, seed: int) -> np.ndarray:
    """k-means on the whitened principal axes of features, each row brought to length 1: int64 (n,), from 0 to clusters - 1.

    Caron et al. 2018 (DeepCluster), arXiv:1807.05520, section 4.1 (preprocessing).

    Parameters
    ----------
    features
        float (n, d).
    clusters, components
        At most; of few images fewer: a fifth of them, and one less than there are.
    seed
        Of k-means.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    n, d = features.shape
    x = PCA(max(1, min(components, d, n - 1)), whiten=True, svd_solver="full").fit_transform(features.astype(np.float64))
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    k = max(2, min(clusters, n // 5))
    return np.asarray(KMeans(k, n_init=1, random_state=seed).fit_predict(x), np.int64)  # type: ignore[arg-type]  # 1 is allowed
