"""Recipes: what they refuse, and the way to JSON and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greffon.errors import OptionError
from greffon.training import Recipe
from greffon.training.recipe import _RANGES, _WHOLE, _WORDS


def within(name: str) -> st.SearchStrategy[Any]:
    if name in _WORDS:
        return st.sampled_from(_WORDS[name])
    if name not in _RANGES:
        return st.booleans()
    least, most = _RANGES[name]
    if name in _WHOLE:  # below 3 a batch is refused with BatchNorm that learns
        return st.integers(3 if name == "batch" else int(least), int(most))
    return st.floats(1e-6 if name == "mix_alpha" else least, most)


NAMES = tuple(Recipe().to_dict())
GOOD = st.fixed_dictionaries({}, optional={name: within(name) for name in NAMES if name not in ("winograd", "precision")})
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=2), st.just(10**400)
)


@given(GOOD)
def test_json_and_back(values: dict[str, Any]) -> None:
    recipe = Recipe(**values)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@given(st.sampled_from(NAMES), ODD)
def test_an_odd_value_is_taken_or_refused_in_one_sentence(name: str, value: Any) -> None:
    try:
        recipe = Recipe.from_dict({name: value})
    except OptionError as error:
        assert name in error.what or name == "precision"
        assert "\n" not in error.what
    else:
        assert getattr(recipe, name) == value
        assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"epochs": 0}, "epochs must be a whole number from 1"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"batch": True}, "batch must be a whole number"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number"),
        ({"learning_rate": -1.0}, "learning_rate must be a number from 0"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"ema": 1.0}, "ema must be"),
        ({"weight_decay": 10**400}, "weight_decay must be"),
        ({"optimizer": "adam"}, "adamw, sgd"),
        ({"batch_norm": "on"}, "frozen, trained"),
        ({"batch_norm": "trained", "batch": 2}, "batch must be 3 or more where BatchNorm is trained, got 2"),
        ({"balanced": 1}, "balanced must be true or false"),
        ({"mix": "mixup", "mix_alpha": 0}, "mix_alpha must be positive"),
        ({"winograd": True, "precision": "bfloat16"}, "winograd computes in float32"),
        ({"lerning_rate": 1}, "unknown key 'lerning_rate'"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        Recipe.from_dict(values)
