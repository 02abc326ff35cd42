"""Fine-tuning from drawn activations: every cut of several networks, the store and recomputation, the range test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drawn import write_classes
from greffon.activations import Store, Tap, compute_views, digest_of, make_engine
from greffon.errors import BackboneError, OptionError
from greffon.heads import Representation
from greffon.images import PLAIN, views
from greffon.model import Model, feature_widths, load_model, save_model, upper_pooled
from greffon.progress import Silent
from greffon.training import Recipe, RecomputedViews, Samples, Source, StoredViews, as_tensor, find_rate
from greffon.transfer.inductive import FineTuned, fine_tune, grown_on, prepare, suggested_rate, tuned_backbone
from growing import ARCHITECTURES, drawn_network, grown, held, started

RECIPE = Recipe(epochs=2, batch=8, learning_rate=1e-3, head_learning_rate=1e-2, winograd=True)
CASES = [(name, cut) for name in ARCHITECTURES for cut in (("all", "block4") if name == "vgg11" else ("all", *drawn_network(name).stages))]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("stages", ["last", "all"])
def test_what_is_trained_gives_the_features_that_predictions_read(architecture: str, stages: str) -> None:
    """``Grown`` at its beginning, against pooling by hand and the normaliser; at every cut."""
    network = drawn_network(architecture)
    for cut in (network.stages[0], network.stages[-2], network.stages[-1]):
        source, train, _ = held(network, cut, views=1)
        representation = Representation(stages, "mean+max", "standard")  # type: ignore[arg-type]
        module = grown(network, cut, representation=representation)
        start = started(network, cut, source, train, representation)
        x = source.batch(train.positions, np.zeros(24, np.int64))
        parts, at = [], x.clone()
        outputs = [] if network.position(cut) == 0 else [x]
        with torch.no_grad():
            for stage in network.above(cut).stages:
                for link in stage:  # type: ignore[attr-defined]  # a ModuleList
                    at = link(at.clone())
                outputs.append(at.clone())
            for one in outputs if stages == "all" else outputs[-1:]:
                parts += [one.mean((2, 3)), one.amax((2, 3))]
            theirs = start.normaliser.apply(torch.cat(parts, 1).numpy())
            found = module.eval().features(x).numpy()
        # The linear layer sees a variance of 1 each, whatever their number.
        assert found / np.sqrt(found.shape[1]) == pytest.approx(theirs, abs=2e-5)
        assert start.features == pytest.approx(theirs, abs=2e-5)
        if stages == "all":
            assert sum(2 * width for width in feature_widths(network, cut)) == found.shape[1]


@pytest.mark.parametrize(("architecture", "cut"), CASES)
def test_training_works_above_every_cut_and_leaves_the_source_as_it_is(architecture: str, cut: str) -> None:
    network = drawn_network(architecture)
    before = {name: tensor.clone() for name, tensor in network.tensors().items()}
    source, train, val = held(network, cut, n=12, views=1)
    maps = source.maps.copy()
    given = [torch.from_numpy(maps[0, i : i + 4].copy()) for i in range(0, 16, 4)]
    start = started(network, cut, source, train)
    recipe = replace(RECIPE, epochs=3, learning_rate=5e-5 if architecture == "vgg11" else 1e-3)  # it has no normalisation
    tuned = fine_tune(network, source, start, train, val, recipe, progress=Silent())
    assert np.array_equal(source.maps, maps)
    module = grown_on(network, start, RECIPE).train().requires_grad_(True)
    for x in given:
        copied = x.clone()
        module(x).sum().backward()
        assert torch.equal(x, copied), "an in-place layer wrote into a stored activation"
    assert all(torch.equal(before[name], tensor) for name, tensor in network.tensors().items()), "the backbone itself was trained"
    # Above the cut something has moved; below it, nothing.
    found = tuned.backbone.tensors()
    below = [f"{link}." for stage in network.plan.stages[: network.position(cut)] for link in stage.links]
    for name, tensor in before.items():
        if name.startswith(tuple(below)):
            assert torch.equal(found[name], tensor)
    assert (tuned.backbone.fingerprint != network.fingerprint) == (tuned.best_epoch > 0)
    losses = [row.loss for row in tuned.history[1:]]
    assert losses[-1] < losses[0] < 1.5  # type: ignore[operator]


def test_probabilities_are_those_of_the_trained_module_at_the_fitted_temperature() -> None:
    network, cut = drawn_network(), "layer3"
    source, train, val = held(network, cut)
    start = started(network, cut, source, train)
    tuned = fine_tune(network, source, start, train, val, RECIPE, progress=Silent())
    plain = fine_tune(network, source, start, train, None, RECIPE, progress=Silent())
    assert plain.head.temperature == 1.0
    assert plain.best_epoch == 2
    module = grown_on(network, start, RECIPE)
    stages = tuned.backbone.above(cut)
    module.span.load_state_dict(stages.state_dict())
    with torch.no_grad():
        module.head.weight.copy_(torch.from_numpy(tuned.head.weight) / len(start.normaliser.mean) ** 0.5)
        module.head.bias.copy_(torch.from_numpy(tuned.head.bias))
        scores = module.eval()(source.batch(val.positions, np.zeros(8, np.int64))).double()
    wanted = torch.softmax(scores / tuned.head.temperature, 1).numpy()
    assert tuned.probabilities(source.maps[0, val.positions]) == pytest.approx(wanted, abs=1e-5)


def test_the_backbone_of_an_untrained_module_is_the_same_one() -> None:
    network = drawn_network()
    assert tuned_backbone(network, "layer2", grown(network, "layer2")).fingerprint == network.fingerprint


def test_what_cannot_be_trained_through_is_said() -> None:
    network = drawn_network()
    source, train, _ = held(network, "layer4")
    with pytest.raises(OptionError, match="needs a stage to train"):
        prepare(network, "none", source, train, 3, Representation())
    for representation in (Representation("last", "flatten"), Representation("last", "mean", "sqrt-l2")):
        with pytest.raises(OptionError, match="pooled features"):
            prepare(network, "layer4", source, train, 3, representation)
    with pytest.raises(BackboneError, match="stage"):
        prepare(network, "layer9", source, train, 3, Representation())


# --- where the activations come from ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_classes(tmp_path_factory.mktemp("photos"), {"a": 7, "b": 7, "c": 6}).rglob("*.png"))


LABELS = np.array([0] * 7 + [1] * 7 + [2] * 6)


def both_sources(photos: list[Path], cut: str, keep: str, tmp_path: Path) -> tuple[Source, Source]:
    network = drawn_network()
    engine = make_engine(network, Tap("map", cut), "float32", keep=keep)
    looks = views("standard", 3, 1)
    assert looks[0] == PLAIN
    found = compute_views(photos, network, engine.tap, engine, looks, store=Store(tmp_path / "store"), progress=Silent())
    digests = [digest_of(path) for path in photos]
    return StoredViews(found, network.preprocess), RecomputedViews(photos, digests, network.preprocess, engine, looks)


@pytest.mark.parametrize(("cut", "keep"), [("layer3", "float32"), ("layer1", "bfloat16"), ("layer4", "float16"), ("all", "float32")])
def test_stored_and_recomputed_activations_are_the_same(cut: str, keep: str, photos: list[Path], tmp_path: Path) -> None:
    stored, again = both_sources(photos, cut, keep, tmp_path)
    rng = np.random.default_rng(0)
    positions, looks = rng.permutation(20), rng.integers(0, 3, 20)
    one, other = stored.batch(positions, looks), again.batch(positions, looks)
    assert one.dtype == torch.float32
    assert one.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(one, other)
    # Each image in its own view, in the order asked for.
    for row in range(20):
        alone = stored.batch(positions[row : row + 1], looks[row : row + 1])
        assert torch.equal(alone[0], one[row])
    if cut != "all":
        assert not torch.equal(stored.batch(positions[:1], np.array([0])), stored.batch(positions[:1], np.array([1])))


@pytest.mark.parametrize("cut", ["layer3", "all"])
def test_training_from_the_store_is_training_without_it(cut: str, photos: list[Path], tmp_path: Path) -> None:
    network = drawn_network()
    train, val = Samples(np.arange(0, 20, 2), LABELS[::2]), Samples(np.arange(1, 20, 2), LABELS[1::2])
    found: list[FineTuned] = []
    for source in both_sources(photos, cut, "float32", tmp_path):
        start = prepare(network, cut, source, train, 3, Representation())
        found.append(fine_tune(network, source, start, train, val, RECIPE, progress=Silent()))
    one, other = found
    assert [replace(row, seconds=0) for row in one.history] == [replace(row, seconds=0) for row in other.history]
    for name, tensor in one.backbone.tensors().items():
        assert torch.allclose(tensor, other.backbone.tensors()[name], rtol=1e-6, atol=1e-7)
    assert one.head.weight == pytest.approx(other.head.weight, abs=1e-6)


def test_records_become_tensors() -> None:
    pre = drawn_network().preprocess
    values = torch.randn(2, 3, 4, 5)
    assert torch.equal(as_tensor(values.numpy(), pre), values)
    assert torch.equal(as_tensor(values.half().numpy(), pre), values.half().float())
    bits = values.bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert torch.equal(as_tensor(bits, pre), values.bfloat16().float())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert torch.equal(as_tensor(images, pre), torch.from_numpy(pre.normalise(images)))


# --- the upper stages of a prediction -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 5, 16, 19])
def test_the_upper_stages_do_not_depend_on_how_many_images_come(count: int) -> None:
    network = drawn_network("test_efficientnet")
    source, _, _ = held(network, "blocks.3", n=24, views=1)
    every = upper_pooled(network, "blocks.3", source.maps[0])
    found = upper_pooled(network, "blocks.3", source.maps[0, :count])
    assert found.shape == (count, sum(2 * width for width in feature_widths(network, "blocks.3")))
    assert np.array_equal(found, every[:count])


def test_a_tuned_model_comes_back_from_its_folder(photos: list[Path], tmp_path: Path) -> None:
    network, cut = drawn_network(), "layer3"
    stored, _ = both_sources(photos, cut, "bfloat16", tmp_path)
    train = Samples(np.arange(20), LABELS)
    tuned = fine_tune(network, stored, prepare(network, cut, stored, train, 3, Representation()), train, None, RECIPE, progress=Silent())
    model = Model(tuned.backbone, cut, ("a", "b", "c"), tuned.representation, tuned.normaliser, tuned.head, "float32",
                  {}, {}, {}, keep="bfloat16")  # fmt: skip
    save_model(model, tmp_path / "model")
    back = load_model(tmp_path / "model")
    assert (back.cut, back.keep) == (cut, "bfloat16")
    before, after = model.predict(photos), back.predict(photos)
    assert np.array_equal(before.probabilities, after.probabilities)
    maps = stored.batch(np.arange(20), np.zeros(20, np.int64)).numpy()
    assert after.probabilities == pytest.approx(tuned.probabilities(maps), abs=1e-6)


# --- the range test -------------------------------------------------------------------------------------------------


def test_the_range_test_suggests_a_rate_within_bounds_and_changes_nothing() -> None:
    network, cut = drawn_network(), "layer3"
    source, train, _ = held(network, cut)
    start = started(network, cut, source, train)
    module = grown_on(network, start, RECIPE)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    curve = suggested_rate(network, source, start, train, RECIPE, progress=Silent())
    assert np.all(np.diff(curve.rates) > 0)
    assert curve.rates[0] == pytest.approx(1e-7)
    assert curve.rates[-1] <= 1.0
    assert len(curve.losses) == len(curve.rates) >= 10
    assert curve.rates[0] <= curve.suggestion <= curve.rates[int(np.argmin(curve.losses))]
    assert find_rate(module, source, train, RECIPE, progress=Silent()).suggestion == curve.suggestion
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert [type(part) for part in module.modules()] == [type(part) for part in grown_on(network, start, RECIPE).modules()]
    again = suggested_rate(network, source, start, train, RECIPE, progress=Silent())
    assert np.array_equal(curve.losses, again.losses)
    assert again.suggestion == curve.suggestion
    # With the rate that it suggests, training gets better than it was.
    recipe = replace(RECIPE, learning_rate=curve.suggestion, head_learning_rate=curve.suggestion * 10, epochs=4)
    told = fine_tune(network, source, start, train, None, recipe, progress=Silent())
    assert told.history[-1].loss < told.history[1].loss  # type: ignore[operator]


def test_a_range_test_without_a_finite_loss_is_an_error() -> None:
    network, cut = drawn_network(), "layer4"
    source, train, _ = held(network, cut)
    start = started(network, cut, source, train)
    source.maps[:] = np.nan
    with pytest.raises(OptionError, match="no number at the first step"):
        suggested_rate(network, source, start, train, RECIPE, progress=Silent())
