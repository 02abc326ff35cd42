"""OpenVINO and NNCF say nothing: not to the terminal, not to an analytics host."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import network

from drawn import photo
from greffon import silence
from greffon.activations import Tap, quantise
from greffon.errors import OptionError

pytest.importorskip("nncf")

#: Quantises and runs a small network where every warning is an error, every look-up of a name is written down, and
#: nothing tells the libraries that they are in a test or a CI; prints what it made.
PROGRAM = """
import logging, sys
looked = []
sys.addaudithook(lambda event, arguments: looked.append((event, arguments)) if event.startswith("socket.") else None)
import numpy as np
from small import network
from drawn import photo
from greffon.activations import QuantisedEngine, Tap, quantise
images = np.stack([photo(seed, 64, 64) for seed in range(8)])
graph = quantise(network(), Tap("pooled"), images)
QuantisedEngine(network(), graph).run(images)
assert "nncf" in sys.modules and "openvino" in sys.modules
assert sys.modules["openvino_telemetry"] is None and "openvino_telemetry.main" not in sys.modules
assert not looked, looked
assert logging.getLoggerClass() is logging.Logger
print(graph.fingerprint)
"""


@pytest.mark.slow
def test_a_whole_calibration_is_silent_and_the_same_in_another_process() -> None:
    off = {"CI", "NNCF_CI", "NNCF_DEV", "PYTEST_CURRENT_TEST"}
    environment = {name: value for name, value in os.environ.items() if name not in off}
    here = Path(__file__).parent
    environment["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], env=environment, capture_output=True, text=True,
                          check=False, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    images = np.stack([photo(seed, 64, 64) for seed in range(8)])
    assert done.stdout == f"{quantise(network(), Tap('pooled'), images).fingerprint}\n"


def test_telemetry_that_was_there_before_is_mute_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    class Telemetry:
        def send_event(self, *words: Any) -> None:
            sent.append("event")

        def start_session(self, category: str) -> None:
            sent.append("session")

    module = types.ModuleType("openvino_telemetry")
    module.Telemetry = Telemetry  # type: ignore[attr-defined]  # that is what is made here
    monkeypatch.setitem(sys.modules, "openvino_telemetry", module)
    with silence.quiet():
        Telemetry().send_event("ovc", "conversion")
        Telemetry().start_session("ovc")
    assert sent == []
    with pytest.raises(ZeroDivisionError), silence.quiet():
        _ = 1 / 0
    Telemetry().send_event("mine")
    assert sent == ["event"]


def test_quiet_leaves_everything_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    logger, level = logging.getLogger("nncf"), logging.getLogger("nncf").level
    with silence.quiet():
        print("a bar")
        warnings.warn("a remark", stacklevel=1)
        logger.warning("a note")
    print("mine")
    assert capsys.readouterr() == ("mine\n", "")
    assert logger.level == level
    with pytest.raises(UserWarning):
        warnings.warn("a remark", stacklevel=1)


@pytest.mark.parametrize("absent", ["openvino", "nncf"])
def test_what_is_absent_is_named_with_its_extra(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    silence.nncf()
    assert silence.has_openvino()
    assert silence.can_quantise()
    monkeypatch.setitem(sys.modules, absent, None)  # importing it then fails
    assert silence.has_openvino() == (absent != "openvino")
    assert not silence.can_quantise()
    with pytest.raises(OptionError, match=r'pip install "greffon\[cpu\]"'):
        silence.nncf()


def test_greffon_is_imported_without_them() -> None:
    program = (
        "import sys; sys.modules.update(openvino=None, nncf=None); import greffon.activations as a, greffon.jobs.train;"
        "assert not a.has_openvino()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
