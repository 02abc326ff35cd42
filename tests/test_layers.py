"""The floors of the house: who may import whom, read from the source without running it.

A module imports only from lower floors, and from earlier rows of its own. Imports inside functions count as well:
they save time, they do not turn the way of the data round.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "greffon"

#: From the lowest floor upwards, on each floor from the first row to the last. A row stands for a module, or for a
#: package with all its files, which may import each other; but where parts of a package have rows of their own,
#: its name alone stands for its ``__init__``.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "settings", "progress", "silence", "whole"),
    ("images.decoding", "images.preprocess", "images.transforms", "images.views", "images", "datasets"),
    (
        "backbones.timm_library",
        "backbones.catalogue",
        "backbones.formats",
        "backbones.network",
        "backbones.reading",
        "backbones.imported",
        "backbones.fetching",
        "backbones.identity",
        "backbones.recognising",
        "backbones.writing",
        "backbones.weights",
        "backbones.receptive",
        "backbones.describe",
        "backbones.shapes",
        "backbones.drawing_words",
        "backbones.drawing",
        "backbones",
    ),
    (
        "activations.disk",
        "activations.shelf",
        "activations.store",
        "activations.fusing",
        "activations.kernels",
        "activations.engines",
        "activations.comparing",
        "activations.quantised",
        "activations.executing",
        "activations.compute",
        "activations.plan",
        "activations.choosing",
        "activations",
    ),
    ("metrics", "conformal", "novelty", "linear", "heads", "streamed", "losses", "training"),
    ("model.upper", "model.disk", "model.examples", "model.value", "model.modules", "model.folder", "model.networks", "model"),
    ("transfer.inductive", "transfer.transductive", "transfer.unsupervised", "transfer"),
    ("evaluation", "auditing", "explaining", "report", "exporting", "tracking"),
    ("jobs.*", "jobs", "estimators", "demo"),
    ("distributed", "server", "cli", "__main__"),
)
RANKS = {row: (number, place) for number, rows in enumerate(FLOORS) for place, row in enumerate(rows)}

#: The parts of these packages never import each other, but for the pairs (who, whom) that are listed.
STRANGERS = ("transfer", "jobs")
ACQUAINTED: frozenset[tuple[str, str]] = frozenset()

#: Libraries that one place only may import. ``()``: nobody.
RESERVED: dict[str, tuple[str, ...]] = {
    "PIL": ("images.decoding", "images.preprocess", "images.transforms"),
    "pickle": ("backbones.formats.npy",),  # an unpickler that finds stand-ins alone, and is tested with hostile files
    "_pickle": (),
    "cloudpickle": (),
    "dill": (),
    "shelve": (),
}

#: These answer at once: nothing that importing them runs may import a library that takes seconds.
QUICK = ("cli", "server", "settings", "errors", "progress", "images", "datasets", "metrics", "conformal", "novelty")
SLOW_LIBRARIES = ("torch", "torchvision", "timm")

#: What stands under these conditions is read by type checkers alone.
TYPING = ("TYPE_CHECKING", "typing.TYPE_CHECKING")

FORBIDDEN_NAMES = ("utils", "util")


@dataclass(frozen=True, slots=True)
class Import:
    """One thing that a module imports, with its full dotted name, and whether importing the module runs it."""

    name: str
    line: int
    at_once: bool


def read_package(root: Path) -> dict[str, list[Import]]:
    """The imports of every module under ``root``, by dotted name without the package's own ("" is its __init__)."""
    paths = {_module_name(path, root): path for path in sorted(root.rglob("*.py"))}
    return {
        module: list(_imports(ast.parse(path.read_text("utf-8")), module, path.name == "__init__.py", set(paths)))
        for module, path in paths.items()
    }


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.Module, module: str, is_package: bool, known: set[str]) -> Iterator[Import]:
    for node, at_once in _walk(tree, at_once=True):
        for name in _names(node, module, is_package, known):
            yield Import(name, getattr(node, "lineno", 0), at_once)


def _walk(node: ast.AST, *, at_once: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, at_once
    for field, value in ast.iter_fields(node):
        later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and field == "body"
        typing = isinstance(node, ast.If) and field == "body" and ast.unparse(node.test) in TYPING
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child, at_once=at_once and not later and not typing)


def _names(node: ast.AST, module: str, is_package: bool, known: set[str]) -> Iterator[str]:
    """The full names that one node imports. ``from a import b`` is a.b where that is a module of ours, or else a."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            own = ["greffon", *module.split(".")] if module else ["greffon"]
            above = own[: len(own) - node.level + is_package]
            base = ".".join([*above, base] if base else above)
        for alias in node.names:
            full = f"{base}.{alias.name}"
            yield full if full.removeprefix("greffon.") in known and _is_ours(full) else base
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
        texts = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        yield from (text for text in texts if isinstance(text, str))


def _is_ours(name: str) -> bool:
    return name == "greffon" or name.startswith("greffon.")


def row_of(module: str) -> str | None:
    """The row of FLOORS that a module belongs to."""
    if module in RANKS:
        return module
    for row in RANKS:
        package = row.removesuffix(".*")
        whole = row.endswith(".*") or not any(other.startswith(f"{row}.") for other in RANKS)
        if whole and module.startswith(f"{package}."):
            return row
    return None


def faults(root: Path) -> list[str]:
    """Everything under ``root`` that the rules above forbid, as sentences."""
    package = read_package(root)
    found = [f"{module}: no module may be called {name}" for module in package for name in FORBIDDEN_NAMES
             if name in module.split(".")]  # fmt: skip
    found += [f"{module}: not in the table: give it a floor" for module in package if module and row_of(module) is None]
    for module, imports in package.items():
        for one in imports:
            where = f"{module or '__init__'}, line {one.line}"
            if _is_ours(one.name):
                reason = _forbidden(module, one.name.removeprefix("greffon").removeprefix("."), package)
                if reason:
                    found.append(f"{where}: imports {one.name}: {reason}")
            library = one.name.split(".")[0]
            if library in RESERVED and module not in RESERVED[library]:
                found.append(f"{where}: imports {library}, which only {', '.join(RESERVED[library]) or 'nobody'} may")
    for module in package:
        chain = _way_to_slow(module, package) if module.split(".")[0] in QUICK else None
        if chain:
            way = " > ".join(name or "__init__" for name in chain)
            found.append(f"{module}: importing it imports {chain[-1]}, by way of {way}")
    return found


def _forbidden(module: str, target: str, package: dict[str, list[Import]]) -> str:
    """Why ``module`` may not import ``target``, or "". The package's own __init__ may import everything."""
    if not module:
        return ""
    if not target:
        return "the package's front door is above everything"
    if target not in package:
        return "there is no such module"
    if module.startswith(f"{target}."):
        return "a part of a package does not import the whole"
    below, above = row_of(target), row_of(module)
    if below is None or above is None:
        return ""  # told already, once for the module
    for house in STRANGERS:
        if module.startswith(f"{house}.") and target.startswith(f"{house}."):
            apart = module.split(".")[1] != target.split(".")[1] and (module, target) not in ACQUAINTED
            return f"the parts of {house} never import each other" if apart else ""
    (floor, place), (own_floor, own_place) = RANKS[below], RANKS[above]
    if floor > own_floor:
        return f"from floor {own_floor} up to floor {floor}"
    return f"a later row of the same floor {floor}" if floor == own_floor and place > own_place else ""


def _way_to_slow(module: str, package: dict[str, list[Import]]) -> list[str] | None:
    """The shortest chain of imports that run at once from ``module`` to a slow library. Packages run their __init__."""
    ways, seen = [[module]], {module}
    for way in ways:
        for one in package[way[-1]]:
            if not one.at_once:
                continue
            if one.name.split(".")[0] in SLOW_LIBRARIES:
                return [*way, one.name.split(".")[0]]
            parts = one.name.split(".")[1:] if _is_ours(one.name) else []
            run = [".".join(parts[:count]) for count in range(len(parts) + 1)] if _is_ours(one.name) else []
            for following in run:
                if following in package and following not in seen:
                    seen.add(following)
                    ways.append([*way, following])
    return None


def test_the_package_keeps_its_floors() -> None:
    found = faults(SOURCE)
    assert not found, "\n" + "\n".join(found)


def test_the_source_is_really_read() -> None:
    package = read_package(SOURCE)
    assert {"", "errors", "images", "datasets", "datasets.value", "backbones.network"} <= set(package)
    names = {one.name for one in package["backbones.network"]}
    assert {"greffon.errors", "greffon.images", "greffon.backbones.catalogue", "torch"} <= names


GOOD = {
    "__init__.py": "def __getattr__(name):\n    from greffon import jobs\n    import greffon.cli\n",
    "errors.py": "import os\n",
    "settings.py": "",
    "images/__init__.py": "from greffon.images.decoding import decode\n",
    "images/decoding.py": "from PIL import Image\nfrom greffon.errors import ImageError\n",
    "images/views.py": "from greffon.images.decoding import decode\n",
    "datasets/__init__.py": "from greffon.datasets.value import Dataset\n",
    "datasets/value.py": "import greffon.errors\n",
    "datasets/reading.py": "from greffon.datasets import value\nfrom .value import Dataset\n",
    "backbones/__init__.py": "from greffon.backbones.network import Backbone\n",
    "backbones/catalogue.py": "",
    "backbones/formats/__init__.py": "",
    "backbones/formats/npy.py": "",
    "backbones/network.py": "import torch\nfrom greffon.backbones import catalogue\n",
    "metrics.py": "def f():\n    import torch\n",
    "training.py": "import torch\nfrom greffon.metrics import accuracy\n",
    "transfer/__init__.py": "from greffon.transfer.inductive import fit\n",
    "transfer/inductive.py": "",
    "transfer/transductive.py": "from greffon.backbones import Backbone\n",
    "report/__init__.py": "from greffon.report.page import page\n",
    "report/page.py": "",
    "jobs/__init__.py": "",
    "jobs/train.py": "from greffon.training import train\nfrom greffon.transfer import inductive\n",
    "jobs/probe.py": "",
    "cli.py": "from typing import TYPE_CHECKING\nfrom greffon.errors import GreffonError\n"
    "if TYPE_CHECKING:\n    import torch\n"
    "def train():\n    from greffon.jobs.train import train\n",
}


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / "greffon" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root / "greffon"


def test_a_good_house_has_no_faults(tmp_path: Path) -> None:
    assert faults(plant(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("errors.py", "from greffon.images import read", "errors, line 1: imports greffon.images: from floor 0 up"),
        ("errors.py", "import greffon.images", "from floor 0 up to floor 1"),
        ("errors.py", "import greffon.images as pictures", "from floor 0 up to floor 1"),
        ("errors.py", "from greffon import images", "from floor 0 up to floor 1"),
        ("errors.py", "from . import images", "from floor 0 up to floor 1"),
        ("errors.py", "from .images import read", "from floor 0 up to floor 1"),
        ("errors.py", "def f():\n    if f:\n        from greffon import settings, images", "errors, line 3"),
        ("errors.py", "import typing\nif typing.TYPE_CHECKING:\n    import greffon.images", "errors, line 3"),
        ("errors.py", "import importlib\nimportlib.import_module('greffon.images')", "errors, line 2"),
        ("errors.py", "from greffon import settings", "a later row of the same floor 0"),
        ("errors.py", "from greffon import __version__", "front door"),
        ("errors.py", "import greffon", "front door"),
        ("errors.py", "from greffon.nothing import x", "there is no such module"),
        ("datasets/value.py", "from ..jobs import train", "from floor 1 up to floor 8"),
        ("datasets/value.py", "from greffon.datasets import Dataset", "a part of a package does not import the whole"),
        ("backbones/catalogue.py", "from greffon.backbones import network", "a later row of the same floor 2"),
        ("backbones/catalogue.py", "from greffon.backbones.formats.npy import read", "a later row of the same floor 2"),
        ("backbones/formats/npy.py", "from ..network import Backbone", "a later row of the same floor 2"),
        ("backbones/__init__.py", "from .network import *\nfrom ..training import train", "from floor 2 up to floor 4"),
        ("backbones/extra.py", "", "backbones.extra: not in the table: give it a floor"),
        ("extra.py", "", "extra: not in the table: give it a floor"),
        ("metrics.py", "from greffon.training import train", "a later row of the same floor 4"),
        ("transfer/inductive.py", "from greffon.transfer import transductive", "the parts of transfer never import"),
        ("transfer/transductive.py", "from greffon.transfer.inductive import fit", "the parts of transfer never"),
        ("jobs/train.py", "from greffon.jobs.probe import probe", "the parts of jobs never import"),
        ("jobs/probe.py", "from greffon.cli import main", "from floor 8 up to floor 9"),
        ("datasets/reading.py", "def f():\n    from PIL import Image", "imports PIL, which only images.decoding, "),
        ("datasets/reading.py", "import PIL.Image", "imports PIL, which only images.decoding, "),
        ("images/views.py", "from PIL import Image", "imports PIL, which only images.decoding, "),
        ("images/decoding.py", "from greffon.images.views import View", "a later row of the same floor 1"),
        ("images/extra.py", "", "images.extra: not in the table: give it a floor"),
        ("training.py", "import pickle", "imports pickle, which only backbones.formats.npy may"),
        ("training.py", "def f():\n    from pickle import loads", "imports pickle, which only backbones.formats.npy may"),
        ("datasets/utils.py", "", "no module may be called utils"),
        ("utils/__init__.py", "", "no module may be called utils"),
        ("datasets/value.py", "import torch", "datasets.value: importing it imports torch"),
        ("datasets/value.py", "from torch.nn import functional", "datasets.value: importing it imports torch"),
        ("datasets/value.py", "try:\n    import timm\nexcept ImportError:\n    pass", "importing it imports timm"),
        ("datasets/value.py", "class A:\n    import torch", "importing it imports torch"),
        ("metrics.py", "from greffon.backbones import catalogue", "metrics > backbones > backbones.network"),
        ("cli.py", "from greffon.jobs import train", "cli > jobs.train > training > torch"),
        ("__init__.py", "from greffon.training import train", "by way of cli > __init__ > training > torch"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, file: str, text: str, fault: str) -> None:
    found = faults(plant(tmp_path, GOOD | {file: text + "\n"}))
    assert any(fault in one for one in found), found
