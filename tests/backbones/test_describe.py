"""A backbone as a table and as a drawing, against the papers, a published table, torchvision, and naive counts."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from greffon.backbones.catalogue import entry
from greffon.backbones.describe import Description, describe_plan
from greffon.backbones.drawing import draw
from greffon.backbones.network import Blueprint, Stage, blueprint, stage_shapes
from greffon.errors import BackboneError, OptionError
from greffon.jobs.describe import describe

#: The VGG paper (arXiv:1409.1556), table 1: configurations A, B, D and E, block by block, up to each max-pooling;
#: weight layers; and table 2: millions of parameters.
VGG_PAPER = {
    "vgg11.tv_in1k": ([[64], [128], [256] * 2, [512] * 2, [512] * 2], 11, 133),
    "vgg13.tv_in1k": ([[64] * 2, [128] * 2, [256] * 2, [512] * 2, [512] * 2], 13, 133),
    "vgg16": ([[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3], 16, 138),
    "vgg19": ([[64] * 2, [128] * 2, [256] * 4, [512] * 4, [512] * 4], 19, 144),
}


@pytest.mark.parametrize("name", VGG_PAPER)
def test_vgg_is_the_papers(name: str) -> None:
    blocks, weight_layers, millions = VGG_PAPER[name]
    found = describe(name)
    expected = [tuple([f"conv3-{width}" for width in block] + ["maxpool"]) for block in blocks]
    assert [stage.layers for stage in found.stages] == expected
    assert [stage.name for stage in found.stages] == ["block1", "block2", "block3", "block4", "block5"]
    fully_connected = [key for key in blueprint(entry(name)).classifier_keys() if key.endswith(".weight")]
    convolutions = sum(layer.startswith("conv") for stage in found.stages for layer in stage.layers)
    assert convolutions + len(fully_connected) == weight_layers

    # Parameters and multiply-adds by the formulas, from the table of the paper alone.
    channels, side = 3, 224
    for block, stage in zip(blocks, found.stages, strict=True):
        parameters = multiply_adds = 0
        for width in block:
            parameters += 3 * 3 * channels * width + width
            multiply_adds += 3 * 3 * channels * width * side * side
            channels = width
        side //= 2
        assert (stage.parameters, stage.multiply_adds) == (parameters, multiply_adds)
        assert stage.shape == (channels, side, side)
    dense = 512 * 7 * 7 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
    assert found.classifier_parameters == dense
    assert found.total_parameters == dense + sum(stage.parameters for stage in found.stages)
    assert round(found.total_parameters / 1e6) == millions


def test_vgg_totals_are_the_known_ones() -> None:
    assert describe("vgg16").total_parameters == 138_357_544
    assert describe("vgg19").total_parameters == 143_667_240
    assert describe("vgg16").total_multiply_adds == 15_346_630_656


#: (receptive field, stride) at the end of each stage. All but ResNet's are rows of Google's
#: receptive_field/RECEPTIVE_FIELD_TABLE.md (of "Computing Receptive Fields of CNNs", Distill 2019), of TF-Slim's
#: networks; there ResNet strides elsewhere, so its figures come from the loop in the test below.
PUBLISHED = {
    "vgg11.tv_in1k": [(4, 2), (10, 4), (30, 8), (70, 16), (150, 32)],
    "vgg16": [(6, 2), (16, 4), (44, 8), (100, 16), (212, 32)],
    "inception_v3": [(31, 8), (127, 8), (927, 16), (1311, 32)],
    "inception_v4": [(55, 8), (183, 8), (1559, 16), (2071, 32)],
    "mobilenetv1_100": [(3, 2), (7, 2), (19, 4), (43, 8), (219, 16), (315, 32)],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_receptive_fields_are_the_published_ones(name: str) -> None:
    assert [(stage.receptive_field, stage.stride) for stage in describe(name).stages] == PUBLISHED[name]


def test_receptive_fields_of_resnet_by_its_longest_path() -> None:
    field, stride, expected = 7, 2, []
    field, stride = field + 2 * stride, stride * 2  # max-pooling 3 × 3 / 2
    expected.append((field, stride))
    for blocks, first in ((3, 1), (4, 2), (6, 2), (3, 2)):
        for i in range(blocks):
            field, stride = field + 2 * stride, stride * (first if i == 0 else 1)
        expected.append((field, stride))
    assert [(stage.receptive_field, stage.stride) for stage in describe("resnet50").stages] == expected


@pytest.mark.parametrize(
    ("name", "depth", "size"),
    [
        ("resnet18", 3, 160),  # residual sums
        ("tf_efficientnet_lite0", 4, 160),  # asymmetric "same" padding
        ("res2net50_26w_4s", 2, 112),  # parting along the channels
    ],
)
def test_receptive_fields_are_where_the_gradient_reaches(name: str, depth: int, size: int) -> None:
    """Positive weights and mean instead of maximum: then each pixel that is in reach has a gradient above zero."""
    plan = blueprint(entry(name))
    image = torch.full((1, 3, size, size), 1e-6, requires_grad=True)
    x = image
    for stage in plan.stages[:depth]:
        for link in stage.links:
            module = plan.model.get_submodule(link)
            if isinstance(module, nn.MaxPool2d):
                module = nn.AvgPool2d(module.kernel_size, module.stride, module.padding)
            if any(tensor.is_meta for tensor in module.state_dict().values()):
                module.to_empty(device="cpu")
            module.requires_grad_(False)
            for key, tensor in module.state_dict().items():
                zero = key.endswith(("bias", "running_mean"))  # a bias would let ReLU6 saturate
                tensor.fill_(0 if zero else 1 / tensor[0].numel() if tensor.ndim > 1 else 1)
            x = module(x)
    at, reach = x.shape[2] // 2, []
    for position in (at, at + 1):
        (gradient,) = torch.autograd.grad(x[0, :, position, position].sum(), image, retain_graph=True)
        rows = torch.nonzero(gradient.sum((0, 1, 3)))
        reach.append((int(rows.min()), int(rows.max())))
    assert reach[0][0] > 0 and reach[1][1] < size - 1, "the test needs a larger image"
    last = describe(name).stages[depth - 1]
    assert last.receptive_field == reach[0][1] - reach[0][0] + 1
    assert last.stride == reach[1][0] - reach[0][0]


def test_receptive_fields_of_rarer_layers_by_hand() -> None:
    class Shifted(nn.Module):
        """Two branches that look to different sides: 3 positions in all, though each alone sees 1 or 2."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left = nn.functional.pad(x, (1, -1, 1, -1))
            return left + nn.functional.avg_pool2d(nn.functional.pad(x, (0, 1, 0, 1)), 2, 1)

    with torch.device("meta"):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, dilation=2),
            nn.Conv2d(8, 8, (1, 5), stride=2),  # 5 × 9 pixels
            nn.ReflectionPad2d(1),
            nn.AvgPool2d(3, 2),
            Shifted(),
            nn.ConvTranspose2d(8, 8, 2),
            nn.ReLU(),
        )
    plan = Blueprint(entry("vgg16"), model, tuple(Stage(f"s{i}", (str(i),)) for i in range(len(model))))
    stages = describe_plan(plan).stages
    fields = [(stage.receptive_field, stage.stride) for stage in stages]
    assert fields == [(5, 1), (9, 2), (9, 2), (13, 4), (21, 4), (None, None), (None, None)]
    assert [stage.layers for stage in stages[:2]] == [("conv3-8",), ("conv1x5-8/2",)]


def test_a_stage_that_sees_the_whole_image_has_no_receptive_field() -> None:
    stages = describe("mobilenetv3_large_100").stages  # squeeze-and-excitation begins in blocks.2
    assert [stage.receptive_field for stage in stages] == [3, 7, 19, None, None, None, None, None]
    assert [stage.stride for stage in stages] == [2, 2, 4, 8, 16, 16, 32, 32]


@pytest.mark.parametrize("name", ["resnet50", "inception_v3", "tf_efficientnet_lite0", "convnext_tiny"])
def test_multiply_adds_are_those_of_a_naive_count(name: str) -> None:
    """Hooks on every Conv2d and Linear, and the textbook formula."""
    plan = blueprint(entry(name))
    counted = [0]

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            kernel = module.kernel_size[0] * module.kernel_size[1]
            counted[0] += output.numel() * kernel * module.in_channels // module.groups
        elif isinstance(module, nn.Linear):
            counted[0] += output.numel() * module.in_features

    for module in plan.model.modules():
        module.register_forward_hook(count)
    shapes = stage_shapes(plan)
    naive = counted[0]
    found = describe(name)
    assert naive > 0
    assert found.total_multiply_adds == naive == sum(stage.multiply_adds for stage in found.stages)
    assert [(stage.name, stage.shape) for stage in found.stages] == shapes


def test_resnet_has_torchvisions_parameters() -> None:
    with torch.device("meta"):
        other = torchvision.models.resnet50()
    total = sum(parameter.numel() for parameter in other.parameters())
    found = describe("resnet50")
    assert found.total_parameters == total == 25_557_032
    assert found.classifier_parameters == 2048 * 1000 + 1000
    for stage in found.stages[1:]:
        assert stage.parameters == sum(parameter.numel() for parameter in other.get_submodule(stage.name).parameters())
    assert found.stages[2].layers == ("Bottleneck-512",) * 4
    assert found.stages[0].layers == ("conv7-64/2", "maxpool3/2")


def test_another_size_changes_shapes_and_work_and_nothing_else() -> None:
    usual, double = describe("vgg16"), describe("vgg16", size=448)
    assert double.input == (3, 448, 448)
    assert double.total_multiply_adds == 4 * usual.total_multiply_adds
    assert double.total_parameters == usual.total_parameters
    assert [s.receptive_field for s in double.stages] == [s.receptive_field for s in usual.stages]
    oblong = describe_plan(blueprint(entry("vgg16")), 64, 96)
    assert oblong.stages[-1].shape == (512, 2, 3)


def test_images_that_are_too_small_are_named() -> None:
    with pytest.raises(BackboneError, match="vgg16 cannot take images of 16 × 16 pixels"):
        describe("vgg16", size=16)


def test_weights_in_the_plan_stay_where_they_are() -> None:
    plan = blueprint(entry("resnet18"))
    plan.model.to_empty(device="cpu")
    describe_plan(plan)
    assert not any(tensor.is_meta for tensor in plan.model.state_dict().values())


# --- the drawing -------------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = ["vgg16", "vgg19", "resnet50", "inception_v3", "tf_efficientnet_lite0", "convmixer_768_32"]


@pytest.fixture(scope="module")
def described() -> dict[str, Description]:
    return {name: describe(name) for name in DRAWN}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("cut", [None, "none", "all", "last"])
def test_a_drawing_names_every_stage_and_keeps_on_the_page(
    described: dict[str, Description], name: str, cut: str | None
) -> None:
    one = described[name]
    svg = draw([one], cut=one.stages[-1].name if cut == "last" else cut)
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    title = root.find(f"{SVG}title")
    assert title is not None and one.name in (title.text or "")
    texts = root.findall(f"{SVG}text")
    words = [text.text for text in texts]
    for stage in one.stages:
        assert stage.name in words
        assert " × ".join(map(str, stage.shape)) in words
    assert len([line for line in root.iter(f"{SVG}line") if line.get("class") == "cut"]) == (0 if cut is None else 1)
    assert ("new head" in words) == (cut is not None) and ("classifier" in words) == (cut is None)
    assert not {element.tag for element in root.iter()} & {f"{SVG}script", f"{SVG}style", f"{SVG}image"}
    assert "href" not in svg and "url(" not in svg

    # Nothing lies outside the page or over its neighbour: a letter is taken as 0.58 of its size, which is wide.
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    boxes = []
    for text in texts:
        size, x, y = float(text.get("font-size", 0)), float(text.get("x", 0)), float(text.get("y", 0))
        length = len(text.text or "") * size * 0.58
        left = x - {"start": 0.0, "middle": length / 2, "end": length}[text.get("text-anchor", "start")]
        boxes.append((left, left + length, y - size * 0.8, y + size * 0.2, text.text))
        assert left >= 0 and left + length <= width and y <= height, text.text
    for i, (left, right, top, bottom, text) in enumerate(boxes):
        for left2, right2, top2, bottom2, text2 in boxes[i + 1 :]:
            assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top, (text, text2)


def test_colours_change_at_the_cut(described: dict[str, Description]) -> None:
    def trained(cut: str | None) -> list[bool]:
        root = ElementTree.fromstring(draw([described["vgg16"]], cut=cut))
        # Of a box: the top, the right side, then the slices seen from the front.
        fronts = [list(group.iter(f"{SVG}polygon"))[2].get("fill") for group in root.findall(f"{SVG}g")]
        return [colour == "#f2ab5f" for colour in fronts]  # image, five blocks, head

    assert trained(None) == [False] * 7
    assert trained("none") == [False] * 6 + [True]
    assert trained("block4") == [False] * 4 + [True] * 3
    assert trained("all") == [False] + [True] * 6
    said = {cut: "◂ frozen" in draw([described["vgg16"]], cut=cut) for cut in ("all", "block2", "none")}
    assert said == {"all": False, "block2": True, "none": True}


def test_several_backbones_stand_under_each_other(described: dict[str, Description]) -> None:
    root = ElementTree.fromstring(draw([described["vgg16"], described["vgg19"]], cut="block5"))
    at = {text.text: float(text.get("y", 0)) for text in root.findall(f"{SVG}text") if text.get("font-size") == "18"}
    assert at["vgg19"] > at["vgg16"] + 300
    assert len([line for line in root.iter(f"{SVG}line") if line.get("class") == "cut"]) == 2


def test_a_drawing_in_french_says_all_that_the_english_one_says(described: dict[str, Description]) -> None:
    english, french = (draw([described["vgg16"]], cut="block5", lang=lang) for lang in ("en", "fr"))
    assert english.count("<text") == french.count("<text") and english.count("<polygon") == french.count("<polygon")
    assert "138,4 M de paramètres" in french and "138.4 M parameters" in english
    assert not [word for word in ("parameters", "frozen", "trained", "sees", "stride", "licence:", " and ") if word in french]
    with pytest.raises(OptionError, match="lang must be one of en, fr"):
        draw([described["vgg16"]], lang="de")


def test_a_cut_that_one_of_them_has_not_is_an_error(described: dict[str, Description]) -> None:
    with pytest.raises(BackboneError, match=r"resnet50.*has no stage 'block5'"):
        draw([described["vgg16"], described["resnet50"]], cut="block5")
    with pytest.raises(BackboneError, match="Its stages are: block1, block2"):
        draw([described["vgg16"]], cut="")


def test_describing_reads_and_fetches_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network must not be touched")

    monkeypatch.setenv("GREFFON_CACHE", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", refuse)
    assert describe("resnet18").weights_of.startswith("timm")
    assert not any(tmp_path.iterdir())
