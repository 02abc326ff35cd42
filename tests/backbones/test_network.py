"""The cut: what lies below and above it is timm's network, bit for bit, and nothing is overwritten."""

from __future__ import annotations

import copy
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import replace

import pytest
import timm
import torch
from torch import Tensor, nn

from greffon.backbones import catalogue, network
from greffon.backbones.catalogue import entry, resized
from greffon.backbones.network import Backbone, Blueprint, blueprint, check_tensors, fingerprint, stage_shapes
from greffon.errors import BackboneError, WeightsError

#: The families that greffon promises.
PROMISED = (
    "vgg16",
    "resnet18",
    "inception_v3",
    "legacy_xception",
    "efficientnet_b0",
    "tf_efficientnet_lite0",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "densenet121",
    "convnext_atto",
)

#: The smallest pretrained network of each of timm's modules that the catalogue lists.
# fmt: off
SMALLEST = {
    "byoanet": "eca_botnext26ts_256", "byobnet": "test_byobnet", "convmixer": "convmixer_768_32", "convnext":
    "test_convnext", "cpubone": "cpubone_nano", "csatv2": "csatv2", "cspnet": "cs3darknet_focus_s", "cspnext":
    "cspnext_tiny", "davit": "davit_tiny", "densenet": "densenet121", "dla": "dla46x_c", "dpn": "dpn68", "edgenext":
    "edgenext_xx_small", "efficientformer_v2": "efficientformerv2_s0", "efficientnet": "test_efficientnet",
    "efficientvit_mit": "efficientvit_b0", "efficientvit_msra": "efficientvit_m0", "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8", "focalnet": "focalnet_tiny_srf", "gcvit": "gcvit_xxtiny", "ghostnet": "ghostnet_100",
    "hardcorenas": "hardcorenas_b", "hgnet": "hgnetv2_b0", "iformer": "iformer_t", "inception_next":
    "inception_next_atto", "inception_resnet_v2": "inception_resnet_v2", "inception_v3": "inception_v3",
    "inception_v4": "inception_v4", "lcnetv2": "lcnetv2_small", "lowformer": "lowformer_b0", "maxxvit":
    "maxvit_rmlp_pico_rw_256", "metaformer": "poolformerv2_s12", "mobilenetv3": "mobilenetv3_small_050",
    "mobilevit": "mobilevit_xxs", "nextvit": "nextvit_small", "nfnet": "test_nfnet", "pvt_v2": "pvt_v2_b0", "rdnet":
    "rdnet_tiny", "regnet": "regnetx_002", "repghost": "repghostnet_050", "repvit": "repvit_m1", "res2net":
    "res2next50", "resnest": "resnest14d", "resnet": "test_resnet", "resnetv2": "resnetv2_18", "rexnet":
    "rexnet_100", "senet": "legacy_seresnet18", "shvit": "shvit_s1", "sknet": "skresnet18", "starnet": "starnet_s1",
    "swiftformer": "swiftformer_xs", "swin_transformer_v2_cr": "swinv2_cr_tiny_ns_224", "tiny_vit":
    "tiny_vit_5m_224", "tresnet": "tresnet_m", "vgg": "vgg11", "vovnet": "ese_vovnet19b_dw", "xception":
    "legacy_xception", "xception_aligned": "xception41p",
}
# fmt: on


def small(name: str) -> Blueprint:
    """A network for the smallest images that it takes."""
    row = entry(name)
    for size in (64, 96, 128, 256):
        try:
            return blueprint(resized(row, size))
        except BackboneError:
            continue
    return blueprint(row)


def random_tensors(plan: Blueprint, classifier: bool = False) -> dict[str, Tensor]:
    """Values under which the activations keep their size, so that equal outputs mean something."""
    generator = torch.Generator().manual_seed(7)
    wanted = set(plan.trunk_keys()) | (set(plan.classifier_keys()) if classifier else set())
    tensors: dict[str, Tensor] = {}
    for key, tensor in plan.model.state_dict().items():
        if key not in wanted:
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if not tensor.is_floating_point():
            tensors[key] = torch.zeros(tensor.shape, dtype=tensor.dtype)
        elif key.endswith("running_var"):
            tensors[key] = noise.abs() * 0.1 + 1
        elif tensor.ndim > 1:
            tensors[key] = noise * (2 / tensor[0].numel()) ** 0.5
        else:
            tensors[key] = noise * 0.1 + (1 if key.endswith(("weight", "gamma")) else 0)
    return tensors


def pair(name: str, classifier: bool = False) -> tuple[Backbone, nn.Module, Tensor]:
    """A backbone, timm's own network with the same tensors, and three images."""
    plan = small(name)
    tensors = random_tensors(plan, classifier)
    with torch.device("meta"):
        reference = timm.create_model(plan.entry.architecture)
    saved = reference.state_dict().keys()
    if any(key not in saved for key, _ in reference.named_buffers()):
        reference = timm.create_model(plan.entry.architecture)
    reference.load_state_dict({key: tensor.clone() for key, tensor in tensors.items()}, strict=False, assign=True)
    size = plan.entry.preprocess.height
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))
    # Frozen as the backbone is: torch has another kernel for linear layers whose weights want a gradient.
    return Backbone(plan, tensors), reference.eval().requires_grad_(False), images


@torch.no_grad()
def check_cuts(backbone: Backbone, reference: nn.Module, images: Tensor, cuts: Sequence[str] = ()) -> None:
    expected = reference.forward_features(images)  # type: ignore[operator]  # timm's networks all have it
    assert expected.float().std() > 0 and expected.isfinite().all()
    shapes = stage_shapes(backbone.plan)
    for cut in cuts or ("all", *backbone.stages[1:], "none"):
        seen = images.clone()
        given = backbone.below(cut)(seen)
        kept = given.clone()
        assert torch.equal(backbone.above(cut)(given), expected), cut
        assert torch.equal(given, kept), f"what lies above {cut} overwrites what it is given"
        assert torch.equal(seen, images), f"what lies below {cut} overwrites the images"
        if position := backbone.position(cut):
            assert shapes[position - 1] == (backbone.stages[position - 1], tuple(given.shape[1:]))
    assert torch.equal(backbone.above(backbone.stages[0])(images.clone()), expected)


def check_family(name: str) -> None:
    backbone, reference, images = pair(name)
    check_cuts(backbone, reference, images)
    check_cuts(backbone, reference, images[:1], backbone.stages[-2:])
    backbone.plan.model.to(torch.bfloat16)
    reference.to(torch.bfloat16)
    check_cuts(backbone, reference, images[:1].bfloat16())


@pytest.mark.parametrize("name", PROMISED)
def test_above_after_below_is_the_network(name: str) -> None:
    check_family(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST.values())
def test_above_after_below_is_the_network_in_every_family(name: str) -> None:
    check_family(name)


def test_every_listed_family_is_tested() -> None:
    assert set(SMALLEST) == catalogue._CNNS


@pytest.mark.parametrize("name", ["vgg16", "tf_efficientnet_lite0", "convnext_atto"])
def test_channels_last(name: str) -> None:
    backbone, reference, images = pair(name)
    reference.to(memory_format=torch.channels_last)
    backbone.plan.model.to(memory_format=torch.channels_last)
    check_cuts(backbone, reference, images.contiguous(memory_format=torch.channels_last))


def test_a_stage_that_overwrites_its_input_is_noticed() -> None:
    """The trap itself: the check above must see an in-place ReLU at the start of a stage."""
    backbone, reference, images = pair("resnet18")
    # The hook negates the input and hands the module a negated copy, so that only the overwriting is wrong.
    start = next(stage for stage in backbone.plan.stages if stage.name == "layer2").links[0]
    backbone.plan.model.get_submodule(start).register_forward_pre_hook(lambda _, inputs: (-inputs[0].neg_(),))
    with pytest.raises(AssertionError, match="what lies above layer2 overwrites what it is given"):
        check_cuts(backbone, reference, images)


@torch.no_grad()
def test_pooled_is_mean_and_maximum_of_every_stage() -> None:
    backbone, reference, images = pair("vgg16")
    outputs: list[Tensor] = []
    for module in reference.modules():
        if isinstance(module, nn.MaxPool2d):  # a block of VGG ends with its pooling
            module.register_forward_hook(lambda _, __, output: outputs.append(output.clone()))
    reference.forward_features(images)  # type: ignore[operator]  # as above
    pooled = backbone.below("none").pooled(images)
    assert pooled.dtype == torch.float32 and pooled.shape == (3, 2 * sum(backbone.widths())) == (3, 2 * 1472)
    parts = pooled.split([width for width in backbone.widths() for _ in range(2)], 1)
    assert len(outputs) == 5
    for stage, output in enumerate(outputs):
        n, c, h, w = output.shape
        naive = torch.stack([output[:, :, y, x].double() for y in range(h) for x in range(w)]).sum(0) / (h * w)
        assert torch.allclose(parts[2 * stage].double(), naive, rtol=1e-5, atol=1e-6)
        assert torch.equal(parts[2 * stage + 1], output.reshape(n, c, -1).max(2).values)


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_pooled_of_a_shorter_part_is_the_beginning_of_the_whole(name: str) -> None:
    backbone, _, images = pair(name)
    whole = backbone.below("none").pooled(images)
    for position in range(1, len(backbone.stages)):
        part = backbone.below(backbone.stages[position]).pooled(images)
        assert torch.equal(part, whole[:, : part.shape[1]]) and part.shape[1] == 2 * sum(backbone.widths()[:position])
        last = backbone.below(backbone.stages[position])(images)
        assert torch.equal(part[:, -last.shape[1] :], last.amax((2, 3)))
    low = backbone.plan.model.to(torch.bfloat16)
    assert low is backbone.plan.model
    assert backbone.below("none").pooled(images.bfloat16()).dtype == torch.float32


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["resnet18", "efficientnet_b0", "mobilenetv3_small_050", "densenet121", "convnext_atto"]
)
def test_classify_is_timms_head_and_leaves_the_features_alone(name: str) -> None:
    backbone, reference, images = pair(name, classifier=True)
    features = backbone.above("all")(images)
    kept = features.clone()
    logits = backbone.classify(features)
    assert backbone.has_classifier and torch.equal(logits, reference(images)) and torch.equal(features, kept)


def test_classify_without_a_classifier_is_an_error() -> None:
    backbone, _, _ = pair("resnet18")
    assert not backbone.has_classifier
    with pytest.raises(BackboneError, match=r"resnet18.* came without its ImageNet classifier"):
        backbone.classify(torch.zeros(1, 512, 2, 2))


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("vgg16", "block1 block2 block3 block4 block5"),
        ("vgg19", "block1 block2 block3 block4 block5"),
        ("resnet50", "stem layer1 layer2 layer3 layer4"),
        ("inception_v3", "stem mixed5 mixed6 mixed7"),
        ("legacy_xception", "stem entry middle exit"),
        ("tf_efficientnet_lite0", "stem blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5 blocks.6"),
        ("mobilenetv2_100", "stem blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5 blocks.6"),
        ("densenet121", "stem denseblock1 denseblock2 denseblock3 denseblock4"),
        ("convnext_tiny", "stem stages.0 stages.1 stages.2 stages.3"),
        ("dpn68", "stem conv2 conv3 conv4 conv5"),
        ("tresnet_m", "stem layer1 layer2 layer3 layer4"),
    ],
)
def test_stages_have_the_names_of_the_field(name: str, stages: str) -> None:
    assert " ".join(stage.name for stage in blueprint(entry(name)).stages) == stages


def test_cuts_are_counted_from_the_image() -> None:
    backbone, _, _ = pair("resnet18")
    positions = {cut: backbone.position(cut) for cut in ("all", "stem", "layer1", "layer4", "none")}
    assert positions == {"all": 0, "stem": 0, "layer1": 1, "layer4": 4, "none": 5}
    assert backbone.below("layer2").names == ("stem", "layer1") and backbone.above("none").names == ()
    with pytest.raises(BackboneError, match=r"has no stage 'block5'\nIts stages are: stem, layer1, layer2"):
        backbone.position("block5")


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224", "hrnet_w18_small"])
def test_networks_that_cannot_be_cut_are_refused(name: str) -> None:
    with pytest.raises(BackboneError, match=rf"{name}.*(not a CNN|not a chain)[^\n]*\nChoose another backbone"):
        blueprint(entry(name))


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(BackboneError, match=r"inception_v3.* cannot take images of 16 × 16 pixels"):
        blueprint(resized(entry("inception_v3"), 16))


def test_an_architecture_cannot_be_an_order_to_fetch_something() -> None:
    for name in ("hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "resnet18.a1_in1k", "no_such_network"):
        with pytest.raises(BackboneError, match="there is no network"):
            blueprint(replace(entry("resnet18"), architecture=name))


def test_the_tag_decides_how_many_classes_there_are() -> None:
    plan = blueprint(entry("convnext_tiny.fb_in22k"))
    assert plan.model.state_dict()["head.fc.weight"].shape == (21841, 768)


# --- the search for the chain --------------------------------------------------------------------------------------


class Toy(nn.Module):
    """Three modules in a row, with something between them."""

    num_features = 4

    def __init__(self, between: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 1)
        self.layer1 = nn.ModuleDict({"0": nn.Identity()})["0"] if between == "identity" else nn.Conv2d(4, 4, 1)
        self.layer2 = nn.ReLU(inplace=True)
        self.between = between

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if self.between == "in place":
            x = x.relu_()
        x = self.layer1(x)
        if self.between == "copy":
            x = x * 2
        x = self.layer2(x)
        return x.neg_() if self.between == "end" else x


@pytest.mark.parametrize("between", ["in place", "copy", "end"])
def test_arithmetic_between_modules_is_noticed(monkeypatch: pytest.MonkeyPatch, between: str) -> None:
    """Also where it is in place, so that the next module is given the very same tensor."""
    monkeypatch.setattr(network, "_build", lambda _: Toy(between).to("meta").eval())
    with pytest.raises(BackboneError, match="not a chain of modules"):
        blueprint(entry("vgg16"))


def test_a_stage_is_protected_behind_a_module_that_hands_its_input_on(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = {"conv1": "stem", "layer1": "top"}
    monkeypatch.setattr(network, "_build", lambda _: Toy("identity").to("meta").eval())
    monkeypatch.setattr(network, "stage_starts", lambda *_: starts)
    plan = blueprint(entry("vgg16"))
    assert [stage.links for stage in plan.stages] == [("conv1",), ("layer1", "layer2")]
    assert plan.model.get_submodule("layer2").inplace is False


# --- tensors -------------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_of_names_shapes_and_values() -> None:
    one = {"b": torch.tensor([1.0, -2.5]), "a": torch.tensor(3)}
    digest = hashlib.sha256()
    digest.update(b"a [] torch.int64\n" + struct.pack("<q", 3))
    digest.update(b"b [2] torch.float32\n" + struct.pack("<2f", 1.0, -2.5))
    expected = digest.hexdigest()
    assert fingerprint(one) == fingerprint(dict(reversed(one.items()))) == expected
    assert fingerprint({**one, "b": one["b"].double()}) == fingerprint({**one, "b": one["b"].bfloat16()}) == expected
    assert fingerprint({"b": torch.tensor([[1.0, -2.5]]), "a": one["a"]}) != expected
    assert fingerprint({"c": one["b"], "a": one["a"]}) != expected
    assert fingerprint({**one, "b": torch.tensor([1.0, -2.5000002])}) != expected
    assert fingerprint({"empty": torch.zeros(0, 3)}) != fingerprint({"empty": torch.zeros(0, 4)})
    strided = torch.arange(12.0).reshape(3, 4).T
    assert fingerprint({"x": strided}) == fingerprint({"x": strided.contiguous()})


@torch.no_grad()
def test_how_tensors_lie_in_memory_changes_nothing() -> None:
    """A file can hold them transposed, for which torch has other kernels."""
    plan = small("tf_efficientnet_lite0")
    tensors = random_tensors(plan, classifier=True)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    usual = Backbone(plan, tensors)
    expected = usual.classify(usual.above("all")(images))

    def turn(tensor: Tensor) -> Tensor:
        return tensor.permute(tuple(reversed(range(tensor.ndim))))

    turned = {key: turn(turn(tensor).contiguous()) for key, tensor in tensors.items()}
    other = Backbone(small("tf_efficientnet_lite0"), turned)
    assert torch.equal(other.classify(other.above("all")(images)), expected)
    assert all(tensor.stride() == usual.tensors()[key].stride() for key, tensor in other.tensors().items())


def test_tensors_of_another_network_are_listed() -> None:
    plan = small("resnet18")
    tensors = random_tensors(plan)
    check_tensors(plan, tensors)
    changes: list[tuple[dict[str, Tensor], str, str]] = [
        ({"conv1.weight": torch.zeros(64, 3, 3, 3)}, "", r"of another shape: conv1\.weight \(64, 3, 3, 3\) instead of \(64, 3, 7, 7\)"),
        ({"strange": torch.zeros(1)}, "", "unexpected: strange"),
        ({}, "bn1.running_var", r"missing: bn1\.running_var"),
        ({"conv1.weight": torch.zeros(64, 3, 7, 7, dtype=torch.int8)}, "", r"of another kind: conv1\.weight torch\.int8"),
        ({"fc.weight": torch.zeros(1000, 512)}, "", r"missing: fc\.bias"),
    ]  # fmt: skip
    for added, removed, message in changes:
        other = {key: value for key, value in tensors.items() if key != removed} | added
        with pytest.raises(WeightsError, match=rf"these are not the weights of resnet18.*{message}"):
            Backbone(copy.copy(plan), other)
    with pytest.raises(WeightsError, match=r"missing: .* and \d+ more"):
        Backbone(plan, {})
