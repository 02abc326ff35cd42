"""A model whose frozen part is in int8."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaging import WRONG, changed, refused
from safetensors.torch import load_file, save_file
from small_models import PHOTOS

from greffon.activations import QuantisedEngine, Tap, compute, quantise
from greffon.errors import ModelError, OptionError
from greffon.model import Model, load_model, save_model
from greffon.progress import Silent
from greffon.silence import can_quantise

with_int8 = pytest.mark.skipif(not can_quantise(), reason="NNCF is not installed")


@pytest.fixture(scope="module")
def cheap(model: Model) -> Model:
    """A model that was trained on an int8 frozen part, at a probability that float32 would not give."""
    pixels = np.stack([model.backbone.preprocess.fit(one) for one in PHOTOS])
    return replace(model, precision="int8", quantised=quantise(model.backbone, Tap("pooled"), pixels))


@with_int8
def test_a_model_that_was_trained_in_int8_predicts_in_it(model: Model, cheap: Model, tmp_path: Path) -> None:
    assert cheap.quantised is not None
    save_model(cheap, tmp_path / "cheap")
    back = load_model(tmp_path / "cheap")
    assert back.quantised is not None
    assert (back.quantised.xml, back.quantised.weights) == (cheap.quantised.xml, cheap.quantised.weights)
    assert (back.quantised.tap, back.quantised.shape) == (Tap("pooled"), cheap.quantised.shape)
    told = back.predict(PHOTOS)
    engine = QuantisedEngine(model.backbone, cheap.quantised)
    records = compute(PHOTOS, model.backbone, Tap("pooled"), engine, store=None, progress=Silent()).all()
    assert np.array_equal(told.probabilities, model.probabilities(records))
    assert told.precision == "int8"
    exact = model.predict(PHOTOS)
    assert not np.array_equal(told.probabilities, exact.probabilities)
    for name in ("exact", "float32"):
        again = back.predict(PHOTOS, precision=name)
        assert np.array_equal(again.probabilities, exact.probabilities)
        assert again.precision == "float32"
    save_model(back, tmp_path / "again")
    assert (tmp_path / "again" / "model.json").read_bytes() == (tmp_path / "cheap" / "model.json").read_bytes()
    save_model(cheap, tmp_path / "slim", slim=True)
    kept = load_file(tmp_path / "slim" / "model.safetensors")
    assert {"quantised.xml", "quantised.weights"} <= set(kept)
    assert not any(key.startswith("backbone.") for key in kept)


@with_int8
def test_where_openvino_is_absent_float32_is_used_and_that_is_said(
    model: Model, cheap: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(cheap, tmp_path / "cheap")
    monkeypatch.setitem(sys.modules, "openvino", None)
    listener = Silent()
    told = load_model(tmp_path / "cheap").predict(PHOTOS, progress=listener)
    assert np.array_equal(told.probabilities, model.predict(PHOTOS).probabilities)
    assert told.precision == "float32"
    assert len(listener.warnings) == 1
    assert "int8, which needs OpenVINO" in listener.warnings[0]
    assert 'pip install "greffon[cpu]"' in listener.warnings[0]


def test_int8_is_not_made_up(model: Model) -> None:
    with pytest.raises(OptionError, match="was not trained in it"):
        model.predict(PHOTOS[:1], precision="int8")
    with pytest.raises(OptionError, match="precision must be one of"):
        model.predict(PHOTOS[:1], precision="exactly")


@with_int8
def test_a_quantised_network_that_is_damaged_missing_or_of_another_model(cheap: Model, tmp_path: Path) -> None:
    folder = tmp_path / "cheap"
    save_model(cheap, folder)
    tensors, about = load_file(folder / "model.safetensors"), json.loads((folder / "model.json").read_text(encoding="utf-8"))

    def written(changes: dict[str, torch.Tensor | None], told: Any = None) -> None:
        new = {name: value for name, value in {**tensors, **changes}.items() if value is not None}
        save_file(new, folder / "model.safetensors")
        (folder / "model.json").write_text(json.dumps(about if told is None else told), encoding="utf-8")

    xml, weights = tensors["quantised.xml"], tensors["quantised.weights"]
    other = weights.clone()
    other[1000] ^= 1
    for changes in (
        {"quantised.weights": other}, {"quantised.weights": weights[:-1].clone()}, {"quantised.xml": xml[:-9].clone()},
        {"quantised.xml": weights, "quantised.weights": xml},
    ):  # fmt: skip
        written(dict(changes))
        refused(folder, "the quantised network has the fingerprint")
    for changes in (
        {"quantised.xml": None}, {"quantised.more": xml.clone()}, {"quantised.xml": xml.float()},
        {"quantised.xml": xml.clone().view(1, -1)},
        {"quantised.xml": None, "quantised.weights": None},
    ):  # fmt: skip
        written(dict(changes))
        refused(folder, "must be xml and weights")
    # Left away altogether, a model in int8 is not whole; another may do without.
    without = {key: value for key, value in about.items() if key != "quantised"}
    gone: dict[str, torch.Tensor | None] = {"quantised.xml": None, "quantised.weights": None}
    written({}, without)
    refused(folder, "quantised: missing")
    written(gone, without)
    refused(folder, "quantised: missing")
    written(gone, {**without, "precision": "float32"})
    assert load_model(folder).quantised is None
    written({}, {**about, "precision": "float32"})
    assert load_model(folder).predict(PHOTOS[:1]).precision == "float32"
    # Values of its description, each in turn.
    for name in ("tap", "shape", "fingerprint"):
        for value in (*WRONG[:6], "map:none", "map:layer9", [1, 3, 64], [24, 3, 64, -64], [24, 3, 64, 64.0], ...):
            told = changed(about, ("quantised", name), value)
            if told != about:
                written({}, told)
                refused(folder)
    for value in (None, 3, "x", [], {}):
        written({}, {**about, "quantised": value})
        refused(folder)


@with_int8
def test_a_forged_graph_is_refused_before_it_is_run(cheap: Model, tmp_path: Path) -> None:
    """Its fingerprint is right, but it is no graph, or not that of this network."""
    assert cheap.quantised is not None
    for graph in (
        replace(cheap.quantised, xml=b"<net/>"),
        replace(cheap.quantised, weights=b""),
        replace(cheap.quantised, shape=(24, 3, 32, 32)),
        replace(cheap.quantised, shape=(10**6, 3, 64, 64)),
    ):
        save_model(replace(cheap, quantised=graph), tmp_path / "forged")
        with pytest.raises(ModelError, match="the quantised network"):
            load_model(tmp_path / "forged").predict(PHOTOS[:1])
