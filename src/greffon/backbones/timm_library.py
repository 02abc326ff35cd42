"""timm, without the two seconds that importing the compiler of ``torch.compile`` takes, which nothing here uses.

timm imports torchvision's operations, and one of these imports ``is_compile_supported`` from ``torch._dynamo.utils``, which
brings the whole compiler with it; one of timm's transformers marks a function as none of the compiler's business. A stand-in
does both while timm is imported. It fetches the real one as soon as anything else of it is asked for, and is gone
afterwards, so ``torch.compile`` works as ever. Drawing random numbers and BatchNorm on the meta device bring the compiler as
well, so networks without values are made without the first, and run with the stand-in (``without_compiler``).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = [
    "create_model",
    "create_on_meta",
    "get_pretrained_cfg",
    "is_model",
    "is_model_pretrained",
    "list_models",
    "model_entrypoint",
    "without_compiler",
]

_F = TypeVar("_F", bound=Callable[..., object])
_COMPILER = "torch._dynamo"
_HELPERS = "torch._dynamo.utils"
#: What the compiler leaves on a function that it must not look into, and what ``torch._compile`` keeps of it.
_MARK, _KEPT = "_torchdynamo_disable", "__dynamo_disable"


def _is_compile_supported(device_type: str) -> bool:
    return importlib.import_module(_HELPERS).is_compile_supported(device_type)


def _disable(function: _F, _recursive: bool = True, *, reason: str | None = None) -> _F:
    """Leave the mark by which the compiler knows a function that it must not look into."""
    vars(function)[_MARK] = True
    return function


class _StandIn(ModuleType):
    """Of the compiler, while timm is imported: whatever is asked for beside these two comes from the real one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _forget()
        return getattr(importlib.import_module(self.__name__), name)


def _forget() -> None:
    for name in (_COMPILER, _HELPERS):
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]


@contextmanager
def without_compiler() -> Iterator[None]:
    """Functions of torch's own that want the compiler for no more than to be left alone by it run without; it knows them afterwards."""
    met: list[Callable[..., object]] = []

    def leave(function: _F, _recursive: bool = True, *, reason: str | None = None, wrapping: bool = True) -> _F:
        if wrapping:
            return _disable(function)
        met.append(function)
        return function

    try:
        with _compiler_later(leave):
            yield
    finally:
        for function in met:  # torch._compile asks for the real one the next time
            vars(function).pop(_KEPT, None)


@contextmanager
def _compiler_later(disable: Callable[..., object] = _disable) -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    compiler, helpers = _StandIn(_COMPILER), _StandIn(_HELPERS)
    compiler.__path__ = []
    vars(compiler)["disable"] = disable
    vars(helpers)["is_compile_supported"] = _is_compile_supported
    sys.modules |= {_COMPILER: compiler, _HELPERS: helpers}
    try:
        yield
    finally:
        _forget()


with _compiler_later():
    from timm import create_model, is_model, list_models
    from timm.models import get_pretrained_cfg, is_model_pretrained, model_entrypoint


class _Undrawn(TorchFunctionMode):
    """Initialisation draws no numbers."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__ or func in (Tensor.normal_, Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def create_on_meta(name: str) -> nn.Module:
    """A network of timm's on the meta device: shapes, and no values."""
    with torch.device("meta"), _Undrawn():
        return create_model(name, pretrained=False)
