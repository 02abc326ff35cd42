"""ONNX: the initialisers of a graph. The graph itself is not run, nor looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from greffon.errors import WeightsError

__all__ = ["read_onnx"]


def read_onnx(path: Path) -> dict[str, np.ndarray]:
    """The initialisers of an ONNX file by name, in the file's own dtypes and axes.

    Raises
    ------
    WeightsError
        Not an ONNX file, damaged, or with tensors outside the file; or the package onnx is missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise WeightsError(
            f"{path}: reading ONNX needs the package onnx", hint='pip install "greffon[vgg16-weights]"'
        ) from error
    try:
        graph = onnx.load(path, load_external_data=False).graph
        # A tensor that says that its data lies elsewhere could name any file of this machine: it is refused.
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
            raise WeightsError(f"{path}: keeps tensors outside the file, which is not read")
        return {tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    except WeightsError:
        raise
    except Exception as error:  # protobuf's errors have no common public base
        raise WeightsError(f"{path}: not an ONNX file, or a damaged one ({type(error).__name__})") from error
