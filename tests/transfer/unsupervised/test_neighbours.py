"""Neighbours against scikit-learn's and a loop; near-duplicates against planted ones; outliers against scikit-learn and scipy."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.stats import median_abs_deviation
from sklearn.neighbors import NearestNeighbors

import greffon.transfer.unsupervised.neighbours as neighbours
from drawn import encode, photo
from greffon.datasets import Facts
from greffon.errors import OptionError
from greffon.images import signature
from greffon.transfer.unsupervised import Neighbours, SmallPictures, near_duplicates, nearest, outliers


def unit(n: int, d: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [8, 64, 8192])
def test_the_nearest_others_are_scikit_learns(block: int) -> None:
    x = unit(150, 12)
    found = nearest(x, 7, block=block)
    distance, rows = NearestNeighbors(n_neighbors=8, metric="cosine", algorithm="brute").fit(x.astype(np.float64)).kneighbors()
    assert found.rows.shape == (150, 7)
    assert (found.rows == rows[:, :7]).all()
    assert np.allclose(found.similarity, 1 - distance[:, :7], atol=1e-6)


def test_the_nearest_of_queries_are_those_of_a_loop() -> None:
    x, queries = unit(90, 6), unit(11, 6, seed=1)
    found = nearest(x.astype(np.float16), 5, queries=queries, block=16)
    for i, query in enumerate(queries):
        cosine = [float(x[j] @ query) for j in range(90)]
        assert found.rows[i].tolist() == sorted(range(90), key=lambda j, of=cosine: -of[j])[:5]
        assert np.allclose(found.similarity[i], sorted(cosine, reverse=True)[:5], atol=2e-3)


def test_few_images_have_few_neighbours() -> None:
    x = unit(3, 4)
    assert nearest(x, 10).rows.shape == (3, 2)
    assert nearest(x[:1], 10).rows.shape == (1, 0)
    assert nearest(x, 10, queries=unit(2, 4, seed=2)).rows.shape == (2, 3)
    assert nearest(x[:0], 10).rows.shape == (0, 0)
    same = nearest(np.repeat(x[:1], 30, 0), 5)
    assert (same.rows != np.arange(30)[:, None]).all()
    assert np.allclose(same.similarity, 1)
    with pytest.raises(OptionError, match="k must be at least 1"):
        nearest(x, 0)


def facts_of(*pictures: bytes) -> list[Facts]:
    seen = [signature(one) for one in pictures]
    return [Facts(one.height, one.width, one.grey.tobytes(), one.colour.tobytes(), "") for one in seen]


def jpeg(picture: np.ndarray, quality: int = 50) -> bytes:
    return encode(picture, "JPEG", quality)


def smaller(picture: np.ndarray, share: float) -> np.ndarray:
    height, width = (max(1, round(share * side)) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def all_alike(n: int, cosine: float = 0.95) -> Neighbours:
    """What features say that tell nothing apart."""
    rows = np.array([[j for j in range(n) if j != i] for i in range(n)], np.int64)
    return Neighbours(rows, np.full(rows.shape, cosine, np.float32))


def test_recompressed_resized_and_mirrored_copies_are_found_and_nothing_else() -> None:
    originals = [photo(seed) for seed in range(12)]
    copies = [jpeg(originals[0], 20), encode(smaller(originals[1], 0.5)), encode(np.ascontiguousarray(originals[2][:, ::-1])),
              jpeg(smaller(originals[3][:, ::-1], 0.6), 40)]  # fmt: skip
    pictures = SmallPictures.of(facts_of(*map(encode, originals), *copies))
    found = near_duplicates(all_alike(16), pictures)
    assert found.pairs.tolist() == [[0, 12], [1, 13], [2, 14], [3, 15]]
    assert found.mirrored.tolist() == [False, False, True, True]
    assert (found.likeness > 0.97).all() and (found.likeness <= 1.0001).all()
    assert np.allclose(found.similarity, 0.95)
    assert [rows.tolist() for rows in found.sets()] == [[0, 12], [1, 13], [2, 14], [3, 15]]
    assert found.groups.tolist() == [0, 1, 2, 3, *range(4, 12), 0, 1, 2, 3]


def test_where_photos_are_many_features_and_pixels_must_both_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    one = photo(1)
    monkeypatch.setattr(neighbours, "_EACH", 0)
    pictures = SmallPictures.of(facts_of(encode(one), jpeg(one)))
    assert len(near_duplicates(all_alike(2, 0.69), pictures).pairs) == 0
    assert len(near_duplicates(all_alike(2, 0.71), pictures).pairs) == 1
    assert len(near_duplicates(all_alike(2, 0.69), pictures, similarity=0.6).pairs) == 1
    tinted = np.clip(one.astype(np.int64) + np.array([40, 0, -40]), 0, 255).astype(np.uint8)
    assert len(near_duplicates(all_alike(2), SmallPictures.of(facts_of(encode(one), encode(tinted)))).pairs) == 0
    other = np.asarray(ImageOps.flip(Image.fromarray(one)))
    assert len(near_duplicates(all_alike(2), SmallPictures.of(facts_of(encode(one), encode(other)))).pairs) == 0


def test_different_things_before_one_wall_are_no_duplicates() -> None:
    wall = np.repeat(np.linspace(20, 220, 160)[None, :, None], 120, 0).repeat(3, 2).astype(np.uint8)
    one, other = wall.copy(), wall.copy()
    one[30:50, 30:50], other[75:95, 25:45] = 90, 90
    pictures = SmallPictures.of(facts_of(encode(one), encode(other)))
    assert len(near_duplicates(all_alike(2), pictures, detail=-1).pairs) == 1
    assert len(near_duplicates(all_alike(2), pictures).pairs) == 0


def test_what_features_do_not_propose_is_found_by_its_pixels() -> None:
    mirrored = jpeg(np.ascontiguousarray(photo(1)[:, ::-1]))
    pictures = SmallPictures.of(facts_of(encode(photo(0)), encode(photo(1)), encode(photo(2)), mirrored))
    near = Neighbours(np.array([[1], [2], [0], [0]], np.int64), np.full((4, 1), 0.95, np.float32))
    found = near_duplicates(near, pictures)
    assert found.pairs.tolist() == [[1, 3]] and found.mirrored.tolist() == [True]
    assert np.isnan(found.similarity).all()


def test_flat_pictures_are_the_same_only_where_all_agrees() -> None:
    flat = [encode(np.full((40, 40, 3), level, np.uint8)) for level in (200, 200, 201)]
    pictures = SmallPictures.of(facts_of(*flat))
    assert near_duplicates(all_alike(3, 1.0), pictures).pairs.tolist() == [[0, 1]]
    assert near_duplicates(all_alike(3, 0.99), pictures).pairs.tolist() == []


def test_groups_are_joined_along_their_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_EACH", 0)
    one = photo(5)
    shades = [encode(one), jpeg(one, 60), jpeg(one, 35), encode(photo(6))]
    near = Neighbours(np.array([[1], [2], [1], [0]], np.int64), np.full((4, 1), 0.95, np.float32))
    found = near_duplicates(near, SmallPictures.of(facts_of(*shades)))
    assert found.pairs.tolist() == [[0, 1], [1, 2]]
    assert found.groups.tolist() == [0, 0, 0, 3]
    assert [rows.tolist() for rows in found.sets()] == [[0, 1, 2]]


def test_nothing_and_one_photo_have_no_duplicates() -> None:
    for n in (0, 1):
        pictures = SmallPictures.of(facts_of(*[encode(photo(1))] * n))
        near = Neighbours(np.zeros((n, 0), np.int64), np.zeros((n, 0), np.float32))
        found = near_duplicates(near, pictures)
        assert len(found.pairs) == 0 and found.sets() == []
    missing = Neighbours(np.full((2, 3), -1, np.int64), np.full((2, 3), -1, np.float32))
    assert len(near_duplicates(missing, SmallPictures.of(facts_of(encode(photo(1)), encode(photo(2))))).pairs) == 0
    with pytest.raises(OptionError, match="neighbours of 2 photos, and pictures of 1"):
        near_duplicates(missing, SmallPictures.of(facts_of(encode(photo(1)))))


def test_outliers_are_ranked_by_the_mean_distance() -> None:
    x = np.concatenate([unit(60, 8) * 0.2 + np.eye(8)[0], [-np.eye(8)[0], np.eye(8)[3]]]).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = outliers(nearest(x, 10))
    distance, _ = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(x).kneighbors()
    wanted = distance.mean(1)
    assert np.allclose(found.distance, wanted, atol=1e-5)
    assert found.order[:2].tolist() == [60, 61]
    spread = max(float(median_abs_deviation(wanted)) / 0.6745, 1e-3)  # 0.6745: the upper quartile of the normal distribution
    assert np.allclose(found.score, (wanted - np.median(wanted)) / spread, rtol=1e-3, atol=1e-2)
    assert set(found.suspects().tolist()) >= {60, 61}
    assert (np.diff(found.distance[found.order]) <= 0).all()


def test_outliers_of_nothing_one_and_the_same() -> None:
    assert len(outliers(nearest(unit(0, 3), 10)).order) == 0
    one = outliers(nearest(unit(1, 3), 10))
    assert one.distance.tolist() == one.score.tolist() == [0.0]
    same = outliers(nearest(np.repeat(unit(1, 3), 20, 0), 10))
    assert np.abs(same.distance).max() < 1e-6 and len(same.suspects()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flowers", "trash", "cats_dogs"])
@pytest.mark.usefixtures("vgg16_package")
def test_planted_duplicates_of_real_photos(name: str, shared_data: Path, tmp_path: Path) -> None:
    """95 % of the planted ones are found, and no more false pairs than a thousandth of the photos: see benchmarks/searching.py."""
    from greffon import duplicates, index

    rng = np.random.default_rng(3)
    paths = [path for path in sorted((shared_data / name).rglob("*")) if path.is_file()]
    chosen = rng.permutation(len(paths))[:250]
    originals = [Image.open(io.BytesIO(paths[i].read_bytes())).convert("RGB") for i in chosen]
    for number, picture in enumerate(originals):
        picture.save(tmp_path / f"{number:03}.png")
        copy = ImageOps.mirror(picture) if number % 3 == 0 else picture
        if number % 3 == 1:
            copy = copy.resize((max(1, copy.width * 6 // 10), max(1, copy.height * 6 // 10)))
        copy.save(tmp_path / f"{number:03}-copy.jpg", quality=60)
    index(tmp_path, out=tmp_path.parent / f"index-{name}")
    found = duplicates(tmp_path.parent / f"index-{name}")
    names = found.index.names
    pairs = {tuple(sorted((names[i][:3], names[j][:3]))) for i, j in found.found.pairs.tolist()}
    assert sum(a == b for a, b in pairs) >= 0.95 * 250
