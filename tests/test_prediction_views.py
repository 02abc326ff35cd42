"""Test-time views: the probabilities of a prediction are the mean over the views, each computed by hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from drawn import photo
from greffon import images
from greffon.activations import Store, Tap, compute, digest_of, make_engine
from greffon.backbones import Backbone, Entry, blueprint
from greffon.cli import main
from greffon.errors import OptionError
from greffon.heads import Normaliser, Representation, fit_head
from greffon.images import Preprocess, encode_png
from greffon.jobs.evaluate import evaluate
from greffon.jobs.predict import predict
from greffon.model import Model, save_model
from greffon.progress import Silent

PHOTOS = [photo(seed, 40 + seed, 50) for seed in range(9)]
PRE = Preprocess(height=32, width=32, resize="shortest", resize_to=36, interpolation="bilinear", antialias=True,
                 channels="rgb", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), scale=1 / 255)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> Model:
    """A tiny network with random weights and a head that tells three classes."""
    torch.manual_seed(0)
    plan = blueprint(Entry(name="tiny", architecture="test_resnet", preprocess=PRE, weights_of="nobody", licence="none"))
    state = timm.create_model("test_resnet").state_dict()
    body = Backbone(plan, {key: state[key] for key in plan.trunk_keys()})
    representation, tap = Representation("all", "mean", "standard"), Tap("pooled")
    records = compute(PHOTOS, body, tap, make_engine(body, tap, "float32"), store=None, progress=Silent()).all()
    features = representation.take(records, body.widths())
    normaliser = Normaliser.fit(features, "standard")
    head = fit_head("logistic", normaliser.apply(features), np.arange(9) % 3, 3, 0.1)
    return Model(body, "none", ("a", "b", "c"), representation, normaliser, head, "float32", {}, {}, {})


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The saved model, and beside it the photos, a folder a class."""
    folder = tmp_path_factory.mktemp("views")
    save_model(model, folder / "model")
    for i, pixels in enumerate(PHOTOS):
        path = folder / "photos" / "abc"[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(pixels))
    return folder


def by_hand(model: Model, pixels: np.ndarray, digest: str, count: int) -> np.ndarray:
    """Float64 (c,): one view at a time, in a batch of its own."""
    engine = make_engine(model.backbone, Tap("pooled"), "float32")
    told = []
    for view in images.test_time_views(count):
        batch = np.repeat(view.fit(pixels, digest, PRE)[None], engine.batch, axis=0)
        told.append(model.probabilities(engine.run(batch)[:1])[0])
    return sum(told, np.zeros(3)) / count


@pytest.mark.parametrize("count", [1, 2, 5])
def test_probabilities_are_the_mean_over_the_views(model: Model, count: int) -> None:
    found = model.predict(PHOTOS, views=count)
    wanted = np.stack([by_hand(model, pixels, digest_of(pixels), count) for pixels in PHOTOS])
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-6)
    np.testing.assert_allclose(found.probabilities.sum(1), 1)
    assert (found.probabilities == model.predict(PHOTOS).probabilities).all() == (count == 1)


def test_a_broken_photo_is_named_and_the_others_are_averaged(model: Model, folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"nothing")
    good = sorted((folder / "photos").rglob("*.png"))
    found = model.predict([good[0], broken, good[1]], views=3)
    assert list(found.failed) == [1]
    assert np.isnan(found.probabilities[1]).all()
    np.testing.assert_array_equal(found.probabilities[[0, 2]], model.predict(good[:2], views=3).probabilities)


def test_a_photo_that_goes_while_its_plain_view_is_known_fails(model: Model, tmp_path: Path) -> None:
    """A prediction from some of the views would not be the one that was asked for."""
    path = tmp_path / "photo.png"
    path.write_bytes(encode_png(PHOTOS[0]))
    store, digests = Store(tmp_path / "store"), [digest_of(path)]
    model.predict([path], store=store, digests=digests)
    path.unlink()
    assert model.predict([path], store=store, digests=digests).failed == {}
    found = model.predict([path], store=store, digests=digests, views=2)
    assert list(found.failed) == [0]
    assert np.isnan(found.probabilities).all()


def test_views_are_kept_and_found_again(model: Model, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = model.predict(PHOTOS, store=store, views=3)
    kept = {info.view: info.records for info in store.shelves()}
    assert kept == {view.name: 9 for view in images.test_time_views(3)}
    more = model.predict(PHOTOS, store=store, views=3)
    np.testing.assert_array_equal(first.probabilities, more.probabilities)
    assert {info.view: info.records for info in store.shelves()} == kept


def test_predict_and_evaluate_average_alike(model: Model, folder: Path, tmp_path: Path) -> None:
    paths = sorted((folder / "photos").rglob("*.png"))
    wanted = model.predict(paths, views=4).probabilities
    guesses = list(predict(folder / "model", paths, views=4))
    found = np.array([list(guess.probabilities.values()) for guess in guesses])
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    result = evaluate(folder / "model", folder / "photos", views=4, store=Store(tmp_path / "store"))
    np.testing.assert_allclose(result.probabilities, wanted, atol=1e-6)
    labels = np.array([ord(path.parent.name) - ord("a") for path in paths])
    assert result.evaluation.accuracy == pytest.approx((wanted.argmax(1) == labels).mean())


def test_fewer_than_one_view_is_refused(model: Model, folder: Path) -> None:
    for count in (0, -1):
        with pytest.raises(OptionError, match="must be a whole number from 1"):
            model.predict(PHOTOS, views=count)
        with pytest.raises(OptionError, match="must be a whole number from 1"):
            list(predict(folder / "model", [folder / "photos"], views=count))


def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["greffon", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_the_commands(
    model: Model, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "photos" / "a" / "0.png"
    code, said, _ = command(capsys, monkeypatch, "predict", folder / "model", path, "--views", 3, "--json")
    assert code == 0
    told = list(json.loads(said)["probabilities"].values())
    np.testing.assert_allclose(told, model.predict([path], views=3).probabilities[0], atol=1e-6)
    code, said, _ = command(capsys, monkeypatch, "evaluate", folder / "model", folder / "photos", "--views", 2, "--json")
    assert (code, json.loads(said)["views"], json.loads(said)["n"]) == (0, 2, 9)
    code, said, _ = command(capsys, monkeypatch, "evaluate", folder / "model", folder / "photos", "--views", 2)
    assert "averaged over 2 views" in said
    code, said, _ = command(capsys, monkeypatch, "cache", "--json")
    seen = {json.loads(line)["view"] for line in said.splitlines() if json.loads(line)["backbone"] == "tiny"}
    assert seen == {view.name for view in images.test_time_views(2)}
    code, _, said = command(capsys, monkeypatch, "predict", folder / "model", path, "--views", 0)
    assert code == 2
    assert "--views" in said
