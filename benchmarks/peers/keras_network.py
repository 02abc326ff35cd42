# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportAttributeAccessIssue=false
"""``keras.applications.VGG16`` with the job's tensors, and photos as a tf.data pipeline reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras.applications.vgg16 import VGG16

__all__ = ["photos", "vgg16"]


def vgg16(weights: Mapping[str, np.ndarray], pooling: str | None, size: int = 224) -> keras.Model:
    """The convolutions. Keras has kernels as (h, w, in, out)."""
    network = VGG16(weights=None, include_top=False, pooling=pooling, input_shape=(size, size, 3))
    links = sorted({int(name.split(".")[1]) for name in weights})
    layers = [layer for layer in network.layers if "conv" in layer.name]
    for layer, link in zip(layers, links, strict=True):
        layer.set_weights([weights[f"features.{link}.weight"].transpose(2, 3, 1, 0), weights[f"features.{link}.bias"]])
    return network


def photos(paths: Sequence[str], labels: np.ndarray, size: int = 224) -> tf.data.Dataset:
    """Decoded and resized to (size, size), float32 RGB from 0 to 255, as in the guide; not yet batched."""

    def read(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.image.resize(image, (size, size)), label

    return tf.data.Dataset.from_tensor_slices((list(paths), labels)).map(read, num_parallel_calls=tf.data.AUTOTUNE)
