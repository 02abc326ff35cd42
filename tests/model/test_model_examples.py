"""Photos that a model remembers: choosing, nearest ones, the way to a folder and back, and every way in which that can be damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.neighbors import NearestNeighbors

from drawn import photo
from greffon.backbones import Entry, blueprint, fingerprint
from greffon.backbones.network import Backbone
from greffon.errors import GreffonError, ModelError, OptionError
from greffon.heads import Normaliser, Representation, fit_head
from greffon.images import Preprocess, thumbnail
from greffon.model import Examples, Model, choose_examples, load_model, save_model

RNG = np.random.default_rng(0)
WIDTH, CLASSES = 16, 3


def tiny() -> Backbone:
    import timm

    torch.manual_seed(0)
    pre = Preprocess(height=32, width=32, resize="shortest", resize_to=32, interpolation="bilinear", antialias=True,
                     channels="rgb", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), scale=1 / 255)  # fmt: skip
    plan = blueprint(Entry(name="tiny", architecture="test_resnet", preprocess=pre, weights_of="nobody", licence="none"))
    state = timm.create_model("test_resnet").state_dict()
    return Backbone(plan, {key: state[key] for key in plan.trunk_keys()})


@pytest.fixture(scope="module")
def model() -> Model:
    body = tiny()
    width = body.widths()[-1]
    x = RNG.normal(size=(12, width)).astype(np.float32)
    normaliser = Normaliser.fit(x, "standard")
    y = np.arange(12) % CLASSES
    head = fit_head("logistic", normaliser.apply(x), y, CLASSES, 1.0)
    small = [thumbnail(photo(seed, 40, 30)) for seed in range(11)]
    examples = Examples.of(normaliser.apply(x), y, [f"é/{i}.jpg" for i in range(12)], [*small, b""])
    return Model(body, "none", ("a", "b", "c"), Representation("last", "mean", "standard"), normaliser, head, "float32",
                 {}, {}, {}, examples=examples)  # fmt: skip


# --- nearest -----------------------------------------------------------------------------------------------------


def some(n: int = 50, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    return Examples.of(rng.normal(size=(n, WIDTH)).astype(np.float32), rng.integers(0, CLASSES, n))


@pytest.mark.parametrize("k", [1, 5, 50])
def test_the_nearest_are_those_of_scikit_learn(k: int) -> None:
    examples, asked = some(), RNG.normal(size=(23, WIDTH)).astype(np.float32)
    found, distances = examples.nearest(asked, k, block=7)
    library = NearestNeighbors(n_neighbors=k, metric="cosine").fit(examples.features.astype(np.float64))
    told, which = library.kneighbors(asked.astype(np.float64))
    assert found.dtype == np.int64 and distances.dtype == np.float64
    np.testing.assert_array_equal(found, which)
    np.testing.assert_allclose(distances, told, atol=1e-12)


def test_of_equally_near_ones_the_first_come_first() -> None:
    row = np.ones((1, WIDTH), np.float32)
    examples = Examples.of(np.repeat(row, 9, 0), np.zeros(9, np.int64))
    found, distances = examples.nearest(row, 4)
    assert found.tolist() == [[0, 1, 2, 3]]
    np.testing.assert_allclose(distances, 0, atol=1e-12)


def test_there_are_no_more_neighbours_than_examples() -> None:
    assert some(3).nearest(np.ones((2, WIDTH), np.float32), 10)[0].shape == (2, 3)


def test_a_photo_without_length_is_as_far_as_one_at_a_right_angle() -> None:
    assert some(3).nearest(np.zeros((1, WIDTH), np.float32), 1)[1].item() == 1


def test_wrong_questions_are_told() -> None:
    with pytest.raises(OptionError, match="k must be at least 1, got 0"):
        some().nearest(np.ones((1, WIDTH), np.float32), 0)
    with pytest.raises(OptionError, match=r"features must be \(m, 16\), got \(1, 5\)"):
        some().nearest(np.ones((1, 5), np.float32), 1)
    with pytest.raises(OptionError, match="at most 65504"):
        Examples.of(np.full((1, 4), 1e6, np.float32), np.zeros(1, np.int64))
    with pytest.raises(OptionError, match="as many labels"):
        Examples.of(np.ones((2, 4), np.float32), np.zeros(2, np.int64), ["one"])


# --- choosing ----------------------------------------------------------------------------------------------------


def test_few_photos_are_all_kept() -> None:
    assert choose_examples(np.zeros(7, np.int64), 512, 10, 0).tolist() == list(range(7))


def test_of_many_photos_every_class_has_its_part() -> None:
    labels = np.repeat([0, 1, 2], [500, 30, 4])
    chosen = choose_examples(labels, 512, 60, 3)
    assert np.bincount(labels[chosen]).tolist() == [28, 28, 4]
    assert (np.diff(chosen) > 0).all()
    assert chosen.tolist() == choose_examples(labels, 512, 60, 3).tolist()
    assert chosen.tolist() != choose_examples(labels, 512, 60, 4).tolist()


def test_wide_features_are_fewer() -> None:
    assert len(choose_examples(np.zeros(5000, np.int64), 25088, 2000, 0)) == 2**25 // (2 * 25088)


def test_none_are_none() -> None:
    assert choose_examples(np.zeros(7, np.int64), 512, 0, 0).tolist() == []


# --- there and back ----------------------------------------------------------------------------------------------


def test_a_folder_gives_back_what_was_put_in(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["examples.safetensors", "model.json", "model.safetensors"]
    one, back = model.examples, load_model(tmp_path / "m").examples
    assert one is not None and back is not None
    np.testing.assert_array_equal(back.features, one.features)
    assert back.features.dtype == np.float32 and back.labels.dtype == np.int64
    assert back.labels.tolist() == one.labels.tolist()
    assert (back.names, back.thumbnails) == (one.names, one.thumbnails)
    save_model(load_model(tmp_path / "m"), tmp_path / "again")
    for name in ("model.json", "examples.safetensors"):
        assert (tmp_path / "m" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_without_names_none_are_written(model: Model, tmp_path: Path) -> None:
    one = model.examples
    assert one is not None
    save_model(replace(model, examples=Examples.of(one.features, one.labels)), tmp_path)
    assert "names" not in json.loads((tmp_path / "model.json").read_text("utf-8"))["examples"]
    back = load_model(tmp_path).examples
    assert back is not None and set(back.names) == {""} and set(back.thumbnails) == {b""}


def test_a_model_without_examples_takes_away_those_of_an_earlier_one(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    save_model(replace(model, examples=None), tmp_path)
    assert not (tmp_path / "examples.safetensors").exists()
    assert load_model(tmp_path).examples is None


def test_a_model_from_before_has_none(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    change_json(tmp_path, lambda about: about.pop("examples"))
    assert load_model(tmp_path).examples is None


# --- damage ------------------------------------------------------------------------------------------------------


def change_json(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = folder / "model.json"
    about = json.loads(file.read_text("utf-8"))
    change(about)
    file.write_text(json.dumps(about), "utf-8")


def forge(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors, and write the fingerprint that they then have: as somebody with bad intent would."""
    file = folder / "examples.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    change_json(folder, lambda about: about["examples"].update(fingerprint=fingerprint(tensors)))


FORGERIES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "not finite": (lambda t: t["features"].__setitem__((0, 0), float("nan")), "not finite"),
    "infinite": (lambda t: t["features"].__setitem__((3, 1), float("inf")), "not finite"),
    "another type": (lambda t: t.update(features=t["features"].float()), "of their types"),
    "narrower": (lambda t: t.update(features=t["features"][:, :-1].contiguous()), "must hold features"),
    "fewer": (lambda t: t.update(features=t["features"][:-1].contiguous()), "must hold features"),
    "fewer labels": (lambda t: t.update(labels=t["labels"][:-1].contiguous()), "must hold features"),
    "fewer sizes": (lambda t: t.update(sizes=t["sizes"][:-1].contiguous()), "must hold 12 sizes"),
    "a label too high": (lambda t: t["labels"].__setitem__(0, CLASSES), "labels must be from 0 to 2"),
    "a label below 0": (lambda t: t["labels"].__setitem__(0, -1), "labels must be from 0 to 2"),
    "sizes that do not add up": (lambda t: t["sizes"].__setitem__(0, t["sizes"][0] + 1), "do not add up"),
    "a size below 0": (lambda t: t["sizes"].__setitem__(0, -1), "do not add up"),
    "an enormous size": (lambda t: t["sizes"].__setitem__(0, 2**62), "do not add up"),
    "no JPEG": (lambda t: t["thumbnails"].__setitem__(0, 60), "not a JPEG"),
    "one tensor more": (lambda t: t.update(more=torch.zeros(1)), "must hold features, labels"),
    "one tensor less": (lambda t: t.pop("sizes"), "must hold features, labels"),
    "a scalar": (lambda t: t.update(labels=torch.tensor(1)), "of their types"),
}


@pytest.mark.parametrize("what", list(FORGERIES))
def test_forged_tensors_are_refused(model: Model, tmp_path: Path, what: str) -> None:
    save_model(model, tmp_path)
    change, fault = FORGERIES[what]
    forge(tmp_path, change)
    with pytest.raises(ModelError, match=fault):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda e: e.update(images=11), "must hold features"),
        (lambda e: e.update(images=0), "at least 1, got 0"),
        (lambda e: e.update(images=-1), "at least 1, got -1"),
        (lambda e: e.update(images=2**62), "must hold features"),
        (lambda e: e.update(images="12"), "images must be of type int"),
        (lambda e: e.update(images=True), "images must be of type int"),
        (lambda e: e.pop("fingerprint"), "lacks 'fingerprint'"),
        (lambda e: e.update(fingerprint="0" * 64), "another fingerprint"),
        (lambda e: e.update(names=["x"]), "a list of 12 texts"),
        (lambda e: e.update(names=[1] * 12), "a list of 12 texts"),
        (lambda e: e.update(names="x" * 12), "a list of 12 texts"),
        (lambda e: e.update(names=["../../secret"] * 12), "paths within the data"),
        (lambda e: e.update(names=["/etc/passwd"] * 12), "paths within the data"),
        (lambda e: e.update(names=["a\0b"] * 12), "paths within the data"),
    ],
)
def test_a_forged_description_is_refused(model: Model, tmp_path: Path, change: Callable[[dict[str, Any]], Any], fault: str) -> None:
    save_model(model, tmp_path)
    change_json(tmp_path, lambda about: change(about["examples"]))
    with pytest.raises(ModelError, match=fault):
        load_model(tmp_path)


def test_something_else_than_an_object_is_refused(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    change_json(tmp_path, lambda about: about.update(examples=[1]))
    with pytest.raises(ModelError, match="examples must be an object, got list"):
        load_model(tmp_path)


def test_a_file_that_is_gone_a_link_or_no_tensors_is_told(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    file = tmp_path / "examples.safetensors"
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(ModelError, match=r"examples\.safetensors: missing"):
        load_model(tmp_path)
    (tmp_path / "elsewhere").write_bytes(content)
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="is a link"):
        load_model(tmp_path)
    file.unlink()
    file.write_bytes(b"pickle")
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_model(tmp_path)


def test_every_shorter_file_is_refused(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    file = tmp_path / "examples.safetensors"
    content = file.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 23)):
        file.write_bytes(content[:length])
        with pytest.raises(GreffonError):
            load_model(tmp_path)
