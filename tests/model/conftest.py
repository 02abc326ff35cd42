"""A model, and its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_models import made

from greffon.model import Model, save_model


@pytest.fixture(scope="module")
def model() -> Model:
    return made()


@pytest.fixture(scope="module")
def whole(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that no test writes into."""
    folder = tmp_path_factory.mktemp("model") / "whole"
    save_model(model, folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    target = tmp_path / "model"
    target.mkdir()
    for file in whole.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target
