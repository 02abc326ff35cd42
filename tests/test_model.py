"""A model folder: the way there and back, and every way in which it can be damaged."""

from __future__ import annotations

import copy
import functools
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from drawn import encode, photo
from greffon.activations import QuantisedEngine, Tap, compute, make_engine, quantise
from greffon.activations.silence import can_quantise
from greffon.backbones import Backbone, Entry, blueprint
from greffon.errors import GreffonError, ModelError, OptionError
from greffon.heads import HEADS, Normaliser, Representation, fit_head
from greffon.images import Preprocess
from greffon.model import SCHEMA, Model, is_model_folder, load_any_backbone, load_model, save_model, write_json
from greffon.progress import Silent

CLASSES = ("Äpfel", "b/../c", "")
PHOTOS = [photo(seed, 40 + seed, 50) for seed in range(9)]


@functools.cache
def network(seed: int = 0, architecture: str = "test_resnet") -> Backbone:
    """A tiny network with random weights."""
    torch.manual_seed(seed)
    pre = Preprocess(height=64, width=64, resize="shortest", resize_to=72, interpolation="bilinear", antialias=True,
                     channels="rgb", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), scale=1 / 255)  # fmt: skip
    plan = blueprint(Entry(name="tiny", architecture=architecture, preprocess=pre, weights_of="nobody", licence="none"))
    state = timm.create_model(architecture).state_dict()
    return Backbone(plan, {key: state[key] for key in plan.trunk_keys()})


@functools.cache
def records_of(body: Backbone, tap: Tap) -> np.ndarray:
    return compute(PHOTOS, body, tap, make_engine(body, tap, "float32"), store=None, progress=Silent()).all()


MEAN = Representation("last", "mean", "l2")


def made(head: str = "logistic", representation: Representation = MEAN, backbone: Backbone | None = None) -> Model:
    body = backbone or network()
    tap = Tap("map", "none") if representation.pool == "flatten" else Tap("pooled")
    features = representation.take(records_of(body, tap), body.widths())
    normaliser = Normaliser.fit(features, representation.norm)
    y = np.arange(len(PHOTOS)) % 3
    grown = replace(fit_head(head, normaliser.apply(features), y, 3, 3.0), temperature=0.8)
    return Model(body, "none", CLASSES, representation, normaliser, grown, "float32",
                 {"seed": 0, "trials": []}, {"accuracy": 0.5}, {"fingerprint": "00", "images": 9})  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Model:
    return made()


@pytest.fixture(scope="module")
def whole(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that no test writes into."""
    folder = tmp_path_factory.mktemp("model") / "whole"
    save_model(model, folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    target = tmp_path / "model"
    target.mkdir()
    for file in whole.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


# --- there and back --------------------------------------------------------------------------------------------


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


# --- int8 ------------------------------------------------------------------------------------------------------


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


# --- damage ----------------------------------------------------------------------------------------------------


def refused(folder: Path, match: str | None = None) -> None:
    """Loading fails with one ModelError that names the folder, and with nothing else."""
    with pytest.raises(ModelError, match=match) as caught:
        load_model(folder)
    assert str(folder) in caught.value.what
    assert len(caught.value.what) < 1500


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every value of a JSON document."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))
    if isinstance(value, list):
        for i, one in enumerate(value):
            yield from places(one, (*path, i))


WRONG: tuple[Any, ...] = (
    None, True, -1, 7, 3.5, 10**400, -1e308, "", "../../etc/passwd", "hf-hub:a/b", "\0", "9" * 3000, [], {}, ["a", "a"], [None, [1]],
    {"a": {"b": {}}},
)  # fmt: skip

#: What loading does not need, or what only people read; other values of the right type pass there.
FREE = ("training", "figures", "data", "versions")
NOTES = (("backbone", "name"), ("backbone", "weights_of"), ("backbone", "licence"))


def changed(about: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """A document with one value set, or left out where it is ``...``."""
    new = copy.deepcopy(about)
    inner = new
    for step in place[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return new


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
            if value is not ... and changed(about, place, value) == about and type(value) is type(_at(about, place)):
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


def _at(about: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        about = about[step]
    return about


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
    save_model(replace(load_model(folder), backbone=Backbone(body.plan, state)), folder)
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
