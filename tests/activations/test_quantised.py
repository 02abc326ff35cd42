"""int8 against float32, and every way in which a quantised graph can be damaged."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from small import network

from drawn import photo
from greffon import silence
from greffon.activations import (
    QuantisedEngine,
    QuantisedGraph,
    Tap,
    TorchEngine,
    as_float,
    cached_graph,
    fidelity,
    quantise,
)
from greffon.backbones import load_backbone
from greffon.errors import BackboneError, ModelError, OptionError

pytest.importorskip("nncf")
POOLED = Tap("pooled")


def images(first: int, count: int, size: int = 64) -> np.ndarray:
    return np.stack([photo(seed, size, size) for seed in range(first, first + count)])


CALIBRATION, OTHERS = images(0, 24), images(100, 10)


@pytest.fixture(scope="module")
def graph() -> QuantisedGraph:
    return quantise(network(), POOLED, CALIBRATION)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_the_records_are_those_of_float32_stage_by_stage(graph: QuantisedGraph) -> None:
    backbone = network()
    engine, exact = QuantisedEngine(backbone, graph), TorchEngine(backbone, POOLED, "float32")
    assert (engine.precision, engine.tap, engine.record) == ("int8", POOLED, exact.record)
    found, wanted = engine.run(OTHERS), exact.run(OTHERS)
    assert (found.dtype, found.shape) == (np.float32, wanted.shape)
    at = 0
    for width in backbone.widths():
        for part in (slice(at, at + width), slice(at + width, at + 2 * width)):  # means, maxima
            found_cosines = cosines(found[:, part], wanted[:, part])
            assert found_cosines.mean() > 0.9995
            assert found_cosines.min() > 0.998
        at += 2 * width
    assert (found != wanted).any(1).all()
    near = fidelity(backbone, engine, OTHERS)
    assert near.precision == "int8"
    last = 2 * backbone.widths()[-1]
    assert near.cosine_lowest == pytest.approx(cosines(found[:, -last:].astype(float), wanted[:, -last:].astype(float)).min(), abs=1e-9)


def test_it_is_really_in_int8_but_for_the_first_convolution(graph: QuantisedGraph) -> None:
    openvino = silence.openvino()
    model = openvino.Core().read_model(graph.xml, openvino.Tensor(np.frombuffer(graph.weights, np.uint8)))
    constants = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    kernels = [node for node in constants if node.data.ndim == 4 and node.data.size > 200]
    wanted = [value for value in network().tensors().values() if value.ndim == 4]
    assert [node.data.shape for node in kernels] == [tuple(value.shape) for value in wanted]
    assert [node.data.dtype.name for node in kernels] == ["float32"] + ["int8"] * (len(wanted) - 1)
    assert graph.xml.count(b'type="FakeQuantize"') >= len(wanted) - 1, "activations as well"


def test_bgr_and_another_scale() -> None:
    backbone = network(64, "bgr")
    engine = QuantisedEngine(backbone, quantise(backbone, POOLED, CALIBRATION))
    assert fidelity(backbone, engine, OTHERS).cosine_lowest > 0.999
    swapped = QuantisedEngine(network(64, "rgb"), engine.graph)
    np.testing.assert_array_equal(swapped.run(OTHERS[..., ::-1]), engine.run(OTHERS))


def test_a_map_and_what_it_is_kept_in() -> None:
    backbone = network()
    tap = Tap("map", backbone.stages[-1])
    graph = quantise(backbone, tap, CALIBRATION)
    exact = TorchEngine(backbone, tap, "float32")
    wanted = exact.run(OTHERS)
    float32 = QuantisedEngine(backbone, graph, "float32")
    assert float32.record == exact.record
    assert cosines(float32.run(OTHERS).reshape(10, -1), wanted.reshape(10, -1)).min() > 0.999
    for keep, dtype, bits in (("", "uint16", 8), ("bfloat16", "uint16", 8), ("float16", "float16", 11)):
        engine = QuantisedEngine(backbone, graph, keep)
        found = engine.run(OTHERS)
        assert engine.record == (exact.record[0], dtype)
        assert found.dtype == dtype
        np.testing.assert_allclose(as_float(found), float32.run(OTHERS), rtol=2.0**-bits, atol=1e-6)


def test_the_same_bits_wherever_an_image_stands_and_however_many_come(graph: QuantisedGraph) -> None:
    engine = QuantisedEngine(network(), graph)
    assert engine.batch == graph.shape[0] == 24
    pixels = images(200, 30)
    whole = engine.run(pixels)
    np.testing.assert_array_equal(engine.run(pixels[:5]), whole[:5])
    np.testing.assert_array_equal(engine.run(np.roll(pixels, 7, 0)), np.roll(whole, 7, 0))
    before = whole.copy()
    engine.run(pixels[::-1])
    np.testing.assert_array_equal(whole, before)  # nothing that was given is written into


def test_the_same_inputs_give_the_same_graph(graph: QuantisedGraph) -> None:
    again = quantise(network(), POOLED, CALIBRATION)
    assert (again.xml, again.weights, again.fingerprint) == (graph.xml, graph.weights, graph.fingerprint)
    others = quantise(network(), POOLED, OTHERS)
    assert others.fingerprint != graph.fingerprint
    one, two = (QuantisedEngine(network(), each).fingerprint for each in (graph, others))
    assert one != two
    assert graph.fingerprint in one
    assert "b24" in one


def test_few_images_are_enough() -> None:
    engine = QuantisedEngine(network(), quantise(network(), POOLED, CALIBRATION[:1]))
    assert fidelity(network(), engine, CALIBRATION[:1]).cosine_lowest > 0.99
    with pytest.raises(OptionError, match="images to take its ranges from"):
        quantise(network(), POOLED, CALIBRATION[:0])
    with pytest.raises(OptionError, match="a network to quantise"):
        quantise(network(), Tap("map", "all"), CALIBRATION)


def test_what_the_libraries_cannot_do_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openvino.convert_model", lambda *_, **__: (_ for _ in ()).throw(KeyError("aten::odd")))
    with pytest.raises(BackboneError, match=r"cannot be quantised to int8 .*aten::odd") as caught:
        quantise(network(), POOLED, CALIBRATION)
    assert "bfloat16 or float32" in caught.value.hint


# --- the cache -------------------------------------------------------------------------------------------------


@pytest.fixture
def no_more(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        def never(*_: object) -> None:
            raise AssertionError("it was calibrated again")

        monkeypatch.setattr("greffon.activations.quantised.quantise", never)

    return forbid


def test_a_repeat_does_not_calibrate_again(graph: QuantisedGraph, tmp_path: Path, no_more: Callable[[], None]) -> None:
    first = cached_graph(network(), POOLED, CALIBRATION, folder=tmp_path)
    no_more()
    second = cached_graph(network(), POOLED, CALIBRATION, folder=tmp_path)
    assert (second.fingerprint, second.shape, second.tap) == (graph.fingerprint, graph.shape, POOLED)
    assert first.fingerprint == second.fingerprint
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    for backbone, tap, pixels in (
        (network(seed=1), POOLED, CALIBRATION),
        (network(channels="bgr"), POOLED, CALIBRATION),
        (network(), Tap("map", "none"), CALIBRATION),
        (network(), POOLED, CALIBRATION[:-1]),
        (network(), POOLED, CALIBRATION[::-1]),
    ):
        with pytest.raises(AssertionError, match="again"):
            cached_graph(backbone, tap, pixels, folder=tmp_path)


def test_what_lies_above_the_cut_does_not_matter(tmp_path: Path, no_more: Callable[[], None]) -> None:
    backbone = network(seed=3)
    tap = Tap("map", backbone.stages[1])
    cached_graph(backbone, tap, CALIBRATION, folder=tmp_path)
    no_more()
    top = [name for name in backbone.tensors() if name.startswith(backbone.plan.stages[-1].links[-1])]
    assert top
    tuned = network(seed=4)
    state = {name: (value if name in top else backbone.tensors()[name]) for name, value in tuned.tensors().items()}
    tuned.plan.model.load_state_dict(state, strict=False)
    cached_graph(tuned, tap, CALIBRATION, folder=tmp_path)


def test_a_damaged_graph_in_the_cache_is_made_anew(graph: QuantisedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr("greffon.activations.quantised.quantise", lambda *_: made.append(1) or graph)
    cached_graph(network(), POOLED, CALIBRATION, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    bad = bytearray(whole)
    bad[-100] ^= 1
    for content in (b"", b"{}", whole[:1000], whole[:-1], bytes(bad), b"\xff" * 64):
        file.write_bytes(content)
        assert cached_graph(network(), POOLED, CALIBRATION, folder=tmp_path).fingerprint == graph.fingerprint
        known = len(made)
        assert cached_graph(network(), POOLED, CALIBRATION, folder=tmp_path).fingerprint == graph.fingerprint
        assert len(made) == known, "the file is whole again"
    assert len(made) == 7


@pytest.mark.parametrize("shape", ["8 3 64", "8 3 64 64 1", "1 3 64 64", "8 3 96 96", "8 3 sixty 64", ""])
def test_a_shape_in_the_cache_is_not_believed(
    graph: QuantisedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """The fingerprint speaks of the graph and its constants alone; the shape follows from the network."""
    monkeypatch.setattr("greffon.activations.quantised.quantise", lambda *_: graph)
    cached_graph(network(), POOLED, CALIBRATION, folder=tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    with safe_open(file, "numpy") as found:
        values = {name: found.get_tensor(name) for name in ("xml", "weights")}
        about = {**(found.metadata() or {}), "shape": shape}
    save_file(values, file, metadata=about)
    assert cached_graph(network(), POOLED, CALIBRATION, folder=tmp_path).shape == graph.shape


def test_a_cache_that_cannot_be_written(graph: QuantisedGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greffon.activations.quantised.quantise", lambda *_: graph)
    (tmp_path / "file").write_text("")
    assert cached_graph(network(), POOLED, CALIBRATION, folder=tmp_path / "file" / "below") is graph
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- damage ----------------------------------------------------------------------------------------------------


def refused(graph: QuantisedGraph, match: str = "quantised network") -> None:
    with pytest.raises(ModelError, match=match) as caught:
        QuantisedEngine(network(), graph)
    assert len(caught.value.what) < 600


def test_graphs_that_are_damaged_or_of_another_network(graph: QuantisedGraph) -> None:
    for xml in (b"", b"<net/>", b"\0\xff" * 50, graph.xml[: len(graph.xml) // 2], graph.xml[:-8],
                graph.xml.replace(b"Convolution", b"Revolution")):  # fmt: skip
        refused(replace(graph, xml=xml))
    for weights in (b"", graph.weights[:-100], graph.weights[: len(graph.weights) // 2]):
        refused(replace(graph, weights=weights))
    refused(replace(graph, shape=(24, 3, 32, 32)), "expected")
    refused(replace(graph, shape=(10**6, 3, 64, 64)))
    refused(replace(graph, shape=(8, 3, 64, 64)), "expected")
    refused(replace(graph, tap=Tap("map", "none")), "expected")
    with pytest.raises(ModelError, match="for images"):
        QuantisedEngine(network(32), graph)


def test_a_changed_byte_changes_the_fingerprint(graph: QuantisedGraph) -> None:
    seen = {graph.fingerprint}
    for part in ("xml", "weights"):
        content = bytearray(getattr(graph, part))
        for place in (0, len(content) // 2, len(content) - 1):
            content[place] ^= 1
            seen.add(replace(graph, **{part: bytes(content)}).fingerprint)
    seen.add(replace(graph, xml=graph.xml + graph.weights[:1], weights=graph.weights[1:]).fingerprint)
    assert len(seen) == 8


def test_without_openvino(graph: QuantisedGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # importing it then fails
    with pytest.raises(OptionError, match=r"int8 needs OpenVINO"):
        QuantisedEngine(network(), graph)
    with pytest.raises(OptionError, match=r'pip install "greffon\[cpu\]"'):
        quantise(network(), POOLED, CALIBRATION)


# --- real weights ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_vgg16_keeps_its_features() -> None:
    pytest.importorskip("onnx")
    backbone = load_backbone("vgg16", size=64)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = QuantisedEngine(backbone, quantise(backbone, POOLED, images(0, 48)))
        near = fidelity(backbone, engine, images(300, 16))
    finally:
        torch.set_num_threads(before)
    assert near.cosine_mean >= 0.999
    assert near.cosine_lowest >= 0.995
