"""The report of a model as a file: what is in it, that names cannot break out of it, and runs that have little to tell."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greffon.auditing import Finding
from greffon.errors import ModelError, OptionError
from greffon.report import RunReport, growth_in, run_report
from greffon.report.run.pictures import _drawn
from greffon.report.run.reading import Told
from reported import TUNED, everything, report_of

HOSTILE = ("</script><script>alert(1)</script>", "a\"b'c&<i>", "ß漢字\u202e\u2028x", "x" * 300, "{{ 7*7 }} %s {n}")


def page_of(report: RunReport, folder: Path, **options: Any) -> str:
    run_report(folder / "report.html", report, **options)
    return (folder / "report.html").read_text("utf-8")


def test_the_policy_names_every_script_and_style_of_the_page(tmp_path: Path) -> None:
    page = page_of(everything(tmp_path / "photos"), tmp_path)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy
    allowed = unescape(policy[1])
    assert allowed.startswith("default-src 'none'; img-src data:; style-src 'sha256-") and "unsafe" not in allowed
    found = [text for tag, text in re.findall(r"<(script|style)>(.*?)</(?:script|style)>", page, re.S)]
    assert len(found) == 5
    for text in found:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in allowed
    assert not re.search(r"<[^>]+\s(?:style|on\w+)=", re.sub(r"<script.*?</script>", "", page, flags=re.S))


def test_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(everything(tmp_path / "photos"), tmp_path)
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!data:|#)\w+:""", page)
    assert set(re.findall(r"https?://[^\"' ]*", page)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in page and "url(" not in page


def test_names_cannot_break_out(tmp_path: Path) -> None:
    names = [f"{name[:60].replace('/', '∕')}{number}.png" for number, name in enumerate(HOSTILE)] * 6
    names = [f"{number} {name}" for number, name in enumerate(names)]
    page = page_of(everything(tmp_path / "<b>photos</b>", classes=HOSTILE, names=names, n=30), tmp_path)
    plain = page_of(everything(tmp_path / "plain", classes=("a", "b", "c", "d", "e"), n=30), tmp_path)
    assert page.count("<script") == plain.count("<script") and page.count("</script") == plain.count("</script")
    assert "alert(1)</script" not in page and "<i>" not in page and "<b>photos" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page
    data = json.loads(re.findall(r'<script type="application/json" class="run-data">(.*?)</script>', page, re.S)[0])
    assert data["classes"][0] == f"“{HOSTILE[0]}”" and data["classes"][3] == f"“{HOSTILE[3]}”"
    assert "{{ 7*7 }} %s {n}" in page


def test_the_matrix_and_its_images_agree(tmp_path: Path) -> None:
    report = report_of(tmp_path / "photos", n=90)
    page = page_of(report, tmp_path)
    assert report.evaluation is not None
    cells = {(int(t), int(p)): int(n) for t, p, n in re.findall(r'data-cell="(\d+),(\d+)">(\d+)<', page)}
    table = report.evaluation.confusion
    assert cells == {(t, p): table[t, p] for t in range(3) for p in range(3) if table[t, p]}
    data = json.loads(re.findall(r'<script type="application/json" class="run-data">(.*?)</script>', page, re.S)[0])
    true, said, sure = (np.frombuffer(base64.b64decode(data[name]), "<u2") for name in ("true", "said", "sure"))
    np.testing.assert_array_equal(true, report.tested.labels)
    np.testing.assert_array_equal(said, report.probabilities.argmax(1))
    np.testing.assert_allclose(sure / 1000, report.probabilities.max(1), atol=6e-4)


def test_the_worst_mistakes_come_first_with_their_maps(tmp_path: Path) -> None:
    report = everything(tmp_path / "photos")
    page = page_of(report, tmp_path, most=5)
    wrong = np.flatnonzero(report.probabilities.argmax(1) != report.tested.labels)
    order = sorted(wrong, key=lambda i: -report.probabilities[i].max())[:5]
    part = page.split('id="mistakes"')[1].split("</section>")[0]
    assert re.findall(r'<span class="soft">([^<]+)</span>', part) == [report.tested.paths[i].name for i in order]
    assert part.count("what spoke for") == 5 and "class activation map" in part
    assert f"{len(wrong)} images were named wrongly. Beside a photo:" in part
    assert "The 5 of which the model was surest:</p>" in part


def test_a_thumbnail_that_fails(tmp_path: Path) -> None:
    report = report_of(tmp_path / "photos", n=12, broken=range(12))
    page = page_of(report, tmp_path)
    assert page.count('<p class="soft none">no picture</p>') == int((report.probabilities.argmax(1) != report.tested.labels).sum()) > 0


def test_ten_images(tmp_path: Path) -> None:
    page = page_of(report_of(tmp_path / "photos", n=10), tmp_path)
    assert "They are few: the interval is wide." in page and "cannot be said from so few images" in page


def test_one_class_in_the_test(tmp_path: Path) -> None:
    page = page_of(report_of(tmp_path / "photos", n=12, labels=np.zeros(12, np.int64)), tmp_path)
    assert "most frequent class" not in page
    assert ">dog</th><td>60</td><td>0</td><td>" in page


def test_no_test_split(tmp_path: Path) -> None:
    page = page_of(report_of(tmp_path / "photos", n=12, tested=False), tmp_path)
    assert "There was no test split, so no figure can be given." in page
    assert 'id="matrix"' not in page and "<script>" not in page
    assert "script-src 'none'" in unescape(page)
    assert 'id="network"' in page and "greffon train" in page


def test_many_classes_stand_in_a_list(tmp_path: Path) -> None:
    classes = [f"class {i}" for i in range(61)]
    report = report_of(tmp_path / "photos", n=122, classes=classes)
    page = page_of(report, tmp_path)
    assert "61 classes are too many for a table" in page and 'class="confusion"' not in page
    assert page.count("data-cell=") == 40
    assert report.evaluation is not None and report.evaluation.top5_accuracy is not None
    assert "among the five most probable" in page


def test_an_engine_that_was_not_measured_has_its_reason(tmp_path: Path) -> None:
    report = report_of(tmp_path / "photos", n=12)
    candidates = [{"precision": "float32", "rate": 10.5, "fidelity": {"cosine_mean": 1.0}, "verdict": "chosen"},
                  {"precision": "int8", "rate": None, "fidelity": None, "verdict": "OpenVINO is not installed"}]  # fmt: skip
    plan = {"plan": {"precision": "float32", "candidates": candidates}}
    page = page_of(replace(report, model=replace(report.model, training={**report.model.training, **plan})), tmp_path)
    assert '<th scope="row">int8</th><td>–</td><td>–</td><td class="left" lang="en">OpenVINO is not installed</td>' in page


def test_a_description_from_elsewhere_that_is_damaged(tmp_path: Path) -> None:
    broken = {"history": [{"epoch": "x"}, 3, {"epoch": 1, "loss": float("nan")}], "trials": 5, "plan": {"candidates": {"a": 1}},
              "search": {"trials": 3, "values": 7, "importances": ["a"], "seconds": None}, "recipe": "x", "command": {"a": 1},
              "fidelity": [1], "automatic": 3, "seed": "s", "best_epoch": None, "learning_curve": {"images": 3, "points": "x"},
              "views": 9, "strength": 10**400}  # fmt: skip
    huge = {"seed": 10**400, "best_epoch": -(10**400), "recipe": {"epochs": 10**9999, "batch": 1}, "fidelity": {"cosine_mean": 10**400}}
    assert not (told := Told(huge | {"pair": [10**400, 1]})).numbers() and told.count("seed") is None and told.pair("pair") is None
    for cut in ("none", "layer4"):
        report = report_of(tmp_path / cut, n=12, training=broken, cut=cut)
        report = replace(report, model=replace(report.model, data={"splits": [], "images": "x", "images_by_class": 3}))
        page = page_of(report, tmp_path)
        assert "What the search found" in page and "made without the command line" in page
        assert growth_in(report.model) is None


def test_the_command_stands_as_it_is_typed(tmp_path: Path) -> None:
    page = page_of(everything(tmp_path / "photos"), tmp_path)
    assert "greffon train &#39;my photos/&#39; --unfreeze block5 --out the-same-again" in page


def test_images_that_do_not_fit_are_drawn_mistakes_first() -> None:
    wrong = np.zeros(1000, bool)
    wrong[::10] = True
    confidence = np.linspace(0, 1, 1000)
    assert _drawn(wrong, confidence, 1000).tolist() == list(range(1000))
    some = _drawn(wrong, confidence, 300)
    assert len(some) == len(set(some)) == 300 and set(np.flatnonzero(wrong)) <= set(some)
    assert _drawn(wrong, confidence, 10).tolist() == list(range(900, 1000, 10)), "the surest mistakes"
    assert _drawn(wrong, confidence, 300).tolist() == some.tolist()


def test_suspects_that_are_not_shown_are_counted(tmp_path: Path) -> None:
    one = report_of(tmp_path / "photos")
    found = tuple(Finding("label-error", path, "cat", "dog", 0.9, "", True, (("own", 0.03), ("other", 0.96))) for path in one.tested.paths)
    assert "… and 6 more." in page_of(replace(one, findings=found), tmp_path, most=24)
    assert "… and " not in page_of(replace(one, findings=found[:24]), tmp_path, most=24)



def test_the_key_has_the_curves_that_are_drawn(tmp_path: Path) -> None:
    """Without validation images there is one curve, and the key says no other."""
    rows = [{**row, "val_accuracy": None, "val_log_loss": None} for row in TUNED["history"]]
    for training, validated in ((TUNED, True), ({**TUNED, "history": rows}, False)):
        page = page_of(report_of(tmp_path / "photos", training=training, cut="layer4"), tmp_path)
        key = re.findall(r'<p class="keys">.*?</p>', page, re.S)
        assert [("training loss" in one, "validation log-loss" in one) for one in key if "training loss" in one] == [(True, validated)]


def test_it_cannot_be_written(tmp_path: Path) -> None:
    report = report_of(tmp_path / "photos", n=3)
    with pytest.raises(ModelError, match="cannot be written"):
        run_report(tmp_path / "nowhere" / "report.html", report)
    with pytest.raises(OptionError, match="--lang"):
        run_report(tmp_path / "report.html", report, lang="xx")
