"""Several processes train the model that one trains: real processes, over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ranked import CUT, RECIPES, train_all
from safetensors.torch import load_file

from greffon.errors import GreffonError, OptionError
from greffon.training import Ranks, Recipe, ranks
from growing import drawn_network, held, started


def together(count: int, place: Path) -> None:
    place.mkdir()
    here = Path(__file__).parent
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(here), str(here.parent), *sys.path])}
    runs = [subprocess.Popen([sys.executable, str(here / "ranked.py"), str(rank), str(count), str(place)], env=settings,
                             stderr=subprocess.PIPE, text=True) for rank in range(count)]  # fmt: skip
    for run in runs:
        _, said = run.communicate(timeout=600)
        assert run.returncode == 0, said


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("alone")
    train_all(Ranks(), place)
    return place


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_model_is_that_of_one_process(alone: Path, count: int, tmp_path: Path) -> None:
    together(count, tmp_path / "run")
    network = drawn_network()
    source, train, _ = held(network, CUT)
    farthest = 0.0
    before = {name: tensor.double() for name, tensor in started_state(network, source, train).items()}
    for name in RECIPES:
        best, rows = json.loads((alone / f"{name}.json").read_text())
        found_best, found_rows = json.loads((tmp_path / "run" / f"{name}.json").read_text())
        assert found_best == best and len(rows) == 3
        for row, found in zip(rows, found_rows, strict=True):
            (loss, accuracy, log_loss), (their_loss, their_accuracy, their_log_loss) = row, found
            assert (loss is None) == (their_loss is None) and their_accuracy == accuracy
            assert their_log_loss == pytest.approx(log_loss, rel=2e-4)
            assert loss is None or their_loss == pytest.approx(loss, rel=2e-4)
        one, other = (load_file(place / f"{name}.safetensors") for place in (alone, tmp_path / "run"))
        for key, tensor in one.items():
            moved = float((tensor.double() - before[key]).abs().max())
            farthest = max(farthest, moved)
            assert float((other[key].double() - tensor.double()).abs().max()) <= 0.02 * moved + 1e-6, (name, key)
        assert (tmp_path / "run" / f"{name}.ck").is_file()
    assert farthest > 1e-3  # they have moved


def started_state(network: object, source: object, train: object) -> dict[str, torch.Tensor]:
    from greffon.transfer.inductive import grown_on

    module = grown_on(network, started(network, CUT, source, train), Recipe())  # type: ignore[arg-type]  # what held gives
    return module.state_dict()


@pytest.mark.parametrize(("n", "count"), [(7, 2), (8, 3), (5, 5), (100, 7), (0, 3), (2, 3)])
def test_shares_are_all_of_it_in_order_and_nearly_equal(n: int, count: int) -> None:
    parts = [np.arange(n)[Ranks(rank, count).share(n)] for rank in range(count)]
    assert np.concatenate(parts).tolist() == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_nothing_is_said_to_anybody() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    one = Ranks.joined()
    assert one == Ranks(0, 1)
    one.add_gradients([parameter])
    one.spread([parameter])
    one.agree("checkpoint", 3)
    rows = np.eye(2)
    assert one.total(1.5) == 1.5 and one.gathered(rows) is rows
    assert parameter.grad.tolist() == [1.0, 2.0]


def test_what_cannot_be_shared_is_refused() -> None:
    Ranks(0, 2).check(Recipe(batch=2), 10)
    Ranks(0, 1).check(Recipe(batch=3, batch_norm="trained"), 1)
    with pytest.raises(OptionError, match="--batch-norm trained: not with 2 processes"):
        Ranks(0, 2).check(Recipe(batch=8, batch_norm="trained"), 10)
    with pytest.raises(OptionError, match="4 processes cannot share batches of 3 images"):
        Ranks(0, 4).check(Recipe(batch=3), 10)
    with pytest.raises(OptionError, match="4 processes cannot share batches of 2 images"):
        Ranks(0, 4).check(Recipe(batch=8), 2)


def test_a_lost_process_is_one_error_of_ours() -> None:
    with pytest.raises(GreffonError, match=r"have lost each other \(Connection closed by peer\)") as told, ranks._together():
        raise RuntimeError("Connection closed by peer\nand a trace of C++")
    assert "--resume" in told.value.hint
