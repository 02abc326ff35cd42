"""``greffon classify``: real photos, a real network with its classifier, and the classes' names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform

from greffon.backbones import Backbone, blueprint, load_backbone
from greffon.backbones.catalogue import entry
from greffon.errors import BackboneError, DataError, OptionError, WeightsError
from greffon.jobs.classify import class_names, classify
from greffon.jobs.weights import import_weights


@pytest.fixture(scope="module")
def lite(greffon_cache: Path) -> str:
    try:
        load_backbone("efficientnet-lite0")
    except WeightsError:
        pytest.skip("EfficientNet-Lite0's weights are not on this machine")
    return "efficientnet-lite0"


def test_efficientnet_lite0_knows_the_sample_photos(lite: str, shared_data: Path) -> None:
    """58 of 60 in its top five, 55 in its first: a wrong mean already costs two."""
    photos = sorted((shared_data / "imagenet_samples").glob("*.JPEG"))
    assert len(photos) == 60
    first = top = 0
    for one in classify(photos, backbone=lite):
        wnid, _, name = one.path.stem.partition("_")
        found = [class_name.wnid for class_name, _ in one.top]
        first, top = first + (found[0] == wnid), top + (wnid in found)
        if wnid in found:
            assert one.top[found.index(wnid)][0].label == name.replace("_", " ")
        probabilities = [probability for _, probability in one.top]
        assert len(found) == 5 and probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1.0001
    assert top >= 58 and first >= 55, (top, first)


@pytest.fixture
def network() -> Backbone:
    """A ResNet-18 whose numbers are all zero: its names are of interest."""
    plan = blueprint(entry("resnet18"))
    return Backbone(plan, {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in plan.model.state_dict().items()})


def test_names_are_unique_and_in_the_networks_order(network: Backbone) -> None:
    names = class_names(network)
    assert len(names) == len({one.label for one in names}) == len({one.wnid for one in names}) == 1000
    # Known places of ImageNet's thousand classes, sorted by WordNet's numbers.
    assert [names[i].label for i in (0, 207, 281, 292, 999)] == ["tench", "golden retriever", "tabby", "tiger", "toilet tissue"]
    assert [one.wnid for one in names] == sorted(one.wnid for one in names)
    assert [one.label.partition(" (")[0] for one in names if one.label.startswith("crane")] == ["crane", "crane"]


def test_a_classifier_of_other_classes_is_told(network: Backbone) -> None:
    network.plan.model.num_classes = 7  # type: ignore[assignment]  # to nn.Module, any attribute is a tensor
    with pytest.raises(BackboneError, match=r"the classifier of resnet18\.a1_in1k has 7 classes, which are not ImageNet's"):
        class_names(network)


def test_vgg_without_its_dense_layers_says_where_to_get_them() -> None:
    photo = [__file__]
    with pytest.raises(WeightsError, match="the weights of vgg16 with their classifier are not on this machine") as caught:
        list(classify(photo))
    assert "vgg16_weights_tf_dim_ordering_tf_kernels.h5" in caught.value.hint and "weights import" in caught.value.hint
    assert "vgg16-weights" not in caught.value.hint  # that package has no dense layers


def test_an_imported_classifier_answers_as_timm_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREFFON_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(3)
    model = timm.create_model("resnet18").eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    import_weights(tmp_path / "w.pth", preprocess="torch", name="mine")
    Image.effect_noise((300, 260), 90).convert("RGB").save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    told = list(classify([tmp_path / "a.png", tmp_path / "broken.png"], backbone="mine", top=1000))
    transform: Any = create_transform(**resolve_data_config({}, model=model))
    with torch.no_grad():
        wanted = model(transform(Image.open(tmp_path / "a.png")).unsqueeze(0)).softmax(1)[0]
    names = class_names(load_backbone("mine"))
    found = {name.label: probability for name, probability in told[0].top}
    assert max(abs(found[name.label] - float(p)) for name, p in zip(names, wanted, strict=True)) < 1e-5
    assert told[1].fault and not told[1].top and "broken.png" not in told[1].fault
    assert set(told[1].to_dict()) == {"path", "error"}
    with pytest.raises(OptionError, match="--top must be 1 or more"):
        list(classify([tmp_path / "a.png"], backbone="mine", top=0))
    with pytest.raises(DataError, match="there is no such file"):
        list(classify([tmp_path / "none.png"], backbone="mine"))


@pytest.mark.slow
def test_the_command_prints_what_the_design_names(lite: str, tmp_path: Path, greffon_cache: Path) -> None:
    Image.effect_noise((300, 260), 90).convert("RGB").save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    command = [sys.executable, "-m", "greffon", "classify", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--backbone", lite]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    good, bad = (json.loads(line) for line in done.stdout.splitlines())
    assert set(good) == {"path", "top"} and len(good["top"]) == 5 and {"label", "probability"} <= set(good["top"][0])
    assert set(bad) == {"path", "error"}
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert good["top"][0]["label"] in shown.stdout and "b.png" in shown.stderr
