"""Small exports that tests write themselves, real server processes that serve them, and a client without a library."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from greffon.images import Preprocess

__all__ = ["CLASSES", "PREPROCESS", "REMEMBERED", "Reply", "Running", "about_of", "ask", "describe_examples", "describe_openvino",
           "expected", "form", "graph_of", "running", "seen_as", "write_export", "write_openvino", "write_remembering"]  # fmt: skip

CLASSES = ("chat", "chien", "<b>oiseau</b>")
PREPROCESS = Preprocess(height=32, width=32, resize="shortest", resize_to=40, interpolation="bilinear", antialias=True, channels="bgr",
                        mean=(104.0, 117.0, 124.0), std=(60.0, 61.0, 62.0), scale=1.0)  # fmt: skip
WEIGHT = np.array([[3.0, -1.0, 0.5], [-2.0, 2.0, 1.0], [0.3, 0.4, -2.5]], np.float32)
BIAS = np.array([0.1, -0.2, 0.3], np.float32)


def graph_of(
    *, maps: bool = True, features: bool = False, heavy: int = 0, preprocess: Preprocess = PREPROCESS, weight: np.ndarray = WEIGHT
) -> Any:
    """An export's graph: the photo's way as ``greffon export`` writes it, then the softmax of a linear map of the mean colour.

    ``features``: the mean colour as an output, too.
    ``heavy``: so many convolutions of 64 channels on 64 × 64 beside it, for a network that takes time and changes nothing.
    """
    from onnx import helper, numpy_helper

    from greffon.exporting.photo import OPSET, photo_nodes

    nodes, arrays = photo_nodes(preprocess)
    made = helper.make_node

    def array(name: str, values: np.ndarray) -> str:
        arrays.append(numpy_helper.from_array(values, name))
        return name

    array("w", weight[:, :, None, None])
    array("b", BIAS)
    nodes += [made("AveragePool", ["pixels"], ["coarse"], kernel_shape=[8, 8], strides=[8, 8]),
              made("Conv", ["coarse", "w", "b"], ["maps"]),
              made("GlobalAveragePool", ["maps"], ["score4"]),
              made("Flatten", ["score4"], ["score"])]  # fmt: skip
    if heavy:
        rng = np.random.default_rng(0)
        nodes.append(made("Resize", ["pixels", "", "", array("to", np.array([64, 64], np.int64))], ["wide0"], axes=[2, 3]))
        for number in range(heavy):
            name = array(f"k{number}", rng.normal(0, 0.05, (64, 3 if number == 0 else 64, 3, 3)).astype(np.float32))
            nodes.append(made("Conv", [f"wide{number}", name], [f"wide{number + 1}"], pads=[1, 1, 1, 1]))
        nodes += [made("ReduceMean", [f"wide{heavy}", array("all", np.array([1, 2, 3], np.int64))], ["much"], keepdims=0),
                  made("Mul", ["much", array("nothing", np.zeros((), np.float32))], ["none"]),
                  made("Unsqueeze", ["none", array("last", np.array([1], np.int64))], ["none2"]),
                  made("Add", ["score", "none2"], ["sum"])]  # fmt: skip
    nodes.append(made("Softmax", ["sum" if heavy else "score"], ["probabilities"], axis=1))
    outputs = [helper.make_tensor_value_info("probabilities", 1, ["n", 3])]
    if features:
        nodes += [made("GlobalAveragePool", ["pixels"], ["colour"]), made("Flatten", ["colour"], ["features"])]
        outputs.append(helper.make_tensor_value_info("features", 1, ["n", 3]))
    if maps:
        outputs.append(helper.make_tensor_value_info("maps", 1, ["n", 3, 4, 4]))
    photo = helper.make_tensor_value_info("photo", 2, ["n", "h", "w", 3])
    graph = helper.make_graph(nodes, "greffon", [photo], outputs, arrays)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    told = {"greffon": 1, "classes": list(CLASSES), "maps": maps, "precision": "float32"}
    helper.set_model_props(whole, {name: json.dumps(value, ensure_ascii=False) for name, value in told.items()})
    return whole


def about_of(
    content: bytes, *, maps: bool = True, preprocess: Preprocess = PREPROCESS, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What ``export.json`` says of a graph with these bytes."""
    return {
        "greffon": 1,
        "classes": list(CLASSES),
        "precision": "float32",
        "maps": maps,
        "model": {"backbone": {"name": "drawn"}, "preprocess": preprocess.to_dict()},
        "format": "onnx",
        "file": "model.onnx",
        "files": {"model.onnx": {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}},
        **(more or {}),
    }


def write_export(
    folder: Path, *, maps: bool = True, features: bool = False, heavy: int = 0, weight: np.ndarray = WEIGHT,
    more: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """An export folder, as ``greffon export`` makes them."""
    content = graph_of(maps=maps, features=features, heavy=heavy, weight=weight).SerializeToString()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    (folder / "export.json").write_text(json.dumps(about_of(content, maps=maps, more=more)), "utf-8")
    return folder


#: What ``write_remembering`` makes a model remember: names, and the photos' seeds.
REMEMBERED = {"chat/a.jpg": 0, "chat/b.jpg": 1, "chien/<i>c</i>.jpg": 2, "chien/d.jpg": 3, "oiseau/e.jpg": 4, "oiseau/f.jpg": 5}
_MEAN, _SCALE = np.array([0.1, -0.2, 0.3], np.float32), np.array([1.0, 2.0, 0.5], np.float32)


def seen_as(photo: np.ndarray) -> np.ndarray:
    """The mean colour of a photo as the head of ``write_remembering`` sees it, computed here: float64 (3,)."""
    row = PREPROCESS.normalise(PREPROCESS.fit(photo)[None]).astype(np.float64)[0].mean((1, 2))
    return (row / np.linalg.norm(row) - _MEAN) * _SCALE


def write_remembering(
    folder: Path, photos: Sequence[np.ndarray], thumbnails: Sequence[bytes], *, openvino: bool = False
) -> Path:
    """An export that carries training photos: their features, names and thumbnails, and 19 scores of novelty, 0.02 to 0.38."""
    from safetensors.numpy import save_file

    (write_openvino if openvino else write_export)(folder, features=True)
    arrays = {
        "features": np.stack([seen_as(one) for one in photos]).astype(np.float16),
        "labels": np.arange(len(photos), dtype=np.int64) // 2,
        "mean": _MEAN,
        "scale": _SCALE,
        "sizes": np.array([len(one) for one in thumbnails], np.int64),
        "thumbnails": np.frombuffer(b"".join(thumbnails), np.uint8),
    }
    save_file(arrays, folder / "examples.safetensors")
    about = json.loads((folder / "export.json").read_text("utf-8"))
    about["examples"] = {"images": len(photos), "width": 3, "norm": "l2", "names": list(REMEMBERED)}
    about["novelty"] = {"neighbours": 2, "scores": [round(number / 50, 3) for number in range(1, 20)]}
    describe_examples(folder, about)
    return folder


def describe_examples(folder: Path, about: dict[str, Any]) -> None:
    """Write ``export.json`` with the size and the sum that the file of the examples has now."""
    content = (folder / "examples.safetensors").read_bytes()
    about["files"]["examples.safetensors"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "export.json").write_text(json.dumps(about), "utf-8")


def write_openvino(folder: Path, *, maps: bool = True, features: bool = False, more: Mapping[str, Any] | None = None) -> Path:
    """The same network as an export folder of OpenVINO's format."""
    from greffon import silence

    openvino: Any = silence.openvino()
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "part.onnx"
    part.write_bytes(graph_of(maps=maps, features=features).SerializeToString())
    model = openvino.Core().read_model(str(part))
    part.unlink()
    model.reshape({model.inputs[0]: openvino.PartialShape([1, -1, -1, 3])})
    model.set_rt_info(json.dumps({"classes": list(CLASSES), "maps": maps, "precision": "float32"}), ["greffon"])
    openvino.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    describe_openvino(folder, maps=maps, more=more)
    return folder


def describe_openvino(folder: Path, *, maps: bool = True, more: Mapping[str, Any] | None = None) -> None:
    """Write ``export.json`` for the files that stand in the folder now."""
    files = {}
    for name in ("model.xml", "model.bin"):
        content = (folder / name).read_bytes()
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    told = {**about_of(b"", maps=maps), "format": "openvino", "file": "model.xml", "files": files, **(more or {})}
    (folder / "export.json").write_text(json.dumps(told), "utf-8")


def expected(photo: np.ndarray, weight: np.ndarray = WEIGHT) -> np.ndarray:
    """The probabilities of a photo, uint8 (h, w, 3), computed here: float64 (3,)."""
    pixels = PREPROCESS.normalise(PREPROCESS.fit(photo)[None]).astype(np.float64)[0]
    scores = weight.astype(np.float64) @ pixels.mean((1, 2)) + BIAS
    raised = np.exp(scores - scores.max())
    return raised / raised.sum()


@dataclass
class Reply:
    """An answer: its status, its headers with small letters, its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server process, where it listens, and what it writes."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def port(self) -> int:
        found = urlsplit(self.url).port
        assert found
        return found

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Tell it to stop; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)


@contextlib.contextmanager
def running(models: Sequence[object], log: Path, *options: object, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """``greffon serve`` on a free port."""
    words = [sys.executable, "-m", "greffon", "serve", *map(str, models), "--port", "0", *map(str, options)]
    whole = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=file, env=whole)
        try:
            assert process.stdout
            told = re.search(r"http://\S+", process.stdout.readline().decode())
            assert told, log.read_text()
            yield Running(process, told[0], log)
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def ask(
    server: Running, path: str, body: bytes | None = None, kind: str = "", *, method: str = "", headers: Mapping[str, str] | None = None
) -> Reply:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        sent = {**({"Content-Type": kind} if kind else {}), **(headers or {})}
        connection.request(method or ("GET" if body is None else "POST"), path, body, sent)
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def form(parts: Sequence[tuple[str, str, bytes]]) -> tuple[bytes, str]:
    """A body of multipart/form-data from field, file name and bytes, and its content type. No file name: a field of text."""
    found = b""
    for name, file, data in parts:
        told = f'; filename="{file}"' if file else ""
        found += f'--grEffOn\r\nContent-Disposition: form-data; name="{name}"{told}\r\n\r\n'.encode() + data + b"\r\n"
    return found + b"--grEffOn--\r\n", "multipart/form-data; boundary=grEffOn"
