"""``make demo``: the main job on images that are at hand on any machine, from a folder to a prediction.

scikit-learn's handwritten digits (UCI, 8 × 8 pixels, real) are written as PNG files into one folder a class; the rest
is what anybody would type.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

from greffon.images import encode_png, enlarge

__all__ = ["main", "write_digits"]


def write_digits(folder: Path, images: int = 400, seed: int = 0) -> None:
    """Write handwritten digits as PNG files of 64 × 64 pixels: ``folder/<digit>/<number>.png``, and ten more beside it.

    ``folder/../new`` gets one image of each class that is not in ``folder``.
    """
    from sklearn.datasets import load_digits

    digits = load_digits(return_X_y=True)
    pixels, labels = np.asarray(digits[0], np.float64), np.asarray(digits[1], np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    unseen = {int(labels[i]): int(i) for i in order[images:]}
    for i in order[:images]:
        _write(pixels[i], folder / str(labels[i]) / f"{i:04d}.png")
    for digit, i in sorted(unseen.items()):
        _write(pixels[i], folder.parent / "new" / f"a-{digit}.png")


def _write(ink: np.ndarray, path: Path) -> None:
    """Ink on paper, eight times as large: 0 to 16 become 255 to 0."""
    grey = (255 - np.rint(ink.reshape(8, 8) * (255 / 16))).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(enlarge(np.repeat(grey[:, :, None], 3, axis=2), 64, 64)))


def _run(words: list[str]) -> None:
    print(f"\n$ greffon {shlex.join(words)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "greffon", *words], check=False).returncode
    if code:
        sys.exit(code)


def main(folder: Path = Path("demo")) -> None:
    """Write the images, train, evaluate, predict, and say what to do next."""
    photos, model = folder / "digits", folder / "model"
    write_digits(photos)
    print(f"400 handwritten digits (UCI, by way of scikit-learn) are in {photos}/, a folder for each class.")
    _run(["train", str(photos), "--out", str(model), "--size", "64"])
    _run(["predict", str(model), str(folder / "new")])
    print(
        f"""
VGG16 never saw a digit: it learned from ImageNet's photos, and only the small head is new.
Look at the page: {(model / "report.html").resolve()}

Now with photos of your own, one folder a class:
  .venv/bin/greffon train photos/ --out my-model
  .venv/bin/greffon predict my-model some-photo.jpg"""
    )


if __name__ == "__main__":
    main()
