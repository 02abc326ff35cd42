"""Run by ``accuracy.py`` in Keras's own environment: pooled block5 of keras.applications.VGG16 with given tensors."""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
from keras.applications.vgg16 import VGG16, preprocess_input
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

folder = Path(sys.argv[1])
given = np.load(folder / "weights.npz")
network = VGG16(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
links = sorted({int(name.split(".")[1]) for name in given.files})
layers = [layer for layer in network.layers if "conv" in layer.name]
for layer, link in zip(layers, links, strict=True):
    layer.set_weights([given[f"features.{link}.weight"].transpose(2, 3, 1, 0), given[f"features.{link}.bias"]])
images = np.load(folder / "images.npy", mmap_mode="r")
features = np.concatenate(
    [
        network.predict(preprocess_input(np.array(images[i : i + 32], np.float32)), verbose=0)
        for i in range(0, len(images), 32)
    ]
)
np.save(folder / "features.npy", features)
split = np.load(folder / "folds.npz")
labels, part = split["labels"], split["part"]
right = np.zeros(len(labels))
for number in np.unique(part):
    train, test = part != number, part == number
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features[train], labels[train])
    right[test] = model.predict(features[test]) == labels[test]
np.save(folder / "right.npy", right)
