"""Run by test_ranks in several processes: every recipe of its table, trained together; the first process writes down what came out.

    python ranked.py RANK COUNT PLACE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from greffon.progress import Silent
from greffon.training import Ranks, Recipe, fit
from greffon.transfer.inductive import grown_on
from growing import drawn_network, held, started

__all__ = ["CUT", "RECIPES", "train_all"]

CUT = "layer3"
_ALL: dict[str, Any] = {"epochs": 2, "batch": 7, "learning_rate": 1e-3, "head_learning_rate": 1e-2, "seed": 5}
#: Everything that has a part in a step. SGD, for AdamW would not notice gradients that are all too large by the same factor.
RECIPES = {
    "sgd": Recipe(**{**_ALL, "learning_rate": 3e-3}, optimizer="sgd", clip=0.0),
    "adamw": Recipe(**_ALL, clip=0.5, label_smoothing=0.1, warmup=0.3),
    "balanced": Recipe(**{**_ALL, "learning_rate": 3e-3}, optimizer="sgd", clip=0.0, balanced=True, l2_sp=0.05),
    "mixup": Recipe(**{**_ALL, "learning_rate": 3e-3}, optimizer="sgd", mix="mixup", balanced=True, ema=0.6),
    "cutmix": Recipe(**{**_ALL, "learning_rate": 3e-3}, optimizer="sgd", mix="cutmix", gradual=1),
    "winograd": Recipe(**_ALL, winograd=True),
}


def train_all(ranks: Ranks, place: Path) -> None:
    """Every recipe; into ``place``, by the first process."""
    network = drawn_network()
    source, train, val = held(network, CUT)
    train.labels[:9] = 0  # classes of unequal sizes
    for name, recipe in RECIPES.items():
        start = started(network, CUT, source, train)
        module = grown_on(network, start, recipe)
        if ranks.rank:  # what the first process has is what counts
            with torch.no_grad():
                module.head.bias.add_(1.0)
        told = fit(module, source, train, val, recipe, progress=Silent(), ranks=ranks, configuration={}, checkpoint=place / f"{name}.ck")
        if ranks.rank == 0:
            save_file({key: tensor.contiguous() for key, tensor in module.state_dict().items()}, place / f"{name}.safetensors")
            rows = [[row.loss, row.accuracy, row.log_loss] for row in told.history]
            (place / f"{name}.json").write_text(json.dumps([told.best_epoch, rows]))


if __name__ == "__main__":
    import torch.distributed

    rank, count, where = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{where / 'meeting'}", rank=rank, world_size=count)
    train_all(Ranks.joined(), where)
    torch.distributed.destroy_process_group()
