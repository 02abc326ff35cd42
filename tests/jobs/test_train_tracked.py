"""``train --track``: what the tools read of a run, of one that was killed and goes on, and that nobody is asked."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tuned import WORDS, environment, write_backbone, write_photos

from greffon.images import decode
from greffon.tracking import RUN_FILE

KINDS = [pytest.param(kind, marks=pytest.mark.skipif(importlib.util.find_spec(kind) is None, reason=f"{kind} is not installed"))
         for kind in ("tensorboard", "mlflow")]  # fmt: skip
#: Ends itself after it has written its second checkpoint and, as asked, before or after it is told of, or half told.
DYING = """
import os, signal, sys
from greffon.cli import main
from greffon.tracking import tracker
from greffon.training import loop
where = sys.argv.pop(1)
def die():
    os.kill(os.getpid(), signal.SIGKILL)
saves, real_save, real_follow = [], loop.save_checkpoint, tracker.Tracker.follow
def save(*args):
    real_save(*args)
    saves.append(1)
    if where == "before" and len(saves) == 2:
        die()
def follow(self, history):
    if where == "half" and len(saves) == 2:
        numbers = self._recorder.numbers
        def some(step, values):
            numbers(step, dict(list(values.items())[:2]))
            if step == 2:
                die()
        self._recorder.numbers = some
    real_follow(self, history)
    if where == "after" and len(saves) == 2:
        die()
loop.save_checkpoint, tracker.Tracker.follow = save, follow
main()
"""
#: Every look-up of a name is written down, child processes included.
WATCHER = """
import os, sys
def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {arguments!r}\\n")
sys.addaudithook(watch)
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread: None) -> None:
    pass


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos") / "stripes", each=12)


def steps_of(kind: str, store: Path, run: str) -> dict[str, list[tuple[int, float]]]:
    """Every figure that the store holds by its name, in the order in which it was written: by each tool's own reader."""
    if kind == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        read = EventAccumulator(str(store / run), size_guidance={"scalars": 0})
        read.Reload()
        return {name: [(one.step, one.value) for one in read.Scalars(name)] for name in read.Tags()["scalars"]}
    from greffon.tracking.mlflow import import_client

    client = import_client()(tracking_uri=store.as_uri())
    names = client.get_run(run).data.metrics
    return {name: [(one.step, one.value) for one in client.get_metric_history(run, name)] for name in names}


def greffon(*words: object, cache: Path, program: tuple[str, ...] = ("-m", "greffon"), without: tuple[str, ...] = (),
            **more: str) -> subprocess.CompletedProcess[str]:  # fmt: skip
    settings = {name: value for name, value in {**environment(cache), **more}.items() if name not in without}
    return subprocess.run([sys.executable, *program, *map(str, words)], env=settings, capture_output=True, text=True, timeout=300,
                          check=False)  # fmt: skip


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_fine_tuning_that_was_killed_goes_on_in_its_run(kind: str, base: Path, photos: Path, tmp_path: Path, greffon_cache: Path) -> None:
    store, model = tmp_path / "store with space", tmp_path / "model"
    words = ["train", photos, "--out", model, "--backbone", base, "--unfreeze", "layer3", *WORDS, "--epochs", 8, "--track", kind,
             "--track-dir", store]  # fmt: skip
    for number, where in enumerate(("half", "before", "after")):
        again = ["--resume"] if number else []
        done = greffon(where, *words, *again, cache=greffon_cache, program=("-c", DYING))
        assert done.returncode == -signal.SIGKILL, done.stderr
    done = greffon(*words, "--resume", cache=greffon_cache)
    assert done.returncode == 0, done.stderr
    run = json.loads((model / RUN_FILE).read_text())[kind]
    found = steps_of(kind, store, run)
    history = {row["epoch"]: row for row in told(model)["training"]["history"]}
    assert [step for step, _ in found["train/loss"]] == list(range(1, 9))
    for name, key in (("train/loss", "loss"), ("val/accuracy", "val_accuracy"), ("val/log_loss", "val_log_loss")):
        assert dict(found[name]) == pytest.approx({step: row[key] for step, row in history.items() if row[key] is not None}, rel=1e-6)
        assert len(found[name]) == len(dict(found[name]))
    rates = dict(found["learning_rate/top_stage"])
    assert list(rates) == list(range(1, 9)) and rates[2] > rates[8] > 0
    heads = dict(found["learning_rate/head"])  # its rate is the topmost stage's here
    assert {step: heads[step] / rate for step, rate in rates.items()} == pytest.approx(dict.fromkeys(rates, 1.0))
    figures = json.loads((model / "metrics.json").read_text())
    last = {name: values[-1][1] for name, values in found.items()}
    assert last["test/accuracy"] == pytest.approx(figures["accuracy"])
    assert [last["test/accuracy_low"], last["test/accuracy_high"]] == pytest.approx(figures["accuracy_interval"])
    assert last["test/n"] == figures["n"]
    runs = [path for path in store.iterdir() if path.is_dir()] if kind == "tensorboard" else list(store.glob("*/*/meta.yaml"))
    assert len(runs) == 1


@pytest.mark.parametrize("kind", [pytest.param(*KINDS[0].values, marks=[*KINDS[0].marks, pytest.mark.slow]), KINDS[1]])
def test_feature_extraction_has_configuration_figures_and_pictures_and_asks_nobody(
    kind: str, base: Path, photos: Path, tmp_path: Path, greffon_cache: Path
) -> None:
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCHER)
    (tmp_path / "seen").touch()
    path = os.pathsep.join([str(tmp_path / "watch"), *filter(None, [os.environ.get("PYTHONPATH")])])
    store, model = tmp_path / "store", tmp_path / "model"
    off = ("CI", "HF_HUB_OFFLINE", "GREFFON_OFFLINE", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")  # MLflow is silent where some of these are
    done = greffon("train", photos, "--out", model, "--backbone", base, "--precision", "float32", "--track", kind, "--track-dir", store,
                   cache=greffon_cache, without=off, PYTHONPATH=path, WATCHED=str(tmp_path / "seen"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").read_text() == ""
    assert "warn" not in done.stderr.lower()
    run = json.loads((model / RUN_FILE).read_text())[kind]
    wanted = {"unfreeze": "none", "seed": "0", "data.images": "36", "backbone.name": "test_resnet", "chosen.cut": "none"}
    if kind == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.plugins.hparams import plugin_data_pb2

        read = EventAccumulator(str(store / run), size_guidance={"images": 0})
        read.Reload()
        content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        asked = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams  # type: ignore[attr-defined]  # made at run time
        params = {name: one.string_value or f"{one.number_value:g}" for name, one in asked.items()}
        pictures = {name: read.Images(name)[0].encoded_image_string for name in read.Tags()["images"]}
        assert b"unfreeze: none" in read.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0]
    else:
        from greffon.tracking.mlflow import import_client

        client = import_client()(tracking_uri=store.as_uri())
        about = client.get_run(run)
        assert about.info.status == "FINISHED"
        params = about.data.params
        files = sorted(store.glob(f"*/{run}/artifacts/pictures/*.png"))
        pictures = {f"pictures/{file.stem}": file.read_bytes() for file in files}
    assert {name: params[name] for name in wanted} == wanted
    assert not any(str(photos) in value for value in params.values())
    assert set(pictures) == {"pictures/confusion", "pictures/calibration"}
    assert all(decode(content).shape[0] > 200 for content in pictures.values())
    assert "test/accuracy_low" in steps_of(kind, store, run)


def test_a_missing_package_is_one_error_before_any_work(base: Path, photos: Path, tmp_path: Path, greffon_cache: Path) -> None:
    hidden = ("-c", "import importlib.util, sys\nreal = importlib.util.find_spec\n"
              "importlib.util.find_spec = lambda name, *more: None if name == 'mlflow' else real(name, *more)\n"
              "from greffon.cli import main\nmain()")  # fmt: skip
    done = greffon("train", photos, "--out", tmp_path / "m", "--backbone", base, "--track", "mlflow", cache=greffon_cache, program=hidden)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "--track mlflow: MLflow is not installed" in done.stderr and 'pip install "greffon[mlflow]"' in done.stderr
    assert not (tmp_path / "m").exists()
