"""Exports to OpenVINO behind the server: the same answers as ONNX's, no torch, and folders that somebody changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drawn import encode, photo
from greffon.errors import ModelError
from greffon.silence import has_openvino
from served import CLASSES, PREPROCESS, ask, describe_openvino, expected, form, running, write_export, write_openvino

pytest.importorskip("onnxruntime")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
if not has_openvino():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

from greffon.server.engines import make_engine
from greffon.server.exported import read_export


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as stop:
        make_engine(read_export(folder), threads=1)
    assert str(folder) in str(stop.value)
    return str(stop.value)


def test_the_engine_gives_what_onnx_gives_and_a_naive_loop(tmp_path: Path) -> None:
    export = read_export(write_openvino(tmp_path / "e"))
    engine, other = make_engine(export, threads=1), make_engine(read_export(write_export(tmp_path / "o")), threads=1)
    photos = [photo(seed, 50 + 20 * seed, 90 - 10 * seed) for seed in range(4)]
    pictures = np.stack([PREPROCESS.fit(one) for one in photos])
    found, there = engine.run(pictures, maps=True), other.run(pictures, maps=True)
    assert found.probabilities == pytest.approx(np.stack([expected(one) for one in photos]), abs=1e-5)
    assert found.probabilities.dtype == np.float32
    assert found.maps is not None and there.maps is not None
    assert found.maps == pytest.approx(there.maps, abs=1e-4)
    assert engine.run(pictures[1:2]).maps is None
    assert (export.format, export.file.name) == ("openvino", "model.xml")
    assert read_export(tmp_path / "e").sha256 == export.sha256 != read_export(tmp_path / "o").sha256


def test_a_server_of_both_says_the_same(tmp_path: Path) -> None:
    write_openvino(tmp_path / "first", more={"conformal": [round(number / 40, 3) for number in range(1, 20)]})
    write_export(tmp_path / "second")
    pictures = [photo(seed, 40 + 9 * seed, 70) for seed in range(5)]
    body = form([("image", f"{number}.png", encode(one)) for number, one in enumerate(pictures)])
    with running([tmp_path / "first", tmp_path / "second"], tmp_path / "log") as server:
        first, second = (ask(server, f"/v1/predict?model={name}", *body).json["results"] for name in ("first", "second"))
        for one, other, picture in zip(first, second, pictures, strict=True):
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)
            assert [one["probabilities"][name] for name in CLASSES] == pytest.approx(list(expected(picture)), abs=1e-4)
            assert "labels" in one and "labels" not in other
        maps = [ask(server, f"/v1/explain?model={name}", encode(pictures[0]), "image/png").json for name in ("first", "second")]
        assert [one["method"] for one in maps] == ["cam", "cam"]
        assert np.array(maps[0]["map"]) == pytest.approx(np.array(maps[1]["map"]), abs=1e-3)
        loaded = Path(f"/proc/{server.process.pid}/maps")
        if loaded.exists():
            assert "openvino" in loaded.read_text()
            assert "libtorch" not in loaded.read_text()
        assert server.stop() == 0


def test_links_and_other_files_are_refused(tmp_path: Path) -> None:
    folder = write_openvino(tmp_path / "e")
    (folder / "model.onnx").write_bytes(b"")
    assert "holds model.onnx, of which export.json says nothing" in refused(folder)
    (folder / "model.onnx").unlink()
    (tmp_path / "elsewhere").write_bytes((folder / "model.bin").read_bytes())
    (folder / "model.bin").unlink()
    assert "model.bin: cannot be read" in refused(folder)
    (folder / "model.bin").symlink_to(tmp_path / "elsewhere")
    assert "model.bin: is a link" in refused(folder)
    (folder / "model.bin").unlink()
    (folder / "model.bin").write_bytes(b"x" * (tmp_path / "elsewhere").stat().st_size)
    assert "model.bin: has the SHA-256" in refused(folder)
    (folder / "model.bin").write_bytes(b"")
    assert "model.bin: has 0 bytes" in refused(folder)


Change = Callable[[bytes, bytearray], bytes]


def by(old: bytes, new: bytes, count: int = 1) -> Change:
    """One piece of the XML in the place of another, which must be there."""

    def change(xml: bytes, _: bytearray) -> bytes:
        assert old in xml, old
        return xml.replace(old, new, count)

    return change


def constant(key: bytes, value: bytes) -> Change:
    """Another attribute of the first constant of float32."""

    def change(xml: bytes, _: bytearray) -> bytes:
        place = xml.index(b'<data element_type="f32"')
        return xml[:place] + re.sub(key + b'="[^"]*"', key + b'="' + value + b'"', xml[place:], count=1)

    return change


def not_finite(xml: bytes, weights: bytearray) -> bytes:
    found = re.search(rb'<data element_type="f32" shape="[^"]*" offset="(\d+)"', xml)
    assert found
    place = int(found[1])
    weights[place : place + 4] = np.float32(np.nan).tobytes()
    return xml


def half_the_weights(xml: bytes, weights: bytearray) -> bytes:
    del weights[len(weights) // 2 :]
    return xml


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (by(b"<?xml", b"<xml"), "not OpenVINO's XML"),
        (by(b'<?xml version="1.0"?>', b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>'), "definitions of its own"),
        (lambda xml, _: xml.decode().encode("utf-16"), "definitions of its own|not XML"),
        (lambda xml, _: xml[: len(xml) // 2], "not XML, or damaged"),
        (by(b'version="opset1"', b'version="extension"'), "of 'extension', which is not OpenVINO's"),
        (by(b'type="SoftMax"', b'type="Loop"'), "has the layer Loop"),
        (by(b'type="SoftMax"', b'type="ReadValue"'), "has the layer ReadValue"),
        (by(b'type="SoftMax"', b'type="Strange"'), "OpenVINO cannot load it"),
        (constant(b"element_type", b"string"), "has elements of the kind 'string'"),
        (constant(b"shape", b"1000000000000,3"), "and its shape"),
        (constant(b"shape", b"-3,3"), "and its shape"),
        (constant(b"shape", b"x"), "does not say where it lies"),
        (constant(b"offset", b"99999999"), "lies beyond the"),
        (constant(b"offset", b"-8"), "lies beyond the"),
        (half_the_weights, "lies beyond the"),
        (not_finite, "holds numbers that are not finite"),
        (by(b'names="photo"', b'names="picture"', 9), "takes \\['picture'\\]; an export takes photo"),
        (by(b'names="pixels"', b'names="points"', 9), "does not give pixels"),
        (by(b'names="probabilities"', b'names="guesses"', 9), "does not give probabilities"),
        (by(b"chien", b"loup!", 99), "its classes are not those of export.json"),
    ],
)
def test_a_graph_that_lies_is_refused(tmp_path: Path, change: Change, reason: str) -> None:
    folder = write_openvino(tmp_path / "e")
    weights = bytearray((folder / "model.bin").read_bytes())
    (folder / "model.xml").write_bytes(change((folder / "model.xml").read_bytes(), weights))
    (folder / "model.bin").write_bytes(weights)
    describe_openvino(folder)
    assert re.search(reason, refused(folder))


def test_bytes_changed_at_random_never_escape(tmp_path: Path) -> None:
    """Whatever the XML: read, or one ModelError."""
    folder, rng = write_openvino(tmp_path / "e"), np.random.default_rng(0)
    whole = (folder / "model.xml").read_bytes()
    for _ in range(8):
        content = bytearray(whole)
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[place] = rng.integers(32, 127)
        (folder / "model.xml").write_bytes(content)
        describe_openvino(folder)
        try:
            make_engine(read_export(folder), threads=1)
        except ModelError as error:
            assert str(folder) in error.what


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_real_export_says_what_its_model_says(precision: str, tmp_path: Path) -> None:
    """A drawn network's model, exported to OpenVINO; what the engine says beside what the model says."""
    from exporting_models import PHOTOS, model_of
    from greffon import export, save_model

    model = model_of()
    save_model(model, tmp_path / "model")
    export(tmp_path / "model", out=tmp_path / "out", to="openvino", precision=precision)
    engine = make_engine(read_export(tmp_path / "out"), threads=1)
    found = engine.run(np.stack([engine.preprocess.fit(one) for one in PHOTOS[:4]]), maps=True)
    assert found.probabilities == pytest.approx(model.predict(PHOTOS[:4]).probabilities, abs=1e-3 if precision == "float32" else 1e-2)
    assert found.maps is not None
    assert json.loads((tmp_path / "out" / "export.json").read_text("utf-8"))["format"] == "openvino"
