"""``Network``: a model as a function that derivatives can be taken of, in float32, from pixels to scores."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from torch import Tensor

from greffon.activations.kernels import steady_kernels
from greffon.model import Model
from greffon.model.modules import Crown, Trunk, has_maps

__all__ = ["Network"]

#: Pictures that run at once without derivatives, and with them.
_PLAIN, _LEARNING = 16, 8


@final
class Network:
    """The whole of a model, with weights of its own: the model stays as it is.

    Whatever the frozen part was computed in when the model was trained, here it is float32, and nothing is rounded at the
    cut. On the GPU where there is one.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._trunk = Trunk(model, keep="float32").to(self.device)
        self._crown = Crown(model, maps=has_maps(model)).to(self.device)

    def pixels(self, pictures: np.ndarray) -> Tensor:
        """uint8 (n, height, width, 3), as ``Preprocess.fit`` gives them, to what the first stage takes, float32 (n, 3, height, width)."""
        return torch.from_numpy(self.model.backbone.preprocess.normalise(pictures)).to(self.device)

    def outputs(self, x: Tensor) -> list[Tensor]:
        """(n, 3, height, width) to the outputs that the features are of, the last stage's last, each (n, c, h', w')."""
        with steady_kernels("float32"):
            return self._trunk(x)

    def features(self, outputs: list[Tensor]) -> Tensor:
        """To (n, d), before the normaliser. A derivative that has no bound, of the root at zero, is taken for zero."""
        found = self._crown.features(outputs)
        if found.requires_grad:
            found.register_hook(lambda slope: torch.nan_to_num(slope, nan=0.0, posinf=0.0, neginf=0.0))
        return found

    def scores(self, x: Tensor) -> Tensor:
        """(n, 3, height, width) to scores (n, c), before the temperature."""
        return self.scores_of(self.outputs(x))

    def scores_of(self, outputs: list[Tensor]) -> Tensor:
        """What ``outputs`` gave, to scores (n, c)."""
        return self._crown.scores(self.features(outputs))

    def class_maps(self, outputs: list[Tensor]) -> Tensor:
        """What ``outputs`` gave, to class activation maps (n, c, h', w'); only where ``has_maps``."""
        return self._crown.class_maps(outputs, self._crown.features(outputs))

    def told(self, x: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores and probabilities, float64 (n, c), and features as the head sees them, float32 (n, d)."""
        scores, probabilities, features = [], [], []
        with torch.no_grad():
            for part in x.split(_PLAIN):
                found = self.features(self.outputs(part))
                scores.append(self._crown.scores(found))
                probabilities.append(self._crown.probabilities(found))
                features.append(self._crown.normalised(found))
        return (torch.cat(scores).double().cpu().numpy(), torch.cat(probabilities).double().cpu().numpy(),
                torch.cat(features).cpu().numpy())  # fmt: skip

    def scores_without_slopes(self, x: Tensor) -> Tensor:
        """As ``scores``, in parts, of any number of pictures."""
        with torch.no_grad():
            return torch.cat([self.scores(part) for part in x.split(_PLAIN)])

    def slopes(self, x: Tensor, target: int) -> Tensor:
        """The derivative of one class's score by each number of each picture, (n, 3, height, width)."""
        parts = []
        for part in x.split(_LEARNING):
            leaf = part.detach().clone().requires_grad_()
            with torch.enable_grad(), steady_kernels("float32"):
                total = self.scores(leaf)[:, target].sum()
                parts.append(torch.autograd.grad(total, leaf)[0])
        return torch.cat(parts)
