"""Draw the pictures of the lesson: make pictures.

    python docs/make_pictures.py [--work build/pictures] [NAME ...]

Every picture is what a greffon command wrote, of networks, of scikit-learn's digits or of a car drawn here: of nothing that may not be
shown. The figures that the pages quote stand in docs/pictures/figures.json afterwards. NAMEs choose: vgg vgg16-cut others views depth
learning domains map compare.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from greffon.demo import write_digits

PICTURES = Path(__file__).parent / "pictures"
FIGURES = PICTURES / "figures.json"
OTHERS = ("resnet50.a1_in1k", "inception_v3.tv_in1k", "legacy_xception.tf_in1k")


def greffon(*words: str | Path) -> str:
    """Run a command as anybody would type it; what it printed."""
    print("$ greffon", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "greffon", *map(str, words)], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def take(drawn: Path, name: str, colours: int = 0) -> None:
    """A picture into docs/pictures; a PNG with so many colours, which is a third of the size and looks the same."""
    target = PICTURES / name
    if target.suffix == ".png" and colours:
        Image.open(drawn).convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(target, optimize=True)
    else:
        shutil.copy(drawn, target)


def quoted(metrics: dict[str, Any]) -> dict[str, Any]:
    return {"accuracy": metrics["accuracy"], "interval": metrics["accuracy_interval"], "n": metrics["n"]}


def a_car(path: Path) -> None:
    """A car on a road, of plain shapes: 480 × 440 pixels."""
    size, ink = (480, 320), "#263238"
    picture = Image.new("RGB", size, "#bbdefb")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((380, 20, 440, 80), fill="#ffd54f")
    draw.polygon([(0, 210), (120, 110), (230, 210)], fill="#81c784")
    draw.polygon([(150, 210), (330, 90), (480, 190), (480, 210)], fill="#66bb6a")
    draw.rectangle((0, 210, *size), fill="#90a4ae")
    for left in range(10, 480, 90):
        draw.rectangle((left, 292, left + 50, 300), fill="#eceff1")
    draw.polygon([(150, 175), (190, 120), (305, 120), (350, 175)], fill="#e53935", outline=ink, width=3)
    draw.rounded_rectangle((95, 170, 405, 240), 22, fill="#e53935", outline=ink, width=3)
    draw.polygon([(172, 172), (200, 132), (242, 132), (242, 172)], fill="#e3f2fd", outline=ink, width=2)
    draw.polygon([(254, 172), (254, 132), (298, 132), (328, 172)], fill="#e3f2fd", outline=ink, width=2)
    draw.ellipse((386, 185, 404, 203), fill="#fff59d", outline=ink, width=2)
    for middle in (165, 335):
        draw.ellipse((middle - 36, 204, middle + 36, 276), fill=ink)
        draw.ellipse((middle - 16, 224, middle + 16, 256), fill="#cfd8dc")
    whole = Image.new("RGB", (480, 440), "#bbdefb")
    whole.paste("#90a4ae", (0, 300, 480, 440))
    whole.paste(picture, (0, 60))
    whole.save(path)


def inverted(photos: Path, folder: Path) -> None:
    """The same digits, white on black."""
    for file in sorted(photos.rglob("*.png")):
        there = folder / file.parent.name / file.name
        there.parent.mkdir(parents=True, exist_ok=True)
        ImageOps.invert(Image.open(file).convert("RGB")).save(there)


def screenshot_of_map(page: Path, target: Path) -> None:
    """The map on a page of ``greffon map``, as Chromium shows it."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 900, "height": 720}, color_scheme="light")
        view.goto(page.resolve().as_uri())
        view.wait_for_timeout(1500)
        view.locator("canvas").first.screenshot(path=str(target))
        browser.close()


class Work:
    """The folder that the commands write into, and the figures that they told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digits = folder / "digits"
        self.figures: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
        if not self.digits.exists():
            write_digits(self.digits)

    def model(self) -> Path:
        model = self.folder / "model"
        if not (model / "metrics.json").exists():
            greffon("train", self.digits, "--size", "64", "--out", model, "--quiet")
        self.figures["train"] = quoted(json.loads((model / "metrics.json").read_text(encoding="utf-8")))
        return model


def vgg(work: Work) -> None:
    greffon("describe", "vgg16", "vgg19", "--svg", work.folder / "vgg.svg")
    take(work.folder / "vgg.svg", "vgg.svg")


def vgg16_cut(work: Work) -> None:
    greffon("describe", "vgg16", "--cut", "block5", "--svg", work.folder / "vgg16-cut.svg")
    take(work.folder / "vgg16-cut.svg", "vgg16-cut.svg")


def others(work: Work) -> None:
    greffon("describe", *OTHERS, "--svg", work.folder / "others.svg")
    take(work.folder / "others.svg", "others.svg")


def views(work: Work) -> None:
    a_car(work.folder / "car.png")
    greffon("views", work.folder / "car.png", "--count", "9", "--out", work.folder / "views.png")
    take(work.folder / "views.png", "views.png", colours=128)


def depth(work: Work) -> None:
    greffon("probe", work.digits, "--size", "64", "--out", work.folder / "depth", "--quiet")
    take(work.folder / "depth" / "depth.svg", "depth.svg")
    found = json.loads((work.folder / "depth" / "depth.json").read_text(encoding="utf-8"))
    work.figures["probe"] = {one["stage"]: {name: one[name] for name in ("accuracy", "interval", "n")} for one in found["stages"]}


def learning(work: Work) -> None:
    work.model()
    tuned = work.folder / "tuned"
    greffon("train", work.digits, "--size", "64", "--unfreeze", "block5", "--epochs", "6", "--views", "2", "--out", tuned, "--quiet")
    take(tuned / "learning.png", "learning.png", colours=64)
    work.figures["tune"] = quoted(json.loads((tuned / "metrics.json").read_text(encoding="utf-8")))


def domains(work: Work) -> None:
    there, adapted = work.folder / "inverted", work.folder / "for-inverted"
    inverted(work.digits, there)
    greffon("adapt", work.digits, "--target", there, "--size", "64", "--out", adapted, "--quiet")
    take(adapted / "map.png", "domains.png", colours=64)
    before, after = (json.loads(greffon("evaluate", model, there, "--json", "--quiet")) for model in (work.model(), adapted))
    work.figures["adapt"] = {"before": quoted(before), "after": quoted(after)}


def flat_map(work: Work) -> None:
    greffon("map", work.digits, "--size", "64", "--out", work.folder / "map.html", "--quiet")
    screenshot_of_map(work.folder / "map.html", work.folder / "map.png")
    take(work.folder / "map.png", "map.png", colours=64)
    clusters = work.folder / "clusters"
    greffon("cluster", work.digits, "--size", "64", "-k", "10", "--score", "--out", clusters, "--quiet")
    found = json.loads((clusters / "metrics.json").read_text(encoding="utf-8"))
    with (clusters / "assignments.csv").open(newline="", encoding="utf-8") as file:
        count = sum(1 for _ in csv.DictReader(file))
    work.figures["cluster"] = {"accuracy": found["accuracy"], "n": count, "k": found["k"]}


def compare(work: Work) -> None:
    folder = work.folder / "comparison"
    greffon("compare", work.digits, "--backbones", "vgg16,efficientnet-lite0", "--size", "64", "--out", folder, "--quiet")
    take(folder / "compare.svg", "compare.svg")
    found = json.loads((folder / "compare.json").read_text(encoding="utf-8"))["backbones"]
    work.figures["compare"] = {one["name"]: {name: one[name] for name in ("accuracy", "interval", "n")} for one in found}


DRAWN: dict[str, Callable[[Work], None]] = {
    "vgg": vgg, "vgg16-cut": vgg16_cut, "others": others, "views": views, "depth": depth, "learning": learning,
    "domains": domains, "map": flat_map, "compare": compare,
}  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("names", nargs="*", metavar="NAME", help="which; all of them where none is named")
    words.add_argument("--work", type=Path, default=Path("build/pictures"), help="where the commands write")
    chosen = words.parse_args()
    unknown = sorted(set(chosen.names) - set(DRAWN))
    if unknown:
        words.error(f"no picture is called {', '.join(unknown)}: {', '.join(DRAWN)}")
    os.environ.setdefault("GREFFON_OFFLINE", "1")
    PICTURES.mkdir(exist_ok=True)
    chosen.work.mkdir(parents=True, exist_ok=True)
    work = Work(chosen.work)
    for name in chosen.names or DRAWN:
        DRAWN[name](work)
        FIGURES.write_text(json.dumps(work.figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
