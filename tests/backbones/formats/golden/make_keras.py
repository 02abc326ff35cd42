# pyright: reportMissingImports=false
"""Write keras.zip: a thin VGG16 with its classifier, saved by Keras in each of its layouts, and what it gives for an image.

    python make_keras.py        in an environment with keras and tensorflow (make benchmarks/.venv-keras/.installed)

Layers are called as in keras.applications.VGG16; only their widths are smaller. Numbers are whole sixteenths, so that the
archive is small. The seed is fixed, and the archive says which Keras wrote it.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import layers

WIDTHS = ((4, 4), (6, 6), (8, 8, 8), (8, 8, 8), (8, 8, 8))
HIDDEN, WIDE, CLASSES = 4, 4096, 5

def network() -> keras.Model:
    x = image = keras.Input((224, 224, 3))
    for block, widths in enumerate(WIDTHS, start=1):
        for number, width in enumerate(widths, start=1):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"block{block}_conv{number}")(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(HIDDEN, activation="relu", name="fc1")(x)
    x = layers.Dense(WIDE, activation="relu", name="fc2")(x)
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax", name="predictions")(x), name="vgg16")

def fill(model: keras.Model, seed: int) -> None:
    random = np.random.default_rng(seed)
    for layer in model.layers:
        held = layer.get_weights()
        if held:
            fan_in = int(np.prod(held[0].shape[:-1]))
            reach = max(1, round(16 * (6 / fan_in) ** 0.5))
            layer.set_weights([random.integers(-reach, reach + 1, array.shape) / 16 for array in held])

def main() -> None:
    model = network()
    fill(model, 16)
    image = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3)).astype(np.float32) / 128 - 1
    told = keras.Model(model.input, [model.get_layer(name).output for name in ("block5_pool", "fc2", "predictions")])
    block5, fc2, predictions = (np.asarray(value) for value in told.predict(image, verbose=0))
    # Somebody's own network on top of a VGG16 without its classifier, as the Keras guide builds it.
    base = keras.Model(model.input, model.get_layer("block5_pool").output, name="vgg16")
    own = keras.Sequential([keras.Input((224, 224, 3)), base, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(
        Path(__file__).parent / "keras.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9
    ) as archive:
        folder = Path(name)
        model.save_weights(folder / "top.weights.h5")
        model.save(folder / "top.keras")
        model.save(folder / "top.h5")
        base.save_weights(folder / "notop.weights.h5")
        own.save(folder / "own.keras")
        own.save_weights(folder / "own.weights.h5")

        np.savez(folder / "expected.npz", block5=block5, fc2=fc2[:, :64], predictions=predictions,
                 keras=np.array(keras.__version__))  # fmt: skip
        for file in sorted(folder.iterdir()):
            info = zipfile.ZipInfo(file.name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, file.read_bytes())
            print(f"{file.name:20} {file.stat().st_size:9,} bytes")

if __name__ == "__main__":
    main()
