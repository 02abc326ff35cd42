"""How long the report takes from stored activations, how large it is, and how soon a browser shows it.

    python benchmarks/reporting.py --data ../shared/data/trash --images 2500 10000

Images are crops of the photos in DATA, drawn with a fixed seed, as many as asked for, in its classes. A model is trained on the first
thousand, activations of all are stored, and only then ``greffon report`` is timed. The browser is headless Chromium, where there is one:
the time until the page has loaded, and until the first image of the matrix is drawn after a click.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from greffon.activations import Store
from greffon.images import decode, encode_png, enlarge, read_bytes
from greffon.jobs.evaluate import evaluate
from greffon.jobs.report import report
from greffon.jobs.train import train
from record import record


def main() -> None:
    """Parse, measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[2500, 10_000])
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--size", type=int, default=64, help="what the network sees: small, as the pass is not what is measured")
    parser.add_argument("--note", default="", help="what a reader should know of the machine, such as other load")
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="greffon-reporting-") as folder:
        for images in asked.images:
            rows.append(measure(asked, Path(folder) / str(images), images))
            print(json.dumps(rows[-1]), flush=True)
    record("reporting", {"rows": rows}, notes=asked.note)


def measure(asked: argparse.Namespace, folder: Path, images: int) -> dict[str, Any]:
    """The report of so many images."""
    draw(asked.data, folder / "photos", images)
    store = Store(folder / "store")
    small = [path for number, path in enumerate(sorted((folder / "photos").rglob("*.png"))) if number % max(1, images // 1000) == 0]
    table = folder / "small.csv"
    table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in small))
    train(table, out=folder / "model", backbone=asked.backbone, size=asked.size, store=store)
    evaluate(folder / "model", folder / "photos", store=store)  # the activations of all
    began, busy = time.perf_counter(), time.process_time()
    found = report(folder / "model", folder / "photos", out=folder / "report.html", store=store)
    row: dict[str, Any] = {
        "images": found.images,
        "mistakes": round((1 - found.evaluation.accuracy) * found.images),
        "seconds": round(time.perf_counter() - began, 2),
        "processor_seconds": round(time.process_time() - busy, 2),
        "megabytes": round((folder / "report.html").stat().st_size / 1e6, 2),
    }
    return row | opened(folder / "report.html")


def draw(data: Path, folder: Path, images: int) -> None:
    """Crops of photos, 160 pixels on each side, in the classes of their photos."""
    rng = np.random.default_rng(0)
    photos = sorted(path for path in data.rglob("*") if path.is_file())
    for number in range(images):
        path = photos[number % len(photos)]
        picture = decode(read_bytes(path))
        h, w = picture.shape[:2]
        side = int(min(h, w) * rng.uniform(0.6, 0.95))
        top, left = int(rng.integers(0, h - side + 1)), int(rng.integers(0, w - side + 1))
        target = folder / path.parent.name / f"{number:05}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(encode_png(enlarge(picture[top : top + side, left : left + side], 160, 160)))


def opened(page: Path) -> dict[str, float]:
    """Milliseconds in a browser; {} where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    if chromium is None:
        return {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        one = browser.new_page(viewport={"width": 1400, "height": 900})
        began = time.perf_counter()
        one.goto(page.resolve().as_uri(), wait_until="load")
        loaded = time.perf_counter() - began
        painted = one.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0")
        began = time.perf_counter()
        one.locator(".confusion button").first.click()
        one.wait_for_function("() => { const c = document.querySelector('#gallery canvas');"
                              " return c && c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v); }")  # fmt: skip
        chosen = time.perf_counter() - began
        browser.close()
    return {"first_paint_ms": round(painted), "loaded_ms": round(1000 * loaded), "first_image_ms": round(1000 * chosen)}


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
