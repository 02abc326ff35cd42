"""Fine-tuning in the processes that ``torchrun`` has started: the first one does all the work, the others help it to train.

    torchrun --nproc-per-node 2 -m greffon train photos/ --out my-model --unfreeze block5

The first process looks at the photos, runs the frozen part, writes the model; the others wait, train with it when it comes to
that, and read the activations where it has kept them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import final

from greffon.errors import GreffonError, OptionError
from greffon.progress import Progress, Silent
from greffon.training import EpochListener, Ranks, Trained
from greffon.transfer.inductive import TrainingOrder

__all__ = ["TorchrunLauncher", "assist", "joined", "started_by_torchrun"]

#: How long the others wait for the frozen part. One that has died is noticed at once, by its connection.
_PATIENCE = timedelta(days=7)


def started_by_torchrun() -> bool:
    """Whether this process is one of several that ``torchrun``, or what does as it does, has started together."""
    said = os.environ
    return all(said.get(name) for name in ("RANK", "MASTER_ADDR", "MASTER_PORT")) and said.get("WORLD_SIZE", "1") not in ("", "0", "1")


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """These processes can speak to each other while the block lasts: by gloo, and between GPUs by NCCL.

    Raises OptionError where they do not come together.
    """
    import torch
    import torch.distributed

    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    try:
        torch.distributed.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        hint = "RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say how many there are, and where the first one is."
        raise OptionError(f"torchrun: the processes do not come together ({reason})", hint=hint) from error
    try:
        yield Ranks.joined()
    finally:
        with contextlib.suppress(RuntimeError):  # of processes that have lost each other nothing is left to close
            torch.distributed.destroy_process_group()


@final
class TorchrunLauncher:
    """Of the first process. ``end`` lets the others go."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._together = True

    def train(self, order: TrainingOrder, *, progress: Progress, listener: EpochListener | None) -> Trained:
        """See ``Launcher``."""
        self._ranks.check(order.recipe, len(order.train))
        message = order.to_bytes()
        progress.say(f"training in {self._ranks.count} processes")
        self._together = False
        _send(message)
        trained = order.run(progress=progress, ranks=self._ranks, listener=listener)
        self._together = True
        return trained

    def end(self) -> None:
        """Nothing more comes. Where training broke off, the others notice that by themselves."""
        if self._together:
            self._together = False
            with contextlib.suppress(GreffonError):
                _send(b"")


def assist(ranks: Ranks) -> None:
    """Of every other process: train what the first one sends, until it says that nothing more comes.

    Raises
    ------
    GreffonError
        What ``fit`` raises; or the first process has gone.
    """
    while message := _receive():
        TrainingOrder.from_bytes(message).run(progress=Silent(), ranks=ranks)


def _send(message: bytes) -> None:
    import torch

    ranks = Ranks.joined()
    ranks.spread([torch.tensor([len(message)], dtype=torch.int64)])
    if message:
        ranks.spread([torch.frombuffer(bytearray(message), dtype=torch.uint8)])


def _receive() -> bytes:
    import torch

    ranks = Ranks.joined()
    length = torch.zeros(1, dtype=torch.int64)
    ranks.spread([length])
    message = torch.zeros(int(length), dtype=torch.uint8)
    if len(message):
        ranks.spread([message])
    return message.numpy().tobytes()
