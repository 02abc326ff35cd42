"""OpenVINO and NNCF without their telemetry, their bars and their remarks.

Both report every conversion to an analytics host through the package ``openvino_telemetry``, which they install beside
themselves, and both do without it where it cannot be imported. So it cannot be imported.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from greffon.errors import OptionError

__all__ = ["can_quantise", "has_openvino", "nncf", "openvino", "quiet"]

_TELEMETRY = "openvino_telemetry"
_HINT = 'Install it: pip install "greffon[cpu]". Or choose --precision float32.'


def has_openvino() -> bool:
    """Whether OpenVINO is installed; it is not imported for that."""
    return _is_there("openvino")


def can_quantise() -> bool:
    """Whether NNCF is installed as well, which makes int8 networks; OpenVINO alone runs them."""
    return has_openvino() and _is_there("nncf")


def openvino() -> ModuleType:
    """OpenVINO, imported without its telemetry. Raises OptionError where it is absent."""
    return _imported("openvino", "int8 needs OpenVINO")


def nncf() -> ModuleType:
    """NNCF, imported without its telemetry. Raises OptionError where it is absent."""
    openvino()
    return _imported("nncf", "making an int8 network needs NNCF")


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # something without a specification stands in its place
        return False


def _imported(name: str, what: str) -> ModuleType:
    # What ``import`` finds as None here raises ImportError, and both libraries then take their own stand-in.
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]  # that is how a module is forbidden
    loggers = logging.getLoggerClass()
    try:
        with quiet():
            return importlib.import_module(name)
    except ImportError as error:
        raise OptionError(f"{what}, which cannot be imported here ({str(error)[:160]})", hint=_HINT) from error
    finally:
        logging.setLoggerClass(loggers)  # NNCF would put its own in the place of the whole process's


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of these libraries reaches the terminal or an analytics host, and their warnings are not ours.

    A program that imported OpenVINO itself may have let the telemetry in: then it sends nothing meanwhile.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(_muted(sys.modules.get(_TELEMETRY)))
        for name in ("nncf", "torch.utils.cpp_extension", "openvino"):
            stack.enter_context(_only_errors(logging.getLogger(name)))
        # NNCF's bars are drawn on a console of their own, made when it draws.
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        yield


@contextlib.contextmanager
def _only_errors(logger: logging.Logger) -> Iterator[None]:
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _nothing(*_: Any, **__: Any) -> None:
    pass


@contextlib.contextmanager
def _muted(telemetry: ModuleType | None) -> Iterator[None]:
    kind = getattr(telemetry, "Telemetry", None)
    said = [name for name in ("send_event", "send_error", "send_stack_trace", "start_session", "end_session")
            if kind is not None and hasattr(kind, name)]  # fmt: skip
    before = {name: getattr(kind, name) for name in said}
    for name in said:
        setattr(kind, name, _nothing)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(kind, name, method)
