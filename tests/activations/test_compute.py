"""The frozen pass: what is computed, what is reused, what is kept when something fails, and how much memory it takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from small import network

from drawn import encode, photo
from greffon.activations import Activations, Job, LocalExecutor, Photo, Store, Tap, TorchEngine, compute, digest_of
from greffon.activations.compute import key_for
from greffon.errors import ImageError, StoreError
from greffon.progress import Silent

TAP = Tap("pooled")


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    return TorchEngine(network(32), TAP, "float32", batch=8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Twenty different images."""
    (tmp_path / "photos").mkdir()
    return [write(tmp_path / "photos" / f"{number:02}.png", number) for number in range(20)]


def write(path: Path, seed: int) -> Path:
    path.write_bytes(encode(photo(seed, 40, 50)))
    return path


def run(
    photos: Sequence[Photo], engine: TorchEngine, store: Store | None, progress: Silent | None = None, every: int = 64
) -> Activations:
    return compute(
        photos, network(32), TAP, engine, store=store, progress=progress or Silent(), commit_every=every
    )


def expected(photos: Sequence[Path], engine: TorchEngine) -> np.ndarray:
    """One image at a time, without the executor, filled up to the size of a batch."""
    pre = network(32).preprocess
    blank = np.zeros((engine.batch - 1, 32, 32, 3), np.uint8)
    return np.concatenate([engine.run(np.concatenate([pre.read(p.read_bytes())[None], blank]))[:1] for p in photos])


def shelf_folder(engine: TorchEngine, store: Store) -> Path:
    return store.root / key_for(network(32), TAP, engine).folder


def test_the_order_is_that_of_the_photos(files: list[Path], engine: TorchEngine, store: Store) -> None:
    shuffled = [files[i] for i in np.random.default_rng(0).permutation(20)]
    found = run(shuffled, engine, store)
    assert (len(found), found.computed, found.reused, found.failed) == (20, 20, 0, {})
    assert list(found.digests) == [digest_of(path) for path in shuffled]
    np.testing.assert_array_equal(found.all(), expected(shuffled, engine))
    np.testing.assert_array_equal(found.batch([7, 3, 7]), expected([shuffled[i] for i in (7, 3, 7)], engine))
    assert found.batch([]).shape == (0, *engine.record[0])


def test_a_second_run_computes_what_is_new(files: list[Path], engine: TorchEngine, store: Store) -> None:
    first = run(files[:15], engine, store)
    again = run(files[:15], engine, store)
    assert (again.computed, again.reused) == (0, 15)
    np.testing.assert_array_equal(again.all(), first.all())
    write(files[3], 99)
    changed = run(files, engine, store)
    assert (changed.computed, changed.reused) == (6, 14)
    np.testing.assert_array_equal(changed.all(), expected(files, engine))
    files[5].rename(files[5].with_name("renamed.png"))
    moved = run([files[5].with_name("renamed.png")], engine, store)
    assert (moved.computed, moved.reused) == (0, 1)


def test_duplicates_are_computed_once(files: list[Path], engine: TorchEngine, store: Store) -> None:
    copy = files[0].with_name("copy.png")
    shutil.copy(files[0], copy)
    for kept in (store, None):
        found = run([copy, files[1], files[0], files[1]], engine, kept)
        assert found.computed == 2
        np.testing.assert_array_equal(found.all(), expected([files[0], files[1], files[0], files[1]], engine))
    assert run([copy, files[0]], engine, store).reused == 1


def test_unreadable_files_are_named_and_the_rest_computed(
    files: list[Path], engine: TorchEngine, store: Store
) -> None:
    files[2].write_bytes(b"not an image")
    files[4].write_bytes(files[4].read_bytes()[:60])
    shutil.copy(files[2], files[9])
    files[11].unlink()
    for kept in (store, store, None):
        found = run(files, engine, kept)
        assert sorted(found.failed) == [2, 4, 9, 11]
        assert "not an image" in found.failed[2] == found.failed[9]
        assert "No such file" in found.failed[11]
        assert [i for i, digest in enumerate(found.digests) if not digest] == [2, 4, 9, 11]
        assert found.computed + found.reused == 16
        good = [i for i in range(20) if i not in found.failed]
        np.testing.assert_array_equal(found.batch(good), expected([files[i] for i in good], engine))
        assert not found.all()[[2, 4, 9, 11]].any()
    nothing = run([files[2]], engine, store)
    assert (nothing.computed, sorted(nothing.failed)) == (0, [0])


def test_arrays_and_files_of_the_same_pixels(files: list[Path], engine: TorchEngine, store: Store) -> None:
    arrays = [photo(number, 40, 50) for number in range(20)]
    np.testing.assert_array_equal(run(arrays, engine, store).all(), run(files, engine, None).all())
    assert run([array.copy() for array in arrays], engine, store).computed == 0
    strange = run([arrays[0], np.zeros((4, 4), np.uint8)], engine, store)
    assert "uint8 (h, w, 3)" in strange.failed[1]
    assert digest_of(np.zeros((2, 3, 3), np.uint8)) != digest_of(np.zeros((3, 2, 3), np.uint8))
    with pytest.raises(ImageError):
        digest_of(np.zeros((2, 3, 3), np.float32))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_bits_whichever_images_were_missing(files: list[Path], store: Store, precision: str) -> None:
    engine = TorchEngine(network(32), TAP, precision, batch=8)
    whole = run(files, engine, None).all()
    for chosen in ([3], [19, 4, 5], list(range(0, 20, 2)), list(range(20))):
        run([files[i] for i in chosen], engine, store)
    np.testing.assert_array_equal(run(files, engine, store).all(), whole)


class Counting:
    """An engine whose result is the size of its batch, as that of some networks depends on it in the last bits."""

    fingerprint, batch, record = "counts", 8, ((1,), "float32")
    precision, tap = "float32", TAP

    def run(self, images: np.ndarray) -> np.ndarray:
        return np.full((len(images), 1), len(images), np.float32)


def test_every_batch_is_full(files: list[Path], store: Store) -> None:
    files[1].write_bytes(b"not an image")
    for kept in (None, store):
        found = compute(files[:19], network(32), TAP, Counting(), store=kept, progress=Silent())
        good = [i for i in range(19) if i != 1]
        assert found.batch(good).ravel().tolist() == [8] * 18


def test_known_digests_are_taken(files: list[Path], engine: TorchEngine, store: Store) -> None:
    digests = [digest_of(path) for path in files]
    digests[6] = ""
    found = compute(files, network(32), TAP, engine, store=store, progress=Silent(), digests=digests)
    assert found.failed == {6: "cannot be read"}
    assert found.computed == 19
    for path in files[:3]:
        path.unlink()  # what is known needs no file
    again = compute(files, network(32), TAP, engine, store=store, progress=Silent(), digests=digests)
    assert (again.computed, again.reused, sorted(again.failed)) == (0, 19, [6])


def test_a_file_that_changes_on_the_way_is_not_kept_under_its_old_name(
    files: list[Path], engine: TorchEngine, store: Store
) -> None:
    digests = [digest_of(path) for path in files]
    before = files[3].read_bytes()
    write(files[3], 99)
    found = compute(files, network(32), TAP, engine, store=store, progress=Silent(), digests=digests)
    assert list(found.failed) == [3]
    assert "was changed" in found.failed[3]
    files[3].write_bytes(before)
    np.testing.assert_array_equal(run(files, engine, store).all(), expected(files, engine))


class Failing:
    """An engine that breaks off at one batch."""

    def __init__(self, engine: TorchEngine, at: int, error: BaseException) -> None:
        self.engine, self.left, self.error = engine, at, error
        self.fingerprint, self.batch, self.record = engine.fingerprint, engine.batch, engine.record
        self.precision, self.tap = engine.precision, engine.tap

    def run(self, images: np.ndarray) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return self.engine.run(images)


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_what_was_computed_before_a_fault_is_kept(
    files: list[Path], engine: TorchEngine, store: Store, error: BaseException
) -> None:
    listener = Listening()
    broken = Failing(engine, 2, error)
    with pytest.raises(type(error)):
        compute(files, network(32), TAP, broken, store=store, progress=listener, commit_every=10**6)
    assert listener.open == 0, "the task is ended"
    again = run(files, engine, store)
    assert (again.computed, again.reused) == (20 - 2 * engine.batch, 2 * engine.batch)
    np.testing.assert_array_equal(again.all(), expected(files, engine))


class Listening:
    """Counts steps."""

    def __init__(self) -> None:
        self.open = self.total = self.steps = 0
        self.warnings: list[str] = []

    def begin(self, task: str, total: int) -> None:
        self.open, self.total = self.open + 1, total

    def advance(self, steps: int = 1) -> None:
        self.steps += steps

    def end(self) -> None:
        self.open -= 1

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def test_progress_tells_of_every_image(files: list[Path], engine: TorchEngine, store: Store) -> None:
    files[2].write_bytes(b"not an image")
    listener = Listening()
    compute([*files, files[0]], network(32), TAP, engine, store=store, progress=listener)
    assert (listener.open, listener.total, listener.steps, listener.warnings) == (0, 20, 20, [])


def test_damaged_records_are_computed_again_with_a_warning(
    files: list[Path], engine: TorchEngine, store: Store
) -> None:
    run(files, engine, store)
    shard = next(shelf_folder(engine, store).glob("*.shard"))
    data = bytearray(shard.read_bytes())
    stride = len(data) // 20
    for row in (4, 11):
        data[row * stride + 200] ^= 255
    shard.write_bytes(data)
    listener = Silent()
    again = run(files, engine, store, listener)
    assert (again.computed, again.reused) == (2, 18)
    assert len(listener.warnings) == 1
    assert "2 records are damaged; they are computed anew" in listener.warnings[0]
    np.testing.assert_array_equal(again.all(), expected(files, engine))
    assert run(files, engine, store).reused == 20
    (shelf_folder(engine, store) / "index.sqlite").write_bytes(b"garbage" * 500)
    third = run(files, engine, store, listener)
    assert third.reused == 20, "the shards tell what they hold"
    assert "the index was damaged" in listener.warnings[1]
    shutil.rmtree(shelf_folder(engine, store))
    with pytest.raises(StoreError):
        third.all()


def test_a_tap_a_precision_and_weights_have_shelves_of_their_own(store: Store) -> None:
    one, other = network(32), network(32, seed=1)
    keys = [key_for(one, tap, TorchEngine(one, tap, "float32")) for tap in (TAP, Tap("map", "none"))]
    keys.append(key_for(one, TAP, TorchEngine(one, TAP, "bfloat16")))
    keys.append(key_for(other, TAP, TorchEngine(other, TAP, "float32")))
    assert len({key.folder for key in keys}) == 4


def test_tuning_what_is_above_the_cut_keeps_what_is_below() -> None:
    from greffon.backbones import Backbone, blueprint

    one, last = network(32), network(32).stages[-1]
    tensors = {name: value.clone() for name, value in one.tensors().items()}
    above = {link for stage in one.plan.stages if stage.name == last for link in stage.links}
    for name, value in tensors.items():
        if value.is_floating_point() and any(name.startswith(f"{link}.") for link in above):
            value += 1
    tuned = Backbone(blueprint(one.plan.entry), tensors)
    for tap, same in ((Tap("map", last), True), (Tap("map", "none"), False), (TAP, False)):
        folders = {key_for(each, tap, TorchEngine(each, tap, "float32")).folder for each in (one, tuned)}
        assert (len(folders) == 1) is same, tap


def test_another_executor_may_bring_the_images_in_any_order(
    files: list[Path], engine: TorchEngine, store: Store
) -> None:
    class Backwards:
        def run(
            self, jobs: Sequence[Job], preprocess: object, engine: TorchEngine
        ) -> Iterator[tuple[list[int], np.ndarray, dict[int, str]]]:
            assert [job.digest for job in jobs] == [digest_of(job.photo) for job in jobs]
            values = expected([job.photo for job in jobs if isinstance(job.photo, Path)], engine)
            yield [], np.zeros((0,)), {5: "lost on the way"}
            for i in reversed(range(len(jobs))):
                if i != 5:
                    yield [i], values[i : i + 1], {}

    found = compute(files, network(32), TAP, engine, store=store, progress=Silent(), executor=Backwards())  # type: ignore[arg-type]  # its engine is TorchEngine
    assert found.failed == {5: "lost on the way"}
    good = [i for i in range(20) if i != 5]
    np.testing.assert_array_equal(found.batch(good), expected([files[i] for i in good], engine))


def test_the_pipeline_keeps_the_network_busy(tmp_path: Path) -> None:
    """Against a network of known speed: an engine that sleeps takes no processor from the decoding threads."""

    class Sleeping:
        fingerprint, batch, record = "sleeps", 8, ((4,), "float32")
        precision, tap = "float32", TAP

        def run(self, images: np.ndarray) -> np.ndarray:
            time.sleep(0.08)  # 100 images a second
            return images.reshape(len(images), -1)[:, :4].astype(np.float32)

    photos = [write(tmp_path / f"{i}.png", i) for i in range(160)]
    bare = len(photos) / 100
    started = time.perf_counter()
    found = compute(photos, network(32), TAP, Sleeping(), store=Store(tmp_path / "store"), progress=Silent(),
                    executor=LocalExecutor(), digests=[digest_of(one) for one in photos])  # fmt: skip
    assert found.computed == 160
    assert bare / (time.perf_counter() - started) > 0.75, "0.95 on a quiet machine"


MEMORY = """
import sys
from dataclasses import replace
from pathlib import Path
from greffon.activations import LocalExecutor, Store, Tap, TorchEngine, compute
from greffon.progress import Silent
sys.path.insert(0, sys.argv[1])
from small import network

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

class Watching(Silent):
    def __init__(self): super().__init__(); self.at, self.seen = {}, 0
    def advance(self, steps=1):
        self.seen += steps
        if self.seen % 200 < steps:
            self.at[self.seen // 200 * 200] = anonymous()

backbone = network(32)
engine = TorchEngine(backbone, Tap("pooled"), "float32")
n = int(sys.argv[3])
listener = Watching()
folder = Path(sys.argv[2])
# Files: the pass reads and decodes each.
photos = [folder / f"{i % 50}.png" for i in range(n)]
class Decoding:
    'The local executor, with the digests left unchecked: the same 50 files stand for n.'
    def run(self, jobs, preprocess, engine):
        return LocalExecutor().run([replace(job, digest="") for job in jobs], preprocess, engine)
found = compute(photos, backbone, Tap("pooled"), engine, store=Store(folder / "store"), progress=listener,
                digests=[f"{i:064x}" for i in range(n)], executor=Decoding())
assert found.computed == n, found.failed
start = listener.at[int(sys.argv[4])]
print(start, max(value for at, value in listener.at.items() if at >= int(sys.argv[4])), anonymous())
"""


def memory(folder: Path, images: int, start: int) -> tuple[int, int, int]:
    """Anonymous memory in KiB when ``start`` images are done, the most after that, and that at the end."""
    for number in range(50):
        write(folder / f"{number}.png", number)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(Path(__file__).parent), str(folder), str(images), str(start)],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, most, end = (int(word) for word in done.stdout.split())
    return first, most, end


def test_memory_is_flat(tmp_path: Path) -> None:
    first, most, end = memory(tmp_path, 3000, 600)
    assert most < 1.1 * first
    assert end < 1.1 * first


@pytest.mark.slow
def test_memory_is_flat_up_to_twenty_thousand_images(tmp_path: Path) -> None:
    first, most, end = memory(tmp_path, 20_000, 1000)
    print(f"RssAnon: {first} KiB after 1,000 images, {most} at most after that, {end} at the end")
    assert most < 1.1 * first
    assert end < 1.1 * first
