"""Keras's files: HDF5 (``.h5`` since 2015, ``.weights.h5``) with a group a layer, and ``.keras``, a zip archive around one."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from greffon.errors import WeightsError

__all__ = ["read_keras_archive", "read_keras_h5"]

#: VGG19 with its dense layers has 0.6 GB.
_LARGEST = 2**31
#: A data set that is compressed to nothing could claim any size: beyond this many bytes, it may be so many times as large as
#: what lies in the file.
_BOMB_BYTES, _BOMB_RATIO = 2**26, 100


def read_keras_h5(path: Path) -> dict[str, np.ndarray]:
    """Every data set of numbers as ``layer/weight``, for instance ``block1_conv1/block1_conv1_W_1:0``; Keras's axes.

    Raises
    ------
    WeightsError
        Not an HDF5 file or damaged; or the package h5py is missing.
    """
    return _read(path, path)


def read_keras_archive(path: Path) -> dict[str, np.ndarray]:
    """The weights of a ``.keras`` archive, as ``read_keras_h5`` gives them: ``layers/conv2d_1/vars/0``.

    The archive's description of the network is not read: it can ask for code to be run.

    Raises WeightsError as ``read_keras_h5`` does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo("model.weights.h5").file_size > _LARGEST:
                raise WeightsError(f"{path}: its model.weights.h5 is too large")
            inner = io.BytesIO(archive.read("model.weights.h5"))
    except WeightsError:
        raise
    except Exception as error:  # zipfile and zlib raise many kinds for damaged files
        raise WeightsError(f"{path}: not a .keras archive, or a damaged one ({type(error).__name__})") from error
    return _read(path, inner)


def _read(path: Path, source: Path | io.BytesIO) -> dict[str, np.ndarray]:
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
        # One that lies in another file could be any file of this machine.
        size += item.nbytes
        bomb = item.nbytes > _BOMB_BYTES and item.nbytes > _BOMB_RATIO * item.id.get_storage_size()
        if size > _LARGEST or bomb or item.external or item.is_virtual:
            raise WeightsError(f"{path}: the data set {name} is too large, or lies outside the file")
        found[name] = np.asarray(item[()])

    try:
        # Without HDF5's own lock: it cannot be had where a download is locked, nor on some file systems.
        with h5py.File(source, "r", locking=False) as file:
            file.visititems(visit)
    except WeightsError:
        raise
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError and more for damaged files
        raise WeightsError(f"{path}: not an HDF5 file, or a damaged one ({type(error).__name__})") from error
    return found
