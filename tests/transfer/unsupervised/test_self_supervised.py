"""Every method of ``SELF_SUPERVISED``, found in the table: the same contract for all, and for each a sign that its loss acts."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from greffon.errors import BackboneError, DataError, ModelError, OptionError
from greffon.losses import barlow_twins, nt_xent, vicreg
from greffon.progress import Silent
from greffon.training import Checkpoint, Grown, Looked, Recipe, Seen, Trained, loop
from greffon.transfer.unsupervised import SELF_SUPERVISED, pretrain_above, rank_me, ready_to_pretrain
from greffon.transfer.unsupervised.above import DeepCluster, SelfSupervised, cluster_labels, judge_epoch
from growing import Held, drawn_network, held

NETWORK, CUT = drawn_network(), "layer3"
RECIPE = Recipe(epochs=4, batch=16, learning_rate=3e-4, seed=1)
COUNT = 48


@cache
def photos() -> tuple[Held, np.ndarray]:
    """Drawn activations in four views, and the classes that they were drawn from, which no method is told."""
    source, train, _ = held(NETWORK, CUT, n=COUNT, views=4)
    return source, train.labels


def trained(method: str | SelfSupervised, recipe: Recipe = RECIPE, source: Held | None = None, **more: Any) -> tuple[Grown, Trained]:
    drawn, _ = photos()
    images = np.arange(COUNT)
    grown = ready_to_pretrain(NETWORK, CUT, drawn, images)
    return grown, pretrain_above(grown, source or drawn, images, method, recipe, progress=Silent(), **more)


@cache
def once(name: str) -> tuple[Grown, Trained]:
    return trained(name)


def same(one: Grown, other: Grown) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def test_there_is_no_parameter_for_labels() -> None:
    for function in (pretrain_above, ready_to_pretrain):
        assert not [name for name in inspect.signature(function).parameters if "label" in name or "class" in name or name == "y"]


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_the_loss_falls_and_every_epoch_is_judged(name: str) -> None:
    _, told = once(name)
    rows = [row.features for row in told.history]
    assert len(rows) == RECIPE.epochs + 1
    losses = [row.loss for row in rows[1:] if row is not None and row.loss is not None]
    assert len(losses) == RECIPE.epochs
    if name != "deepcluster":  # whose labels are others in every epoch
        assert losses[-1] < losses[0]
    for row in rows:
        assert row is not None
        assert 0 <= row.found <= 1
        assert 0 <= row.agreement <= 1
        assert 1 <= row.rank <= NETWORK.widths()[-1]
        assert np.isfinite(row.score)
    assert not told.stopped


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_the_same_seed_and_another_one(name: str) -> None:
    short = replace(RECIPE, epochs=2)
    one, two, other = (pretrained_state(name, replace(short, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def pretrained_state(name: str, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Of the last epoch, whatever is kept in the end: as the checkpoint has it."""
    states: list[dict[str, torch.Tensor]] = []

    def save(path: Path, checkpoint: Checkpoint) -> None:
        states.append({key: tensor.detach().clone() for key, tensor in checkpoint.part("now").items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", save)
        trained(name, recipe, checkpoint=Path("nowhere"))
    return states[-1]


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_a_killed_run_goes_on_exactly(name: str, tmp_path: Path) -> None:
    whole, told = once(name)
    drawn, _ = photos()
    broken = Held(drawn.maps)
    real, calls = broken.batch, []

    def batch(positions: np.ndarray, views: np.ndarray) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return real(positions, views)

    broken.batch = batch
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(name, source=broken, checkpoint=path)
    again, went_on = trained(name, checkpoint=path, resume=True)
    assert same(again, whole)
    assert [replace(row, seconds=0) for row in went_on.history] == [replace(row, seconds=0) for row in told.history]
    other = next(one for one in SELF_SUPERVISED if one != name)
    with pytest.raises(ModelError, match=r"another configuration.*method\.name"):
        trained(other, checkpoint=path, resume=True)


def test_methods_hand_their_numbers_to_the_losses() -> None:
    torch.manual_seed(0)
    features = torch.randn(12, 8)
    seen = Seen(features, features[:, :1])
    for name, wanted in (
        ("simclr", lambda a, b, m: nt_xent(a, b, m.temperature)),
        ("vicreg", lambda a, b, m: vicreg(a, b, invariance=m.invariance, variance=m.variance, covariance=m.covariance)),
        ("barlow", lambda a, b, m: barlow_twins(a, b, m.off_diagonal)),
    ):
        method = SELF_SUPERVISED[name]
        objective = method.objective()
        assert objective.looks == 2
        own = objective.modules(8, 1).eval()
        rows = own(features)
        assert objective.loss(own, None, seen, 0.5).item() == pytest.approx(wanted(rows[:6], rows[6:], method).item(), rel=1e-5)


def test_every_cluster_counts_alike() -> None:
    torch.manual_seed(0)
    objective = DeepCluster(clusters=3).objective()
    own = objective.modules(4, 1)
    features = torch.randn(6, 4)
    labels, shares = torch.tensor([0, 0, 0, 0, 1, 2]), torch.tensor([0.8, 0.8, 0.8, 0.8, 0.1, 0.1])
    loss = objective.loss(own, None, Seen(features, features, labels, shares), 0.0).item()
    weight = own.get_parameter("weight")
    cosines = torch.stack([torch.nn.functional.cosine_similarity(row, weight) for row in features])
    each = torch.nn.functional.cross_entropy(cosines / 0.1, labels, reduction="none")
    by_hand = (each[:4].sum() / 0.8 + each[4:].sum() / 0.1) / (4 / 0.8 + 2 / 0.1)
    assert loss == pytest.approx(by_hand.item(), rel=1e-5)


def test_the_classifier_begins_at_the_middles_of_the_clusters() -> None:
    objective = DeepCluster(clusters=4).objective()
    own = objective.modules(2, 1)
    drawn = own.get_parameter("weight")[3].clone()
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [5.0, 5.0], [-1.0, 0.0]])
    assert objective.settle is not None
    with torch.no_grad():
        objective.settle(own, features, torch.tensor([0, 0, 1, 2]))
    half = 0.5**0.5
    assert torch.allclose(own.get_parameter("weight")[:3], torch.tensor([[half, half], [half, half], [-1.0, 0.0]]))
    assert torch.equal(own.get_parameter("weight")[3], drawn), "no image, no middle"


def test_clusters_are_found_whatever_their_scales() -> None:
    """Three groups on two short axes, and a long one that says nothing: seen once the axes are whitened."""
    rng = np.random.default_rng(0)
    truth = np.arange(90) % 3
    angle = 2 * np.pi * truth / 3
    x = np.stack([30 * rng.uniform(-1, 1, 90), np.cos(angle), np.sin(angle)], 1) + 0.05 * rng.normal(size=(90, 3))
    assert adjusted_rand_score(truth, cluster_labels(x, 3, 3, 0)) > 0.8
    assert np.array_equal(cluster_labels(x, 3, 3, 0), cluster_labels(x, 3, 3, 0))
    assert cluster_labels(x[:10], 50, 64, 0).max() == 1, "never more than a fifth of the images"


def test_features_that_lose_their_dimensions_have_collapsed() -> None:
    rng = np.random.default_rng(0)
    wide = torch.from_numpy(rng.normal(size=(40, 16)).astype(np.float32))
    first = judge_epoch(Looked(wide, wide, None), None, [])
    assert not first.collapsed
    assert first.steadiness is None
    assert first.found == 1
    assert first.rank == pytest.approx(rank_me(wide.numpy()))
    thin = wide[:, :1] * torch.ones(1, 16)
    assert judge_epoch(Looked(thin, thin, wide), 0.1, [first]).collapsed


def test_bad_input_is_told() -> None:
    drawn, _ = photos()
    with pytest.raises(BackboneError, match=r"nothing to train"):
        ready_to_pretrain(NETWORK, "none", drawn, np.arange(COUNT))
    with pytest.raises(DataError, match=r"needs 8 different images or more, got 7"):
        ready_to_pretrain(NETWORK, CUT, drawn, np.arange(7))
    with pytest.raises(DataError, match=r"look the same to the network"):
        ready_to_pretrain(NETWORK, CUT, Held(drawn.maps[:, :1].repeat(20, 1)), np.arange(20))
    with pytest.raises(OptionError, match=r"method must be one of simclr"):
        trained("swav")
    with pytest.raises(OptionError, match=r"--views must be 2 or more"):
        trained("simclr", source=Held(drawn.maps[:1]))
