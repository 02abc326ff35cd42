"""What a cross-validation may see: never a test image, and every class in every fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drawn import encode, photo, write_classes
from greffon.datasets import folds, scan_for_folds
from greffon.errors import DataError, OptionError
from greffon.progress import Silent


def test_a_test_split_is_not_opened(tmp_path: Path) -> None:
    for role in ("train", "val", "test"):
        write_classes(tmp_path / role, {"cat": 6, "dog": 6})
    for number, path in enumerate((tmp_path / "val").rglob("*.png")):
        path.write_bytes(encode(photo(100 + number)))
    # Were the files of the test split opened, they would be named as unreadable.
    for path in (tmp_path / "test").rglob("*.png"):
        path.write_bytes(b"not to be opened")
    listener = Silent()
    looked = scan_for_folds(tmp_path, 3, book=None, progress=listener)
    assert len(looked.dataset) == 24
    assert set(looked.dataset.splits) == {"train", "val"}
    assert looked.unreadable == ()
    assert listener.warnings == []
    only = write_classes(tmp_path / "more" / "test", {"cat": 3, "dog": 3}).parent
    with pytest.raises(DataError, match="nothing but a test split"):
        scan_for_folds(only, 3, book=None, progress=Silent())


def test_every_class_is_in_every_fold(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 3, "b": 7, "empty": 0})
    looked = scan_for_folds(tmp_path, 3, book=None, progress=Silent())
    assert looked.dataset.classes == ("a", "b")
    for _, test in folds(looked.dataset.labels, looked.groups, 3, 0):
        assert set(looked.dataset.labels[test]) == {0, 1}


def test_what_cannot_be_folded_is_said(tmp_path: Path) -> None:
    photos = write_classes(tmp_path / "photos", {"a": 6, "b": 4, "c": 2})
    with pytest.raises(OptionError, match="--folds must be at least 2, got 1"):
        scan_for_folds(photos, 1, book=None, progress=Silent())
    with pytest.raises(DataError, match=r"5 folds need 5 images of every class.*'b' \(4\), 'c' \(2\)") as caught:
        scan_for_folds(photos, 5, book=None, progress=Silent())
    assert "--folds 2" in caught.value.hint
    one = write_classes(tmp_path / "one", {"a": 6})
    with pytest.raises(DataError, match="at least two classes"):
        scan_for_folds(one, 5, book=None, progress=Silent())


def test_near_duplicates_count_once(tmp_path: Path) -> None:
    photos = write_classes(tmp_path, {"a": 6, "b": 2})
    again = photo(400, 96, 128)
    for number, quality in enumerate((95, 80, 60, 40)):
        (photos / "b" / f"again{number}.jpg").write_bytes(encode(again, "JPEG", quality))
    looked = scan_for_folds(photos, 3, book=None, progress=Silent())
    assert np.unique(looked.groups[looked.dataset.labels == 1]).size == 3
    with pytest.raises(DataError, match=r"'b' \(3\)"):
        scan_for_folds(photos, 4, book=None, progress=Silent())
