"""The choice of an engine as JSON, and the quick probe that it is checked with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greffon.activations import Choice, Fidelity
from greffon.activations.comparing import class_means_right, paired_interval
from greffon.activations.plan import Candidate, read_choice, remember
from greffon.errors import OptionError

# --- the plan as JSON ------------------------------------------------------------------------------------------


WHOLE = Choice("int8", "because", 7, (
    Candidate("float32", 9.5, verdict="slower"),
    Candidate("int8", 40.0, 20.5, Fidelity("int8", 8, 0.9995, 0.999), 0.9, 0.91, (-0.05, 0.03), "chosen"),
))  # fmt: skip


def test_a_plan_there_and_back(tmp_path: Path) -> None:
    assert Choice.from_dict(json.loads(json.dumps(WHOLE.to_dict()))) == WHOLE
    remember(tmp_path / "a" / "plan.json", WHOLE)
    assert read_choice(tmp_path / "a" / "plan.json") == WHOLE
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["plan.json"]
    remember(tmp_path / "a" / "plan.json" / "below", WHOLE)  # cannot be written, and that is no fault
    assert read_choice(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("precision", (None, 3, "auto", "int4", [], {}, ...)),
        ("why", (None, 3, [], ...)),
        ("images", (None, "7", 7.0, [], True, ...)),
        ("candidates", (None, 3, True, "x", [1], [None], {"a": 1}, [[None]], ...)),
        ("rate", ("fast", [], True, ...)),
        ("difference", (3, True, [], [1], [None, None], "x", {}, ...)),
        ("fidelity", (3, True, [], {}, {"precision": "int8"}, ...)),
        ("cosine_mean", ("x", [], ...)),
    ],
)
def test_damaged_plans_are_one_error(name: str, values: tuple[Any, ...], tmp_path: Path) -> None:
    for value in values:
        about = json.loads(json.dumps(WHOLE.to_dict()))
        holder = next(one for one in (about, about["candidates"][1], about["candidates"][1]["fidelity"]) if name in one)
        if value is ...:
            del holder[name]
        else:
            holder[name] = value
        with pytest.raises(OptionError, match="a plan of a pass is damaged"):
            Choice.from_dict(about)
        (tmp_path / "plan.json").write_text(json.dumps(about))
        assert read_choice(tmp_path / "plan.json") is None
    for value in (None, True, 3, "x", [], [1], {}):
        with pytest.raises(OptionError, match="a plan of a pass is damaged"):
            Choice.from_dict(value)
    for text in (b"", b"{", b"\xff", b"[" * 10**5):
        (tmp_path / "plan.json").write_bytes(text)
        assert read_choice(tmp_path / "plan.json") is None


# --- the quick probe -------------------------------------------------------------------------------------------


def test_nearest_class_mean_against_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)).astype(np.float32) + 0.3
    labels = rng.integers(-1, 4, 40)
    labels[labels == 3] = 2
    labels[7] = 9  # the only one of its class: it is not judged, and its class is not known
    features[np.arange(40), labels % 6] += 1
    wanted = []
    for i in range(40):
        if labels[i] in (-1, 9):
            continue
        best, name = -2.0, -1
        for c in (0, 1, 2):
            rows = [features[j].astype(float) / np.linalg.norm(features[j].astype(float)) for j in range(40) if labels[j] == c and j != i]
            mean = np.mean(rows, 0)
            cosine = float(mean @ features[i] / np.linalg.norm(mean) / np.linalg.norm(features[i]))
            if cosine > best:
                best, name = cosine, c
        wanted.append(name == labels[i])
    found = class_means_right(features, labels)
    assert found.tolist() == wanted
    assert 0.4 < np.mean(wanted) < 0.95
    assert class_means_right(features, np.zeros(40, int)).shape == (0,)
    assert class_means_right(features, np.arange(40)).shape == (0,)


def test_the_interval_of_a_difference() -> None:
    # Agresti (2002), Categorical Data Analysis, section 10.1: the prime minister's approval in two surveys of the same
    # 1600 people, 944 (794 of them twice) and 880. Difference -0.04, Wald interval (-0.059, -0.021).
    first = np.array([True] * 794 + [True] * 150 + [False] * 86 + [False] * 570)
    second = np.array([True] * 794 + [False] * 150 + [True] * 86 + [False] * 570)
    low, high = paired_interval(second, first)
    assert low == pytest.approx(-0.0585, abs=5e-4)
    assert high == pytest.approx(-0.0214, abs=5e-4)
    assert paired_interval(first, first) == pytest.approx((-1.96 / 1602, 1.96 / 1602), abs=1e-5)
    assert paired_interval(first, second) == pytest.approx((-high, -low))
