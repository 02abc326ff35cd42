"""What the package shows: ``__all__`` against the namespace, docstrings, and classes that are abstract or final."""

from __future__ import annotations

import abc
import ast
import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

import greffon

SOURCE = Path(greffon.__file__).parent

#: Folders of files that are imported one by one: their ``__init__`` may be empty.
MAY_BE_EMPTY = ("greffon.backbones.formats", "greffon.jobs", "greffon.transfer")

#: Libraries that only an extra brings. A module that needs one to be imported is not looked at where it is absent.
EXTRAS = ("fastapi", "h5py", "mlflow", "nncf", "onnx", "onnxruntime", "openvino", "prometheus_client", "ray", "tensorboard", "uvicorn")

MODULES = sorted(
    ".".join(("greffon", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if path.name != "__main__.py"
)


def load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in EXTRAS:
            pytest.skip(f"{name} needs {error.name}")
        raise


def faults_of_names(module: ModuleType, *, may_be_empty: bool = False) -> list[str]:
    """What is wrong with a module's public names, as sentences."""
    assert module.__file__
    written = _written(ast.parse(Path(module.__file__).read_text("utf-8")).body)
    listed = getattr(module, "__all__", None)
    if listed is None:
        return [] if may_be_empty and not written else ["there is no __all__"]
    found = [f"{name} is in __all__ and does not exist" for name in listed if not hasattr(module, name)]
    if list(listed) != sorted(set(listed), key=_place):
        found.append(f"__all__ is not sorted, each name once: {sorted(set(listed), key=_place)}")
    found += [f"{name} is in __all__ and starts with an underscore" for name in listed
              if name.startswith("_") and name != "__version__"]  # fmt: skip
    found += [f"{name} is public and not in __all__" for name in sorted(set(written) - set(listed))]
    # Read from the source: a dataclass and a NamedTuple without a docstring are given one.
    found += [f"{name} has no docstring" for name, node in sorted(written.items())
              if node is not None and not ast.get_docstring(node)]  # fmt: skip
    return found


def _written(body: Iterable[ast.stmt]) -> dict[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | None]:
    """The public names that statements define: classes and functions with their node, other values with None.

    Of a function that is defined several times (overloads), the last counts.
    """
    found: dict[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | None] = {}
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id: None for target in targets for name in ast.walk(target)
                      if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}  # fmt: skip
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                found |= _written(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                found |= _written(handler.body)
    return {name: node for name, node in found.items() if not name.startswith("_")}


def _place(name: str) -> tuple[int, list[tuple[int, int | str]]]:
    """ruff's order (RUF022): CONSTANTS, Classes, the rest, and within each the numbers by their value."""
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[:1].isupper() else 2
    return kind, [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def faults_of_classes(classes: Iterable[type], package: str = "greffon") -> list[str]:
    """Concrete classes of the package that one of its classes inherits from, and concrete methods replaced."""
    found = []
    for one in classes:
        for base in one.__bases__:
            inside = base.__module__ == package or base.__module__.startswith(f"{package}.")
            if not inside or issubclass(base, BaseException) or getattr(base, "_is_protocol", False):
                continue
            if not (inspect.isabstract(base) or abc.ABC in base.__bases__):
                found.append(f"{one.__qualname__} inherits from {base.__qualname__}, which is not abstract")
                continue
            methods = {name for name, value in vars(one).items() if inspect.isroutine(value) and name[:2] != "__"}
            found += [f"{one.__qualname__} replaces {base.__qualname__}.{name}, which is not abstract"
                      for name in sorted(methods & set(vars(base)) - base.__abstractmethods__)]  # fmt: skip
    return found


def _classes(module: ModuleType) -> list[type]:
    return [value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__]


@pytest.mark.parametrize("name", MODULES)
def test_public_names(name: str) -> None:
    found = faults_of_names(load(name), may_be_empty=name in MAY_BE_EMPTY)
    assert not found, "\n".join([f"{name}:", *found])


@pytest.mark.parametrize("name", MODULES)
def test_every_class_is_abstract_or_final(name: str) -> None:
    found = faults_of_classes(_classes(load(name)))
    assert not found, "\n".join([f"{name}:", *found])


def test_the_modules_are_really_found() -> None:
    assert {"greffon", "greffon.errors", "greffon.datasets", "greffon.datasets.value"} <= set(MODULES)
    assert len(_classes(load("greffon.errors"))) >= 8


def planted(folder: Path, text: str) -> ModuleType:
    path = folder / "planted.py"
    path.write_text("import abc, dataclasses, enum, functools, typing\nfrom pathlib import Path\n" + text, "utf-8")
    spec = importlib.util.spec_from_file_location("planted", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("__all__ = ['A', 'f']\nclass A:\n    'It is.'\ndef f():\n    'It does.'\n_x = 1\n", ""),
        ("", "there is no __all__"),
        ("__all__ = ['f']", "f is in __all__ and does not exist"),
        ("__all__ = []\ndef f():\n    'It does.'", "f is public and not in __all__"),
        ("__all__ = []\nclass A:\n    'It is.'", "A is public and not in __all__"),
        ("__all__ = []\n@functools.cache\ndef f():\n    'It does.'", "f is public and not in __all__"),
        ("__all__ = []\nX, y = 1, 2", "X is public and not in __all__"),
        ("__all__ = []\nx: int = 1", "x is public and not in __all__"),
        ("__all__ = []\nif Path:\n    def f():\n        'It does.'", "f is public and not in __all__"),
        ("__all__ = []\ntry:\n    import no_such\nexcept ImportError:\n    x = 1", "x is public and not in __all__"),
        ("__all__ = ['_f']\ndef _f():\n    'It does.'", "_f is in __all__ and starts with an underscore"),
        ("__all__ = ['f']\ndef f():\n    pass", "f has no docstring"),
        ("__all__ = ['f']\nasync def f():\n    pass", "f has no docstring"),
        ("__all__ = ['A']\nclass A(typing.NamedTuple):\n    a: int", "A has no docstring"),
        ("__all__ = ['f', 'A']\nclass A:\n    'It is.'\ndef f():\n    'It does.'", "__all__ is not sorted"),
        ("__all__ = ['f', 'f']\ndef f():\n    'It does.'", "__all__ is not sorted, each name once"),
        ("__all__ = ['f10', 'f9']\nf9 = f10 = 1", "__all__ is not sorted"),
        ("__all__ = ['A1', 'Aa', 'a9', 'a10', 'b', 'bB', 'b_']\nA1 = Aa = a9 = a10 = b = bB = b_ = 1", ""),
        ("__all__ = ['LAST', 'First', 'a']\nLAST = First = a = 1", ""),
    ],
)
def test_a_planted_name_is_found(tmp_path: Path, text: str, fault: str) -> None:
    found = faults_of_names(planted(tmp_path, text))
    assert any(one.startswith(fault) for one in found) if fault else found == [], found


def test_an_empty_init_may_hold_no_names(tmp_path: Path) -> None:
    assert faults_of_names(planted(tmp_path, ""), may_be_empty=True) == []
    assert faults_of_names(planted(tmp_path, "x = 1"), may_be_empty=True) == ["there is no __all__"]


ABSTRACT = """
class A(abc.ABC):
    def solid(self): pass
    @abc.abstractmethod
    def open(self): pass
"""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("class A: pass\nclass B(A): pass", "B inherits from A, which is not abstract"),
        ("class A: pass\nclass _B(A): pass", "_B inherits from A, which is not abstract"),
        ("@dataclasses.dataclass\nclass A: pass\nclass B(dict, A): pass", "B inherits from A"),
        (ABSTRACT + "class B(A):\n    def open(self): pass\nclass C(B): pass", "C inherits from B"),
        (ABSTRACT + "class B(A):\n    def open(self): pass\n    def solid(self): pass", "B replaces A.solid"),
        (ABSTRACT + "class B(A):\n    def open(self): pass\n    def more(self): pass", ""),
        ("class A(typing.Protocol):\n    def f(self): pass\nclass B(A):\n    def f(self): pass", ""),
        ("class A(Exception): pass\nclass B(A): pass", ""),
        ("class A(enum.Enum):\n    X = 1\nclass B(typing.NamedTuple):\n    x: int\nclass C(dict): pass", ""),
    ],
)
def test_a_planted_heir_is_found(tmp_path: Path, text: str, fault: str) -> None:
    found = faults_of_classes(_classes(planted(tmp_path, text)), "planted")
    assert any(one.startswith(fault) for one in found) if fault else found == [], found
