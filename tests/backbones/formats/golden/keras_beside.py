# pyright: reportMissingImports=false
"""keras.applications' VGG with random weights: saved in one of Keras's layouts, and what it gives for two images.

    python keras_beside.py VGG16|VGG19 top|notop weights.h5|keras|h5 FOLDER

In an environment with keras and tensorflow. Writes FOLDER/w.<layout> and FOLDER/told.npz.
"""

import sys
from pathlib import Path

import keras
import numpy as np


def main() -> None:
    name, top, layout, where = sys.argv[1:]
    keras.utils.set_random_seed(5)
    folder = Path(where)
    model = getattr(keras.applications, name)(weights=None, include_top=top == "top", input_shape=(224, 224, 3))
    for layer in model.layers:  # biases begin at zero, where a mix-up could not be seen
        held = layer.get_weights()
        if held:
            layer.set_weights([held[0], np.random.default_rng(len(held[1])).normal(0, 0.05, held[1].shape)])
    images = np.random.default_rng(2).normal(0, 50, (2, 224, 224, 3)).astype(np.float32)
    outputs = [model.get_layer("block5_pool").output, *([model.output] if top == "top" else [])]
    told = keras.Model(model.input, outputs).predict(images, verbose=0)
    told = told if isinstance(told, list) else [told]
    np.savez(folder / "told.npz", images=images, **dict(zip(("block5", "predictions"), told, strict=False)))
    if layout == "weights.h5":
        model.save_weights(folder / "w.weights.h5")
    else:
        model.save(folder / f"w.{layout}")


if __name__ == "__main__":
    main()
