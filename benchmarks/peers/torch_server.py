"""The obvious server: FastAPI with a torch model and torchvision's transforms in the handler, as tutorials write it.

    python torch_server.py WEIGHTS.npz [--port 8000]

WEIGHTS.npz holds VGG16's convolutions under torchvision's names (``features.0.weight``, …), and a linear layer on the mean of the last
map: ``head.weight`` (c, 512) and ``head.bias`` (c,).
"""

from __future__ import annotations

import argparse
import io
from typing import Any

import numpy as np
import torch
import torchvision
import uvicorn
from fastapi import FastAPI, File, UploadFile
from PIL import Image


class Network(torch.nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = torchvision.models.vgg16(weights=None).features
        self.head = torch.nn.Linear(512, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.head(self.features(x).mean((2, 3))), 1)


def app_of(path: str) -> FastAPI:
    arrays = {name: torch.from_numpy(array) for name, array in np.load(path).items()}
    network = Network(len(arrays["head.bias"]))
    network.load_state_dict(arrays)
    network.eval()
    transform: Any = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(256),
            torchvision.transforms.CenterCrop(224),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    app = FastAPI()

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    # A plain function: FastAPI runs it in a thread of its own, as its documentation says for work that blocks.
    @app.post("/v1/predict")
    def predict(image: UploadFile = File()) -> dict[str, list[float]]:  # noqa: B008  # FastAPI reads it, and calls nothing
        picture = Image.open(io.BytesIO(image.file.read())).convert("RGB")
        with torch.inference_mode():
            return {"probabilities": network(transform(picture)[None])[0].tolist()}

    return app


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("weights")
    arguments.add_argument("--port", type=int, default=8000)
    options = arguments.parse_args()
    uvicorn.run(app_of(options.weights), port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
