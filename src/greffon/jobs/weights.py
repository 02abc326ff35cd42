"""``greffon weights``: weight files of every source, made known, listed, shown, verified and written out again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

from torch import Tensor

from greffon.backbones import Blueprint, Entry, blueprint, fingerprint
from greffon.backbones.catalogue import names
from greffon.backbones.formats.torch import read_safetensors
from greffon.backbones.identity import convention_of, file_sha256, identified, layer_digest
from greffon.backbones.imported import checked_name, find_entry, imported_file, imported_names
from greffon.backbones.network import check_tensors
from greffon.backbones.reading import FORMATS, Converted, convert, convolutions, file_format, float32, read_weights
from greffon.backbones.recognising import recognised
from greffon.backbones.weights import cached_file, find_weights, keep_weights, stored
from greffon.backbones.writing import WRITERS, write_weights
from greffon.errors import BackboneError, OptionError, WeightsError
from greffon.images import Preprocess
from greffon.progress import Progress, Silent

__all__ = [
    "PREPROCESSINGS",
    "Imported",
    "StoredWeights",
    "Tensors",
    "Verified",
    "export_weights",
    "import_weights",
    "list_weights",
    "show_weights",
    "verify_weights",
]

#: Ways of feeding a network, by the names that people have for them: channels, mean, std, scale.
PREPROCESSINGS: dict[str, tuple[Literal["rgb", "bgr"], tuple[float, float, float], tuple[float, float, float], float]] = {
    "caffe": ("bgr", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0), 1.0),
    "torch": ("rgb", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255),
    "tf": ("rgb", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5), 1.0),
}
_ASK = (
    "Say how their images were prepared, for the tensors do not tell, and a wrong guess would go unnoticed:\n"
    "  --preprocess caffe    BGR, less 103.939, 116.779 and 123.68: Keras's VGG and ResNet, Caffe\n"
    "  --preprocess torch    RGB from 0 to 1, less ImageNet's mean, by its deviation: torchvision, most of timm\n"
    "  --preprocess tf       RGB from -1 to 1: Keras's Inception, Xception, MobileNet\n"
    "  --preprocess NAME     as a network of 'greffon backbones' has it, or a JSON file with the keys of 'weights show --json'"
)


@final
@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file.

    Parameters
    ----------
    name
        What to call the network from now on: ``--backbone NAME``.
    kind
        ``"published"``, ``"variant"`` or ``"unknown"``; ``verdict`` says it in a sentence.
    format, layout
        What kind of file it was, and whose names it had.
    classifier
        Whether the classifier came along.
    preprocess
        What images will go through.
    why_preprocess
        Where that was taken from.
    notes
        What of the file was left out.
    """

    name: str
    architecture: str
    kind: str
    verdict: str
    format: str
    layout: str
    tensors: int
    parameters: int
    classifier: bool
    fingerprint: str
    preprocess: Preprocess
    why_preprocess: str
    notes: tuple[str, ...]
    file: Path

    def to_dict(self) -> dict[str, Any]:
        told = {name: getattr(self, name) for name in self.__slots__}
        return {**told, "preprocess": self.preprocess.to_dict(), "notes": list(self.notes), "file": str(self.file)}


def import_weights(
    file: Path | str,
    *,
    network: str = "",
    name: str = "",
    preprocess: str = "",
    replace_old: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Read a weight file of any known format, tell what it holds, and make it known under a name.

    Published weights take their place in greffon's cache, as if they had been downloaded. Others get a name of their own.

    Parameters
    ----------
    network
        The network that they belong to (``vgg16``, ``resnet50``); ``""``: found out from the tensors.
    name
        Of an unpublished network; ``""``: made from the network's and the file's names.
    preprocess
        ``caffe``, ``torch``, ``tf``, the name of a backbone, or a JSON file. Needed where the weights are unknown and
        neither ``network`` nor the file's layout settles it.
    replace_old
        Whether an imported network of the same name, with other weights, may be replaced.

    Raises
    ------
    WeightsError
        The file cannot be read, or does not hold the tensors of such a network, or nobody knows its preprocessing.
    OptionError, BackboneError, StoreError
    """
    path, listener = Path(file), progress or Silent()
    kind = file_format(path)
    listener.say(f"{path}: {FORMATS[kind]}")
    found = read_weights(path)
    try:
        row = find_entry(network) if network else recognised(found, kind, path)
        plan = blueprint(row)
        came = convert(plan, found, kind)
        tensors = float32(came.tensors)
        check_tensors(plan, tensors)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.what}", hint=error.hint) from error
    del found
    verdict = identified(plan, tensors, path)
    given, why = _preprocessing(row, came, verdict.kind, preprocess, asked=bool(network), path=path)
    prints = fingerprint({key: verdict.tensors[key] for key in plan.trunk_keys()})
    published = verdict.kind == "published" and not name and given == row.preprocess
    about = {
        "fingerprint": prints,
        "weights_of": row.weights_of if verdict.kind == "published" else verdict.words,
        "licence": row.licence if verdict.kind != "unknown" else "not stated",
        "from": f"{path.name}, sha256 {file_sha256(path)}",
        "kind": verdict.kind,
        "architecture": row.architecture,
        "preprocess": json.dumps(given.to_dict()),
    }
    called = row.name if published else checked_name(name or _name_from(row, path))
    target = cached_file(row) if published else imported_file(called)
    if not published and target.is_file() and not replace_old and find_entry(called).fingerprint != prints:
        raise OptionError(f"there is an imported network {called!r} already, with other weights",
                          hint="Choose another one with --name, or replace it with --replace.")  # fmt: skip
    has_top = all(key in verdict.tensors for key in plan.classifier_keys())
    if published and not has_top and cached_file(row).is_file():
        listener.say(f"{row.name}: its published weights are in the cache already")
    else:
        keep_weights(plan, verdict.tensors, target, about)
    return Imported(
        name=called,
        architecture=row.architecture,
        kind=verdict.kind,
        verdict=verdict.words,
        format=kind,
        layout=came.layout,
        tensors=len(verdict.tensors),
        parameters=sum(tensor.numel() for tensor in verdict.tensors.values()),
        classifier=has_top,
        fingerprint=prints,
        preprocess=given,
        why_preprocess=why,
        notes=came.notes,
        file=target,
    )


def _preprocessing(
    row: Entry, came: Converted, kind: str, wanted: str, *, asked: bool, path: Path
) -> tuple[Preprocess, str]:
    """What images go through, and who says so; never a guess. Raises WeightsError that asks for it, or OptionError."""
    if wanted:
        return _wanted(row, wanted), f"--preprocess {wanted}"
    if kind == "published":
        return row.preprocess, "it belongs to the published weights"
    if kind == "variant":
        return row.preprocess, "that of the published weights, whose layers they share"
    way = convention_of(row.preprocess)
    if came.convention and way and came.convention != way:
        raise WeightsError(f"{path}: unknown weights of {row.architecture}, in {came.layout}'s layout", hint=_ASK)
    if asked:
        return row.preprocess, f"that of {row.name}, which you named; --preprocess says another one"
    raise WeightsError(f"{path}: unknown weights of {row.architecture}", hint=_ASK)


def _wanted(row: Entry, wanted: str) -> Preprocess:
    if wanted in PREPROCESSINGS:
        channels, mean, std, scale = PREPROCESSINGS[wanted]
        return replace(row.preprocess, channels=channels, mean=mean, std=std, scale=scale)
    if wanted.endswith(".json"):
        try:
            return Preprocess.from_dict(json.loads(Path(wanted).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise OptionError(f"--preprocess {wanted}: cannot be read ({error})") from error
    try:
        return find_entry(wanted).preprocess
    except BackboneError as error:
        known = ", ".join(PREPROCESSINGS)
        raise OptionError(f"--preprocess must be {known}, a backbone's name or a .json file, got {wanted!r}") from error


def _name_from(row: Entry, path: Path) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", path.name.split(".")[0].lower()).strip("-") or "weights"
    return (stem if stem.startswith(row.architecture) and stem != row.architecture else f"{row.architecture}-{stem}")[:80] + (
        "-imported" if stem == row.architecture else ""
    )


# --- what is here -------------------------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class StoredWeights:
    """A file of the cache. ``kind`` is ``"published"``, ``"variant"`` or ``"unknown"``; ``origin``: where it came from."""

    name: str
    kind: str
    architecture: str
    classifier: bool
    bytes: int
    weights_of: str
    licence: str
    origin: str
    fingerprint: str
    file: Path

    def to_dict(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in self.__slots__}, "file": str(self.file)}


def list_weights() -> list[StoredWeights]:
    """The weights on this machine: published ones first, then those that were imported."""
    folder = imported_file("x").parent.parent
    published = sorted(file.name.removesuffix(".safetensors") for file in folder.glob("*.safetensors")) if folder.is_dir() else []
    found = [(name, folder / f"{name}.safetensors") for name in published if not name.startswith(".")]
    return [_stored(name, file) for name, file in (*found, *((name, imported_file(name)) for name in imported_names()))]


def _stored(name: str, file: Path) -> StoredWeights:
    about = _about(file)
    imported = file == imported_file(name)
    return StoredWeights(
        name=name,
        kind=about.get("kind", "published") if about else "damaged",
        architecture=about.get("architecture", "") or ("" if imported else name.partition(".")[0]),
        classifier="classifier" in about,
        bytes=file.stat().st_size,
        weights_of=about.get("weights_of", ""),
        licence=about.get("licence", ""),
        origin=about.get("from", ""),
        fingerprint=about.get("fingerprint", ""),
        file=file,
    )


def _about(file: Path) -> dict[str, str]:
    """The metadata, or nothing where the file is damaged."""
    from safetensors import safe_open

    try:
        with safe_open(file, framework="np") as opened:
            return dict(opened.metadata() or {})
    except Exception:  # safetensors' own error class is not a stable import
        return {}


@final
@dataclass(frozen=True, slots=True)
class Tensors:
    """The weights of a network, tensor by tensor: name, shape, mean, standard deviation, and of a convolution whether it is
    the published one (None: not known)."""

    entry: Entry
    stored: StoredWeights
    rows: tuple[tuple[str, tuple[int, ...], float, float, bool | None], ...]

    def to_dict(self) -> dict[str, Any]:
        names = ("name", "shape", "mean", "std", "published")
        return {
            **self.stored.to_dict(),
            "preprocess": self.entry.preprocess.to_dict(),
            "tensors": [dict(zip(names, row, strict=True)) for row in self.rows],
        }


def show_weights(name: str) -> Tensors:
    """What the weights of a network are; fetched first where they are not here. Raises WeightsError where they cannot be had,
    or are damaged."""
    row, file, tensors, plan = _loaded(name)
    base = find_entry(row.architecture) if row.architecture in names(row.architecture) else row
    known = dict(base.layers)
    links = set(convolutions(plan).values()) & set(known)
    rows = []
    for key in (key for key in plan.model.state_dict() if key in tensors):  # from the image upwards
        tensor = tensors[key]
        link, _, part = key.rpartition(".")
        same = layer_digest(tensors, link) == known[link] if link in links and part == "weight" else None
        values = tensor.double()
        spread = float(values.std(correction=0)) if tensor.numel() else 0.0
        rows.append((key, tuple(tensor.shape), float(values.mean()) if tensor.numel() else 0.0, spread, same))
    return Tensors(row, _stored(name if file == imported_file(name) else row.name, file), tuple(rows))


def _loaded(name: str) -> tuple[Entry, Path, dict[str, Tensor], Blueprint]:
    """The weights of a network with all that the file has; fetched first where they are not here."""
    row = find_entry(name)
    file = stored(row)
    plan = blueprint(row)
    if not file.is_file():
        find_weights(plan, None, Silent())
    tensors, _ = read_safetensors(file)
    check_tensors(plan, tensors)
    return row, file, tensors, plan


@final
@dataclass(frozen=True, slots=True)
class Verified:
    """Whether some weights are whole: ``fault`` is empty, or says what is wrong."""

    name: str
    fingerprint: str
    fault: str

    def to_dict(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in self.__slots__}


def verify_weights(wanted: Sequence[str] = ()) -> list[Verified]:
    """Compute the fingerprints of weights on this machine again, of all or of some, and compare them.

    Raises WeightsError or BackboneError for a name that is not here.
    """
    found = []
    for name in wanted or [one.name for one in list_weights()]:
        try:
            row, file, tensors, plan = _loaded(name)
        except (WeightsError, BackboneError) as error:
            if wanted and not stored(find_entry(name)).is_file():
                raise
            found.append(Verified(name, "", error.what))
            continue
        prints = fingerprint({key: tensors[key] for key in plan.trunk_keys()})
        about = _about(file)
        top = {key: tensors[key] for key in plan.classifier_keys() if key in tensors}
        faults = [
            f"its tensors have the fingerprint {prints[:12]}…, expected {expected[:12]}…"
            for expected in {row.fingerprint, about.get("fingerprint", "")} - {"", prints}
        ]
        if top and about.get("classifier", "") not in ("", fingerprint(top)):
            faults.append("its classifier is not what was kept")
        found.append(Verified(row.name, prints, "; ".join(faults)))
    return found


# --- written out --------------------------------------------------------------------------------------------------


def export_weights(name: str, out: Path | str, *, to: str = "safetensors") -> Path:
    """Write the weights of a network into a file for other programs; fetched first where they are not on this machine.

    Parameters
    ----------
    to
        ``safetensors`` or ``torch``: timm's names; ``torchvision``: torchvision's names, ``.pth``; ``keras-h5`` and ``npy``, of
        a VGG: as ``keras.applications`` and ``vgg16.npy`` have them.

    Raises
    ------
    WeightsError, BackboneError, OptionError
    """
    if to not in WRITERS:
        raise OptionError(f"--to must be one of {', '.join(WRITERS)}, got {to!r}")
    row, file, tensors, plan = _loaded(name)
    target = Path(out)
    write_weights(plan, tensors, target, to, about={"preprocess": json.dumps(row.preprocess.to_dict()), **_about(file)})
    return target
