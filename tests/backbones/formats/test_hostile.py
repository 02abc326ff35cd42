"""Weight files that mean harm, or are merely broken: one error in bounded time and memory, and nothing is ever run."""

from __future__ import annotations

import os
import pickle  # to write hostile files; nothing of ours unpickles them as they are
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_vgg
from caffe_schema import net_parameter

from greffon.backbones.formats.caffe import read_caffe
from greffon.backbones.formats.npy import read_npy, read_npz
from greffon.backbones.reading import file_format, read_weights
from greffon.errors import WeightsError

HEADER = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (), }"


def npy(path: Path, pickled: bytes) -> Path:
    """A .npy file around a pickle."""
    path.write_bytes(HEADER.ljust(127) + b"\n" + pickled)
    return path


class Makes:
    """Makes a folder when it is unpickled, by a function of choice."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.told = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.told


# --- .npy ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_are_read_from_pickles_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    kinds = ("<f4", ">f4", "<f8", "<f2", "<i8", "u1")
    held: dict[str, Any] = {kind: [np.arange(6, dtype=kind).reshape(2, 3), np.zeros(0, kind)] for kind in kinds}
    held["by columns"] = {"w": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "scalar": np.array(2.5)}
    if protocol == 5:  # out-of-band buffers are a thing of protocol 5, and numpy.save does not use it
        protocol = 4
    found = read_npy(npy(tmp_path / "w.npy", pickle.dumps(np.array(held, dtype=object).item(), protocol)))
    assert len(found) == 2 * len(kinds) + 2
    for kind in kinds:
        assert found[f"{kind}/0"].tolist() == [[0, 1, 2], [3, 4, 5]] and found[f"{kind}/1"].shape == (0,), kind
    assert found["by columns/w"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["by columns/scalar"].item() == 2.5


def test_a_pickle_of_python_2_is_read(tmp_path: Path) -> None:
    """vgg16.npy was written by Python 2: its arrays are strings of bytes (operation BINSTRING), its names are str of it."""
    data = np.array([1.5, -2.0], "<f4").tobytes()

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    kind = b"cnumpy\ndtype\n" + text(b"f4") + b"K\x00K\x01\x87R(K\x03" + text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += b"(K\x01K\x02\x85" + kind + b"\x89" + text(data) + b"tb"
    found = read_npy(npy(tmp_path / "w.npy", b"\x80\x02}" + text(b"conv1_1") + b"]" + array + b"as."))
    assert list(found) == ["conv1_1/0"] and found["conv1_1/0"].tolist() == [1.5, -2.0]


def hostile_pickles(made: Path) -> dict[str, bytes]:
    """Each would make the folder if it were unpickled, or eat the machine."""
    name = str(made)
    calls: dict[str, object] = {
        "os.mkdir": Makes(os.mkdir, name),
        "os.system": Makes(os.system, f"mkdir {name}"),
        "subprocess": Makes(subprocess.check_call, ["mkdir", name]),
        "eval": Makes(eval, f"__import__('os').mkdir({name!r})"),
        "getattr": Makes(getattr, "text", "__class__"),
        "in a dict": {"conv1_1": [np.zeros(2), Makes(os.mkdir, name)]},
        "numpy.load": Makes(np.load, name),
        "numpy.fromfile": Makes(np.fromfile, name),
        "partial": Makes(__import__("functools").partial, os.mkdir, name),
    }
    found = {f"{key}, protocol {p}": pickle.dumps(value, p) for key, value in calls.items() for p in (0, 2, 4)}
    found |= {
        "INST": b"(S'" + name.encode() + b"'\nios\nmkdir\n.",
        "OBJ": b"(cos\nmkdir\nX" + len(name).to_bytes(4, "little") + name.encode() + b"o.",
        "NEWOBJ": b"\x80\x02cos\nmkdir\nX" + len(name).to_bytes(4, "little") + name.encode() + b"\x85\x81.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c" + bytes([len(name)]) + name.encode() + b"\x85R.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0bos.mkdir.__call__\x93.",
        "persistent": b"Pevil\n.",
        "extension": b"\x80\x02\x82\x01.",
        "a stand-in set": b"cnumpy\ndtype\n}S'_name'\nS'encode'\nsb.",
        "a stand-in set by slots": b"cnumpy\ndtype\nN}S'_name'\nS'encode'\ns\x86b.",
        "a type called": b"cnumpy\nndarray\n(K\x05tR.",
        "an array set to nothing": b"cnumpy.core.multiarray\n_reconstruct\n)R}b.",
        "an array never filled": b"}S'w'\ncnumpy.core.multiarray\n_reconstruct\n)Rs.",
        "a shape that lies": array_of((10**9, 10**9), b"f4", bytes(8)),
        "a negative shape": array_of((-1, -2), b"f4", bytes(8)),
        "objects": array_of((1,), b"O8", bytes(8)),
        "a structure": array_of((1,), b"f4,f4", bytes(8)),
        "a letter of no dtype": array_of((1,), b"\xffq", bytes(8)),
        "a huge string": b"X\xff\xff\xff\x7fabc.",
        "a huge bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"abc.",
        "a huge bytearray": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"abc.",
        "a huge frame": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"abc.",
        "a huge number": b"\x8b\xff\xff\xff\x7fabc.",
        "many digits": b"I" + b"9" * 10_000_000 + b"\n.",
        "a far memo": b"]r\xff\xff\xff\x7f.",
        "deep": b"(" * 100_000 + b"l" * 100_000 + b".",
        "nested": b"]" * 100_000 + b"a" * 99_999 + b".",
        "of itself": b"\x80\x02]q\x00h\x00a.",
        "doubling": b"]q\x00" + b"".join(b"]h" + bytes([i]) + b"ah" + bytes([i]) + b"aq" + bytes([i + 1]) for i in range(60)) + b".",
        "not a dict": b"K\x05.",
        "a set": b"\x80\x04\x8f.",
        "nothing": b"",
        "no end": b"}",
        "popping too much": b"00000.",
    }
    return found


def array_of(shape: tuple[int, ...], kind: bytes, data: bytes) -> bytes:
    """{'w': an array}, as NumPy would pickle it if all were true."""
    sides = b"(" + b"".join(b"I%d\n" % side for side in shape) + b"t"
    dtype = b"cnumpy\ndtype\nU" + bytes([len(kind)]) + kind + b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    head = b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + sides
    return head + dtype + b"\x89U" + bytes([len(data)]) + data + b"tbs."


@pytest.mark.parametrize("name", hostile_pickles(Path("made")))
def test_a_hostile_pickle_is_one_error(name: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = npy(tmp_path / "w.npy", hostile_pickles(made)[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name in ("doubling", "of itself", "not a dict"):
        # Lists in lists, and plain numbers, are no harm; but there is no array to be found, or too deep a nesting.
        try:
            assert read_npy(path) == {}
        except WeightsError as error:
            assert str(path) in error.what
    else:
        with pytest.raises(WeightsError, match=r"w\.npy"):
            read_npy(path)
    assert not made.exists()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


def test_the_hostile_pickles_would_do_harm(tmp_path: Path) -> None:
    """Without this, the test above could pass on harmless files."""
    harm = 0
    for number, name in enumerate(hostile_pickles(tmp_path / "x")):
        made = tmp_path / f"made{number}"
        if any(name.startswith(word) for word in ("os.mkdir", "os.system", "subprocess", "eval", "in a dict", "INST", "OBJ", "STACK")):
            pickle.loads(hostile_pickles(made)[name], encoding="latin1")  # noqa: S301  # our own file
            harm += made.is_dir()
    assert harm == 18


def test_other_npy_files_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.zeros((2, 3)))
    with pytest.raises(WeightsError, match=r"holds one array of float64 \(2, 3\), expected a dict of arrays"):
        read_weights(tmp_path / "array.npy")
    for header in (b"{'descr': '|O', 'fortran_order': False, 'shape': (%s), }" % (b"1," * 40), b"{" * 100, b"[].append(1)"):
        (tmp_path / "w.npy").write_bytes(b"\x93NUMPY\x01\x00\xf6\x00" + header.ljust(245) + b"\n" + b"N.")
        with pytest.raises(WeightsError, match=r"w\.npy"):
            read_weights(tmp_path / "w.npy")
    np.savez(tmp_path / "pickled.npz", w=np.array([{}], dtype=object))
    with pytest.raises(WeightsError, match="not an archive of NumPy arrays"):
        read_npz(tmp_path / "pickled.npz")


@pytest.mark.slow
def test_an_archive_that_grows_is_refused(tmp_path: Path) -> None:
    for inner, name in (("w.npy", "bomb.npz"), ("model.weights.h5", "bomb.keras")):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(inner, "w", force_zip64=True) as file:
            for _ in range(33):
                file.write(bytes(2**26))
        assert (tmp_path / name).stat().st_size < 5e6
        with pytest.raises(WeightsError, match=r"(would take more than 2 GiB|is too large)"):
            read_weights(tmp_path / name)


# --- caffemodel ------------------------------------------------------------------------------------------------------


def test_a_caffemodel_whose_blobs_lie_is_damaged(tmp_path: Path) -> None:
    def file(**blob: Any) -> Path:
        net = net_parameter()()
        shape = blob.pop("shape", None)
        made = net.layer.add(name="conv1_1").blobs.add(**blob)
        if shape is not None:
            made.shape.dim.extend(shape)
        (tmp_path / "w").write_bytes(net.SerializeToString())
        return tmp_path / "w"

    assert read_caffe(file(data=[1, 2], shape=[2]))["conv1_1/0"].tolist() == [1, 2]
    assert read_caffe(file(data=[1, 2], num=1, channels=1, height=1, width=2))["conv1_1/0"].tolist() == [1, 2]
    for blob in ({"shape": [3]}, {"shape": [-1, -2]}, {"shape": [2**62, 2**62]}, {"num": 2, "channels": 2}, {"shape": [1] * 9}):
        with pytest.raises(WeightsError, match=r"w: not a caffemodel, or a damaged one \(conv1_1/0 "):
            read_caffe(file(data=[1.0, 2.0], **blob))


def test_a_caffemodel_without_numbers_is_told(tmp_path: Path) -> None:
    net = net_parameter()(name="deploy")
    net.layer.add(name="relu")
    (tmp_path / "w").write_bytes(net.SerializeToString())
    with pytest.raises(WeightsError, match="a caffemodel without numbers"):
        read_weights(tmp_path / "w")
    net.layer.add(name="a").blobs.add(data=[1.0]).shape.dim.append(1)
    net.layer.add(name="a").blobs.add(data=[1.0]).shape.dim.append(1)
    (tmp_path / "w").write_bytes(net.SerializeToString())
    with pytest.raises(WeightsError, match="two layers of the name 'a'"):
        read_weights(tmp_path / "w")
    # Messages within messages, as deep as they go.
    (tmp_path / "w").write_bytes(b"\x0a\x01x" + b"\x12" * 20_000)
    with pytest.raises(WeightsError, match="not a caffemodel, or a damaged one"):
        read_weights(tmp_path / "w")


# --- mutated files of every format -----------------------------------------------------------------------------------

_CHILD = """
import resource, sys, time
import numpy as np
from pathlib import Path
from greffon.backbones.reading import read_weights
from greffon.errors import WeightsError
whole, place, count = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), int(sys.argv[3])
place.write_bytes(whole)
read_weights(place)                                  # what is imported late is imported now
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1_500_000_000, used + 1_500_000_000))
random, slowest, told, read = np.random.default_rng(0), 0.0, 0, 0
for number in range(count):
    data = bytearray(whole)
    kind = number % 5
    start = int(random.integers(0, len(data))) if number % 2 else int(random.integers(0, min(len(data), 600)))
    if kind == 0:
        data[start] ^= int(random.integers(1, 256))
    elif kind == 1:
        for at in random.integers(0, min(len(data), 2000), 8):
            data[at] = int(random.integers(0, 256))
    elif kind == 2:
        del data[start:start + int(random.integers(1, 64))]
    elif kind == 3:
        data[start:start] = bytes(random.integers(0, 256, 16).astype(np.uint8))
    else:
        data[start:start + 8] = b"\\xff" * 8
    place.write_bytes(data)
    began = time.perf_counter()
    try:
        read_weights(place)
        read += 1
    except WeightsError as error:
        assert str(place) in error.what, error.what
        told += 1
    slowest = max(slowest, time.perf_counter() - began)
print(told, read, f"{slowest:.2f}")
"""


def _keras(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        test_vgg.keras_2015(path.with_suffix(".inner"))
        archive.write(path.with_suffix(".inner"), "model.weights.h5")
        archive.writestr("config.json", "{}")


def _safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({name: kernel for name, (kernel, _) in test_vgg.as_keras_holds_them().items()}, path)


def _legacy_torch(path: Path) -> None:
    import torch

    tensors = {name: torch.from_numpy(kernel) for name, (kernel, _) in test_vgg.as_keras_holds_them().items()}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)


MUTATED: dict[str, Callable[[Path], None]] = {
    **{name: write for name, (write, _, _) in test_vgg.WRITE.items() if name not in ("npy of dicts", "keras 2017", "caffe, doubles")},
    "keras archive": _keras,
    "safetensors": _safetensors,
    "torch, old": _legacy_torch,
}


#: Of the formats that are left to the slow tests another one is read by the same code.
_ALSO = ("npz", "npy of lists", "keras 2015", "tf2onnx")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in _ALSO else ()) for name in MUTATED])
def test_five_hundred_mutated_files_give_tensors_or_one_error(name: str, tmp_path: Path) -> None:
    """In a process of its own, whose memory is bounded: another exception, a crash or a hang would end it."""
    MUTATED[name](tmp_path / "whole")
    kind = file_format(tmp_path / "whole")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD, str(tmp_path / "whole"), str(tmp_path / "mutated"), "500"],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{kind}: {done.returncode}\n{done.stderr[-2000:]}"
    told, read, slowest = done.stdout.split()
    assert int(told) + int(read) == 500 and int(told) >= 25 and float(slowest) < 10, done.stdout
