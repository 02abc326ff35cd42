"""A training run on disk, after each epoch: one safetensors file, whole or not there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from greffon.errors import ModelError, StoreError
from greffon.whole import sync_file, whole_file

__all__ = ["Checkpoint", "flat_optimizer", "load_checkpoint", "load_optimizer", "peek_progress", "save_checkpoint"]

_LAYOUT = 1
_ABSENT = object()


@final
@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Everything that the rest of a run depends on. Random numbers do not: each epoch draws its own from the seed.

    Parameters
    ----------
    configuration
        What the run was started with, as JSON values: a checkpoint goes on with the same alone.
    progress
        Where it stands, as JSON values: finished epochs, history, best epoch.
    tensors
        Of the module (``now.``), of the best one up to here (``best.``), of the moving average (``average.``) and of the
        optimiser (``optimizer.``).
    """

    configuration: Mapping[str, Any]
    progress: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name begins with ``prefix.``, without it."""
        return {name[len(prefix) + 1 :]: tensor for name, tensor in self.tensors.items() if name.startswith(f"{prefix}.")}


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of the last one. Raises StoreError, and leaves the last one as it is."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    told = {"configuration": dict(checkpoint.configuration), "progress": dict(checkpoint.progress)}
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.tensors.items()}
    about = {"layout": _LAYOUT, "digest": _digest(told, tensors), **told}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left_over in path.parent.glob(f".{path.name}-*"):  # of a run that was killed while it wrote
            left_over.unlink(missing_ok=True)
        with whole_file(path) as part:
            save_file(tensors, part, metadata={"greffon": json.dumps(about, sort_keys=True, allow_nan=True)})
            sync_file(part)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(f"{path}: the checkpoint cannot be written ({reason})",
                         hint="Free some space, and run it again with --resume.") from error  # fmt: skip


def load_checkpoint(path: Path, configuration: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint of a run, or None where it has not come to one.

    Raises
    ------
    ModelError
        It is damaged, or belongs to another configuration: the differences are named.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("greffon", "null"))
            for name in file.keys():  # noqa: SIM118  # not a dict
                tensors[name] = file.get_tensor(name)
        if not isinstance(about, dict) or about.get("layout") != _LAYOUT:
            raise ValueError("it is not a checkpoint of this version of greffon")
        found, progress = about["configuration"], about["progress"]
        if not isinstance(found, dict) or not isinstance(progress, dict):
            raise ValueError("its description is damaged")
        if about.get("digest") != _digest({"configuration": found, "progress": progress}, tensors):
            raise ValueError("its contents are damaged")
    except (OSError, SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise ModelError(f"{path}: the checkpoint cannot be read ({str(error)[:200]})", hint="Start again without --resume.") from error
    wanted = json.loads(json.dumps(dict(configuration)))
    if found != wanted:
        before, now = _flat(found), _flat(wanted)
        names = sorted(name for name in {*before, *now} if before.get(name, _ABSENT) != now.get(name, _ABSENT))
        told = "; ".join(f"{name} was {_short(before.get(name))}, is {_short(now.get(name))}" for name in names)
        raise ModelError(f"{path}: the checkpoint belongs to another configuration: {told}",
                         hint="Give the options of the first run, or start again without --resume.")  # fmt: skip
    return Checkpoint(found, progress, tensors)


def peek_progress(path: Path) -> Mapping[str, Any] | None:
    """Where a run stands that another process is at, without its tensors, and unchecked; None where that cannot be told."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("greffon", "null"))
        return about["progress"] if isinstance(about, dict) and isinstance(about.get("progress"), dict) else None
    except (OSError, SafetensorError, ValueError, RecursionError):
        return None


def _digest(told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """sha256 over what is told and the bytes of all tensors."""
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested objects as one, ``recipe.batch`` for the batch of the recipe."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return flat


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def flat_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers, by number of parameter and name."""
    state = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, one in state.items()
        for name, value in one.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    """The inverse of ``flat_optimizer``, for an optimiser of the same parameters.

    What belongs to a parameter is laid out in memory as that is: the fused AdamW goes through both as they lie.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, tensor in flat.items():
        number, _, name = key.partition(".")
        like = parameters[int(number)]
        laid_out = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.shape == like.shape else tensor
        state.setdefault(int(number), {})[name] = laid_out
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
