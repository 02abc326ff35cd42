"""Names, suggestions, and preprocessing that is timm's own."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.imagenet_info import ImageNetInfo
from timm.data.transforms_factory import create_transform
from timm.models import get_pretrained_cfg

from drawn import photo
from greffon.backbones import load_backbone
from greffon.backbones.catalogue import entry, names, resized
from greffon.backbones.network import blueprint
from greffon.errors import BackboneError
from greffon.images import decode


def test_every_pattern_finds_what_a_file_pattern_finds() -> None:
    everything = names()
    assert everything[:3] == ["vgg16", "vgg19", "efficientnet-lite0"] and len(everything) == len(set(everything)) > 800
    for pattern in ("*", "vgg*", "vgg16", "vgg1[69]*", "resnet5?.*", "*lite0*", "*.tv_in1k", "no such thing"):
        assert names(pattern) == [
            name
            for name in everything
            if {name, name.split(".")[0]} & set(fnmatch.filter([name, name.split(".")[0]], pattern))
        ], pattern
    assert names("resnet5?.tv*") == ["resnet50.tv2_in1k", "resnet50.tv_in1k"] and names("vgg16")[1:] == [
        "vgg16.tv_in1k"
    ]
    families = ("resnet50.a1_in1k", "inception_v3.tv_in1k", "legacy_xception.tf_in1k", "tf_efficientnet_lite0.in1k",
                "efficientnet_b0.ra_in1k", "mobilenetv3_large_100.ra_in1k", "densenet121.ra_in1k", "convnext_tiny.fb_in1k")  # fmt: skip
    assert set(families) <= set(everything)
    assert not [name for name in everything if name.startswith(("vit_", "swin_", "beit", "deit", "nasnet"))]


def test_every_listed_name_has_a_row() -> None:
    for name in names()[::7]:
        row = entry(name)
        assert row.name == name and row.licence and row.weights_of
        assert row.architecture in timm.list_models() or row.name == "efficientnet-lite0"


@pytest.mark.parametrize("bare", ["resnet50", "inception_v3", "efficientnet_b0", "vgg11", "convnext_tiny"])
def test_a_bare_name_of_timm_gets_its_default_tag(bare: str) -> None:
    cfg = get_pretrained_cfg(bare)
    assert cfg is not None
    row = entry(bare)
    assert row.name == f"{bare}.{cfg.tag}" and row.architecture == bare and row.hub == f"timm/{row.name}"
    assert entry(row.name) == row


def test_chollets_xception_has_its_name() -> None:
    assert entry("xception") == entry("legacy_xception") and entry("xception").name == "legacy_xception.tf_in1k"
    assert entry("inceptionv3").name == "inception_v3.tv_in1k"


#: From the papers and the publishers' own code: input, resize, mean, deviation, licence; stages.
ROWS = {
    "vgg11.tv_in1k": (224, 256, "bsd-3-clause", [f"block{i}" for i in range(1, 6)]),
    "vgg13_bn.tv_in1k": (224, 256, "bsd-3-clause", [f"block{i}" for i in range(1, 6)]),
    "vgg16_bn.tv_in1k": (224, 256, "bsd-3-clause", [f"block{i}" for i in range(1, 6)]),
    "vgg19_bn.tv_in1k": (224, 256, "bsd-3-clause", [f"block{i}" for i in range(1, 6)]),
    "resnet50.tv_in1k": (224, 256, "bsd-3-clause", ["stem", "layer1", "layer2", "layer3", "layer4"]),
    "inception_v3.tv_in1k": (299, 341, "apache-2.0", ["stem", "mixed5", "mixed6", "mixed7"]),
    "xception": (299, 333, "apache-2.0", ["stem", "entry", "middle", "exit"]),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_rows_that_people_ask_for_first(name: str) -> None:
    size, resize_to, licence, stages = ROWS[name]
    row = entry(name)
    pre = row.preprocess
    assert (pre.height, pre.width, pre.resize_to, row.licence) == (size, size, resize_to, licence)
    halves = size == 299
    assert pre.mean == ((0.5,) * 3 if halves else (0.485, 0.456, 0.406)) and pre.std == ((0.5,) * 3 if halves else (0.229, 0.224, 0.225))
    assert [stage.name for stage in blueprint(row).stages] == stages


def test_vgg_with_batch_norm_has_the_papers_configurations() -> None:
    """Table 1 of the paper: A, B, D and E; a norm after every convolution."""
    for name, counts in (("vgg11", (1, 1, 2, 2, 2)), ("vgg13", (2,) * 5), ("vgg16", (2, 2, 3, 3, 3)), ("vgg19", (2, 2, 4, 4, 4))):
        for suffix, kinds in (("", 1), ("_bn", 2)):
            plan = blueprint(entry(f"{name}{suffix}.tv_in1k"))
            state = plan.model.state_dict()
            for stage, count in zip(plan.stages, counts, strict=True):
                weights = [key for key in state if key.rpartition(".")[0] in stage.links and key.endswith(".weight")]
                assert len(weights) == kinds * count, (name, suffix, stage.name)


def test_vgg_without_a_tag_is_the_vgg_teams() -> None:
    assert [entry(name).licence for name in ("vgg16", "vgg19")] == ["CC BY 4.0", "CC BY 4.0"]
    assert "VGG team" in entry("vgg16").weights_of and "timm" in entry("vgg16.tv_in1k").weights_of
    assert entry("vgg16").preprocess.channels == "bgr" and entry("vgg16.tv_in1k").preprocess.channels == "rgb"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("vgg61", "vgg16"),
        ("VGG16", "vgg16"),
        ("resnet5O", "resnet50"),
        ("ResNet50", "resnet50"),
        ("resnet50.a1_in2k", "resnet50.a1_in1k"),
        ("convnext-tiny", "convnext_tiny"),
        ("efficientnetlite0", "efficientnet-lite0"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(BackboneError, match=rf"^there is no backbone '{name}'\nDid you mean ") as caught:
        entry(name)
    offered = caught.value.hint.removeprefix("Did you mean ").removesuffix("?").split(" or ")
    assert nearest in offered
    for one in offered:
        entry(one)


@pytest.mark.parametrize(
    "name", ["", ".", "zzzzzz", "hf-hub:timm/resnet50.a1_in1k", "../vgg16", "resnet50.", "vgg16.x.y"]
)
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(BackboneError, match="there is no backbone"):
        entry(name)


def test_a_network_without_weights_is_refused() -> None:
    without = sorted(set(timm.list_models("resnet*")) - {name.split(".")[0] for name in names("resnet*")})
    with pytest.raises(BackboneError, match="timm has no pretrained weights"):
        entry(without[0])


def test_resize_and_crop_are_those_of_timm_for_every_name() -> None:
    """The numbers of timm's record, for all; the eight that squash and crop have no equal here."""
    squashed_and_cropped = 0
    for name in names("*.*"):
        cfg = get_pretrained_cfg(name)
        assert cfg is not None
        told, mine = resolve_data_config(pretrained_cfg=cfg.to_dict()), entry(name).preprocess
        assert (3, mine.height, mine.width) == told["input_size"], name
        assert mine.mean == tuple(told["mean"]) and mine.std == tuple(told["std"]) and mine.scale == 1 / 255, name
        assert mine.interpolation == told["interpolation"] and mine.channels == "rgb", name
        if told["crop_mode"] == "squash":
            assert mine.resize == "squash", name
            squashed_and_cropped += told["crop_pct"] != 1
        else:
            transform = create_transform(**told, is_training=False)
            assert mine.resize == "shortest" and told["crop_mode"] == "center", name
            assert mine.resize_to == transform.transforms[0].size, name  # type: ignore[union-attr]  # torchvision's
    assert squashed_and_cropped == 8


@pytest.mark.parametrize(
    "name",
    ["resnet50.a1_in1k", "inception_v3.tv_in1k", "legacy_xception.tf_in1k", "convnext_base.fb_in22k_ft_in1k_384"],
)
def test_an_image_is_seen_as_timm_sees_it(name: str) -> None:
    picture = photo(3, 333, 481)
    told = resolve_data_config(pretrained_cfg=get_pretrained_cfg(name).to_dict())  # type: ignore[union-attr]
    theirs = create_transform(**told, is_training=False)(Image.fromarray(picture))  # type: ignore[operator]
    mine = entry(name).preprocess
    assert np.allclose(mine.normalise(mine.fit(picture)[None])[0], np.asarray(theirs), atol=1e-5)


def test_another_size_keeps_the_proportion_of_the_crop() -> None:
    row = resized(entry("vgg16"), 112)
    assert (row.preprocess.height, row.preprocess.width, row.preprocess.resize_to) == (112, 112, 128)
    assert row.name == "vgg16" and resized(entry("resnet50"), 224) == entry("resnet50")


def test_efficientnet_lite0_recognises_photos(shared_data: Path) -> None:
    """The proof of the row's preprocessing: with ImageNet's mean and deviation 57 would be named."""
    backbone = load_backbone("efficientnet-lite0")
    files = sorted((shared_data / "imagenet_samples").glob("*.JPEG"))
    synsets = {synset: index for index, synset in enumerate(ImageNetInfo().label_names())}
    network = backbone.above("all")
    named = 0
    with torch.no_grad():
        for file in files:
            pixels = backbone.preprocess.fit(decode(file.read_bytes()))
            logits = backbone.classify(network(torch.from_numpy(backbone.preprocess.normalise(pixels[None]))))
            named += synsets[file.name.split("_")[0]] in logits.topk(5).indices[0]
    assert len(files) == 60 and named >= 58
