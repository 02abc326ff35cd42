"""An engine that travels is the same one at its end, or refused. Ray has no part in it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.torch

from greffon.activations import Engine, PixelEngine, QuantisedEngine, Tap, TorchEngine, quantise
from greffon.distributed.packing import PackedEngine, pack, unpack
from greffon.errors import OptionError, WeightsError
from greffon.silence import can_quantise
from growing import drawn_network

pytestmark = pytest.mark.usefixtures("one_thread")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def told(packed: PackedEngine, **changes: Any) -> PackedEngine:
    return replace(packed, about=json.dumps(json.loads(packed.about) | changes))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("tap", "keep"), [(Tap("pooled"), ""), (Tap("map", "none"), "float16")])
def test_an_engine_arrives_as_it_was(tap: Tap, keep: str, precision: str) -> None:
    sent = TorchEngine(drawn_network(), tap, precision, batch=4, keep=keep)
    come = unpack(pack(sent))
    assert (come.fingerprint, come.precision, come.tap, come.batch, come.record) == (
        sent.fingerprint, precision, tap, 4, sent.record)  # fmt: skip
    assert come.backbone.fingerprint == sent.backbone.fingerprint
    assert come.backbone is not sent.backbone
    assert np.array_equal(come.run(PIXELS), sent.run(PIXELS))


def test_pixels_need_no_network() -> None:
    come = unpack(pack(PixelEngine(drawn_network())))
    assert isinstance(come, PixelEngine)
    assert np.array_equal(come.run(PIXELS), PIXELS)


@pytest.mark.skipif(not can_quantise(), reason="OpenVINO or NNCF is not installed")
@pytest.mark.slow
def test_the_quantised_graph_travels() -> None:
    sent = QuantisedEngine(drawn_network(), quantise(drawn_network(), Tap("pooled"), PIXELS))
    packed = pack(sent)
    come = unpack(packed)
    assert come.fingerprint == sent.fingerprint
    assert np.array_equal(come.run(PIXELS), sent.run(PIXELS))
    with pytest.raises(WeightsError, match="arrived damaged"):
        unpack(replace(packed, weights=packed.weights[:-1] + b"\x01"))


PACKED = pack(TorchEngine(drawn_network(), Tap("pooled"), "float32", batch=4))


def test_another_greffon_is_refused() -> None:
    with pytest.raises(OptionError, match=r"a worker has greffon .* and the run was started by greffon 0\.0\.1"):
        unpack(told(PACKED, software="greffon 0.0.1 (sources 0123456789ab)"))


def test_other_weights_are_refused() -> None:
    tensors = safetensors.torch.load(PACKED.tensors)
    name = next(name for name, tensor in sorted(tensors.items()) if tensor.is_floating_point())   # loaded in any order
    tensors[name] = tensors[name] + 1e-3
    with pytest.raises(WeightsError, match="a worker has weights of test_resnet with the fingerprint"):
        unpack(replace(PACKED, tensors=safetensors.torch.save(tensors)))


def test_another_engine_is_refused() -> None:
    with pytest.raises(OptionError, match=r"a worker would run the network as torch-.*-b4, and the run is of torch-.*-b2"):
        unpack(told(PACKED, engine=TorchEngine(drawn_network(), Tap("pooled"), "float32", batch=2).fingerprint))


def test_a_strange_engine_is_not_sent() -> None:
    class Strange:
        fingerprint, precision, tap, batch, record = "x", "float32", Tap("pooled"), 1, ((1,), "float32")

        def run(self, images: np.ndarray) -> np.ndarray:
            return images

    strange: Engine = Strange()
    with pytest.raises(OptionError, match="Strange cannot be sent"):
        pack(strange)
