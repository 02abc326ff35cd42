"""What a model remembers of its training photos, in a file beside the exported graph: nearest examples, and what is new to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from greffon.model import Examples, Model
from greffon.novelty import NEIGHBOURS

__all__ = ["EXAMPLES_FILE", "examples_told", "novelty_told", "write_examples_file"]

EXAMPLES_FILE = "examples.safetensors"


def novelty_told(model: Model) -> dict[str, Any]:
    """What by an image counts as known, as JSON values; nothing where the model cannot tell."""
    if model.novelty is None or model.examples is None:
        return {}
    return {"novelty": {"neighbours": NEIGHBOURS, "scores": [round(float(score), 6) for score in model.novelty]}}


def examples_told(model: Model, examples: Examples) -> dict[str, Any]:
    """What ``export.json`` tells of the file, as JSON values."""
    told = {"images": len(examples), "width": examples.features.shape[1], "norm": model.normaliser.norm}
    return {"examples": told | ({"names": list(examples.names)} if any(examples.names) else {})}


def write_examples_file(model: Model, examples: Examples, file: Path) -> None:
    """Write them, with the normaliser: the graph gives features before it, and the examples stand behind it.

    - ``features`` float16 (n, d): as the head sees them; ``labels`` int64 (n,)
    - ``mean``, ``scale`` float32 (d,): from the graph's features to these, after each row was brought to the norm
    - ``thumbnails`` uint8 (k,): JPEG files one behind the other; ``sizes`` int64 (n,): of each, 0 where there is none
    """
    from safetensors.numpy import save

    content = save({
        "features": examples.features.astype(np.float16),
        "labels": examples.labels,
        "mean": model.normaliser.mean,
        "scale": model.normaliser.scale,
        "sizes": np.array([len(one) for one in examples.thumbnails], np.int64),
        "thumbnails": np.frombuffer(b"".join(examples.thumbnails), np.uint8),
    }, {"format": "greffon examples"})  # fmt: skip
    file.write_bytes(content)
