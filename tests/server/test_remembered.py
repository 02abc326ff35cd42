"""Training photos that an export carries: the nearest ones beside an answer, what is not known, and files that somebody changed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drawn import encode, photo
from greffon.errors import ModelError
from greffon.silence import has_openvino
from served import (
    CLASSES,
    REMEMBERED,
    Reply,
    Running,
    ask,
    describe_examples,
    form,
    running,
    seen_as,
    write_export,
    write_remembering,
)

pytest.importorskip("onnxruntime")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")

from greffon.server.engines import make_engine
from greffon.server.exported import read_export

PHOTOS = [photo(seed, 50, 70) for seed in REMEMBERED.values()]
THUMBNAILS = [encode(one, "JPEG") for one in PHOTOS[:-1]] + [b""]
FORMATS = [False, pytest.param(True, marks=pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed"))]


def cosine_distances(one: np.ndarray) -> np.ndarray:
    """To every training photo, by a loop."""
    mine, found = seen_as(one), []
    for other in PHOTOS:
        theirs = seen_as(other)
        found.append(1 - mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs))
    return np.array(found)


@pytest.fixture(scope="module", params=FORMATS, ids=lambda openvino: "openvino" if openvino else "onnx")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("remembering")
    write_remembering(folder / "first", PHOTOS, THUMBNAILS, openvino=request.param)
    write_export(folder / "second")
    with running([folder / "first", folder / "second"], folder / "log") as one:
        yield one
        assert not [line for line in one.logged() if line["event"] == "fault"]
        assert one.stop() == 0


def told(reply: Reply) -> list[dict[str, Any]]:
    assert reply.status == 200, reply.body
    return reply.json["results"]


def test_the_nearest_training_photos_are_told_with_their_pictures(server: Running) -> None:
    asked = [photo(seed, 60, 50) for seed in (9, 10)]
    body = form([("image", f"{number}.png", encode(one)) for number, one in enumerate(asked)])
    for one, answer in zip(asked, told(ask(server, "/v1/predict?nearest=6", *body)), strict=True):
        wanted = cosine_distances(one)
        order = np.argsort(wanted)
        near = answer["nearest"]
        assert [example["name"] for example in near] == [list(REMEMBERED)[place] for place in order]
        assert [example["label"] for example in near] == [CLASSES[place // 2] for place in order]
        assert [example["distance"] for example in near] == pytest.approx(sorted(wanted), abs=2e-3)  # they are kept in float16
        for example, place in zip(near, order, strict=True):
            picture = example.get("thumbnail")
            assert (base64.b64decode(picture.partition("base64,")[2]) if picture else b"") == THUMBNAILS[place]
        assert "known" not in answer
        assert answer["label"]
    assert "nearest" not in told(ask(server, "/v1/predict", *body))[0]
    assert len(told(ask(server, "/v1/predict?nearest=2", *body))[0]["nearest"]) == 2


def test_a_photo_of_the_training_is_its_own_nearest(server: Running) -> None:
    one = told(ask(server, "/v1/predict?nearest=1", encode(PHOTOS[3]), "image/png"))[0]["nearest"][0]
    assert (one["name"], one["label"]) == ("chien/d.jpg", "chien")
    assert one["distance"] < 1e-3


def test_what_is_new_gets_no_label(server: Running) -> None:
    """The mean of the two smallest distances against the limit: with a share of 0.9 the 18th of 19 scores, 0.36, by hand."""
    seen = set()
    for seed in range(12):
        picture = np.full((40, 40, 3), np.random.default_rng(seed).integers(0, 256, 3), np.uint8)
        one = told(ask(server, "/v1/predict?abstain=0.9", encode(picture), "image/png"))[0]
        wanted = np.sort(cosine_distances(picture))[:2].mean()
        assert one["novelty"] == pytest.approx(wanted, abs=2e-3)
        assert one["known"] == (one["novelty"] <= 18 / 50)
        assert ("label" in one) == one["known"]
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert "nearest" not in one
        seen.add(one["known"])
    assert seen == {True, False}


def test_what_cannot_be_asked_is_told(server: Running) -> None:
    body, kind = encode(PHOTOS[0]), "image/png"
    for path, detail in (
        ("?nearest=3&model=second", "nearest: the model carries none"),
        ("?abstain=0.9&model=second", "abstain: the model carries nothing"),
        ("?abstain=0.96", "19 photos were held out for this model, enough for 0.950 at most"),
        ("?nearest=-1", "nearest: "),
        ("?nearest=1000", "nearest: "),
        ("?abstain=1", "abstain: "),
        ("?abstain=nan", "abstain: "),
    ):
        reply = ask(server, f"/v1/predict{path}", body, kind)
        assert (reply.status, reply.json["type"]) == (422, "urn:greffon:problem:wrong-parameter"), reply.body
        assert detail in reply.json["detail"]
    models = ask(server, "/v1/models").json["models"]
    assert [(one["examples"], round(one["abstain"], 3)) for one in models] == [(6, 0.95), (0, 0)]
    assert told(ask(server, "/v1/predict?model=second", body, kind))[0]["label"]


Change = Callable[[dict[str, np.ndarray], dict[str, Any]], None]


def other(name: str, value: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda arrays, _: arrays.__setitem__(name, value(arrays[name]))


def says(key: str, value: object, part: str = "examples") -> Change:
    return lambda _, about: about[part].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other("features", lambda x: x.astype(np.float32)), "of their types"),
        (other("features", lambda x: x[:-1]), "must hold"),
        (other("features", lambda x: x[:, :2].copy()), "must hold"),
        (other("features", lambda x: x * np.float16(np.inf)), "not finite"),
        (other("scale", lambda x: x * np.float32(np.nan)), "not finite"),
        (other("labels", lambda x: x + 1), "labels must be from 0 to 2, got 1 to 3"),
        (other("labels", lambda x: x - 1), "got -1 to 1"),
        (other("sizes", lambda x: x + 1), "do not add up"),
        (other("sizes", lambda x: x - 2**40), "do not add up"),
        (other("sizes", lambda x: np.full(6, 2**62)), "do not add up"),
        (other("thumbnails", lambda x: x[::-1].copy()), "is not a JPEG"),
        (lambda arrays, _: arrays.__setitem__("more", np.zeros(3)), "must hold features, labels"),
        (lambda arrays, _: arrays.__delitem__("mean"), "must hold features, labels"),
        (says("images", 7), "must hold"),
        (says("images", True), "must be of type int"),
        (says("width", 4), "must hold"),
        (says("norm", "l3"), "norm must be one of"),
        (says("names", ["a"]), "names must be 6 texts"),
        (says("names", [1, 2, 3, 4, 5, 6]), "names must be 6 texts"),
        (says("neighbours", 0, "novelty"), "neighbours from 1 on"),
        (says("neighbours", 10**9, "novelty"), "neighbours from 1 on"),
        (says("scores", [0.3, 0.2], "novelty"), "in their order"),
        (says("scores", [-0.1], "novelty"), "in their order"),
        (says("scores", [], "novelty"), "in their order"),
        (lambda _, about: about.__delitem__("examples"), "lacks 'examples'"),
        (lambda _, about: about.__setitem__("novelty", 3), "novelty must be of type dict"),
    ],
)  # fmt: skip
def test_examples_that_lie_are_refused(tmp_path: Path, change: Change, reason: str) -> None:
    from safetensors.numpy import load_file, save_file

    folder = write_remembering(tmp_path / "e", PHOTOS, THUMBNAILS)
    arrays, about = load_file(folder / "examples.safetensors"), json.loads((folder / "export.json").read_text("utf-8"))
    change(arrays, about)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "examples.safetensors")
    describe_examples(folder, about)
    with pytest.raises(ModelError) as stop:
        read_export(folder)
    assert str(folder) in str(stop.value)
    assert reason in str(stop.value)


def test_other_files_in_their_place_are_refused(tmp_path: Path) -> None:
    folder = write_remembering(tmp_path / "e", PHOTOS, THUMBNAILS)
    file, about = folder / "examples.safetensors", json.loads((folder / "export.json").read_text("utf-8"))
    content = file.read_bytes()

    def refused() -> str:
        with pytest.raises(ModelError) as stop:
            make_engine(read_export(folder), threads=1)
        return str(stop.value)

    file.write_bytes(content[:-1] + b"x")
    assert "examples.safetensors: has the SHA-256" in refused()
    for wrong in (content[:-5], b"\xff" * 100, b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", content[:8] + b"[" * 500):
        file.write_bytes(wrong)
        describe_examples(folder, about)
        assert "not a safetensors file, or damaged" in refused()
    file.unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    file.symlink_to(tmp_path / "elsewhere")
    describe_examples(folder, about)
    assert "is a link" in refused()
    file.unlink()
    assert "examples.safetensors: cannot be read" in refused()
    file.write_bytes(content)
    del about["files"]["examples.safetensors"]
    (folder / "export.json").write_text(json.dumps(about), "utf-8")
    assert "holds examples.safetensors, of which export.json says nothing" in refused()


def test_a_graph_without_features_cannot_carry_examples(tmp_path: Path) -> None:
    folder = write_remembering(tmp_path / "e", PHOTOS, THUMBNAILS)
    about = json.loads((folder / "export.json").read_text("utf-8"))
    plain = json.loads((write_export(tmp_path / "plain") / "export.json").read_text("utf-8"))
    (folder / "model.onnx").write_bytes((tmp_path / "plain" / "model.onnx").read_bytes())
    about["files"] |= plain["files"]
    describe_examples(folder, about)
    with pytest.raises(ModelError, match="does not give features"):
        make_engine(read_export(folder), threads=1)


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_real_export_finds_the_examples_that_its_model_finds(to: str, tmp_path: Path) -> None:
    """Both from photos: the model's own features and ``Examples.nearest``, and the file's graph with the examples beside it."""
    from dataclasses import replace

    import exporting_models as made
    from greffon import export, load_model, save_model
    from greffon.activations import compute
    from greffon.activations import make_engine as engine_of
    from greffon.heads import Representation
    from greffon.model import Examples
    from greffon.novelty import NEIGHBOURS, novelty_scores
    from greffon.progress import Silent

    if to == "openvino" and not has_openvino():
        pytest.skip("OpenVINO is not installed")
    # A level of the resize, by which OpenVINO may be off, tells most where roots are taken.
    model = made.model_of(representation=Representation("all", "mean+max", "sqrt-l2" if to == "onnx" else "l2"))

    def seen(pictures: list[np.ndarray]) -> np.ndarray:
        frozen = engine_of(model.backbone, model.tap, "float32")
        return model.features(compute(pictures, model.backbone, model.tap, frozen, store=None, progress=Silent()).all())

    labels = np.arange(len(made.PHOTOS)) % 3
    examples = Examples.of(seen(made.PHOTOS), labels, [f"{n}.png" for n in range(12)], [encode(one, "JPEG") for one in made.PHOTOS])
    model = replace(model, examples=examples, novelty=np.linspace(0.1, 0.9, 9), conformal=np.linspace(0.05, 0.95, 19))
    save_model(model, tmp_path / "model")
    export(tmp_path / "model", out=tmp_path / "out", to=to)
    found = read_export(tmp_path / "out")
    own, engine, new = found.remembered, make_engine(found, threads=1), [photo(seed, 44, 66) for seed in range(30, 34)]
    assert own is not None and own.scores is not None and found.conformal is not None
    features = engine.run(np.stack([engine.preprocess.fit(one) for one in new])).features
    assert features is not None
    near, distances = own.nearest(features, 5)
    loaded = load_model(tmp_path / "model")
    assert loaded.examples is not None
    wanted = loaded.examples.nearest(seen(new), 5)
    assert (near == wanted[0]).mean() > 0.9  # two as good as equally far may change places
    assert distances == pytest.approx(wanted[1], abs=1e-3)
    assert distances[:, :NEIGHBOURS].mean(1) == pytest.approx(novelty_scores(seen(new), loaded.examples.features), abs=1e-3)
    assert own.scores == pytest.approx(np.linspace(0.1, 0.9, 9)) and own.neighbours == NEIGHBOURS
    assert found.conformal == pytest.approx(np.linspace(0.05, 0.95, 19))
    assert own.thumbnails == examples.thumbnails and own.names == examples.names
    assert own.limit(0.5) == loaded.known_up_to(0.5)
    export(tmp_path / "model", out=tmp_path / "out", to=to, examples=False)
    assert read_export(tmp_path / "out").remembered is None
