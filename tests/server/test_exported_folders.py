"""Export folders that somebody changed: each is refused, with the reason; and an honest one is read and gives what it should."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import photo
from greffon.errors import ModelError
from greffon.images import Preprocess
from served import CLASSES, PREPROCESS, about_of, expected, graph_of, write_export

pytest.importorskip("onnxruntime")
pytest.importorskip("fastapi")

from greffon.server.engines import make_engine
from greffon.server.exported import read_export


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as stop:
        make_engine(read_export(folder), threads=1)
    return str(stop.value)


def test_the_engine_gives_what_a_naive_loop_gives(tmp_path: Path) -> None:
    export = read_export(write_export(tmp_path / "e"))
    engine = make_engine(export, threads=1)
    photos = [photo(seed, 50 + 20 * seed, 90 - 10 * seed) for seed in range(4)]
    found = engine.run(np.stack([PREPROCESS.fit(one) for one in photos]), maps=True)
    assert found.probabilities == pytest.approx(np.stack([expected(one) for one in photos]), abs=1e-5)
    assert found.maps is not None
    scores = found.maps.mean((2, 3))  # a class activation map's mean is the class's score
    raised = np.exp(scores - scores.max(1, keepdims=True))
    assert raised / raised.sum(1, keepdims=True) == pytest.approx(found.probabilities, abs=1e-5)
    assert export.classes == CLASSES


def test_the_schema_is_the_one_that_export_writes() -> None:
    from greffon import exporting
    from greffon.exporting.files import OPENVINO_SETTINGS
    from greffon.exporting.graph import OUTPUTS
    from greffon.exporting.photo import PHOTO, PIXELS
    from greffon.server import exported, opened, openvino_graphs

    assert exporting.SCHEMA == exported.SCHEMA
    assert (exporting.EXPORT_FILE, exporting.RUNNER_FILE) == (exported.ABOUT, exported.RUNNER)
    written = {form.name: (form.file, *form.beside) for form in exporting.FORMATS}
    assert exported.GRAPHS.items() <= written.items()
    assert (opened.PROBABILITIES, opened.FEATURES, opened.MAPS) == OUTPUTS
    assert (opened.PHOTO, opened.PIXELS) == (PHOTO, PIXELS)
    assert openvino_graphs.SETTINGS == OPENVINO_SETTINGS


Change = Callable[[dict[str, Any]], None]


def put(*way: str, value: object) -> Change:
    def change(about: dict[str, Any]) -> None:
        inner = about
        for key in way[:-1]:
            inner = inner[key]
        inner[way[-1]] = value

    return change


def drop(key: str) -> Change:
    def change(about: dict[str, Any]) -> None:
        del about[key]

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("greffon", value=2), "has schema 2; this greffon reads 1"),
        (put("greffon", value=0), "has schema 0"),
        (put("greffon", value="1"), "no schema version"),
        (put("greffon", value=True), "no schema version"),
        (drop("greffon"), "no schema version"),
        (drop("classes"), "lacks 'classes'"),
        (put("classes", value=["a"]), "2 to 100,000 different names"),
        (put("classes", value=["a", "a", "b"]), "different names"),
        (put("classes", value=["a", "b", 3]), "different names"),
        (put("classes", value=["a", "b", "x" * 2000]), "different names"),
        (put("classes", value=["a", "b", "c"]), "classes are not those of export.json"),
        (put("maps", value="yes"), "maps must be of type bool"),
        (put("maps", value=False), "maps are not those of export.json"),
        (put("precision", value="int4"), "precision must be"),
        (put("precision", value="int8"), "precision are not those of export.json"),
        (put("format", value="torch"), "serve takes onnx and openvino"),
        (put("file", value="../../etc/passwd"), "names the file '../../etc/passwd'"),
        (put("file", value="/etc/passwd"), "names the file '/etc/passwd'"),
        (put("files", value={"model.onnx": {"bytes": 1, "sha256": "0" * 64}, "../more": {}}), "names the file '../more'"),
        (put("files", "model.onnx", "bytes", value=5), "and export.json says 5: damaged"),
        (put("files", "model.onnx", "bytes", value=-1), "damaged"),
        (put("files", "model.onnx", "sha256", value="0" * 64), "has the SHA-256"),
        (put("files", "model.onnx", "sha256", value="short"), "damaged"),
        (put("model", value=[]), "model must be of type dict"),
        (put("model", "preprocess", value={}), "expected the keys"),
        (put("model", "preprocess", "height", value=10**9), "input size"),
        (put("model", "preprocess", "std", value=[0, 1, 1]), "positive stds"),
        (put("model", "preprocess", "mean", value=[104.0, 117.0, 90.0]), "differ by"),
        (put("model", "preprocess", "resize_to", value=60), "differ by"),
        (put("model", "preprocess", "height", value=31), "export.json says"),
        (put("conformal", value=[0.5, 0.1]), "conformal must be"),
        (put("conformal", value=[0.5, 1.5]), "conformal must be"),
    ],
)  # fmt: skip
def test_a_description_that_lies_is_refused(tmp_path: Path, change: Change, reason: str) -> None:
    folder = write_export(tmp_path / "e")
    about = json.loads((folder / "export.json").read_text())
    change(about)
    (folder / "export.json").write_text(json.dumps(about))
    told = refused(folder)
    assert reason in told
    assert str(folder) in told


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[]", "no schema version"),
        ('{"greffon": 1, "greffon": 1}', "a key stands twice"),
        ('{"greffon": NaN}', "NaN is not a value of JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"greffon": 1' + " " * 17 * 2**20 + "}", "more than the 16,777,216"),
    ],
)
def test_what_is_no_description_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    folder = write_export(tmp_path / "e")
    (folder / "export.json").write_text(text)
    assert reason in refused(folder)


def test_links_pipes_and_other_files_are_refused(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "e")
    (folder / "libevil.so").write_bytes(b"")
    assert "holds 'libevil.so', which no export has" in refused(folder)
    (folder / "libevil.so").unlink()
    (tmp_path / "elsewhere").write_bytes((folder / "model.onnx").read_bytes())
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere")
    assert "is a link" in refused(folder)
    (folder / "model.onnx").unlink()
    assert "model.onnx: cannot be read (No such file" in refused(folder)
    os.mkfifo(folder / "model.onnx")
    assert "is not a file" in refused(folder)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    assert "is not a file" in refused(folder)
    assert "not an export folder" in refused(tmp_path)
    assert "cannot be read" in refused(tmp_path / "none")
    assert "cannot be read" in refused(tmp_path / "a\0b")


def test_a_folder_that_is_a_link_is_read(tmp_path: Path) -> None:
    write_export(tmp_path / "v1")
    (tmp_path / "current").symlink_to("v1")
    assert read_export(tmp_path / "current").classes == CLASSES


def changed(folder: Path, graph: Any) -> Path:
    """The folder with another graph, whose size and sum its description tells rightly."""
    content = graph if isinstance(graph, bytes) else graph.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    (folder / "export.json").write_text(json.dumps(about_of(content)))
    return folder


def tensor(graph: Any, name: str) -> Any:
    return next(one for one in graph.graph.initializer if one.name == name)


def not_a_number(graph: Any) -> None:
    values = np.frombuffer(tensor(graph, "w").raw_data, np.float32).copy()
    values[3] = np.nan
    tensor(graph, "w").raw_data = values.tobytes()


def endless_weight(graph: Any) -> None:
    tensor(graph, "b").ClearField("raw_data")
    tensor(graph, "b").float_data.extend([1.0, float("inf"), 0.0])


def larger_shape(graph: Any) -> None:
    tensor(graph, "w").dims[0] = 2**40


def negative_shape(graph: Any) -> None:
    tensor(graph, "w").dims[0] = -3


def outside(graph: Any) -> None:
    one = tensor(graph, "w")
    one.data_location = 1
    entry = one.external_data.add()
    entry.key, entry.value = "location", "../../../etc/passwd"


def outside_in_a_node(graph: Any) -> None:
    from onnx import helper, numpy_helper

    value = numpy_helper.from_array(np.zeros(3, np.float32), "hidden")
    value.external_data.add().key = "location"
    graph.graph.node.insert(0, helper.make_node("Constant", [], ["hidden"], value=value))


def custom(graph: Any) -> None:
    graph.graph.node[-1].domain = "evil.example"


def custom_inside(graph: Any) -> None:
    branch = next(node for node in graph.graph.node if node.op_type == "If") if any(n.op_type == "If" for n in graph.graph.node) else None
    if branch is None:
        custom(graph)
    else:
        branch.attribute[0].g.node[0].domain = "evil.example"


def endless(graph: Any) -> None:
    graph.graph.node[-1].op_type = "Loop"


def other_input(graph: Any) -> None:
    graph.graph.input[0].name = "picture"


def no_output(graph: Any) -> None:
    del graph.graph.output[:]


def uncut(graph: Any) -> None:
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = ["other" if name == "pixels" else name for name in names]


def no_softmax(graph: Any) -> None:
    graph.graph.node[-1].op_type = "Relu"
    del graph.graph.node[-1].attribute[:]


def more_classes(graph: Any) -> None:
    graph.graph.node[-1].ClearField("attribute")
    graph.graph.node[-1].op_type = "Shape"


def circle(graph: Any) -> None:
    graph.graph.node[-1].input[0] = "probabilities"


def sparse(graph: Any) -> None:
    graph.graph.sparse_initializer.add()


def strings(graph: Any) -> None:
    tensor(graph, "w").data_type = 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (not_a_number, "'w' holds numbers that are not finite"),
        (endless_weight, "'b' holds numbers that are not finite"),
        (larger_shape, "'w' has 9 elements, and its shape"),
        (negative_shape, "'w' has the shape [-3, 3, 1, 1]"),
        (outside, "keeps 'w' in another file"),
        (outside_in_a_node, "keeps 'hidden' in another file"),
        (custom, "of 'evil.example', which is not ONNX's"),
        (custom_inside, "of 'evil.example', which is not ONNX's"),
        (endless, "has the operator Loop"),
        (other_input, "takes picture; an export takes photo"),
        (no_output, "does not give probabilities, maps"),
        (uncut, "does not give pixels"),
        (no_softmax, "what it gives are no probabilities"),
        (more_classes, "ONNX Runtime cannot load it"),
        (circle, "ONNX Runtime cannot load it"),
        (sparse, "has sparse weights"),
        (strings, "has elements of the kind 8"),
    ],
)
def test_a_graph_that_lies_is_refused(tmp_path: Path, change: Callable[[Any], None], reason: str) -> None:
    folder = write_export(tmp_path / "e")
    graph = graph_of()
    change(graph)
    assert reason in refused(changed(folder, graph))


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"GIF89a", b"\x0a" * 5000, b"\xff" * 5000])
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    assert str(tmp_path) in refused(changed(write_export(tmp_path / "e"), content))


def test_a_graph_cut_short_or_with_a_byte_changed_never_escapes(tmp_path: Path) -> None:
    """Whatever the bytes: read, or one ModelError."""
    folder, rng = write_export(tmp_path / "e"), np.random.default_rng(0)
    whole = graph_of().SerializeToString()
    for _ in range(30):
        content = bytearray(whole[: rng.integers(len(whole) // 2, len(whole) + 1)])
        for place in rng.integers(0, len(content), rng.integers(0, 4)):
            content[place] = rng.integers(0, 256)
        changed(folder, bytes(content))
        try:
            make_engine(read_export(folder), threads=1)
        except ModelError as error:
            assert str(folder) in error.what


def test_preprocess_and_graph_are_compared_for_squash_too(tmp_path: Path) -> None:
    pre = Preprocess(height=32, width=40, resize="squash", resize_to=40, interpolation="bicubic", antialias=True, channels="rgb",
                     mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), scale=1 / 255)  # fmt: skip
    content = graph_of(preprocess=pre).SerializeToString()
    folder = write_export(tmp_path / "e")
    (folder / "model.onnx").write_bytes(content)
    (folder / "export.json").write_text(json.dumps(about_of(content, preprocess=pre)))
    make_engine(read_export(folder), threads=1)
