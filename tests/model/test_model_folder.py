"""A model folder: the way there and back."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from small_models import CLASSES, PHOTOS, made, network

from drawn import encode
from greffon.backbones import Backbone
from greffon.errors import ModelError
from greffon.heads import HEADS, Representation
from greffon.images import Preprocess
from greffon.model import SCHEMA, Model, is_model_folder, load_any_backbone, load_model, save_model, write_json

REPRESENTATIONS = (
    Representation("last", "mean", "l2"),
    Representation("all", "max", "sqrt-l2"),
    Representation("all", "mean+max", "standard"),
    Representation("last", "flatten", "standard"),
)


@pytest.mark.parametrize(("head", "representation"), [(h, REPRESENTATIONS[i % 4]) for i, h in enumerate(HEADS)])
def test_every_head_predicts_the_same_after_a_round_trip(head: str, representation: Representation, tmp_path: Path) -> None:
    one = made(head, representation)
    save_model(one, tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["model.json", "model.safetensors"]
    back = load_model(tmp_path / "a" / "b")
    assert np.array_equal(back.predict(PHOTOS).probabilities, one.predict(PHOTOS).probabilities)
    for name in ("classes", "cut", "representation", "precision", "training", "figures", "data"):
        assert getattr(back, name) == getattr(one, name)
    assert back.backbone.fingerprint == one.backbone.fingerprint
    assert back.backbone.preprocess == one.backbone.preprocess
    save_model(back, tmp_path / "again")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "a" / "b" / name).read_bytes()


def test_another_process_predicts_the_same_from_a_moved_folder(model: Model, folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "under another name"
    moved.parent.mkdir()
    folder.rename(moved)
    images = []
    for i, pixels in enumerate(PHOTOS):
        images.append(tmp_path / f"{i}.png")
        images[-1].write_bytes(encode(pixels))
    program = (
        "import json, sys; from pathlib import Path; from greffon import load_model;"
        "told = load_model(sys.argv[1]).predict([Path(p) for p in sys.argv[2:]]);"
        "print(json.dumps([told.classes, told.probabilities.tolist()]))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(moved), *map(str, images)], capture_output=True, text=True, check=True)
    classes, probabilities = json.loads(done.stdout)
    assert tuple(classes) == CLASSES
    assert np.array(probabilities) == pytest.approx(model.predict(PHOTOS).probabilities, abs=1e-5)


def test_model_json_says_what_it_must(whole: Path, model: Model) -> None:
    about = json.loads((whole / "model.json").read_text(encoding="utf-8"))
    assert about["schema"] == SCHEMA
    assert about["classes"] == list(CLASSES)
    assert about["backbone"]["fingerprint"] == model.backbone.fingerprint
    assert Preprocess.from_dict(about["preprocess"]) == model.backbone.preprocess
    assert {"torch", "timm", "numpy", "greffon"} <= set(about["versions"])
    tensors = load_file(whole / "model.safetensors")
    assert {key.removeprefix("backbone.") for key in tensors if key.startswith("backbone.")} == set(model.backbone.tensors())


def test_photos_that_cannot_be_read_are_named_and_the_others_predicted(model: Model, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.png", tmp_path / "good.png"
    bad.write_bytes(b"no image")
    good.write_bytes(encode(PHOTOS[0]))
    told = model.predict([bad, good, tmp_path / "none.png"])
    assert set(told.failed) == {0, 2}
    assert np.isnan(told.probabilities[[0, 2]]).all()
    assert told.probabilities[1] == pytest.approx(model.predict(PHOTOS[:1]).probabilities[0], abs=1e-6)


def test_a_fitted_model_can_be_copied_deeply(model: Model) -> None:
    assert np.array_equal(copy.deepcopy(model).predict(PHOTOS[:2]).probabilities, model.predict(PHOTOS[:2]).probabilities)


def test_a_model_folder_is_a_backbone(whole: Path, model: Model) -> None:
    assert load_any_backbone(str(whole)).fingerprint == model.backbone.fingerprint
    other = load_any_backbone(str(whole), size=96)
    assert (other.preprocess.height, other.preprocess.resize_to) == (96, 108)
    assert other.fingerprint == model.backbone.fingerprint
    with pytest.raises(ModelError, match="weights"):
        load_any_backbone(str(whole), weights=whole / "model.safetensors")
    assert is_model_folder(whole)
    assert not is_model_folder(whole.parent)
    assert not is_model_folder("a\0b")


def test_saving_over_a_model_while_it_is_used(folder: Path) -> None:
    loaded = load_model(folder)
    before = loaded.predict(PHOTOS).probabilities
    save_model(made("ridge"), folder)
    assert np.array_equal(loaded.predict(PHOTOS).probabilities, before)
    assert load_model(folder).head.kind == "ridge"


def test_class_names_that_are_not_utf8(model: Model, tmp_path: Path) -> None:
    odd = replace(model, classes=("a", "b", b"caf\xe9".decode("utf-8", "surrogateescape")))
    save_model(odd, tmp_path / "odd")
    assert load_model(tmp_path / "odd").classes == odd.classes


def test_what_json_cannot_hold_leaves_nothing_behind(model: Model, tmp_path: Path) -> None:
    for value in (float("nan"), Path("x"), b"x"):
        with pytest.raises(ModelError, match="JSON"):
            save_model(replace(model, figures={"x": value}), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ModelError, match="cannot be written"):
        save_model(model, tmp_path / "file" / "model")
    (tmp_path / "taken" / "model.json").mkdir(parents=True)
    with pytest.raises(ModelError, match="cannot be written"):
        save_model(model, tmp_path / "taken")
    assert sorted(p.name for p in (tmp_path / "taken").iterdir()) == ["model.json", "model.safetensors"]


def test_write_json_leaves_the_old_file_where_the_new_one_fails(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"x": "é"})
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"x": float("nan")})
    assert json.loads(file.read_text(encoding="utf-8")) == {"x": "é"}
    assert list(tmp_path.iterdir()) == [file]



# --- slim ------------------------------------------------------------------------------------------------------


def test_a_slim_model_takes_the_frozen_stages_from_elsewhere(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(model, tmp_path / "slim", slim=True)
    assert not any(key.startswith("backbone.") for key in load_file(tmp_path / "slim" / "model.safetensors"))

    def found(name: str) -> Backbone:
        assert name == "tiny"
        return network()

    monkeypatch.setattr("greffon.model.folder.load_backbone", found)
    back = load_model(tmp_path / "slim")
    assert np.array_equal(back.predict(PHOTOS).probabilities, model.predict(PHOTOS).probabilities)
    monkeypatch.setattr("greffon.model.folder.load_backbone", lambda name: network(seed=1))
    with pytest.raises(ModelError, match="not the weights it was trained with"):
        load_model(tmp_path / "slim")


def test_a_slim_model_without_its_backbone_says_how_to_get_it(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "slim", slim=True)
    with pytest.raises(ModelError, match="tiny"):
        load_model(tmp_path / "slim")
