"""Keras's HDF5 files in the layout of 2015 that ``keras.applications`` publishes: a group a layer, a data set a weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from greffon.errors import WeightsError

__all__ = ["read_keras_h5"]


def read_keras_h5(path: Path) -> dict[str, np.ndarray]:
    """Every data set of the file as ``layer/weight``, for instance ``block1_conv1/block1_conv1_W_1:0``; axes as Keras has them.

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

    def visit(name: str, item: object) -> None:
        # An external or compressed-to-nothing data set could claim any size: weights are far below 2 GiB each.
        if isinstance(item, h5py.Dataset):
            if item.nbytes > 2**31 or item.external:
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
