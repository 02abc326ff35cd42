"""The frozen part in int8: quantised by NNCF on the user's own images, run by OpenVINO.

The quantised graph belongs to the result: a head that was trained on it predicts with it. So it is a value that a model
carries, and its fingerprint a part of the store's key.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from greffon import silence
from greffon.activations.engines import Tap, kept_as, what_is_kept
from greffon.backbones import Backbone, Span, fingerprint, stage_shapes
from greffon.errors import BackboneError, ModelError, OptionError
from greffon.settings import cache_root
from greffon.whole import whole_file

__all__ = ["QuantisedEngine", "QuantisedGraph", "cached_graph", "quantise", "whole_ranges"]

#: Of the way from images to a graph; a change makes the graphs in the cache those of another recipe.
_RECIPE = 2


@final
@dataclass(frozen=True, slots=True, eq=False)
class QuantisedGraph:
    """A quantised network as OpenVINO writes it down.

    Parameters
    ----------
    xml
        The graph.
    weights
        Its constants, the content of the ``.bin`` file.
    tap
        What it gives.
    shape
        Of its one input, float32 and normalised: (n, 3, h, w). n is fixed as well.
    """

    xml: bytes
    weights: bytes
    tap: Tap
    shape: tuple[int, int, int, int]

    @property
    def fingerprint(self) -> str:
        """sha256 over the graph and its constants."""
        digest = hashlib.sha256(hashlib.sha256(self.xml).digest())
        digest.update(hashlib.sha256(self.weights).digest())
        return digest.hexdigest()


@final
class _Outlet(nn.Module):
    """A span that gives just what the tap takes out."""

    def __init__(self, span: Span, tap: Tap) -> None:
        super().__init__()
        self._span = span
        self._pooled = tap.kind == "pooled"

    def forward(self, x: Tensor) -> Tensor:
        return self._span.pooled(x) if self._pooled else self._span(x)


def quantise(backbone: Backbone, tap: Tap, images: np.ndarray) -> QuantisedGraph:
    """Weights and activations in int8, their ranges taken from these images; the first convolution in float32.

    The first one has three channels to work on and a hundredth of the arithmetic, but its rounding goes through all that
    follows. Measured on VGG16 at 224 pixels and photos of litter: with it in int8 the mean cosine to float32 is 0.9987,
    with it in float32 0.9994.

    A range goes from the least to the greatest value of all images: the mean of each image's, which is NNCF's habit, cuts off
    what is bright in few. Biases are corrected layer by layer on the images, not by NNCF's quicker estimate. Measured on small
    photos of flowers, mean cosine and the lowest: 0.9984 and 0.988 by NNCF's habits, 0.9991 and 0.997 so.

    The same weights, images and versions of the libraries give the same graph.

    Parameters
    ----------
    images
        uint8 (n, h, w, 3), fitted but not normalised. Some 64 are enough.

    Raises
    ------
    OptionError
        OpenVINO or NNCF is absent, or there is nothing to quantise.
    BackboneError
        They cannot do it with this network.
    """
    if tap == Tap("map", "all") or not len(images):
        raise OptionError("quantise: needs a network to quantise and images to take its ranges from")
    openvino, nncf = silence.openvino(), silence.nncf()
    pre = backbone.preprocess
    shape = _input_shape(backbone)
    batch = shape[0]
    network = _Outlet(backbone.below("none" if tap.kind == "pooled" else tap.cut), tap).eval()
    # From the beginning again, until the last batch is full.
    filled = np.resize(images, (-(-len(images) // batch) * batch, *images.shape[1:]))
    samples = [pre.normalise(filled[i : i + batch]) for i in range(0, len(filled), batch)]
    try:
        with silence.quiet(), torch.no_grad():
            exact = openvino.convert_model(network, example_input=torch.zeros(shape), input=list(shape))
            _rename(exact)
            first = [node.get_friendly_name() for node in exact.get_ordered_ops() if node.get_type_name() == "Convolution"][:1]
            found = nncf.quantize(
                exact,
                nncf.Dataset(samples),
                subset_size=len(samples),
                fast_bias_correction=False,
                target_device=nncf.TargetDevice.CPU,
                ignored_scope=nncf.IgnoredScope(names=first),
                advanced_parameters=whole_ranges(),
            )
            _rename(found)
            return QuantisedGraph(*_written(openvino, found), tap, shape)
    except Exception as error:  # torch, OpenVINO and NNCF raise many kinds, some of their own
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise BackboneError(f"{backbone.name} cannot be quantised to int8 ({reason})",
                            hint="Choose --precision bfloat16 or float32.") from error  # fmt: skip


def whole_ranges() -> Any:
    """NNCF's parameters for ranges that hold every value that was seen."""
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return AdvancedQuantizationParameters(activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX)


def _input_shape(backbone: Backbone) -> tuple[int, int, int, int]:
    """Of a graph's one input. Small: measured, batches of one to eight have the same speed, and each is filled up."""
    pre = backbone.preprocess
    return max(1, min(32, 2 * 224 * 224 // (pre.height * pre.width))), 3, pre.height, pre.width


def _rename(model: Any) -> None:
    """Name the nodes by their kind and place: the libraries name them by counters that go on while the process lives."""
    model.set_friendly_name("quantised")
    for number, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")


def _written(openvino: Any, model: Any) -> tuple[bytes, bytes]:
    """A graph as bytes: what would stand in the .xml and the .bin file."""
    with tempfile.TemporaryDirectory() as folder:
        xml, weights = Path(folder) / "graph.xml", Path(folder) / "graph.bin"
        openvino.serialize(model, str(xml), str(weights))
        return xml.read_bytes(), weights.read_bytes()


def cached_graph(backbone: Backbone, tap: Tap, images: np.ndarray, *, folder: Path | None = None) -> QuantisedGraph:
    """``quantise``, or what it gave for the same network and images before.

    Parameters
    ----------
    folder
        Where the graphs are kept, by default ``quantised`` under greffon's cache.
    """
    from importlib.metadata import version

    silence.nncf()
    span = backbone.below("none" if tap.kind == "pooled" else tap.cut)
    key = hashlib.sha256()
    for part in (_RECIPE, fingerprint(dict(span.state_dict())), backbone.plan.entry.architecture, backbone.preprocess.to_dict(),
                 tap, _input_shape(backbone), images.shape, version("openvino"), version("nncf"), version("torch")):  # fmt: skip
        key.update(f"{part}\n".encode())
    key.update(np.ascontiguousarray(images).data)
    file = (folder or cache_root() / "quantised") / f"{key.hexdigest()[:40]}.safetensors"
    graph = _read(file, tap, _input_shape(backbone))
    if graph is None:
        graph = quantise(backbone, tap, images)
        _keep(file, graph)
    return graph


def _read(file: Path, tap: Tap, shape: tuple[int, int, int, int]) -> QuantisedGraph | None:
    """A graph out of the cache, or None where there is none, or a damaged one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as found:
            about = found.metadata() or {}
            graph = QuantisedGraph(found.get_tensor("xml").tobytes(), found.get_tensor("weights").tobytes(), tap, shape)
    except (OSError, SafetensorError):
        return None
    return graph if graph.fingerprint == about.get("fingerprint") else None


def _keep(file: Path, graph: QuantisedGraph) -> None:
    """Whole or not at all; where there is no room, it is made again the next time."""
    from safetensors.numpy import save_file

    values = {"xml": np.frombuffer(graph.xml, np.uint8), "weights": np.frombuffer(graph.weights, np.uint8)}
    about = {"fingerprint": graph.fingerprint}
    with contextlib.suppress(Exception):  # the disk's faults come as errors of several kinds
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as part:
            save_file(values, part, metadata=about)


@final
class QuantisedEngine:
    """OpenVINO, int8, on the CPU, in batches of one fixed size.

    Parameters
    ----------
    backbone
        Whose preprocessing and shapes the graph must have.
    graph
        The quantised network; it is run as it is.
    keep
        What the records of a map are kept in, one of ``KEEPS``; ``""``: bfloat16, finer than what int8 gives.

    Raises
    ------
    OptionError
        OpenVINO is absent.
    ModelError
        The graph is damaged, or that of another network.
    """

    def __init__(self, backbone: Backbone, graph: QuantisedGraph, keep: str = "") -> None:
        openvino = silence.openvino()
        self.backbone = backbone
        self.tap = graph.tap
        self.precision = "int8"
        self.graph = graph
        self.batch = graph.shape[0]
        self.keep = what_is_kept(graph.tap, keep or "bfloat16")
        self._preprocess = backbone.preprocess
        pre = backbone.preprocess
        wanted = _record_shape(backbone, graph.tap)
        if graph.shape[1:] != (3, pre.height, pre.width) or not 1 <= self.batch <= 32:
            raise ModelError(f"the quantised network is for images {graph.shape}, expected (n, 3, {pre.height}, {pre.width})")
        try:
            core = openvino.Core()
            model = core.read_model(graph.xml, openvino.Tensor(np.frombuffer(graph.weights, np.uint8)))
            _check(model, graph, (self.batch, *wanted))
            # Everything that is not int8 is float32: some processors would else take bfloat16 for it.
            settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except (RuntimeError, ValueError, TypeError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:160]
            raise ModelError(f"the quantised network cannot be used ({reason})") from error
        units = "-".join(sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")))
        where = f"{torch.backends.cpu.get_cpu_capability()}-{units}"
        version = openvino.__version__.split("-")[0]
        self.fingerprint = f"openvino-{version}-int8-{graph.fingerprint}-cpu-{where}-b{self.batch}"
        example = self.run(np.zeros((1, pre.height, pre.width, 3), np.uint8))
        self.record = (example.shape[1:], example.dtype.name)

    def run(self, images: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(images), self.batch):
            x = self._preprocess.normalise(images[start : start + self.batch])
            count = len(x)
            if count < self.batch:
                x = np.concatenate([x, np.zeros((self.batch - count, *x.shape[1:]), np.float32)])
            self._request.infer([x])
            # Copied: OpenVINO writes the next batch into the same place.
            values = np.array(self._request.get_output_tensor(0).data[:count])
            parts.append(values if self.tap.kind == "pooled" else kept_as(torch.from_numpy(values), self.keep, self.tap))
        return np.concatenate(parts)


def _check(model: Any, graph: QuantisedGraph, wanted: tuple[int, ...]) -> None:
    """One float32 input and one output of the right shapes, before anything is laid out in memory for them."""
    kinds = [(str(port.get_element_type()), str(port.get_partial_shape())) for port in (*model.inputs, *model.outputs)]
    expected = [("<Type: 'float32'>", f"[{','.join(map(str, shape))}]") for shape in (graph.shape, wanted)]
    if len(model.inputs) != 1 or len(model.outputs) != 1 or kinds != expected:
        raise ValueError(f"it goes from {kinds[:1]} to {kinds[1:]}, expected {expected}")


def _record_shape(backbone: Backbone, tap: Tap) -> tuple[int, ...]:
    if tap.kind == "pooled":
        return (2 * sum(backbone.widths()),)
    below = backbone.position(tap.cut)
    return stage_shapes(backbone.plan)[below - 1][1]
