# pyright: reportMissingImports=false
"""The draws, the figures and the requirements of the adaptation benchmarks; and their contestants on small drawn photos."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adaptation import (
    Draw,
    Pair,
    adapt_draw,
    best_in_hindsight,
    checks,
    domains_of,
    drawn,
    gains,
    pair_of,
    read_draws,
    requirements,
    table,
    told,
)
from adaptation_above import figures_of as figures_of_draws
from adaptation_peers import better_of, comparison
from adaptation_speed import contestants_for, figures_of
from contestants import run_fresh, run_script, turns
from drawn import write_classes
from greffon.activations import Store
from greffon.backbones import Backbone, load_backbone
from greffon.errors import DataError, OptionError
from greffon.losses import class_confusion, coral, domain_loss, reverse_gradient
from greffon.progress import Silent
from greffon.transfer.transductive import adapt_features
from job_folder import make_domain_job
from peers.job import Answer, Job

SIZE = 32
PYTHON = Path(sys.executable)


def pair(images: int = 60, classes: int = 3, apart: float = 3.0) -> Pair:
    """Two clouds of classes, the target turned and moved; records as of one stage of four channels."""
    rng = np.random.default_rng(0)
    means = apart * rng.normal(size=(classes, 8))
    labels, truth = (np.arange(images) % classes for _ in range(2))
    source = means[labels] + rng.normal(size=(images, 8))
    target = means[truth] + rng.normal(size=(images, 8)) + 1
    a, b = (np.abs(x).astype(np.float32) for x in (source, target))
    return Pair("a→b", "letters", a, labels, b, truth, classes, (4,), "float32")


def draw(pair: str, method: str, seed: int, right: float, chosen: str = "") -> Draw:
    return Draw(pair, method, seed, 0.9, right, 100, chosen or method, 0.75, 1.25, 2.0 + seed)


DRAWS = [
    *(draw("a→b", "source-only", seed, right) for seed, right in enumerate((0.50, 0.60))),
    *(draw("a→b", "coral", seed, right) for seed, right in enumerate((0.70, 0.80))),
    *(draw("a→b", "spl", seed, right) for seed, right in enumerate((0.60, 0.60))),
    *(draw("a→b", "auto", seed, right, "consensus") for seed, right in enumerate((0.65, 0.81))),
    *(draw("b→a", "source-only", seed, 0.90) for seed in range(2)),
    *(draw("b→a", "coral", seed, 0.80) for seed in range(2)),
    *(draw("b→a", "spl", seed, 0.92) for seed in range(2)),
    *(draw("b→a", "auto", seed, 0.88, ("source-only", "consensus")[seed]) for seed in range(2)),
]


# --- draws --------------------------------------------------------------------------------------------------------


def test_a_draw_is_a_part_of_both_domains_and_rows_stay_with_their_labels() -> None:
    whole = pair()
    some = drawn(whole, 0.5, 3)
    assert len(some.labels) == len(some.source) == 30
    assert len(some.truth) == len(some.target) == 30
    for records, labels, every, of_every in (
        (some.source, some.labels, whole.source, whole.labels),
        (some.target, some.truth, whole.target, whole.truth),
    ):
        places = [int(np.flatnonzero((every == row).all(1))[0]) for row in records]
        assert len(set(places)) == len(places)
        assert (of_every[places] == labels).all()
    assert np.array_equal(drawn(whole, 0.5, 3).source, some.source)
    assert not np.array_equal(drawn(whole, 0.5, 4).target, some.target)
    assert len(drawn(whole, 1.0, 0).labels) == 60


def test_a_small_draw_keeps_two_photos_of_every_class_of_the_source() -> None:
    some = drawn(replace(pair(), labels=np.repeat([0, 1, 2], [56, 2, 2])), 0.05, 0)
    assert set(np.bincount(some.labels, minlength=3)[1:]) == {2}
    assert len(some.truth) == 3


def test_a_pair_is_two_folders() -> None:
    assert domains_of("x/a:y/b") == (Path("x/a"), Path("y/b"))
    for wrong in ("", "a", "a:", ":b"):
        with pytest.raises(OptionError, match="a pair must be SOURCE:TARGET"):
            domains_of(wrong)


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")
def test_a_draw_is_adapted_and_counted() -> None:
    for method in ("source-only", "coral", "auto"):
        one = adapt_draw(pair(), method, 0.9, 1)
        assert (one.pair, one.method, one.seed, one.share, one.photos) == ("a→b", method, 1, 0.9, 54)
        assert one.right > 0.7
        assert replace(adapt_draw(pair(), method, 0.9, 1), seconds=0, agreement=0, distance=0) == replace(
            one, seconds=0, agreement=0, distance=0
        )
        assert math.isnan(one.agreement) == (method != "auto")


def test_a_method_is_counted_as_the_product_has_it() -> None:
    for method in ("coral", "subspace", "spl"):
        some = drawn(pair(apart=0.8), 0.9, 2)
        found = adapt_features(some.source, some.labels, some.classes, some.target, some.widths, method=method, seed=2, progress=Silent())
        right = float((found.probabilities.argmax(1) == some.truth).mean())
        assert adapt_draw(pair(apart=0.8), method, 0.9, 2).right == right
        assert right < 0.97  # or any two would agree


@pytest.mark.filterwarnings("ignore:Sinkhorn did not converge")
def test_the_labels_of_the_target_change_the_count_alone() -> None:
    one = adapt_draw(pair(), "auto", 0.9, 1)
    other = adapt_draw(replace(pair(), truth=(pair().truth + 1) % 3), "auto", 0.9, 1)
    assert other.right < 0.3 < one.right
    assert (other.chosen, other.agreement, other.distance) == (one.chosen, one.agreement, one.distance)


def test_draws_are_read_again_without_the_line_that_broke_off(tmp_path: Path) -> None:
    file = tmp_path / "draws.jsonl"
    assert read_draws(file) == []
    lines = [json.dumps(asdict(one)) + "\n" for one in DRAWS[:3]]
    file.write_text("".join(lines) + lines[0][:20])
    assert read_draws(file) == DRAWS[:3]
    assert file.read_text() == "".join(lines)
    file.write_text('{"pair": "a"}\n')
    with pytest.raises(DataError, match=r"draws.jsonl: holds a line that is no draw"):
        read_draws(file)


# --- figures ------------------------------------------------------------------------------------------------------


def test_mean_range_and_gain_are_over_the_draws() -> None:
    shown, gained = told(DRAWS), gains(DRAWS)
    assert shown["a→b"]["coral"]["mean"] == 75.0
    assert shown["a→b"]["coral"]["range"] == [70.0, 80.0]
    assert shown["a→b"]["coral"]["seconds"] == 2.5
    low, high = shown["a→b"]["coral"]["interval"]  # Wilson's, of 75 of 100: from a table
    assert (low, high) == (65.7, 82.45)
    assert shown["b→a"]["auto"]["chosen"] == {"consensus": 1, "source-only": 1}
    assert "chosen" not in shown["a→b"]["coral"]
    # Draw by draw: 15 and 21 points.
    assert gained == {"a→b": {"mean": 18.0, "range": [15.0, 21.0]}, "b→a": {"mean": -2.0, "range": [-2.0, -2.0]}}
    assert table(shown).splitlines()[3] == "| coral | 75.0 (70.0 to 80.0) | 80.0 (80.0 to 80.0) |"


def test_hindsight_has_the_best_on_the_mean_and_the_best_of_each_pair() -> None:
    found = best_in_hindsight(told(DRAWS))
    assert found["mean_over_pairs"] == {"coral": 77.5, "spl": 76.0, "source-only": 72.5}
    assert (found["auto"], found["best_single"], found["auto_behind_best_single"]) == (80.5, "coral", -3.0)
    assert found["best_of_each_pair"] == {"a→b": "coral", "b→a": "spl"}
    assert (found["mean_of_the_best_of_each_pair"], found["auto_behind_the_best_of_each_pair"]) == (83.5, 3.0)


def test_requirements_are_of_the_pairs_that_are_there() -> None:
    families = {"a→b": "digits", "b→a": "digits"}
    found = {what: (value, limit, kept) for what, value, limit, kept in requirements(told(DRAWS), gains(DRAWS), families)}
    assert found == {
        "mean gain of auto on the 2 pairs of digits, at least": (8.0, 10.0, False),
        "least gain of auto on any pair, at least": (-2.0, -1.0, False),
        "auto behind best single, in hindsight, at most": (-3.0, 2.0, True),
        "auto behind the best of each pair, in hindsight, at most": (3.0, 2.0, False),
    }
    photos = [replace(one, pair="photo→art_painting") for one in DRAWS if one.pair == "a→b"]
    first = requirements(told(photos), gains(photos), {"photo→art_painting": "photo_art"})
    assert checks(first)[0] == {"what": "auto on photo→art_painting, at least", "figure": 73.0, "limit": 76.0, "kept": False}
    assert not any("pairs of" in what for what, *_ in first)


def test_of_the_peer_the_better_try_counts_and_greffon_behind_is_said() -> None:
    ours = {"source-only": [(0.5, 1.0), (0.6, 1.0)], "coral": [(0.7, 2.0), (0.7, 1.0)], "tca": [(0.5, 1.0)] * 2, "auto": [(0.8, 9.0)] * 2}
    theirs = {
        "source-only/rows": [(0.4, 0.5), (0.4, 0.5)],
        "source-only/scaled": [(0.5, 0.5), (0.8, 0.5)],
        "coral/rows": [(0.6, 4.0), (0.6, 3.0)],
        "tca/rows": [(0.9, 1.0)],  # it failed in one draw
        "tca-linear/rows": [(0.4, 3.0), (0.4, 3.0)],
    }
    assert better_of(theirs, ("tca", "tca-linear"), 2) == "tca-linear/rows"
    assert better_of(theirs, ("jdot",), 2) is None
    found = comparison(ours, theirs)
    assert list(found["same_method"]) == ["source-only", "coral", "tca"]
    same = found["same_method"]["source-only"]
    assert same["skada"]["which"] == "source-only/scaled"
    assert same["difference_points"] == {"mean": -10.0, "range": [-20.0, 0.0]}
    assert found["same_method"]["coral"]["ratio_of_seconds"] == 2.5
    assert (found["behind"], found["slower"]) == (["source-only"], ["source-only"])
    assert found["auto_beside_the_best_of_skada"] == {"auto": 80.0, "skada": 65.0, "which": "source-only/scaled"}


# --- for real -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("photos")
    return tuple(write_classes(folder / name, {"a": 9, "b": 9}, size) for name, size in (("x", (40, 40)), ("y", (44, 44))))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("vgg16", size=SIZE)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, domains: tuple[Path, Path], backbone: Backbone) -> Job:
    return make_domain_job(tmp_path_factory.mktemp("job"), *domains, 8, 0, backbone)


def test_a_pair_of_folders_becomes_features(domains: tuple[Path, Path], backbone: Backbone, tmp_path: Path) -> None:
    found = pair_of(f"{domains[0]}:{domains[1]}", backbone, Store(tmp_path))
    assert (found.name, found.family, found.classes) == ("x→y", domains[1].parent.name, 2)
    assert found.source.shape == found.target.shape == (18, 2 * sum(found.widths))
    assert not np.array_equal(found.source, found.target)
    (domains[1].parent / "z" / "c").mkdir(parents=True)
    (domains[1].parent / "z" / "c" / "0.png").write_bytes((domains[1] / "a" / "000.png").read_bytes())
    with pytest.raises(DataError, match="the domains have other classes"):
        pair_of(f"{domains[0]}:{domains[1].parent / 'z'}", backbone, Store(tmp_path))


def test_a_job_of_two_domains_has_the_source_as_train_and_the_target_as_test(job: Job, domains: tuple[Path, Path]) -> None:
    assert job.counts() == {"train": 8, "val": 0, "test": 8}
    assert all(Path(path).is_relative_to(domains[0]) for path in job.train.paths)
    assert all(Path(path).is_relative_to(domains[1]) for path in job.test.paths)
    assert set(job.train.labels.tolist()) == {0, 1}


@pytest.mark.slow
def test_greffon_and_the_plain_loop_adapt_the_same_job(job: Job) -> None:
    common = [str(job.folder), "--size", str(SIZE), "--epochs", "2", "--batch", "3"]
    plain = [*common, "--workers", "0", "--layout", "channels_last"]
    runs = turns(
        1,
        {
            "greffon": lambda: run_fresh("greffon_adapt.py", [*common, "--method", "dann", "--views", "2"]),
            **{
                method: lambda method=method: run_script(PYTHON, "peers/torch_adapt.py", [*plain, "--method", method])
                for method in ("deep-coral", "mcc", "dann")
            },
        },
    )
    for own in runs.values():
        assert own[0].answer.images == {"source": 8, "target": 8}
        assert own[0].answer.tested == 8
        assert len(own[0].answer.epochs) == 2
        assert 0 < sum(own[0].answer.epochs) < own[0].wall
    found = figures_of(runs)
    wall = {name: own[0].wall for name, own in runs.items()}
    assert found["from_photos_to_answers"]["ratio_mcc"]["rounds"] == [round(wall["mcc"] / wall["greffon"], 2)]
    told_of = runs["mcc"][0]
    without = told_of.wall - told_of.answer.seconds["validation"] / 2
    assert found["without_looks_but_the_last"]["ratio_mcc"]["rounds"] == [round(without / wall["greffon"], 2)]
    assert set(found["accuracy"]) == {"greffon", "deep-coral", "mcc", "dann"}


def test_the_draws_of_a_method_and_their_mean() -> None:
    answers = [Answer(tool="torch", settings={"rate": 1}, images={}, seconds={}, right=right, tested=8) for right in (4, 5, 6)]
    found = figures_of_draws(answers)
    assert found["accuracy"] == {"mean": 0.625, "draws": [0.5, 0.625, 0.75]}
    assert (found["tested"], found["settings"]) == (8, {"rate": 1})


def test_every_peer_has_its_contestant(job: Job) -> None:
    assert list(contestants_for(job, "mcc", ["torch_channels_last", "torch"], [], 4)) == ["greffon", "torch_channels_last", "torch"]


def test_the_plain_loop_has_the_losses_that_greffon_has(monkeypatch: pytest.MonkeyPatch) -> None:
    from contestants import HERE

    monkeypatch.syspath_prepend(HERE / "peers")
    import torch_adapt

    torch.manual_seed(0)
    source, target = torch.randn(7, 5), torch.randn(6, 5)
    assert torch.allclose(torch_adapt.deep_coral(source, target), coral(source, target), rtol=1e-5)
    assert torch.allclose(torch_adapt.mcc(target), class_confusion(target, 2.5), rtol=1e-4)
    discriminator = torch.nn.Linear(5, 1)
    ramp = 2 / (1 + math.exp(-10 * 0.3)) - 1
    gradients = []
    for own in (True, False):
        x = source.clone().requires_grad_(True)
        if own:
            loss = torch_adapt.dann(discriminator, x, target, 0.3)
        else:
            scores = [discriminator(reverse_gradient(one, ramp))[:, 0] for one in (x, target)]
            loss = domain_loss(*scores)
        loss.backward()
        gradients.append((loss.detach(), x.grad))
    # Their scripts count both domains together, where greffon's loss may weigh them alike: 7 and 6 photos here.
    assert torch.allclose(gradients[0][0], gradients[1][0], rtol=0.05)
    assert gradients[0][1] is not None and gradients[1][1] is not None
    assert torch.nn.functional.cosine_similarity(gradients[0][1].flatten(), gradients[1][1].flatten(), dim=0) > 0.99
