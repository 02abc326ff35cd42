"""NumPy's files: ``.npz``, and ``.npy`` with a pickled dict in it, as ``vgg16.npy`` and ``vgg19.npy`` are.

A pickle is a program. This one is never run as one: its operations are read first and must be on a list, and the few names
that it may speak of lead to stand-ins of ours, which take notes and do nothing. Arrays are built from those notes.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np

from greffon.errors import WeightsError

__all__ = ["read_npy", "read_npz"]

#: VGG19 with its dense layers has 0.6 GB, and twice that in float64.
_LARGEST = 2**31
#: A dict of 38 arrays takes some 1,500 operations.
_MOST_OPERATIONS = 200_000
_DEEPEST = 5

#: What a dict of arrays needs, in all protocols, and nothing that calls anything by itself: ``REDUCE`` and ``BUILD`` reach
#: the stand-ins alone.
# fmt: off
_OPERATIONS = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
    "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "INT",
    "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3",
))
# fmt: on


@final
class _Kind:
    """Stands for ``numpy.dtype``: the letter and size that it was made with, and its byte order."""

    __slots__ = ("code", "order")

    def __init__(self, code: object) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2:
            raise pickle.UnpicklingError("a dtype of an unknown form")
        self.order = _text(state[1])


@final
class _Array:
    """Stands for a ``numpy.ndarray``: what it would be set to."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array of an unknown form")
        self.state = state


@final
class _StandIn:
    """A name that a pickle may speak of. Called, it gives an ``_Array``, a ``_Kind`` or bytes; it cannot be changed."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError(f"{self._name} cannot be set")

    def __call__(self, *arguments: object) -> object:
        if self._name == "_reconstruct":
            return _Array()
        if self._name == "dtype" and arguments:
            return _Kind(arguments[0])
        if self._name == "encode" and arguments and isinstance(arguments[0], str):  # how Python 3 writes bytes in protocol 2
            return arguments[0].encode("latin1")
        if self._name == "bytes" and not arguments:  # and how it writes none
            return b""
        raise pickle.UnpicklingError(f"{self._name} is called in an unknown way")


_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "_reconstruct",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "bytes",
    ("builtins", "bytes"): "bytes",
}


@final
class _Reader(pickle.Unpickler):
    """Finds the stand-ins and nothing else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = _NAMES.get((module_name, global_name))
        if name is None:
            raise pickle.UnpicklingError(f"it speaks of {module_name}.{global_name}"[:120])
        return _StandIn(name)


def read_npy(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a ``.npy`` file that holds a dict of arrays, or of dicts or lists of arrays, as ``conv1_1/0``.

    Raises WeightsError for anything else; code in the file is never run.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0), (3, 0)):
                raise ValueError(f"version {version}")
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = reader(file)
            if dtype != np.dtype(object) or shape != ():
                raise WeightsError(f"{path}: holds one array of {dtype} {shape}, expected a dict of arrays under names")
            _check_operations(file)
            found = _Reader(file, encoding="bytes").load()
        return dict(_arrays(found, "", 0))
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # pickles and headers that lie raise errors of every kind
        what = str(error) if isinstance(error, pickle.UnpicklingError) else type(error).__name__
        raise WeightsError(f"{path}: not a dict of NumPy arrays, or a damaged one ({what[:160]})") from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` archive by name. Raises WeightsError where one is pickled, too large or damaged."""
    found: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > _LARGEST:
                raise WeightsError(f"{path}: its arrays would take more than {_LARGEST / 2**30:.0f} GiB")
            for info in archive.infolist():
                data = archive.read(info)
                with io.BytesIO(data) as file:
                    found[info.filename.removesuffix(".npy")] = np.lib.format.read_array(file, allow_pickle=False)
    except WeightsError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for damaged files
        raise WeightsError(f"{path}: not an archive of NumPy arrays, or a damaged one ({type(error).__name__})") from error
    return found


def _check_operations(file: io.BufferedReader) -> None:
    """Read a pickle without running it; the file stands at its beginning again afterwards. Raises UnpicklingError."""
    start = file.tell()
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if operation.name not in _OPERATIONS:
            raise pickle.UnpicklingError(f"it has the operation {operation.name}")
        if operation.name == "GLOBAL" and tuple(str(argument).split(" ", 1)) not in _NAMES:
            raise pickle.UnpicklingError(f"it speaks of {str(argument).replace(' ', '.')}"[:120])
        if operation.name in ("LONG", "LONG1", "INT") and len(str(argument)) > 20:
            raise pickle.UnpicklingError("it has a number of more than 20 digits")
        if operation.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > _MOST_OPERATIONS:
            raise pickle.UnpicklingError("it remembers too much")
        if count > _MOST_OPERATIONS:
            raise pickle.UnpicklingError(f"it has more than {_MOST_OPERATIONS:,} operations")
    file.seek(start)


def _arrays(found: object, name: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(found, _Array) and not depth and len(found.state) == 5 and found.state[1] == () and type(found.state[4]) is list:
        # NumPy keeps a dict as an array of one object.
        for one in found.state[4][:1]:
            yield from _arrays(one, "", 1)
    elif isinstance(found, _Array):
        yield name, _built(found, name)
    elif isinstance(found, dict | list | tuple) and depth < _DEEPEST and len(found) <= 10_000:
        items = found.items() if isinstance(found, dict) else enumerate(found)
        for key, value in items:
            part = str(key) if isinstance(key, int) else _text(key)
            yield from _arrays(value, f"{name}/{part}" if name else part, depth + 1)
    elif not isinstance(found, str | bytes | int | float | bool | None):
        raise pickle.UnpicklingError(f"{name or 'it'} is not an array, nor a dict or a list of some")


def _built(array: _Array, name: str) -> np.ndarray:
    """An array from what was noted of it: numbers alone, and just as many as it has bytes for."""
    if len(array.state) != 5:
        raise pickle.UnpicklingError(f"{name or 'it'} was never filled")
    _, shape, kind, by_columns, data = array.state
    if not isinstance(kind, _Kind) or not isinstance(shape, tuple) or not isinstance(data, bytes):
        raise pickle.UnpicklingError(f"{name or 'it'} is not an array of numbers")
    dtype = np.dtype(_text(kind.code)).newbyteorder(kind.order if kind.order in ("<", ">") else "=")
    if dtype.kind not in "fiu" or not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 8:
        raise pickle.UnpicklingError(f"{name or 'it'} is not an array of numbers")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise pickle.UnpicklingError(f"{name} {shape} has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"a name is a {type(value).__name__}")
    return value
