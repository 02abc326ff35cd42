"""The gate: what it lets through, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exporting_models import model_of
from greffon.errors import ExportError
from greffon.exporting.parity import check_batch, check_parity, compare, drawn_images
from greffon.heads import LinearHead
from greffon.progress import Silent

CLASSES = ("a", "b", "c")
NAMES = ("1", "2", "3")
SURE = np.array([[0.9, 0.06, 0.04], [0.1, 0.8, 0.1], [0.5, 0.499, 0.001]])


def test_the_same_passes() -> None:
    found = compare(SURE, SURE.copy(), NAMES, CLASSES, 1e-4, photos=2)
    assert found.passed
    assert (found.same, found.images, found.photos, found.largest, found.undecided) == (3, 3, 2, 0, ())
    assert "same class on 3 of 3 images (2 photos, 1 drawn)" in str(found)
    assert found.to_dict()["drawn"] == 1


def test_one_probability_too_far_fails() -> None:
    got = SURE.copy()
    got[1] += [0.0, -2e-4, 2e-4]
    found = compare(SURE, got, NAMES, CLASSES, 1e-4)
    assert not found.passed
    assert found.largest == pytest.approx(2e-4)
    assert found.furthest == "2"
    assert compare(SURE, got, NAMES, CLASSES, 3e-4).passed


def test_another_class_within_the_tolerance_is_counted_and_shown() -> None:
    got = SURE.copy()
    got[2] = [0.4992, 0.4998, 0.001]
    found = compare(SURE, got, NAMES, CLASSES, 0.002)
    assert found.passed
    assert found.same == 2
    assert [(one.image, one.model, one.file) for one in found.undecided] == [("3", "a", "b")]
    assert found.undecided[0].gap == pytest.approx(0.001)
    assert "1 undecided" in str(found)


def test_another_class_beyond_the_tolerance_fails_though_every_probability_is_near() -> None:
    expected = np.array([[0.505, 0.495, 0.0]])
    found = compare(expected, np.array([[0.499, 0.501, 0.0]]), ["1"], CLASSES, 0.0075)
    assert found.largest <= found.tolerance
    assert not found.passed
    assert found.other[0].model == "a"
    assert found.undecided == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_fails(bad: float) -> None:
    got = SURE.copy()
    got[0, 0] = bad
    assert not compare(SURE, got, NAMES, CLASSES, 0.5).passed


def test_nothing_compared_is_not_a_pass() -> None:
    with pytest.raises(ValueError):
        compare(np.zeros((0, 3)), np.zeros((0, 3)), (), CLASSES, 0.5)


def test_the_drawn_images_have_the_sizes_in_which_a_resize_goes_wrong() -> None:
    images = drawn_images(224, 224, 256)
    shapes = [image.shape[:2] for image in images.values()]
    assert {(1, 1), (1, 97), (89, 1), (224, 224), (256, 256)} <= set(shapes)
    assert any(h > 16 * w for h, w in shapes) and any(w > 16 * h for h, w in shapes)
    assert max(h * w for h, w in shapes) > 1_900_000
    assert len(set(shapes[-3:])) == 1
    again = drawn_images(224, 224, 256)
    assert all(np.array_equal(again[name], image) and image.dtype == np.uint8 for name, image in images.items())


def test_a_batch_that_differs_from_its_images_is_told() -> None:
    images = [np.zeros((2, 2, 3), np.uint8)] * 2
    check_batch(lambda photos: SURE[: len(photos)], images, [SURE[0], SURE[1]], 1e-4)
    with pytest.raises(ExportError, match="at once"):
        check_batch(lambda photos: SURE[: len(photos)], images, [SURE[0], SURE[0]], 1e-4)


def test_a_model_agrees_with_itself_and_not_with_a_disturbed_one() -> None:
    model = model_of()
    assert isinstance(model.head, LinearHead)

    def run(photos: np.ndarray) -> np.ndarray:
        return model.predict(list(photos), precision="exact").probabilities

    found, beside = check_parity(model, run, (), 1e-4, Silent())
    assert found.passed and beside is None
    assert found.photos == 2  # scikit-learn's
    other: Any = replace(model, head=replace(model.head, temperature=model.head.temperature * 1.05))
    assert not check_parity(other, run, (), 1e-4, Silent())[0].passed


def test_drawn_images_may_be_run_and_not_compared_but_must_give_probabilities() -> None:
    model = model_of()

    def run(photos: np.ndarray) -> np.ndarray:
        return model.predict(list(photos), precision="exact").probabilities if photos.shape[1] == 427 else np.full((len(photos), 3), 1 / 3)

    found, _ = check_parity(model, run, (), 1e-4, Silent(), drawn=False)
    assert found.passed
    assert (found.images, found.only_run) == (2, 15)
    assert not check_parity(model, run, (), 1e-4, Silent())[0].passed
    with pytest.raises(ExportError, match="no probabilities"):
        check_parity(model, lambda photos: run(photos) * 2, (), 1e-4, Silent(), batches=False)
