"""Keras's HDF5 files, as ``keras.applications`` publishes them since 2015: a group a layer, a data set a weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from greffon.errors import WeightsError

__all__ = ["read_keras_h5"]


def read_keras_h5(path: Path) -> dict[str, np.ndarray]:
    """Every data set of numbers as ``layer/weight``, for instance ``block1_conv1/block1_conv1_W_1:0``; Keras's axes.

    Raises
    ------
    WeightsError
        Not an HDF5 file or damaged; or the package h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise WeightsError(f"{path}: reading Keras files needs the package h5py",
                           hint='pip install "greffon[keras-weights]"') from error  # fmt: skip
    found: dict[str, np.ndarray] = {}
    size = 0

    def visit(name: str, item: object) -> None:
        nonlocal size
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "fiu":
            return
        # A data set that is compressed to nothing could claim any size, and one that lies in another file could be
        # any file of this machine. VGG19 with its dense layers has 0.6 GB.
        size += item.nbytes
        if size > 2**31 or item.external or item.is_virtual:
            raise WeightsError(f"{path}: the data set {name} is too large, or lies outside the file")
        found[name] = np.asarray(item[()])

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except WeightsError:
        raise
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError and more for damaged files
        raise WeightsError(f"{path}: not an HDF5 file, or a damaged one ({type(error).__name__})") from error
    return found
