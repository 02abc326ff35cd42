"""The card beside a model: what the hub reads of it, what a person reads, and names that would be markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from greffon.errors import ModelError
from greffon.evaluation import evaluate_probabilities
from greffon.heads import LinearHead, Normaliser, Representation
from greffon.model import Model, load_model, save_model
from greffon.report import CARD_FILE, card_text, write_card
from growing import drawn_network

CLASSES = ("cats", "dogs|birds", "# a *star* <b>")


def model(**changes: Any) -> Model:
    network = drawn_network()
    width = network.widths()[-1]
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 20)
    told = rng.dirichlet([0.5] * 3, 60) * 0.4 + 0.6 * np.eye(3)[np.where(rng.random(60) < 0.8, truth, (truth + 1) % 3)]
    figures = evaluate_probabilities(truth, told, CLASSES, temperature=1.2).to_dict()
    made = Model(
        network,
        "none",
        CLASSES,
        Representation(),
        Normaliser("standard", np.zeros(width, np.float32), np.ones(width, np.float32)),
        LinearHead("logistic", np.zeros((3, width), np.float32), np.zeros(3, np.float32), 1.2),
        "float32",
        {"strategy": "feature extraction"},
        figures,
        {
            "root": "/home/somebody/photos",
            "fingerprint": "ab" * 32,
            "images": 400,
            "splits": {"train": 280, "val": 60, "test": 60},
            "images_by_class": {"cats": 200, "dogs|birds": 188, "# a *star* <b>": 12},
        },
    )
    return replace(made, **changes)


def parts_of(text: str) -> tuple[dict[str, Any], str]:
    """The front matter and the body, by the hub's own pattern and a plain reader of YAML."""
    found = re.match(r"^---\n(.*?)\n---\n(.*)", text, re.S)
    assert found
    return yaml.safe_load(found[1]), found[2]


def test_the_hub_reads_licence_task_and_figures() -> None:
    told = model()
    about, body = parts_of(card_text(told))
    assert about["license"] == "apache-2.0"  # timm's test_resnet
    assert (about["library_name"], about["pipeline_tag"]) == ("greffon", "image-classification")
    assert {"transfer-learning", "feature-extraction"} <= set(about["tags"])
    (index,) = about["model-index"]
    (result,) = index["results"]
    assert result["task"]["type"] == "image-classification" and result["dataset"]["split"] == "test"
    values = {one["type"]: one for one in result["metrics"]}
    assert values["accuracy"]["value"] == pytest.approx(told.figures["accuracy"], abs=1e-6)
    low, high = told.figures["accuracy_interval"]
    assert f"{low:.4f} to {high:.4f}, 60 images" in values["accuracy"]["name"]
    assert set(about["metrics"]) == set(values) >= {"log_loss", "expected_calibration_error", "balanced_accuracy"}
    assert f"**{100 * told.figures['accuracy']:.1f} % named rightly**" in body
    assert "280 to learn from, 60 to choose by, 60 to test on." in body and "1.200" in body


def test_nothing_of_the_machine_and_no_markup_of_names() -> None:
    text = card_text(model())
    assert "/home" not in text and "somebody" not in text
    assert r"| \# a \*star\* \<b\> | 12 |" in text and r"| dogs\|birds | 188 |" in text
    odd = ("a\n---\nlicense: mit", "\udcff", "`x` [y](http://z) ![p](q)")
    about, body = parts_of(card_text(model(classes=odd, data={}, figures={})))
    assert about["license"] == "apache-2.0" and "model-index" not in about
    assert r"| a --- license\: mit |" in body and "| ? |" in body and r"\!\[p\](q)" in body
    assert "it was not tested" in body


def test_limits_are_those_of_the_figures() -> None:
    text = card_text(model())
    assert "had 12 photos in all" in text and "60 test photos are few" in text
    assert "had no part in training" in text
    sure = {**model().figures, "n": 5000, "accuracy": 0.99, "accuracy_interval": [0.987, 0.992], "classes": []}
    wide = card_text(model(figures=sure, data={"images": 9000, "images_by_class": dict.fromkeys(CLASSES, 3000)}))
    assert "are few" not in wide and "in all" not in wide
    assert "adapted to have no labels" in card_text(model(data={"images": 5, "target_images": 7}))


def test_an_unknown_licence_is_said_in_words() -> None:
    network = drawn_network()
    odd = replace(network.plan.entry, licence="Only on: Sundays")
    body = type(network)(replace(network.plan, entry=odd), network.tensors())
    about, text = parts_of(card_text(model(backbone=body)))
    assert (about["license"], about["license_name"]) == ("other", "Only on: Sundays")
    assert r"Their licence: Only on\: Sundays." in text


def test_a_model_with_its_card_is_read_and_a_full_folder_is_one_error(tmp_path: Path) -> None:
    made = model()
    save_model(made, tmp_path / "m")
    write_card(tmp_path / "m", made)
    assert load_model(tmp_path / "m").classes == CLASSES
    assert (tmp_path / "m" / CARD_FILE).read_text("utf-8") == card_text(made)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match=r"README\.md: cannot be written"):
        write_card(tmp_path / "file", made)
