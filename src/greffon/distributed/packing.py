"""An engine on its way to other machines: the network's tensors and how it runs, never code, never pickle.

A worker builds the engine anew and compares fingerprints: the same weights, the same precision, the same kernels on the
same kind of processor, or it refuses. For int8 the quantised graph travels, as it does with a model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, final

from greffon.activations import Engine, PixelEngine, QuantisedEngine, QuantisedGraph, Tap, TorchEngine
from greffon.backbones import Backbone, Entry, blueprint
from greffon.distributed.cluster import software
from greffon.errors import OptionError, WeightsError
from greffon.images import Preprocess

__all__ = ["OwnEngine", "PackedEngine", "pack", "unpack"]

#: The engines that can be packed.
OwnEngine = TorchEngine | QuantisedEngine | PixelEngine


@final
@dataclass(frozen=True, slots=True, eq=False)
class PackedEngine:
    """All that a worker needs to run the frozen part.

    Parameters
    ----------
    about
        JSON: the network, the tap, how it runs, and the fingerprints that must come out.
    tensors
        Those of the network's stages, as a safetensors file.
    xml, weights
        The quantised graph; empty where there is none.
    """

    about: str
    tensors: bytes
    xml: bytes = b""
    weights: bytes = b""


def pack(engine: Engine) -> PackedEngine:
    """What ``unpack`` makes the same engine of. Raises OptionError for an engine that is not one of greffon's."""
    from safetensors.torch import save

    if not isinstance(engine, OwnEngine):
        raise OptionError(f"an engine of the kind {type(engine).__name__} cannot be sent to other machines")
    entry = engine.backbone.plan.entry
    about: dict[str, Any] = {
        "software": software(),
        "kind": type(engine).__name__,
        "name": entry.name,
        "architecture": entry.architecture,
        "preprocess": entry.preprocess.to_dict(),
        "weights": engine.backbone.fingerprint,
        "tap": [engine.tap.kind, engine.tap.cut],
        "precision": engine.precision,
        "engine": engine.fingerprint,
        "batch": engine.batch,
    }
    xml = weights = b""
    if isinstance(engine, TorchEngine):
        about |= {"device": engine.device, "keep": engine.keep}
    elif isinstance(engine, QuantisedEngine):
        about |= {"shape": list(engine.graph.shape), "keep": engine.keep, "graph": engine.graph.fingerprint}
        xml, weights = engine.graph.xml, engine.graph.weights
    tensors = {name: tensor.contiguous() for name, tensor in engine.backbone.tensors().items()}
    return PackedEngine(json.dumps(about), save(tensors), xml, weights)


def unpack(packed: PackedEngine) -> OwnEngine:
    """The engine, on this machine.

    Raises
    ------
    OptionError
        This machine has another greffon, or its engine is another: other kernels, another kind of processor.
    WeightsError
        The tensors are not those that were sent.
    """
    from safetensors.torch import load

    about = json.loads(packed.about)
    if about["software"] != software():
        raise OptionError(f"--ray: a worker has {software()}, and the run was started by {about['software']}",
                          hint="Install the same greffon on every machine of the cluster.")  # fmt: skip
    entry = Entry(name=about["name"], architecture=about["architecture"], preprocess=Preprocess.from_dict(about["preprocess"]),
                  weights_of="", licence="")  # fmt: skip
    backbone = Backbone(blueprint(entry), load(packed.tensors))
    if backbone.fingerprint != about["weights"]:
        raise WeightsError(f"--ray: a worker has weights of {entry.name} with the fingerprint {backbone.fingerprint[:12]},"
                           f" and the run is of {about['weights'][:12]}")  # fmt: skip
    engine = _engine(backbone, packed, about)
    if engine.fingerprint != about["engine"]:
        raise OptionError(f"--ray: a worker would run the network as {engine.fingerprint}, and the run is of {about['engine']}",
                          hint="Features of two engines are not mixed: use machines of one kind, with the same versions.")  # fmt: skip
    return engine


def _engine(backbone: Backbone, packed: PackedEngine, about: dict[str, Any]) -> OwnEngine:
    tap = Tap(*about["tap"])
    if about["kind"] == "PixelEngine":
        return PixelEngine(backbone)
    if about["kind"] == "TorchEngine":
        return TorchEngine(backbone, tap, about["precision"], about["device"], about["batch"], about["keep"])
    graph = QuantisedGraph(packed.xml, packed.weights, tap, (*about["shape"],))
    if graph.fingerprint != about["graph"]:
        raise WeightsError("--ray: the quantised network arrived damaged")
    return QuantisedEngine(backbone, graph, about["keep"])
