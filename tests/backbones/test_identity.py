"""Whose weights these are: by their tensors, layer by layer, and by the published hashes of files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from greffon.backbones import Backbone, blueprint, load_backbone
from greffon.backbones.catalogue import entry
from greffon.backbones.identity import convention_of, identified, layer_digest, published_hash
from greffon.errors import WeightsError


@pytest.fixture(scope="module")
def vgg16(greffon_cache: Path) -> Backbone:
    try:
        return load_backbone("vgg16")
    except WeightsError:
        pytest.skip("VGG16's weights are not on this machine")


def copied(backbone: Backbone) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in backbone.tensors().items()}


def test_the_published_ones_are_known_layer_by_layer(vgg16: Backbone) -> None:
    tensors = copied(vgg16)
    row = entry("vgg16")
    assert [layer_digest(tensors, link) for link, _ in row.layers] == [digest for _, digest in row.layers] and len(row.layers) == 13
    verdict = identified(vgg16.plan, tensors)
    assert verdict.kind == "published" and "VGG team" in verdict.words and "all 13 convolutions" in verdict.words


def test_a_first_layer_written_for_rgb_is_turned_back(vgg16: Backbone) -> None:
    tensors = copied(vgg16)
    tensors["features.0.weight"] = tensors["features.0.weight"].flip(1)
    verdict = identified(vgg16.plan, tensors)
    assert verdict.kind == "published" and "turned back to BGR" in verdict.words
    assert all(torch.equal(verdict.tensors[key], tensor) for key, tensor in vgg16.tensors().items())


def test_a_fine_tuned_one_is_a_variant(vgg16: Backbone) -> None:
    tensors = copied(vgg16)
    for link in ("features.24", "features.26", "features.28"):
        tensors[f"{link}.weight"] += 1e-6
    verdict = identified(vgg16.plan, tensors)
    assert verdict.kind == "variant"
    assert "10 of 13 convolutions are the published ones" in verdict.words
    assert "block5_conv1, block5_conv2, block5_conv3 are not" in verdict.words
    tensors["features.0.weight"] = tensors["features.0.weight"].flip(1)
    flipped = identified(vgg16.plan, tensors)
    assert flipped.kind == "variant" and flipped.words.startswith(verdict.words) and "turned back to BGR" in flipped.words
    assert torch.equal(flipped.tensors["features.0.weight"], vgg16.tensors()["features.0.weight"])


def test_others_are_unknown() -> None:
    for name in ("vgg16", "vgg19", "resnet18"):
        plan = blueprint(entry(name))
        state = plan.model.state_dict()
        tensors = {key: torch.zeros(state[key].shape, dtype=state[key].dtype) for key in plan.trunk_keys()}
        verdict = identified(plan, tensors)
        assert verdict.kind == "unknown", name
        assert ("no layer" in verdict.words) == (name == "vgg16")
        assert ("not in the catalogue" in verdict.words) == (name != "vgg16")


def test_torchvisions_files_are_known_by_the_hash_in_their_published_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from greffon.backbones import identity

    # As torchvision's own pages print the names of the files.
    published = {
        "vgg16.tv_in1k": "397923af", "vgg19.tv_in1k": "dcbb9e9d", "vgg16_bn.tv_in1k": "6c64b313", "vgg11.tv_in1k": "8a719046",
        "resnet50.tv_in1k": "0676ba61", "resnet50.tv2_in1k": "11ad3fa6", "resnet18.tv_in1k": "f37072fd",
        "inception_v3.tv_in1k": "0cc3c7bd",
    }  # fmt: skip
    assert {name: published_hash(entry(name)) for name in published} == published
    assert published_hash(entry("vgg16")) == "" and published_hash(entry("resnet50.a1_in1k")) == ""
    plan = blueprint(entry("resnet18.tv_in1k"))
    tensors = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in plan.model.state_dict().items()}
    file = tmp_path / "any-name.pth"
    file.write_bytes(b"content")
    assert identified(plan, tensors, file).kind == "unknown"
    monkeypatch.setattr(identity, "published_hash", lambda row: hashlib.sha256(b"content").hexdigest()[:8])
    verdict = identified(plan, tensors, file)
    assert verdict.kind == "published" and "by the file's published sha256" in verdict.words


def test_conventions() -> None:
    assert convention_of(entry("vgg16").preprocess) == convention_of(entry("vgg19").preprocess) == "caffe"
    assert convention_of(entry("resnet50.a1_in1k").preprocess) == convention_of(entry("vgg16.tv_in1k").preprocess) == "torch"
    assert convention_of(entry("legacy_xception.tf_in1k").preprocess) == ""
    assert convention_of(replace(entry("vgg16").preprocess, channels="rgb")) == ""
