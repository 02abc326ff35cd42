"""Several processes that train one model together: which part of a batch is whose, and what they tell each other.

The batch of a recipe is that of all processes: each takes a share of it, gradients are added up, and every process makes the same step.
So with however many processes, the run is the same to the rounding of sums, and may go on with another number of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from greffon.errors import GreffonError, ModelError, OptionError
from greffon.training.recipe import Recipe

__all__ = ["Ranks"]


@final
@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those of torch's process group, which whoever starts the run has made. By default it is alone.

    Parameters
    ----------
    rank
        From 0; the first one writes checkpoints, and is the one that is listened to.
    count
        Of all.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def joined(cls) -> Ranks:
        """Those of torch's process group; alone, where there is none."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return cls()
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size())

    def check(self, recipe: Recipe, images: int) -> None:
        """Raise OptionError where this recipe cannot be shared by so many, or has too few images for it."""
        if self.count == 1:
            return
        if recipe.batch_norm == "trained":
            raise OptionError(f"--batch-norm trained: not with {self.count} processes, each of which sees a part of the batch alone",
                              hint="Leave --batch-norm frozen.")  # fmt: skip
        if recipe.batch < self.count or images < self.count:
            raise OptionError(f"{self.count} processes cannot share batches of {min(recipe.batch, images)} images",
                              hint="Give --batch more, or start fewer processes.")  # fmt: skip

    def share(self, n: int) -> slice:
        """The part of n things in a row that is this process's: all but equal parts, the first of them the larger."""
        each, over = divmod(n, self.count)
        first = self.rank * each + min(self.rank, over)
        return slice(first, first + each + (self.rank < over))

    def weight(self, of_each: Tensor) -> float:
        """What the mean of this process's rows counts for in the mean of all, whose weights are (n,): 1 where it has them all."""
        return 1.0 if self.count == 1 else float(of_each[self.share(len(of_each))].sum() / of_each.sum())

    def total(self, value: float) -> float:
        """The sum over all processes; the same in each of them. NaN where one has NaN."""
        if self.count == 1:
            return value
        whole = torch.tensor([value], dtype=torch.float64)
        with _together():
            torch.distributed.all_reduce(whole)
        return float(whole)

    def gathered(self, rows: np.ndarray) -> np.ndarray:
        """The rows of all processes, float64 (k, c) each, one below the other in the order of ranks."""
        if self.count == 1:
            return rows
        counts = torch.zeros(self.count, dtype=torch.int64)
        counts[self.rank] = len(rows)
        with _together():
            torch.distributed.all_reduce(counts)
            most = int(counts.max())
            padded = torch.zeros((most, rows.shape[1]), dtype=torch.float64)
            padded[: len(rows)] = torch.from_numpy(np.ascontiguousarray(rows))
            parts = [torch.empty_like(padded) for _ in range(self.count)]
            torch.distributed.all_gather(parts, padded)
        return np.concatenate([part[: int(k)].numpy() for part, k in zip(parts, counts, strict=True)])

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Every gradient becomes the sum of all processes' gradients: in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1).float() for g in gradients])
        with _together():
            torch.distributed.all_reduce(flat)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view(gradient.shape))
            start += gradient.numel()

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Every tensor becomes the first process's, in its place."""
        if self.count == 1:
            return
        with _together(), torch.no_grad():
            for tensor in tensors:
                whole = tensor.detach().contiguous()
                torch.distributed.broadcast(whole, 0)
                tensor.copy_(whole)

    def agree(self, what: str, number: int) -> None:
        """Raise ModelError where the processes do not have the same number."""
        if self.count > 1 and self.total(float(number)) != self.count * number:
            raise ModelError(f"the processes that train together do not have the same {what}: here it is {number}",
                             hint="--out must lie on a disk that all of them share.")  # fmt: skip


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """A message among all processes. Where one of them has gone, torch raises RuntimeError in the others."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise GreffonError(f"the processes that train together have lost each other ({reason})",
                           hint="The last checkpoint is there: run the command again with --resume.") from error  # fmt: skip
