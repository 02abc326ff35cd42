"""Vectors of photos: the formula against a loop, on numbers that are easy to follow."""

from __future__ import annotations

import math

import numpy as np

from greffon.transfer.unsupervised import unit_features


def test_a_vector_is_the_signed_root_of_the_last_stages_mean_of_length_one() -> None:
    widths = (2, 3)  # of each stage the means, then the maxima
    record = np.array([[9, 9, 9, 9, 4.0, -1.0, 0.25, 7, 7, 7]], np.float32)
    length = math.sqrt(4 + 1 + 0.25)
    assert np.allclose(unit_features(record, widths), [[2 / length, -1 / length, 0.5 / length]])
    rng = np.random.default_rng(0)
    pooled = rng.normal(size=(20, 10)).astype(np.float32)
    wanted = []
    for row in pooled.tolist():
        roots = [math.copysign(math.sqrt(abs(value)), value) for value in row[4:7]]
        wanted.append([root / math.sqrt(sum(one * one for one in roots)) for root in roots])
    assert np.allclose(unit_features(pooled, widths), wanted, atol=1e-6)


def test_a_photo_without_features_is_like_nothing() -> None:
    assert (unit_features(np.zeros((2, 10), np.float32), (2, 3)) == 0).all()
