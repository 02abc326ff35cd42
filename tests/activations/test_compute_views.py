"""A pass over several views: what is computed, what is reused, and that a photo is decoded once for all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from small import network

from drawn import encode, photo
from greffon.activations import (
    Activations,
    Job,
    LocalExecutor,
    Photo,
    Store,
    Tap,
    TorchEngine,
    compute,
    compute_views,
    digest_of,
    executing,
    pixels_of,
)
from greffon.activations.compute import key_for
from greffon.images import PLAIN, Preprocess, Transform, View, decode, views
from greffon.progress import Progress, Silent

TAP = Tap("pooled")
SOME = views("strong", 3, seed=1)


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    return TorchEngine(network(32), TAP, "float32", batch=8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Ten different images."""
    (tmp_path / "photos").mkdir()
    return [write(tmp_path / "photos" / f"{number:02}.png", number) for number in range(10)]


def write(path: Path, seed: int) -> Path:
    path.write_bytes(encode(photo(seed, 40, 50)))
    return path


def run(
    photos: Sequence[Photo], engine: TorchEngine, store: Store | None, some: Sequence[View] = SOME,
    progress: Progress | None = None, workers: int = 2,
) -> tuple[Activations, ...]:  # fmt: skip
    return compute_views(photos, network(32), TAP, engine, some, store=store, progress=progress or Silent(),
                         executor=LocalExecutor(workers))  # fmt: skip


def expected(photos: Sequence[Path], engine: TorchEngine, view: View) -> np.ndarray:
    """One photo and one view at a time, without the executor, filled up to the size of a batch."""
    pre = network(32).preprocess
    blank = np.zeros((engine.batch - 1, 32, 32, 3), np.uint8)
    pixels = [view.fit(decode(path.read_bytes()), digest_of(path), pre)[None] for path in photos]
    return np.concatenate([engine.run(np.concatenate([one, blank]))[:1] for one in pixels])


def test_each_view_has_its_activations_in_the_order_of_the_photos(
    files: list[Path], engine: TorchEngine, store: Store
) -> None:
    order = [files[i] for i in np.random.default_rng(0).permutation(10)]
    for kept in (store, None):
        found = run(order, engine, kept)
        assert [(one.computed, one.reused, one.failed) for one in found] == [(10, 0, {})] * 3
        for one, view in zip(found, SOME, strict=True):
            np.testing.assert_array_equal(one.all(), expected(order, engine, view))
    plain, first, second = (one.all() for one in found)
    assert (plain != first).any(1).all()
    assert (first != second).any(1).all()


@pytest.mark.parametrize("workers", [1, 3, 7])
def test_neither_order_nor_workers_nor_company_change_a_bit(
    files: list[Path], engine: TorchEngine, workers: int
) -> None:
    wanted = [expected(files, engine, view) for view in SOME]
    for order in (list(range(10)), [7, 2, 9], [4]):
        for chosen in ([0, 1, 2], [2, 0], [1]):
            found = run([files[i] for i in order], engine, None, [SOME[k] for k in chosen], workers=workers)
            for one, k in zip(found, chosen, strict=True):
                np.testing.assert_array_equal(one.all(), wanted[k][order])


def test_one_view_by_compute_is_the_same_and_shares_the_shelf(
    files: list[Path], engine: TorchEngine, store: Store
) -> None:
    alone = compute(files, network(32), TAP, engine, store=store, progress=Silent(), view=SOME[1])
    assert alone.computed == 10
    plain = compute(files, network(32), TAP, engine, store=store, progress=Silent())
    np.testing.assert_array_equal(plain.all(), expected(files, engine, PLAIN))
    found = run(files, engine, store)
    assert [(one.computed, one.reused) for one in found] == [(0, 10), (0, 10), (10, 0)]
    np.testing.assert_array_equal(found[1].all(), alone.all())


def test_what_is_missing_is_computed(files: list[Path], engine: TorchEngine, store: Store) -> None:
    run(files[:6], engine, store, SOME[:2])
    listener = Listening()
    found = run(files, engine, store, progress=listener)
    assert [(one.computed, one.reused) for one in found] == [(4, 6), (4, 6), (10, 0)]
    assert (listener.tasks, listener.total, listener.steps) == (["Running test_resnet.r160_in1k on 3 views"], 18, 18)
    for one, view in zip(found, SOME, strict=True):
        np.testing.assert_array_equal(one.all(), expected(files, engine, view))
    assert all(one.computed == 0 for one in run(files, engine, store))
    # The same recipe, written down again; then with another seed.
    assert all(one.computed == 0 for one in run(files, engine, store, [View.from_dict(v.to_dict()) for v in SOME]))
    assert [one.computed for one in run(files, engine, store, views("strong", 3, seed=2))] == [0, 10, 10]


class Listening:
    """Counts steps."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.total = self.steps = 0

    def begin(self, task: str, total: int) -> None:
        self.tasks.append(task)
        self.total += total

    def advance(self, steps: int = 1) -> None:
        self.steps += steps

    def end(self) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        raise AssertionError(text)


def test_keys_differ_between_views(engine: TorchEngine, store: Store, files: list[Path]) -> None:
    different = [*SOME, views("strong", 2, seed=2)[1], views("light", 2, seed=1)[1], View((Transform("flip"),), 1, 1)]
    keys = [key_for(network(32), TAP, engine, view) for view in different]
    assert len({key.folder for key in keys}) == 6
    assert key_for(network(32), TAP, engine) == keys[0]
    assert keys[0].view == "plain"
    run(files[:1], engine, store, different)
    assert {info.view for info in store.shelves()} == {view.name for view in different}


def test_a_photo_is_read_and_decoded_once_for_all_its_views(
    files: list[Path], engine: TorchEngine, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    real = Preprocess.decode

    def counting(self: Preprocess, data: bytes, **limits: object) -> np.ndarray:
        decoded.append(len(data))
        return real(self, data, **limits)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(executing.Preprocess, "decode", counting)
    run(files[:4], engine, store, SOME[:1])
    assert len(decoded) == 4
    run(files, engine, store)
    assert sorted(decoded[4:]) == sorted(path.stat().st_size for path in files)


def test_duplicates_of_photos_and_of_views_are_computed_once(
    files: list[Path], engine: TorchEngine, store: Store
) -> None:
    (files[0].parent / "copy.png").write_bytes(files[0].read_bytes())
    order = [files[0].parent / "copy.png", files[1], files[0]]
    for kept in (store, None):
        found = run(order, engine, kept, [SOME[1], PLAIN, SOME[1], View((), 5, 0)])
        assert [one.computed for one in found] == [2, 2, 2, 2]
        for one, view in zip(found, (SOME[1], PLAIN, SOME[1], PLAIN), strict=True):
            np.testing.assert_array_equal(one.all(), expected([files[0], files[1], files[0]], engine, view))
    assert run(files, engine, None, []) == ()


def test_a_broken_photo_fails_in_every_view(files: list[Path], engine: TorchEngine, store: Store) -> None:
    files[2].write_bytes(b"not an image")
    files[3].write_bytes(files[3].read_bytes()[:60])
    files[5].unlink()
    listener = Listening()
    for kept in (store, None):
        for one, view in zip(run(files, engine, kept, progress=listener), SOME, strict=True):
            assert sorted(one.failed) == [2, 3, 5]
            assert "not an image" in one.failed[2]
            assert one.computed == 7
            good = [i for i in range(10) if i not in one.failed]
            np.testing.assert_array_equal(one.batch(good), expected([files[i] for i in good], engine, view))
    assert listener.steps == listener.total == 2 * 9 * 3
    nothing = run([files[2]], engine, store)
    assert [sorted(one.failed) for one in nothing] == [[0]] * 3


def test_arrays_have_views_by_their_content(engine: TorchEngine, store: Store) -> None:
    arrays = [photo(number, 40, 50) for number in range(3)]
    found = run(arrays, engine, store)
    pre = network(32).preprocess
    for i, array in enumerate(arrays):
        pixels = pixels_of(array, pre, view=SOME[2])
        np.testing.assert_array_equal(pixels, SOME[2].fit(array, digest_of(array), pre))
        blank = np.zeros((7, 32, 32, 3), np.uint8)
        np.testing.assert_array_equal(found[2].batch([i])[0], engine.run(np.concatenate([pixels[None], blank]))[0])
    assert all(one.computed == 0 for one in run([array.copy() for array in arrays], engine, store))


def test_pixels_of_a_file(files: list[Path]) -> None:
    pre = network(32).preprocess
    for view in SOME:
        wanted = view.fit(decode(files[0].read_bytes()), digest_of(files[0]), pre)
        np.testing.assert_array_equal(pixels_of(files[0], pre, view=view), wanted)
        np.testing.assert_array_equal(pixels_of(files[0], pre, digest=digest_of(files[0]), view=view), wanted)


def test_another_executor_gets_a_job_a_photo_with_its_missing_views(
    files: list[Path], engine: TorchEngine, store: Store
) -> None:
    run(files[:2], engine, store, SOME[1:2])

    class Backwards:
        def run(
            self, jobs: Sequence[Job], preprocess: Preprocess, engine: TorchEngine
        ) -> Iterator[tuple[list[int], np.ndarray, dict[int, str]]]:
            assert [job.photo for job in jobs] == files[:3]
            assert [job.views for job in jobs] == [(SOME[0], SOME[2]), (SOME[0], SOME[2]), SOME]
            wanted = [expected([job.photo], engine, view) for job in jobs for view in job.views
                      if isinstance(job.photo, Path)]  # fmt: skip
            for number in reversed(range(7)):
                yield ([], np.zeros((0,)), {5: "lost"}) if number == 5 else ([number], wanted[number], {})

    found = compute_views(files[:3], network(32), TAP, engine, SOME, store=store, progress=Silent(),
                          executor=Backwards())  # type: ignore[arg-type]  # its engine is TorchEngine  # fmt: skip
    assert [one.failed for one in found] == [{}, {2: "lost"}, {}]
    for one, view in zip(found, SOME, strict=True):
        np.testing.assert_array_equal(one.batch([0, 1]), expected(files[:2], engine, view))
    np.testing.assert_array_equal(found[2].all(), expected(files[:3], engine, SOME[2]))


class Failing:
    """An engine that breaks off at one batch."""

    def __init__(self, engine: TorchEngine, at: int) -> None:
        self.engine, self.left = engine, at
        self.fingerprint, self.batch, self.record = engine.fingerprint, engine.batch, engine.record
        self.precision, self.tap = engine.precision, engine.tap

    def run(self, images: np.ndarray) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.engine.run(images)


def test_what_was_computed_before_an_interruption_is_kept(
    files: list[Path], engine: TorchEngine, store: Store
) -> None:
    with pytest.raises(KeyboardInterrupt):
        compute_views(files, network(32), TAP, Failing(engine, 2), SOME, store=store, progress=Silent())
    again = run(files, engine, store)
    # Two batches of eight: five photos with three views, and the plain view of the sixth.
    assert [(one.computed, one.reused) for one in again] == [(4, 6), (5, 5), (5, 5)]
    for one, view in zip(again, SOME, strict=True):
        np.testing.assert_array_equal(one.all(), expected(files, engine, view))


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from small import network
from greffon.activations import Store, Tap, TorchEngine, compute_views
from greffon.images import views
from greffon.progress import Silent

class Slow:
    def __init__(self, engine):
        self.engine = engine
        self.fingerprint, self.batch, self.record = engine.fingerprint, engine.batch, engine.record
    def run(self, images):
        print("batch", flush=True)
        time.sleep(0.3)
        return self.engine.run(images)

engine = Slow(TorchEngine(network(32), Tap("pooled"), "float32", batch=8))
compute_views(sorted(Path(sys.argv[2]).glob("*.png")), network(32), Tap("pooled"), engine, views("strong", 3, seed=1),
              store=Store(Path(sys.argv[3])), progress=Silent(), commit_every=1)
"""


def test_a_killed_pass_goes_on_where_it_was(files: list[Path], engine: TorchEngine, store: Store) -> None:
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(files[0].parent), str(store.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        assert process.stdout
        for _ in range(3):
            assert process.stdout.readline() == b"batch\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    again = run(files, engine, store)
    assert sum(one.reused for one in again) == 16
    for one, view in zip(again, SOME, strict=True):
        np.testing.assert_array_equal(one.all(), expected(files, engine, view))
