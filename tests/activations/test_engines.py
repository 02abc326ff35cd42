"""The engines against a naive run of timm's own network, and the cheap precision against float32."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from small import network

from drawn import photo
from greffon.activations import (
    PixelEngine,
    Tap,
    TorchEngine,
    as_float,
    best_precision,
    computes_bfloat16,
    fidelity,
    make_engine,
)
from greffon.activations.compute import key_for
from greffon.backbones import Backbone
from greffon.errors import BackboneError, OptionError


def images(count: int, size: int = 64) -> np.ndarray:
    return np.stack([photo(seed, size, size) for seed in range(count)])


def naive(backbone: Backbone, pixels: np.ndarray) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """timm's network with forward hooks, contiguous float32: the last map, and what each stage gave."""
    model = timm.create_model("test_resnet", pretrained=False).eval()
    missing, unexpected = model.load_state_dict(backbone.tensors(), strict=False)
    assert not unexpected
    assert all(name.startswith("fc") for name in missing)
    seen: dict[str, torch.Tensor] = {}
    for stage in backbone.plan.stages:
        def keep(module: object, inputs: object, output: torch.Tensor, name: str = stage.name) -> None:
            seen[name] = output.clone()  # the next layer may write into it
        model.get_submodule(stage.links[-1]).register_forward_hook(keep)
    pre = backbone.preprocess
    order = [2, 1, 0] if pre.channels == "bgr" else [0, 1, 2]
    x = torch.from_numpy(pixels[..., order].astype(np.float32).transpose(0, 3, 1, 2).copy())
    x = (x * pre.scale - torch.tensor(pre.mean).view(3, 1, 1)) / torch.tensor(pre.std).view(3, 1, 1)
    with torch.no_grad():
        return model.forward_features(x), seen  # type: ignore[operator]  # timm's networks all have it


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_pooled_is_the_mean_and_the_maximum_of_every_stage(channels: str) -> None:
    backbone, pixels = network(64, channels), images(3)
    engine = TorchEngine(backbone, Tap("pooled"), "float32")
    _, seen = naive(backbone, pixels)
    assert list(seen) == list(backbone.stages)
    wanted = []
    for output in seen.values():
        n, c, h, w = output.shape
        flat = output.reshape(n, c, h * w).double().numpy()
        wanted += [flat.sum(2) / (h * w), flat.max(2)]
    found = engine.run(pixels)
    assert engine.record == ((2 * sum(backbone.widths()),), "float32")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.concatenate(wanted, 1), rtol=1e-4, atol=1e-4)
    assert np.abs(found).max() > 0.1, "the network is alive"


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_a_map_is_what_the_stages_below_give(channels: str) -> None:
    backbone, pixels = network(64, channels), images(3)
    last, seen = naive(backbone, pixels)
    for cut, below in (("none", last), (backbone.stages[-1], seen[backbone.stages[-2]])):
        engine = TorchEngine(backbone, Tap("map", cut), "float32")
        found = engine.run(pixels)
        assert engine.record == (tuple(below.shape[1:]), "float32")
        np.testing.assert_allclose(found, below.numpy(), rtol=1e-4, atol=1e-4)


def test_the_image_itself_is_normalised_as_preprocess_does() -> None:
    for channels in ("rgb", "bgr"):
        backbone, pixels = network(64, channels), images(4)
        found = TorchEngine(backbone, Tap("map", "all"), "float32").run(pixels)
        np.testing.assert_array_equal(found, backbone.preprocess.normalise(pixels))


def test_bfloat16_maps_are_kept_as_their_bits() -> None:
    backbone, pixels = network(), images(2)
    engine = TorchEngine(backbone, Tap("map", "none"), "bfloat16")
    found = engine.run(pixels)
    assert engine.record == (found.shape[1:], "uint16")
    values = torch.from_numpy(found.view(np.int16).copy()).view(torch.bfloat16).float().numpy()
    exact = TorchEngine(backbone, Tap("map", "none"), "float32").run(pixels)
    assert np.abs(values - exact).max() < 0.05 * np.abs(exact).max()
    assert (values != exact).any()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_a_map_is_kept_in_is_apart_from_what_it_is_computed_in(precision: str) -> None:
    backbone, pixels, tap = network(), images(2), Tap("map", network().stages[-1])
    usual = TorchEngine(backbone, tap, precision)
    whole = TorchEngine(backbone, tap, precision, keep="float32").run(pixels)
    assert usual.record[1] == {"float32": "float32", "bfloat16": "uint16"}[precision]
    np.testing.assert_array_equal(as_float(usual.run(pixels)), whole)
    keys = set()
    for keep, dtype in (("float32", "float32"), ("float16", "float16"), ("bfloat16", "uint16")):
        engine = TorchEngine(backbone, tap, precision, keep=keep)
        found = engine.run(pixels)
        assert engine.record == (found.shape[1:], dtype)
        assert found.dtype == dtype
        # Rounded to the nearest: NumPy's own float16, and bfloat16 by adding half of its last bit.
        if keep == "float16":
            np.testing.assert_array_equal(found, whole.astype(np.float16))
        if keep == "bfloat16":
            bits = whole.view(np.uint32).astype(np.uint64)
            np.testing.assert_array_equal(found, (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)
        keys.add(key_for(backbone, tap, engine).folder)
    assert len(keys) == 3
    with pytest.raises(OptionError, match="keep must be one of bfloat16, float16, float32, got 'int8'"):
        TorchEngine(backbone, tap, precision, keep="int8")
    assert TorchEngine(backbone, Tap("pooled"), precision, keep="float16").record[1] == "float32"


def test_float16_that_is_too_small_is_one_error() -> None:
    backbone, pixels = network(seed=5), images(1)
    first = backbone.plan.model.get_submodule(backbone.plan.stages[0].links[0])
    weight = next(first.parameters())
    with torch.no_grad():
        weight.mul_(1e7)
    tap = Tap("map", backbone.stages[1])
    with pytest.raises(OptionError, match=r"the activations at the cut .* reach [\d,]+, and float16 holds 65,504") as caught:
        TorchEngine(backbone, tap, "float32", keep="float16").run(pixels)
    assert "bfloat16" in caught.value.hint
    found = as_float(TorchEngine(backbone, tap, "float32", keep="bfloat16").run(pixels))
    assert np.isfinite(found).all()
    assert found.max() > 65504


def test_a_cut_below_everything_keeps_the_picture_itself() -> None:
    backbone, pixels = network(), images(3)
    engine = make_engine(backbone, Tap("map", "all"), "auto")
    assert isinstance(engine, PixelEngine)
    assert (engine.record, engine.fingerprint, engine.precision) == (((64, 64, 3), "uint8"), "pixels", "float32")
    found = engine.run(pixels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)
    other = network(seed=9)
    assert key_for(backbone, engine.tap, engine).folder == key_for(other, engine.tap, PixelEngine(other)).folder


def test_the_same_bits_wherever_an_image_stands_in_its_batch() -> None:
    pixels = images(9)
    for precision in ("float32", "bfloat16"):
        engine = TorchEngine(network(), Tap("pooled"), precision)
        first = engine.run(pixels[:8])
        for shift in (1, 5):
            np.testing.assert_array_equal(engine.run(np.roll(pixels[:8], shift, 0)), np.roll(first, shift, 0))
        np.testing.assert_array_equal(engine.run(np.concatenate([pixels[:1], np.zeros_like(pixels[:7])]))[0], first[0])


def test_the_backbone_stays_as_it_is() -> None:
    backbone = network()
    before = {name: tensor.clone() for name, tensor in backbone.tensors().items()}
    TorchEngine(backbone, Tap("pooled"), "bfloat16").run(images(2))
    for name, tensor in backbone.tensors().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])


def test_read_only_pixels_are_taken() -> None:
    pixels = images(2)
    pixels.flags.writeable = False
    TorchEngine(network(), Tap("pooled"), "float32").run(pixels)


def test_fidelity_is_the_cosine_of_the_last_stage() -> None:
    backbone, pixels = network(), images(5)
    cheap, exact = (TorchEngine(backbone, Tap("pooled"), name) for name in ("bfloat16", "float32"))
    found = fidelity(backbone, cheap, pixels)
    # The same padding as the pass has: some networks give other last bits for other batch sizes.
    padded = np.concatenate([pixels, np.zeros((3, 64, 64, 3), np.uint8)])
    last = 2 * backbone.widths()[-1]
    a, b = cheap.run(padded)[:5, -last:].astype(float), exact.run(padded)[:5, -last:].astype(float)
    cosines = [float(x @ y / np.sqrt((x @ x) * (y @ y))) for x, y in zip(a, b, strict=True)]
    assert (found.precision, found.images) == ("bfloat16", 5)
    assert found.cosine_mean == pytest.approx(np.mean(cosines), abs=1e-9)
    assert found.cosine_lowest == pytest.approx(min(cosines), abs=1e-9)
    assert 0.98 < found.cosine_lowest < found.cosine_mean < 1
    assert fidelity(backbone, exact, pixels).cosine_lowest == pytest.approx(1, abs=1e-12)


def test_fidelity_sees_a_dead_or_broken_result(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, pixels = network(), images(3)
    cheap = TorchEngine(backbone, Tap("pooled"), "bfloat16")
    real = TorchEngine.run
    for fault in (0.0, np.nan, np.inf):
        def broken(self: TorchEngine, given: np.ndarray, fault: float = fault) -> np.ndarray:
            out = real(self, given)
            if self.precision == "bfloat16":
                out[1] = fault
            return out
        monkeypatch.setattr(TorchEngine, "run", broken)
        found = fidelity(backbone, cheap, pixels)
        assert found.cosine_lowest == 0
        assert 0.6 < found.cosine_mean < 0.67


def test_make_engine() -> None:
    backbone = network()
    auto = make_engine(backbone, Tap("pooled"), "auto", "cpu")
    assert auto.precision == best_precision("cpu")
    assert computes_bfloat16("cpu") or auto.precision == "float32"
    prints = {
        make_engine(backbone, Tap("pooled"), "float32", "cpu").fingerprint,
        make_engine(backbone, Tap("pooled"), "bfloat16", "cpu").fingerprint,
        TorchEngine(backbone, Tap("pooled"), "float32", batch=4).fingerprint,
    }
    assert len(prints) == 3
    with pytest.raises(OptionError, match="precision must be one of auto, int8, bfloat16, float32, got 'float16'"):
        make_engine(backbone, Tap("pooled"), "float16")
    with pytest.raises(OptionError, match="precision int8 needs a network that was quantised on images"):
        make_engine(backbone, Tap("pooled"), "int8")
    with pytest.raises(BackboneError, match="has no stage 'block9'"):
        make_engine(backbone, Tap("map", "block9"), "float32")
