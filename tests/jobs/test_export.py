"""The whole of ``export``: a file that agrees with ``predict``, its gate, its runner, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drawn import encode, photo
from exporting_models import CLASSES, MEAN, PHOTOS, model_of
from greffon import export, predict
from greffon.activations import quantise
from greffon.backbones import Backbone, blueprint
from greffon.cli import main
from greffon.errors import ExportError, GreffonError, ModelError, OptionError
from greffon.exporting import Exported, making
from greffon.heads import HEADS, Representation
from greffon.model import Model, save_model
from greffon.progress import Silent
from greffon.silence import can_quantise, has_openvino
from growing import drawn_network

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime: Any = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("one_thread")

#: The program runs where these cannot be imported.
REFUSED = ("greffon", "torch", "torchvision", "timm", "sklearn", "scipy", "pandas", "onnx", "cv2")
ALONE = """
import runpy, sys
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise ImportError(name + " is refused here")
sys.meta_path.insert(0, Refusing())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of several sizes and kinds, and one that is none."""
    folder = tmp_path_factory.mktemp("export") / "photos"
    folder.mkdir()
    for i, pixels in enumerate(PHOTOS[:6]):
        (folder / f"{i}.png").write_bytes(encode(pixels))
    (folder / "é.jpg").write_bytes(encode(photo(77, 90, 140), "JPEG"))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return folder


@pytest.fixture(scope="module")
def folder(photos: Path) -> Path:
    """A model folder."""
    save_model(model_of(), photos.parent / "model")
    return photos.parent / "model"


@pytest.fixture(scope="module")
def exported(folder: Path, photos: Path) -> Exported:
    return export(folder, out=folder.parent / "exported", check=[photos])


def said(file: Path, images: list[np.ndarray], output: str = "probabilities") -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options)
    return np.concatenate([session.run([output], {"photo": image[None]})[0] for image in images])


# --- one file ---------------------------------------------------------------------------------------------------


def test_the_file_says_what_predict_says(exported: Exported, folder: Path, photos: Path) -> None:
    assert exported.parity.passed and exported.parity.largest < 1e-4
    assert exported.parity.photos == 7 + 2
    told = predict(folder, [photos / "0.png", photos / "5.png"])
    got = said(exported.folder / "model.onnx", [PHOTOS[0], PHOTOS[5]])
    assert got == pytest.approx(np.array([list(guess.probabilities.values()) for guess in told]), abs=1e-5)


def test_several_photos_at_once(exported: Exported) -> None:
    images = [photo(seed, 55, 71) for seed in range(4)]
    session = onnxruntime.InferenceSession(str(exported.folder / "model.onnx"))
    together = session.run(["probabilities"], {"photo": np.stack(images)})[0]
    assert together == pytest.approx(said(exported.folder / "model.onnx", images), abs=1e-5)
    assert together.dtype == np.float32


def test_what_the_file_and_export_json_tell(exported: Exported) -> None:
    about = json.loads((exported.folder / "export.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(str(exported.folder / "model.onnx"))
    inside = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    assert inside["classes"] == list(CLASSES) == about["classes"]
    assert inside["temperature"] == 0.8
    assert inside["maps"] is True
    assert inside["input"]["shape"] == ["n", "h", "w", 3]
    assert [one.name for one in session.get_outputs()] == ["probabilities", "features", "maps"]
    assert [one["name"] for one in inside["outputs"]] == ["probabilities", "features", "maps"]
    assert inside["model"]["figures"] == {"accuracy": 0.5, "n": 12}
    assert inside["model"]["backbone"]["name"] == "test_resnet"
    assert inside.items() <= about.items()
    content = (exported.folder / "model.onnx").read_bytes()
    assert about["files"]["model.onnx"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert about["parity"]["passed"] is True
    assert about["versions"]["onnxruntime"]
    # Whoever gets the file learns nothing of the machine that it was made on.
    assert b"somebody" not in content and "somebody" not in (exported.folder / "export.json").read_text(encoding="utf-8")
    assert sorted(path.name for path in exported.folder.iterdir()) == ["export.json", "model.onnx", "run.py"]


def test_maps_and_features_are_outputs(exported: Exported, folder: Path) -> None:
    maps = said(exported.folder / "model.onnx", [PHOTOS[2]], "maps")
    probabilities = said(exported.folder / "model.onnx", [PHOTOS[2]])
    z = np.exp(maps.mean((2, 3)) / 0.8)
    assert z / z.sum() == pytest.approx(probabilities, abs=1e-4)
    assert said(exported.folder / "model.onnx", [PHOTOS[2]], "features").shape == (1, len(model_of().normaliser.mean))


@pytest.mark.slow
def test_maps_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    found = export(folder, out=tmp_path / "out", maps=False)
    assert not found.maps
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    assert [one.name for one in session.get_outputs()] == ["probabilities", "features"]


@pytest.mark.slow
def test_the_same_model_gives_the_same_file(exported: Exported, folder: Path, tmp_path: Path) -> None:
    again = export(folder, out=tmp_path / "again")
    assert (again.folder / "model.onnx").read_bytes() == (exported.folder / "model.onnx").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_every_kind_of_head(head: str, tmp_path: Path) -> None:
    representation = {"knn": Representation("all", "mean", "l2"), "svm": Representation("all", "mean+max", "sqrt-l2")}.get(head, MEAN)
    save_model(model_of(head, representation), tmp_path / "model")
    found = export(tmp_path / "model", out=tmp_path / "out")
    assert found.parity.passed
    assert found.maps == (head not in ("knn", "svm"))


# --- the program beside it --------------------------------------------------------------------------------------


def run_alone(program: Path, *words: str, with_torch: bool = False) -> list[dict[str, Any]]:
    """The lines that the program prints where nothing can be imported that it does not name."""
    code = ALONE.format(refused=("greffon", "timm") if with_torch else REFUSED)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code, str(program), *words], capture_output=True, text=True, check=True, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_program_prints_predicts_lines_without_greffon_and_torch(exported: Exported, folder: Path, photos: Path) -> None:
    paths = sorted(photos.iterdir())
    told = {str(guess.path): guess.to_dict() for guess in predict(folder, [photos])}
    lines = run_alone(exported.folder / "run.py", *map(str, paths))
    assert [line["path"] for line in lines] == [str(path) for path in paths]
    for line in lines:
        expected = told[line["path"]]
        assert line.keys() == expected.keys()
        if "error" not in line:
            assert line["label"] == expected["label"]
            assert line["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-4)


@pytest.mark.slow
def test_the_program_in_an_environment_of_its_own(exported: Exported, folder: Path, photos: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = Path(__file__).parents[2] / "constraints.txt"
    subprocess.run([str(python), "-m", "pip", "install", "-q", "-c", str(constraints), "onnxruntime", "numpy", "pillow"], check=True)
    shutil.copytree(exported.folder, tmp_path / "moved")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    gone = subprocess.run([str(python), "-c", "import torch"], capture_output=True, check=False, env=environment)
    assert gone.returncode
    words = [str(python), str(tmp_path / "moved" / "run.py"), str(photos / "0.png"), str(photos / "broken.png")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    first = next(iter(predict(folder, [photos / "0.png"])))
    assert lines[0]["label"] == first.label
    assert lines[0]["probabilities"] == pytest.approx(first.probabilities, abs=1e-4)
    assert lines[1].keys() == {"path", "error"}


# --- other precisions and formats -------------------------------------------------------------------------------


@pytest.mark.slow
def test_float16_is_half_as_large_and_its_outputs_are_float32(exported: Exported, folder: Path, tmp_path: Path) -> None:
    found = export(folder, out=tmp_path / "half", precision="float16")
    assert found.bytes < 0.7 * exported.bytes
    assert found.parity.largest <= 0.01
    session = onnxruntime.InferenceSession(str(tmp_path / "half" / "model.onnx"))
    assert {one.type for one in session.get_outputs()} == {"tensor(float)"}


@pytest.mark.slow
@pytest.mark.skipif(not can_quantise(), reason="NNCF is not installed")
def test_int8(folder: Path, photos: Path, tmp_path: Path) -> None:
    found = export(folder, out=tmp_path / "int8", precision="int8", calibrate=[photos], check=[photos], tolerance=0.3)
    kinds = {node.op_type for node in _nodes(tmp_path / "int8" / "model.onnx")}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert found.parity.photos == found.parity.images == 2  # those that the ranges are from are not compared
    assert found.parity.only_run == 15


def _nodes(file: Path) -> Any:
    import onnx

    return onnx.load(str(file)).graph.node


def test_float16_that_overflows_is_refused(tmp_path: Path) -> None:
    body = drawn_network(seed=5)
    tensors = body.tensors()
    first = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    loud = Backbone(blueprint(body.plan.entry), {**tensors, first: tensors[first] * 1e7})
    save_model(model_of(backbone=loud), tmp_path / "model")
    with pytest.raises(OptionError, match="65,504"):
        export(tmp_path / "model", out=tmp_path / "out", precision="float16")


@pytest.mark.slow
@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_openvino(precision: str, folder: Path, photos: Path, tmp_path: Path) -> None:
    found = export(folder, out=tmp_path / "out", to="openvino", precision=precision, check=[photos])
    assert found.parity.passed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["export.json", "model.bin", "model.xml", "run.py"]
    line = run_alone(tmp_path / "out" / "run.py", str(photos / "0.png"))[0]
    told = next(iter(predict(folder, [photos / "0.png"])))
    assert line["probabilities"] == pytest.approx(told.probabilities, abs=0.01)


@pytest.mark.slow
@pytest.mark.skipif(not can_quantise(), reason="NNCF is not installed")
@pytest.mark.parametrize("cut", ["none", "second"])
def test_openvino_has_the_graph_that_the_model_carries(cut: str, photos: Path, tmp_path: Path) -> None:
    model = model_of()
    if cut != "none":
        name = model.backbone.stages[2]
        model = model_of(representation=Representation("all", "mean", "standard"), cut=name, keep="bfloat16")
    pictures = np.stack([model.backbone.preprocess.fit(image) for image in PHOTOS])
    model = replace(model, quantised=quantise(model.backbone, model.tap, pictures), precision="int8")
    save_model(model, tmp_path / "model")
    found = export(tmp_path / "model", out=tmp_path / "out", to="openvino", precision="int8", check=[photos])
    assert found.parity.passed and found.parity.photos == 9
    assert not found.maps


@pytest.mark.slow
def test_torch_export(folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = export(folder, out=tmp_path / "out", to="torch", check=[photos])
    assert found.parity.passed
    # Nothing in the archive is a pickle but the example that the graph was drawn with, which is plain tensors.
    loads = torch.load

    def careful(*words: Any, **options: Any) -> Any:
        assert options.get("weights_only") is True
        return loads(*words, **options)

    monkeypatch.setattr(torch, "load", careful)
    module = torch.export.load(str(tmp_path / "out" / "model.pt2")).module()
    told = next(iter(predict(folder, [photos / "0.png"])))
    assert module(torch.from_numpy(PHOTOS[0][None]))[0][0].tolist() == pytest.approx(list(told.probabilities.values()), abs=1e-4)
    monkeypatch.undo()
    line = run_alone(tmp_path / "out" / "run.py", str(photos / "0.png"), with_torch=True)[0]
    assert line["probabilities"] == pytest.approx(told.probabilities, abs=1e-4)


# --- the gate, and what is refused ------------------------------------------------------------------------------


def test_a_file_that_does_not_agree_is_removed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = making.write_file

    def wrong(model: Model, *words: Any) -> None:
        written(replace(model, head=replace(model.head, temperature=1.0)), *words)

    monkeypatch.setattr(making, "write_file", wrong)
    with pytest.raises(ExportError, match="removed"):
        export(folder, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_earlier_export_is_replaced_whole_or_not_at_all(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    export(folder, out=out, to="torch")
    export(folder, out=out)
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "model.onnx", "run.py"]
    before = (out / "export.json").read_bytes()
    with pytest.raises(ExportError):
        export(folder, out=out, tolerance=1e-12)
    assert (out / "export.json").read_bytes() == before
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "model.onnx", "run.py"]


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"to": "tflite"}, "--to must be one of onnx, openvino, torch, got 'tflite'"),
        ({"precision": "int4"}, "must be one of float32, float16, int8, got 'int4'"),
        ({"to": "torch", "precision": "int8"}, "--precision of torch"),
        ({"precision": "int8"}, "--calibrate"),
        ({"tolerance": 2.0}, "between 0 and 1"),
        ({"tolerance": -1.0}, "between 0 and 1"),
        ({"check": ["no-such-photo.jpg"]}, "no such file"),
    ],
)
def test_what_cannot_be_is_told(wishes: dict[str, Any], message: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(GreffonError, match=message):
        export(folder, out=tmp_path / "out", **wishes)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OptionError, match="something else"):
        export(folder, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_model_is_told(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        export(tmp_path / "model", out=tmp_path / "out")
    with pytest.raises(ModelError, match="not a model folder"):
        export(tmp_path, out=tmp_path / "out")


def test_a_missing_package_names_the_extra(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else there(name, *rest))
    with pytest.raises(OptionError, match=r"export needs onnxruntime.*\n.*greffon\[export\]"):
        export(folder, out=tmp_path / "out")


@pytest.mark.slow
def test_photos_of_the_training_record_are_compared(photos: Path, tmp_path: Path) -> None:
    model = model_of()
    save_model(replace(model, data={"root": str(photos)}), tmp_path / "model")
    listener = Silent()
    found = export(tmp_path / "model", out=tmp_path / "out", progress=listener)
    assert found.parity.photos == 7 + 2
    save_model(replace(model, data={"root": str(tmp_path / "gone")}), tmp_path / "model")
    listener = Silent()
    assert export(tmp_path / "model", out=tmp_path / "out", progress=listener).parity.photos == 2
    assert any("--check" in text for text in listener.warnings)


# --- the command ------------------------------------------------------------------------------------------------


def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["greffon", *words])
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    else:
        code = 0
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.slow
def test_the_command(folder: Path, photos: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("export", str(folder), "--to", "onnx", "--out", str(tmp_path / "out"), "--check", str(photos / "0.png"), "--json")
    code, out, _ = command(capsys, monkeypatch, *words)
    assert code == 0
    assert json.loads(out)["parity"]["passed"] is True
    code, _, err = command(capsys, monkeypatch, *words, "--tolerance", "1e-12")
    assert code == 2
    assert "was removed" in err and "Traceback" not in err
