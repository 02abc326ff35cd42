"""A model folder: every way in which it can be damaged, and one error for each."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaging import FREE, NOTES, WRONG, changed, item_at, places, refused
from safetensors.torch import load_file, save_file
from small_models import made, network

from greffon.backbones import Backbone, Entry, blueprint
from greffon.errors import GreffonError, ModelError
from greffon.heads import Representation
from greffon.model import load_model, save_model


def test_every_value_of_model_json_in_turn_wrong_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    save_model(made("knn", Representation("last", "mean", "l2")), folder)
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    # The network is built once for each architecture and size, not a thousand times.
    plans: dict[object, Any] = {}
    built: dict[object, Backbone] = {}

    def planned(entry: Entry) -> Any:
        kind = (entry.architecture, entry.preprocess.height, entry.preprocess.width)
        return plans[kind] if kind in plans else plans.setdefault(kind, blueprint(entry))

    def filled(plan: Any, tensors: Any) -> Backbone:
        return built[plan] if plan in built else built.setdefault(plan, Backbone(plan, tensors))

    monkeypatch.setattr("greffon.model.folder.blueprint", planned)
    monkeypatch.setattr("greffon.model.folder.Backbone", filled)
    outcome: dict[str, int] = {"refused": 0, "read": 0}
    for place in (p for p in places(about) if p[0] not in FREE or len(p) == 1):
        for value in (*WRONG, ...):
            if value is not ... and changed(about, place, value) == about and type(value) is type(item_at(about, place)):
                continue
            (folder / "model.json").write_text(json.dumps(changed(about, place, value)), encoding="utf-8")
            try:
                load_model(folder)
                outcome["read"] += 1
            except ModelError as error:
                assert str(folder) in error.what
                outcome["refused"] += 1
                continue
            assert _harmless(place, value, about), f"{place} = {value!r} was read"
    assert outcome["refused"] > 600
    assert outcome["read"] > 50


def _harmless(place: tuple[str | int, ...], value: Any, about: Any) -> bool:
    """Whether a model that is read all the same is the same model, or another that is whole in itself."""
    if place[0] in FREE:
        return isinstance(value, dict)
    if place in NOTES:
        return isinstance(value, str)
    if place[0] == "classes":  # other names
        return len(place) == 2 and isinstance(value, str)
    if place[0] == "preprocess":  # other numbers, or one that has a default
        return len(place) > 1 and (value is ... or isinstance(value, (bool, int, float)))
    if place == ("keep",):  # folders of before fine-tuning have none
        return value is ...
    if place == ("head", "temperature"):
        return type(value) in (int, float) and value > 0
    return place == ("head", "k") and type(value) is int and 1 <= value <= 9


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (lambda f: (f / "model.json").unlink(), "not a model folder"),
        (lambda f: (f / "model.safetensors").unlink(), "missing"),
        (lambda f: (f / "model.json").write_bytes(b""), "not JSON"),
        (lambda f: (f / "model.json").write_bytes(b"\xff\xfe{"), "not JSON"),
        (lambda f: (f / "model.json").write_text("[" * 200_000), "not JSON"),
        (lambda f: (f / "model.json").write_text('{"schema": NaN}'), "NaN"),
        (lambda f: (f / "model.json").write_text('{"schema": ' + "9" * 5000 + "}"), "not JSON"),
        (lambda f: (f / "model.json").write_text("[]"), "schema"),
        (lambda f: (f / "model.json").write_text('{"schema": true}'), "schema"),
        (lambda f: (f / "model.json").write_text('{"schema": "1"}'), "schema"),
        (lambda f: (f / "model.json").write_text('{"schema": 2}'), "newer greffon"),
        (lambda f: (f / "model.json").write_text('{"schema": 0}'), "schema 0"),
        (lambda f: (f / "model.json").write_text('{"schema": 1}'), "lacks 'classes'"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}"), "safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 90_000_000) + b" " * 100), "safetensors"),
    ],
)
def test_files_that_are_missing_or_something_else(folder: Path, write: Callable[[Path], Any], match: str) -> None:
    write(folder)
    refused(folder, match)


def test_no_folder_at_all(folder: Path) -> None:
    for name in (folder / "none", folder / "model.json", Path("a\0b")):
        refused(name)


def test_a_model_json_of_gigabytes_is_not_read(folder: Path) -> None:
    with (folder / "model.json").open("r+b") as file:
        file.truncate(2**33)
    refused(folder, "64 MiB")


def test_every_truncation_of_the_tensors(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    for length in [*range(0, 64, 7), *np.linspace(64, len(data) - 1, 40).astype(int).tolist()]:
        file.write_bytes(data[:length])
        refused(folder)
    file.write_bytes(data + b"\0")
    refused(folder)


def test_every_flipped_byte_of_the_tensors(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    header = 8 + struct.unpack("<Q", data[:8])[0]
    rng = np.random.default_rng(0)
    metadata = data.index(b"greffon 1")
    places = [*rng.integers(0, header, 40), *rng.integers(header, len(data), 20)]
    for place in (int(p) for p in places):
        if metadata <= place < metadata + 9 or data[place] == ord(" "):
            continue
        before = data[place]
        data[place] ^= 1 << int(rng.integers(0, 7))
        file.write_bytes(data)
        try:
            load_model(folder)
        except ModelError as error:
            assert str(folder) in error.what
        else:  # a name in the metadata, which nothing reads
            assert place < header, place
            assert b"__metadata__" in bytes(data[max(0, place - 20) : place + 40]), place
        data[place] = before
    file.write_bytes(data)
    load_model(folder)


@pytest.mark.parametrize(
    ("key", "tensor"),
    [
        ("head.weight", torch.zeros(2, 3)),
        ("head.weight", torch.full((3, 256), float("nan"))),
        ("head.bias", torch.zeros(3, dtype=torch.bfloat16)),
        ("head.more", torch.zeros(3)),
        ("normaliser.mean", torch.zeros(5)),
        ("normaliser.mean", torch.zeros(1, 1)),
        ("normaliser.scale", None),
        ("head.weight", None),
        ("optimizer.step", torch.zeros(1)),
        ("backbone.layer1", None),
        ("backbone.layer1.0.conv1.weight", torch.zeros(1)),
        ("backbone.what", torch.zeros(1)),
    ],
)
@pytest.mark.parametrize("forged", [False, True])
def test_tensors_of_other_shapes_types_and_names(folder: Path, key: str, tensor: torch.Tensor | None, forged: bool) -> None:
    """Also where somebody has written the right fingerprint beside them."""
    from greffon.backbones import fingerprint

    tensors = load_file(folder / "model.safetensors")
    if tensor is None:
        tensors = {name: one for name, one in tensors.items() if not name.startswith(key)}
    else:
        tensors[key] = tensor
    save_file(tensors, folder / "model.safetensors")
    if forged:
        about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        about["head"]["fingerprint"] = fingerprint({k: v for k, v in tensors.items() if not k.startswith("backbone.")})
        (folder / "model.json").write_text(json.dumps(about), encoding="utf-8")
    refused(folder)


def test_a_backbone_whose_numbers_are_not_finite(folder: Path) -> None:
    """With the right fingerprint beside it: the description that saving such a model writes."""
    body = network()
    state = {name: tensor.clone() for name, tensor in body.tensors().items()}
    state["layer1.0.conv1.weight" if "layer1.0.conv1.weight" in state else next(iter(state))].view(-1)[0] = float("inf")
    save_model(replace(load_model(folder), backbone=Backbone(blueprint(body.plan.entry), state)), folder)
    refused(folder, "the backbone holds numbers that are not finite")


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_link_is_not_followed(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    refused(folder, "is a link")


def test_weights_of_another_network_are_told(folder: Path, tmp_path: Path) -> None:
    save_model(made(backbone=network(seed=1)), tmp_path / "other")
    (folder / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    refused(folder, "do not belong together")


def test_a_name_that_timm_would_look_for_elsewhere_is_never_followed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("timm was asked")

    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    for name in ("hf-hub:timm/test_resnet", "hf_hub:a/b", "local-dir:/tmp", "test_resnet.r160_in1k", "../test_resnet", "nn"):
        about["backbone"]["architecture"] = name
        (folder / "model.json").write_text(json.dumps(about), encoding="utf-8")
        with monkeypatch.context() as patch:
            patch.setattr("timm.create_model", never)
            refused(folder, "architecture")


def test_no_error_but_a_model_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(entry: Entry) -> None:
        raise AssertionError("what timm may raise")

    monkeypatch.setattr("greffon.model.folder.blueprint", broken)
    refused(folder, "AssertionError")
    assert issubclass(ModelError, GreffonError)
