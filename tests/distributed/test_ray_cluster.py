"""The frozen pass on a cluster of this machine's: the same features, whatever happens to its workers."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clusters import free_address, head
from shards import files_of, write_backbone, write_folder, write_shard

from drawn import encode, photo
from greffon.activations import Encoded, Photo, Tap, TorchEngine, compute, compute_views
from greffon.distributed import cluster as cluster_module
from greffon.distributed import embedding
from greffon.distributed.cluster import Cluster, connected, look_around
from greffon.distributed.embedding import embed
from greffon.distributed.executing import RayExecutor
from greffon.distributed.pipeline import Crew, crew_for
from greffon.distributed.writing import MANIFEST, SCHEMA
from greffon.errors import DataError, OptionError
from greffon.images import views
from greffon.jobs.embed import embed as embed_here
from greffon.progress import Silent
from growing import drawn_network

# Ray leaves sockets and pipes to the garbage collector when it shuts down.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

FILES = files_of(40)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One of two processors for all tests here, as ``ray start`` makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        if "ray" not in sys.modules:  # Ray reads it when it is imported: if a test before has done so, all stays as it is
            patch.setenv("RAY_AUTH_MODE", "token")
            patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        address = free_address()
        with head(address), connected(address, seconds=60) as found:
            yield found


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_backbone(tmp_path_factory.mktemp("net") / "backbone"))


def rows_of(folder: Path) -> dict[str, list[object]]:
    """All rows of all parts, in the order of their names."""
    return pa.concat_tables(pq.read_table(file) for file in sorted(folder.glob("*.parquet"))).to_pydict()


@pytest.mark.slow
def test_the_executor_gives_the_same_records(cluster: Cluster, tmp_path: Path) -> None:
    write_folder(tmp_path, FILES[:20])
    (tmp_path / "cat" / "bad.png").write_bytes(b"no image")
    photos: list[Photo] = [*sorted(tmp_path.rglob("*.png")), photo(99, 40, 48), Encoded("one", lambda: encode(photo(98, 30, 40)))]
    network = drawn_network()
    engine = TorchEngine(network, Tap("pooled"), "float32", batch=4)
    looks = views("standard", 2)
    here = compute_views(photos, network, engine.tap, engine, looks, store=None, progress=Silent())
    there = compute_views(photos, network, engine.tap, engine, looks, store=None, progress=Silent(),
                          executor=RayExecutor(cluster, block=8))  # fmt: skip
    for mine, theirs in zip(here, there, strict=True):
        assert np.array_equal(mine.all(), theirs.all())
        assert mine.failed == theirs.failed and len(mine.failed) == 1
        assert mine.digests == theirs.digests


@pytest.mark.slow
def test_embed_is_that_of_one_machine_and_goes_on_where_it_was(cluster: Cluster, backbone: str, tmp_path: Path) -> None:
    photos, out = write_folder(tmp_path / "photos", FILES), tmp_path / "out"
    (photos / "dog" / "bad.png").write_bytes(b"no image")
    options = {"backbone": backbone, "precision": "float32"}
    embed_here(photos, out=tmp_path / "one.parquet", **options)  # type: ignore[arg-type]  # a path among strings
    first = embed(photos, out=out, block=8, workers=2, **options)  # type: ignore[arg-type]  # as above
    expected, found = pq.read_table(tmp_path / "one.parquet").to_pydict(), rows_of(out)
    assert found["path"] == expected["path"] and found["label"] == expected["label"]
    assert np.array_equal(np.array(found["features"]), np.array(expected["features"]))
    assert (first.rows, first.files, first.computed, first.reused) == (40, 6, 6, 0)
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["rows"] == 40 and len(manifest["fingerprint"]) == 64
    assert manifest["schema"] == {field.name: str(field.type) for field in SCHEMA}
    assert [one["file"] for one in manifest["files"]] == sorted(file.name for file in out.glob("*.parquet"))
    assert [Path(one["path"]).name for one in manifest["set_aside"]] == ["bad.png"]

    # As after a driver that was killed: a part and the manifest are missing, one is half written, one is damaged.
    parts = sorted(out.glob("*.parquet"))
    (out / MANIFEST).unlink()
    parts[1].unlink()
    parts[3].write_bytes(parts[3].read_bytes()[:-9])
    (out / ".part-000001-x.parquet-host-1").write_bytes(b"half")
    before = {file: file.stat().st_mtime_ns for file in parts if file not in (parts[1], parts[3])}
    again = embed(photos, out=out, block=8, workers=1, **options)  # type: ignore[arg-type]  # as above
    assert (again.rows, again.computed, again.reused) == (40, 2, 4)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert rows_of(out) == found
    assert json.loads((out / MANIFEST).read_text()) == manifest
    assert not list(out.glob(".part-*"))

    # Nothing is left to do: no worker is started.
    assert embed(photos, out=out, block=8, address="127.0.0.1:1", **options).computed == 0  # type: ignore[arg-type]  # as above
    for other in ({"pool": "max"}, {"backbone": str(write_backbone(tmp_path / "other", seed=1))}):
        with pytest.raises(OptionError, match="holds files of another run"):
            embed(photos, out=out, block=8, **{**options, **other})  # type: ignore[arg-type]  # as above
    assert rows_of(out) == found


@pytest.mark.slow
def test_a_damaged_shard_is_set_aside_and_the_others_are_done(cluster: Cluster, backbone: str, tmp_path: Path) -> None:
    for k in range(3):
        write_shard(tmp_path / "shards" / f"{k}.tar", FILES[4 * k : 4 * k + 4])
    bad = tmp_path / "shards" / "1.tar"
    bad.write_bytes(bad.read_bytes()[:5000])
    heard = Silent()
    done = embed(tmp_path / "shards", out=tmp_path / "out", backbone=backbone, precision="float32", workers=1, progress=heard)
    assert (done.rows, done.files) == (8, 2)
    assert len(heard.warnings) == 1 and "1.tar: a damaged shard" in heard.warnings[0]
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert [Path(one["path"]).name for one in manifest["set_aside"]] == ["1.tar"]
    found = rows_of(tmp_path / "out")
    assert found["label"] == [label for k in (0, 2) for label, _ in FILES[4 * k : 4 * k + 4]]
    (tmp_path / "bad").mkdir()
    bad.rename(tmp_path / "bad" / "1.tar")
    with pytest.raises(DataError, match="none of its images can be read"):
        embed(tmp_path / "bad", out=tmp_path / "out2", backbone=backbone, precision="float32", workers=1)


@pytest.mark.slow
def test_what_a_worker_refuses_is_the_users_error(
    cluster: Cluster, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_folder(tmp_path / "photos", FILES[:4])
    pack = embedding.pack
    monkeypatch.setattr(embedding, "pack", lambda engine: replace(pack(engine), about=pack(engine).about.replace("-b32", "-b31")))
    with pytest.raises(OptionError, match=r"a worker would run the network as .*-b32, and the run is of .*-b31"):
        embed(photos, out=tmp_path / "out", backbone=backbone, precision="float32", workers=1)


def test_machines_are_asked_before_the_work(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look_around(cluster, [str(tmp_path)])
    with pytest.raises(OptionError, match="does not see /no/such/disk"):
        look_around(cluster, ["/no/such/disk"])
    monkeypatch.setattr(cluster_module, "software", lambda: "greffon 9.9 (sources 000000000000)")
    with pytest.raises(OptionError, match=r"the machine [\d.]+ has greffon .*, and this one greffon 9\.9"):
        look_around(cluster, [])


def test_a_crew_has_a_worker_a_processor_or_a_gpu() -> None:
    engine = TorchEngine(drawn_network(), Tap("pooled"), "float32", batch=4)
    big = Cluster("x:1", (("a", "10.0.0.1", 8, 2), ("b", "10.0.0.2", 4, 0)))
    assert crew_for(big, engine) == Crew(12, 1)
    assert crew_for(big, engine, 3) == Crew(3, 1)
    engine.device = "cuda"
    assert crew_for(big, engine) == Crew(2, 4, True)
    assert crew_for(big, engine, 5) == Crew(5, 4, True)  # more may come
    with pytest.raises(OptionError, match="--ray-workers must be a whole number from 0, got -1"):
        crew_for(big, engine, -1)
    none = Cluster("x:1", (("a", "10.0.0.1", 8, 0),))
    with pytest.raises(OptionError, match="has no GPUs now"):
        crew_for(none, engine)
    assert crew_for(none, engine, 2) == Crew(2, 1, True)


# --- processes that are killed: minutes --------------------------------------------------------------------------


def start(photos: Path, out: Path, backbone: str) -> subprocess.Popen[bytes]:
    words = ["embed", str(photos), "--out", str(out), "--backbone", backbone, "--precision", "float32", "--ray", "local",
             "--ray-workers", "2"]  # fmt: skip
    environment = {**os.environ, "GREFFON_CACHE": str(out.parent / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-m", "greffon", *words], env=environment, stderr=subprocess.PIPE)


def wait_for_parts(out: Path, count: int, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while len(list(out.glob("part-*"))) < count:
        assert time.monotonic() < end, "no parts"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("many") / "photos", files_of(6000))


@pytest.fixture(scope="module")
def whole(many: Path, backbone: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    file = tmp_path_factory.mktemp("whole") / "features.parquet"
    embed_here(many, out=file, backbone=backbone, precision="float32")
    return pq.read_table(file).to_pydict()


@pytest.mark.slow
def test_a_killed_worker_costs_time_alone(many: Path, whole: dict[str, list[object]], backbone: str, tmp_path: Path) -> None:
    run = start(many, tmp_path / "out", backbone)
    wait_for_parts(tmp_path / "out", 1)
    workers = [one for one in psutil.Process(run.pid).children(recursive=True) if "BlockWorker" in " ".join(one.cmdline())]
    assert workers
    workers[0].send_signal(signal.SIGKILL)
    _, told = run.communicate(timeout=300)
    assert run.returncode == 0, told.decode()
    found = rows_of(tmp_path / "out")
    assert found["path"] == whole["path"]
    assert np.array_equal(np.array(found["features"]), np.array(whole["features"]))


@pytest.mark.slow
def test_a_killed_driver_has_one_block_a_worker_done_twice(
    many: Path, whole: dict[str, list[object]], backbone: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = start(many, out, backbone)
    wait_for_parts(out, 3)
    run.kill()
    run.communicate()
    time.sleep(10)  # its workers see that it is gone
    before = {file: file.stat().st_mtime_ns for file in out.glob("part-*")}
    assert 3 <= len(before) < 24 and not (out / MANIFEST).exists()
    again = start(many, out, backbone)
    _, told = again.communicate(timeout=300)
    assert again.returncode == 0, told.decode()
    assert {file: file.stat().st_mtime_ns for file in before} == before
    found = rows_of(out)
    assert found["path"] == whole["path"]
    assert np.array_equal(np.array(found["features"]), np.array(whole["features"]))


@pytest.mark.slow
def test_train_on_a_cluster_makes_the_same_model(cluster: Cluster, backbone: str, tmp_path: Path) -> None:
    from greffon.activations import Store
    from greffon.jobs.train import train

    photos = write_folder(tmp_path / "photos", FILES)
    for name, executor in (("here", None), ("there", RayExecutor(cluster))):
        train(photos, out=tmp_path / name, backbone=backbone, precision="float32", store=Store(tmp_path / f"s-{name}"),
              executor=executor)  # fmt: skip
    assert (tmp_path / "here" / "model.safetensors").read_bytes() == (tmp_path / "there" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_clusters_on_a_cluster_are_the_same(cluster: Cluster, backbone: str, tmp_path: Path) -> None:
    from greffon.activations import Store
    from greffon.jobs.cluster import cluster as job

    photos = write_folder(tmp_path / "photos", FILES)
    for name, executor in (("here", None), ("there", RayExecutor(cluster))):
        job(photos, out=tmp_path / name, k=3, method="kmeans", backbone=backbone, precision="float32", store=Store(tmp_path / f"s-{name}"),
            executor=executor)  # fmt: skip
    assert (tmp_path / "here" / "assignments.csv").read_bytes() == (tmp_path / "there" / "assignments.csv").read_bytes()


def test_the_store_is_the_drivers(cluster: Cluster, tmp_path: Path) -> None:
    """What is known is not sent out: with everything known, no worker is needed."""
    from greffon.activations import Store

    network = drawn_network()
    engine = TorchEngine(network, Tap("pooled"), "float32", batch=4)
    photos = [photo(i, 40, 48) for i in range(6)]
    store = Store(tmp_path)
    compute(photos, network, engine.tap, engine, store=store, progress=Silent())
    executor = RayExecutor(replace(cluster, nodes=()))
    found = compute(photos, network, engine.tap, engine, store=store, progress=Silent(), executor=executor)
    assert (found.computed, found.reused) == (0, 6)
