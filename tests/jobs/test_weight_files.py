"""``greffon weights`` as a person uses it: files of every source made known, listed, shown, verified, written out, used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from greffon.backbones import blueprint, load_backbone
from greffon.backbones.catalogue import entry
from greffon.backbones.imported import find_entry, imported_file, imported_names
from greffon.backbones.reading import convolutions
from greffon.backbones.weights import cached_file
from greffon.errors import BackboneError, OptionError, WeightsError
from greffon.jobs.backbones import backbones
from greffon.jobs.describe import describe
from greffon.jobs.weights import (
    PREPROCESSINGS,
    export_weights,
    import_weights,
    list_weights,
    show_weights,
    verify_weights,
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GREFFON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def vgg16(greffon_cache: Path) -> dict[str, Tensor]:
    try:
        return load_backbone("vgg16").tensors()
    except WeightsError:
        pytest.skip("VGG16's weights are not on this machine")


def resnet(seed: int = 0, classes: int = 1000) -> dict[str, Tensor]:
    """Random weights of a ResNet-18 in the names that timm and torchvision share."""
    import torchvision

    torch.manual_seed(seed)
    return torchvision.models.resnet18(num_classes=classes).state_dict()


def as_keras(tensors: dict[str, Tensor], path: Path) -> Path:
    with h5py.File(path, "w") as file:
        for layer, link in convolutions(blueprint(entry("vgg16"))).items():
            file[f"{layer}/{layer}/kernel:0"] = np.transpose(tensors[f"{link}.weight"].numpy(), (2, 3, 1, 0))
            file[f"{layer}/{layer}/bias:0"] = tensors[f"{link}.bias"].numpy()
    return path


# --- import ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["", "vgg16"])
def test_the_published_ones_take_their_place(said: str, vgg16: dict[str, Tensor], cache: Path, tmp_path: Path) -> None:
    result = import_weights(as_keras(vgg16, tmp_path / "downloaded.h5"), network=said)
    assert (result.name, result.kind, result.format, result.layout) == ("vgg16", "published", "keras-h5", "Keras")
    assert result.fingerprint == entry("vgg16").fingerprint and result.preprocess == entry("vgg16").preprocess
    assert result.file == cached_file(entry("vgg16")) and not result.classifier and result.parameters == 14_714_688
    assert load_backbone("vgg16").fingerprint == result.fingerprint
    assert [(one.name, one.kind) for one in list_weights()] == [("vgg16", "published")]
    assert "downloaded.h5, sha256" in list_weights()[0].origin


def test_unknown_ones_are_asked_about_and_never_guessed(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(resnet(), path)
    with pytest.raises(WeightsError, match=r"mine\.pth: unknown weights of resnet18\nSay how their images(.|\n)*--preprocess caffe"):
        import_weights(path)
    assert list_weights() == [] and imported_names() == []
    result = import_weights(path, preprocess="tf")
    assert (result.name, result.kind, result.architecture) == ("resnet18-mine", "unknown", "resnet18")
    channels, mean, std, scale = PREPROCESSINGS["tf"]
    used = load_backbone("resnet18-mine", classifier=True)
    assert (used.preprocess.channels, used.preprocess.mean, used.preprocess.std, used.preprocess.scale) == (channels, mean, std, scale)
    assert used.has_classifier and used.fingerprint == result.fingerprint
    assert np.allclose(used.preprocess.normalise(np.array([[[[0, 127, 255]]]], np.uint8)).ravel(), [-1, -0.003921569, 1])


def test_a_named_network_brings_its_preprocessing(cache: Path, tmp_path: Path) -> None:
    torch.save(resnet(), tmp_path / "mine.pth")
    result = import_weights(tmp_path / "mine.pth", network="resnet18.tv_in1k", name="my-net")
    assert result.preprocess == entry("resnet18.tv_in1k").preprocess and "which you named" in result.why_preprocess
    assert result.name == "my-net" and find_entry("my-net").licence == "not stated"


def test_a_layout_that_speaks_against_the_network_is_asked_about(cache: Path, tmp_path: Path) -> None:
    """torchvision's VGG16 is another one than the VGG team's: fed with BGR it would still answer."""
    plan = blueprint(entry("vgg16"))
    state = plan.model.state_dict()
    tensors = {key: torch.rand(state[key].shape) for key in plan.trunk_keys()}
    fake_top = {f"classifier.{i}.{part}": torch.zeros(2, 2) if part == "weight" else torch.zeros(2)
                for i in (0, 3, 6) for part in ("weight", "bias")}  # fmt: skip
    torch.save({**tensors, **fake_top}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"unknown weights of vgg16, in torchvision's layout\n"):
        import_weights(tmp_path / "w.pth", network="vgg16")
    with pytest.raises(WeightsError, match="RGB with ImageNet's mean and deviation, and vgg16 would feed them BGR"):
        load_backbone("vgg16", weights=tmp_path / "w.pth")
    result = import_weights(tmp_path / "w.pth", network="vgg16", preprocess="vgg16.tv_in1k")
    assert result.preprocess == entry("vgg16.tv_in1k").preprocess
    assert result.notes == ("its dense layers are left out: the last one has 2 classes, not ImageNet's 1,000",)


def test_a_variant_keeps_the_preprocessing_of_its_parents(vgg16: dict[str, Tensor], cache: Path, tmp_path: Path) -> None:
    tuned = {key: tensor + (0.01 if key.startswith("features.28") else 0) for key, tensor in vgg16.items()}
    result = import_weights(as_keras(tuned, tmp_path / "Cars 2019.h5"))
    assert result.kind == "variant" and result.name == "vgg16-cars-2019"
    assert result.preprocess == entry("vgg16").preprocess and "12 of 13 convolutions" in result.verdict
    order = [name for name, *_ in show_weights("vgg16-cars-2019").rows]
    assert order == list(blueprint(entry("vgg16")).trunk_keys())
    rows = {name: same for name, _, _, _, same in show_weights("vgg16-cars-2019").rows}
    assert rows["features.26.weight"] is True and rows["features.28.weight"] is False and rows["features.28.bias"] is None


def test_a_preprocessing_may_come_from_a_file(cache: Path, tmp_path: Path) -> None:
    save_file(resnet(), tmp_path / "w")
    wanted = {**entry("resnet18").preprocess.to_dict(), "height": 96, "width": 128, "resize_to": 130}
    (tmp_path / "own.json").write_text(json.dumps(wanted))
    result = import_weights(tmp_path / "w", preprocess=str(tmp_path / "own.json"), name="a")
    assert (result.preprocess.height, result.preprocess.width) == (96, 128)
    for given, message in (("nonsense", "must be caffe, torch, tf, a backbone's name"), (str(tmp_path / "none.json"), "cannot be read")):
        with pytest.raises(OptionError, match=message):
            import_weights(tmp_path / "w", preprocess=given, name="b")
    (tmp_path / "bad.json").write_text('{"height": 1}')
    with pytest.raises(OptionError, match="expected the keys"):
        import_weights(tmp_path / "w", preprocess=str(tmp_path / "bad.json"), name="b")


def test_names_are_checked_and_nothing_is_overwritten_unasked(cache: Path, tmp_path: Path) -> None:
    torch.save(resnet(0), tmp_path / "w0.pth")
    torch.save(resnet(1), tmp_path / "w1.pth")
    for name in ("vgg16", "resnet50", "resnet50.a1_in1k", "../x", "A", "a/b", "x" * 90, ".x"):
        with pytest.raises(OptionError, match="--name"):
            import_weights(tmp_path / "w0.pth", preprocess="torch", name=name)
    first = import_weights(tmp_path / "w0.pth", preprocess="torch", name="net")
    again = import_weights(tmp_path / "w0.pth", preprocess="torch", name="net")
    assert first == again
    with pytest.raises(OptionError, match="there is an imported network 'net' already, with other weights"):
        import_weights(tmp_path / "w1.pth", preprocess="torch", name="net")
    assert load_backbone("net").fingerprint == first.fingerprint
    replaced = import_weights(tmp_path / "w1.pth", preprocess="torch", name="net", replace_old=True)
    assert load_backbone("net").fingerprint == replaced.fingerprint != first.fingerprint


def test_another_classifier_is_left_out(cache: Path, tmp_path: Path) -> None:
    torch.save(resnet(classes=7), tmp_path / "w.pth")
    result = import_weights(tmp_path / "w.pth", preprocess="torch", name="net")
    assert not result.classifier and result.notes == ("its classifier is left out: fc.bias is (7,) instead of (1000,)",)
    with pytest.raises(WeightsError, match="the weights of net came without the classifier"):
        load_backbone("net", classifier=True)


@pytest.mark.slow
def test_tensors_of_nothing_that_is_known(cache: Path, tmp_path: Path) -> None:
    save_file({"a.b": torch.zeros(3), "c": torch.zeros(2)}, tmp_path / "w")
    with pytest.raises(WeightsError, match=r"w: its tensors \(a\.b, c, …\) are those of no network that is recognised\nName the"):
        import_weights(tmp_path / "w")
    part = dict(list(resnet().items())[:-12])
    save_file(part, tmp_path / "w")
    with pytest.raises(WeightsError, match=r"no network that is recognised\n.*resnet18.*missing"):
        import_weights(tmp_path / "w")
    with pytest.raises(BackboneError, match="there is no backbone 'resnet81'"):
        import_weights(tmp_path / "w", network="resnet81")


@pytest.mark.slow
def test_inception_and_resnet_of_torchvision_are_recognised(cache: Path, tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(0)
    for name, model in (
        ("inception_v3", torchvision.models.inception_v3(init_weights=False)),
        ("resnet50", torchvision.models.resnet50()),
        ("vgg11_bn", None),
    ):
        if model is None:
            plan = blueprint(entry("vgg11_bn"))
            state = plan.model.state_dict()
            held = {key: torch.zeros(state[key].shape, dtype=state[key].dtype) for key in plan.trunk_keys()}
        else:
            held = model.eval().state_dict()
        torch.save(held, tmp_path / f"{name}.pth")
        result = import_weights(tmp_path / f"{name}.pth", preprocess="torch", name=f"my-{name}")
        assert result.architecture == name
        if model is not None:
            mine = load_backbone(f"my-{name}", classifier=True)
            image = torch.randn(1, 3, 299, 299)
            with torch.no_grad():
                assert torch.allclose(mine.classify(mine.below("none")(image)), model(image), rtol=1e-4, atol=1e-4)


# --- list, show, verify, export --------------------------------------------------------------------------------------


def test_verify_finds_a_changed_number(cache: Path, tmp_path: Path) -> None:
    torch.save(resnet(), tmp_path / "w.pth")
    import_weights(tmp_path / "w.pth", preprocess="torch", name="net")
    assert [(one.name, one.fault) for one in verify_weights()] == [("net", "")]
    path = imported_file("net")
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1  # in the classifier, or in the stages: either is told
    path.write_bytes(data)
    assert "what was kept" in verify_weights(["net"])[0].fault or "fingerprint" in verify_weights(["net"])[0].fault
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "its tensors have the fingerprint" in verify_weights(["net"])[0].fault
    with pytest.raises(WeightsError, match="damaged"):
        load_backbone("net")
    path.write_bytes(data[: len(data) // 2])
    assert [one.kind for one in list_weights()] == ["damaged"]
    with pytest.raises(WeightsError, match=r"damaged.*\nRemove the file"):
        load_backbone("net")
    with pytest.raises(WeightsError, match="are not on this machine"):
        verify_weights(["vgg19"])


@pytest.mark.parametrize("to", ["safetensors", "torch", "torchvision", "keras-h5", "npy"])
def test_what_is_exported_is_imported_as_the_same(to: str, vgg16: dict[str, Tensor], tmp_path: Path) -> None:
    path = export_weights("vgg16", tmp_path / "out", to=to)
    result = import_weights(path)
    assert result.kind == "published" and result.fingerprint == entry("vgg16").fingerprint


def test_an_export_that_cannot_be(cache: Path, tmp_path: Path) -> None:
    torch.save(resnet(), tmp_path / "w.pth")
    import_weights(tmp_path / "w.pth", preprocess="torch", name="net")
    with pytest.raises(WeightsError, match="--to npy is for VGG, and net is another network"):
        export_weights("net", tmp_path / "o", to="npy")
    with pytest.raises(OptionError, match="--to must be one of safetensors, torch"):
        export_weights("net", tmp_path / "o", to="caffe")
    with pytest.raises(WeightsError, match="cannot be written"):
        export_weights("net", tmp_path / "nowhere" / "o", to="torch")
    assert load_file(export_weights("net", tmp_path / "o")).keys() == resnet().keys()


def test_an_imported_network_stands_beside_the_others(cache: Path, tmp_path: Path) -> None:
    torch.save(resnet(), tmp_path / "w.pth")
    import_weights(tmp_path / "w.pth", preprocess="torch", name="net")
    assert next((row.name, row.here) for row in backbones("net")) == ("net", True)
    assert describe("net").architecture == "resnet18"
    with pytest.raises(BackboneError, match=r"there is no backbone 'nett'\n.*Imported: net\."):
        find_entry("nett")


# --- the command line ------------------------------------------------------------------------------------------------


def greffon(*arguments: object, cache: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "greffon", *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**os.environ, "GREFFON_CACHE": str(cache), "GREFFON_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.slow
def test_from_a_file_to_a_trained_model(tmp_path: Path, vgg16: dict[str, Tensor]) -> None:
    cache = tmp_path / "cache"
    torch.save(resnet(), tmp_path / "cars.pth")
    code, _, err = greffon("weights", "import", tmp_path / "cars.pth", cache=cache)
    assert code == 2 and "unknown weights of resnet18" in err and "--preprocess tf" in err and "Traceback" not in err
    code, out, err = greffon("weights", "import", tmp_path / "cars.pth", "--preprocess", "torch", cache=cache)
    assert code == 0, err
    assert "unknown weights" in out and "use it: --backbone resnet18-cars" in out and "RGB times 0.00392157" in out
    code, out, _ = greffon("weights", "list", "--json", cache=cache)
    assert [(one["name"], one["classifier"]) for one in json_lines(out)] == [("resnet18-cars", True)]
    whole = f"resnet18-cars: whole, fingerprint {json_lines(out)[0]['fingerprint'][:16]}…\n"
    assert greffon("weights", "verify", cache=cache)[:2] == (0, whole)
    code, out, _ = greffon("weights", "show", "resnet18-cars", "--json", cache=cache)
    assert len(json_lines(out)[0]["tensors"]) == 122
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(8):
            level = random.integers(0, 120, (40, 40, 3)) + (120 if name == "b" else 0)
            Image.fromarray(level.astype(np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    wishes = ("--out", tmp_path / "m", "--backbone", "resnet18-cars", "--size", 64)
    code, out, err = greffon("train", tmp_path / "photos", *wishes, cache=cache)
    assert code == 0, err
    told = json.loads((tmp_path / "m" / "model.json").read_text())
    assert "resnet18-cars" in json.dumps(told)
    code, out, err = greffon("predict", tmp_path / "m", tmp_path / "photos/a/0.png", "--json", cache=tmp_path / "another-cache")
    assert code == 0 and json_lines(out)[0]["label"] == "a", err
    code, out, err = greffon("weights", "export", "resnet18-cars", "--out", tmp_path / "w.safetensors", cache=cache)
    assert code == 0 and load_file(tmp_path / "w.safetensors").keys() == resnet().keys()


def test_a_damaged_one_ends_verify_with_two(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "vgg19.safetensors").write_bytes(b"\x10")
    code, out, err = greffon("weights", "verify", cache=cache)
    assert code == 2 and "vgg19" in out and "not a safetensors file" in out and "Traceback" not in err
    code, out, err = greffon("weights", "show", "vgg19", cache=cache)
    assert code == 2 and "damaged" in err
