"""``Model``: a backbone, a cut and a head, with all that is needed to predict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

        engine = make_engine(self.backbone, self.tap, chosen, keep=self.keep)
        out = np.full((len(photos), len(self.classes)), np.nan)
        failed: dict[int, str] = {}
        block = max(engine.batch, _photos_at_once(engine) // len(looks))
        for start in range(0, len(photos), block):
            some = photos[start : start + block]
            known = None if digests is None else digests[start : start + block]
            found = compute_views(some, self.backbone, self.tap, engine, looks, store=store, progress=listener, digests=known,
                                  executor=executor)  # fmt: skip
            bad = {i: reason for one in found for i, reason in one.failed.items()}
            good = [i for i in range(len(some)) if i not in bad]
            if good:
                out[[start + i for i in good]] = np.mean([self.probabilities(one.batch(good)) for one in found], axis=0)
            failed |= {start + i: reason for i, reason in bad.items()}
        return Prediction(self.classes, out, failed)


def _photos_at_once(engine: Engine) -> int:
    """As many as have their activations in half a gigabyte: those at a low cut are large."""
    shape, dtype = engine.record
    return max(engine.batch, min(4096, 2**29 // max(1, math.prod(shape) * np.dtype(dtype).itemsize)))
