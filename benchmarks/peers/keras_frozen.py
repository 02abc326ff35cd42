# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""The frozen pass in Keras: ``keras.applications.VGG16(include_top=False, pooling="avg").predict``.

    python keras_frozen.py JOB [--batch 32]

``pass`` reads files through tf.data; ``network`` is ``predict`` on pixels in memory, resized and cropped as torchvision
does it. Of these JOB/features_keras.npy, float32 (n, 512), are the first n photos in the order train, val, test.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf
from job import Answer, Stopwatch, read_job, read_weights
from keras.applications.vgg16 import preprocess_input
from keras_network import photos, vgg16
from PIL import Image


def cropped(path: str, size: int) -> np.ndarray:
    """uint8 (size, size, 3): the shorter side to 256 of 224 pixels, and the middle."""
    with Image.open(path) as image:
        shorter, full = min(image.size), size * 256 // 224
        width, height = (side * full // shorter for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        resized = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(resized.crop((left, top, left + size, top + size)))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("job", type=Path)
    arguments.add_argument("--batch", type=int, default=32)
    arguments.add_argument("--size", type=int, default=224)
    options = arguments.parse_args()
    job, watch = read_job(options.job), Stopwatch()
    paths = job.all()
    with watch.part("setup"):
        network = vgg16(read_weights(options.job), "avg", options.size)
        network.predict(np.zeros((options.batch, options.size, options.size, 3), np.float32), verbose=0)  # traces it
    files = photos(paths, np.zeros(len(paths), np.int64), options.size)
    files = files.map(lambda image, _: preprocess_input(image)).batch(options.batch).prefetch(tf.data.AUTOTUNE)
    with watch.part("pass"):
        seen = len(network.predict(files, verbose=0))
    count = min(len(paths), 4 * options.batch)
    pixels = preprocess_input(np.stack([cropped(path, options.size) for path in paths[:count]]).astype(np.float32))
    with watch.part("network"):
        features = network.predict(pixels, batch_size=options.batch, verbose=0)
    np.save(options.job / "features_keras.npy", features)
    Answer(
        tool="keras",
        settings={"batch": options.batch, "size": options.size},
        images={"all": seen},
        seconds=watch.seconds,
        rates={"pass": seen / watch.seconds["pass"], "network": count / watch.seconds["network"]},
    ).show("tensorflow", "keras", "pillow")


if __name__ == "__main__":
    main()
