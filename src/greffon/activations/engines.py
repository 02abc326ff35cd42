"""How the frozen part runs: precision, memory layout, device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import torch

from greffon.activations.fusing import fuse
from greffon.backbones import Backbone, Span
from greffon.errors import BackboneError, OptionError

__all__ = ["PRECISIONS", "Engine", "Fidelity", "Tap", "TorchEngine", "best_precision", "fidelity", "make_engine"]

#: What ``precision`` may be.
PRECISIONS = ("auto", "bfloat16", "float32")


@final
@dataclass(frozen=True, slots=True)
class Tap:
    """What is taken out of the frozen part.

    ``Tap("pooled")``: mean and maximum of every stage's output, float32 (n, sum of 2 c); one pass serves every
    representation. ``Tap("map", cut)``: the activations at a cut, (n, c, h, w).
    """

    kind: str
    cut: str = "none"

    def __str__(self) -> str:
        return self.kind if self.kind == "pooled" else f"map:{self.cut}"


class Engine(Protocol):
    """Runs the frozen part on batches of one fixed size or less."""

    @property
    def fingerprint(self) -> str:
        """Changes when the results may change."""
        ...

    @property
    def batch(self) -> int:
        """How many images it likes to have at once."""
        ...

    @property
    def record(self) -> tuple[tuple[int, ...], str]:
        """Shape and NumPy dtype of what one image gives (bfloat16 as ``uint16``)."""
        ...

    def run(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3), fitted but not normalised, to (n, *shape)."""
        ...


@final
class TorchEngine:
    """PyTorch, channels last, in float32 or bfloat16, on the CPU or on CUDA.

    Parameters
    ----------
    backbone
        Its weights are copied where the precision is not float32.
    tap
        What is taken out.
    precision
        ``"float32"`` or ``"bfloat16"``.
    device
        ``"cpu"`` or ``"cuda"``.
    batch
        Images at once; the last batch of a pass is filled up to it, since some networks give other last bits for
        other batch sizes.
    """

    def __init__(self, backbone: Backbone, tap: Tap, precision: str, device: str = "cpu", batch: int = 0) -> None:
        if precision not in ("float32", "bfloat16"):
            raise OptionError(f"TorchEngine: precision must be 'float32' or 'bfloat16', got {precision!r}")
        self.tap = tap
        self.precision = precision
        # On the CPU as many as the caches like: VGG16 in bfloat16 on two cores does 47, 56, 61, 48, 42 images a second
        # at 224 pixels in batches of 1, 2, 4, 8, 16, and at 64 pixels the more the better.
        pixels = backbone.preprocess.height * backbone.preprocess.width
        self.batch = batch or (64 if device == "cuda" else max(2, min(32, 4 * 224 * 224 // pixels)))
        self._device = torch.device(device)
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._preprocess = backbone.preprocess
        cut = "none" if tap.kind == "pooled" else tap.cut
        #: How many convolutions run in one step with their ReLU.
        self.fused = 0
        self._span = _copied(backbone.below(cut), self._device, self._dtype)
        pre = backbone.preprocess
        self._mean = torch.tensor(pre.mean).view(1, 3, 1, 1).to(self._device)
        self._std = torch.tensor(pre.std).view(1, 3, 1, 1).to(self._device)
        # The last bits are those of one version of the kernels on one kind of processor.
        where = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
        version = ".".join(torch.__version__.split("+")[0].split(".")[:2])
        self.fingerprint = f"torch-{version}-{precision}-channels_last-{device}-{where}-b{self.batch}"
        blank = np.zeros((1, pre.height, pre.width, 3), np.uint8)
        if precision == "bfloat16":
            # Something that varies, so that no two results are alike by being constant.
            drawn = np.random.default_rng(0).integers(0, 256, blank.shape, np.uint8)
            self.fused = fuse(self._span, self._normalised(torch.from_numpy(drawn).to(self._device)), self.batch)
        example = self.run(blank)
        self.record = (example.shape[1:], example.dtype.name)

    def run(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            # Read-only arrays are copied: torch would warn of them.
            x = self._normalised(torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self._device))
            if self.tap.kind == "pooled":
                return self._span.pooled(x).cpu().numpy()
            y = self._span(x).contiguous()
            return (y.view(torch.int16) if y.dtype == torch.bfloat16 else y).cpu().numpy().view(
                np.uint16 if y.dtype == torch.bfloat16 else np.float32
            )

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        # (n, h, w, 3) seen as (n, 3, h, w) is channels last already: nothing is copied for the layout.
        x = pixels.permute(0, 3, 1, 2)
        if self._preprocess.channels == "bgr":
            x = x.flip(1)
        # The same operations as Preprocess.normalise, in the same order: the same bits.
        x = x.float().mul_(self._preprocess.scale).sub_(self._mean).div_(self._std)
        return x.to(self._dtype).contiguous(memory_format=torch.channels_last)


def _copied(span: Span, device: torch.device, dtype: torch.dtype) -> Span:
    """The same stages with weights of their own in another precision and layout; the backbone stays as it is."""
    import copy

    return copy.deepcopy(span).to(device=device, dtype=dtype).to(memory_format=torch.channels_last).eval()


def best_precision(device: str) -> str:
    """``"bfloat16"`` where the processor computes in it, else ``"float32"``."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    with_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    known = (getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile"))
    fast = any(ask() for ask in known if ask is not None)
    return "bfloat16" if with_bf16 and fast else "float32"


def make_engine(backbone: Backbone, tap: Tap, precision: str, device: str = "auto") -> TorchEngine:
    """The engine for a precision; ``"auto"`` is the best one that the processor has. Raises OptionError."""
    if precision not in PRECISIONS:
        raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = best_precision(device) if precision == "auto" else precision
    try:
        return TorchEngine(backbone, tap, chosen, device)
    except (RuntimeError, ValueError, IndexError) as error:
        size = f"{backbone.preprocess.height} × {backbone.preprocess.width}"
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise BackboneError(f"{backbone.name} cannot run on images of {size} pixels ({reason})",
                            hint="Give a larger --size.") from error  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class Fidelity:
    """How near a cheap engine comes to float32 on a sample of the user's own images."""

    precision: str
    images: int
    cosine_mean: float
    cosine_lowest: float

    def to_dict(self) -> dict[str, float | int | str]:
        return {name: getattr(self, name) for name in self.__slots__}


def fidelity(backbone: Backbone, engine: TorchEngine, sample: np.ndarray) -> Fidelity:
    """Compare an engine with float32 on uint8 (n, h, w, 3): cosines of the outputs, image by image, last stage only."""
    exact = TorchEngine(backbone, engine.tap, "float32", "cpu")
    a = _as_float(_filled(engine, sample)).reshape(len(sample), -1)
    b = _as_float(_filled(exact, sample)).reshape(len(sample), -1)
    if engine.tap.kind == "pooled":
        last = 2 * backbone.widths()[-1]
        a, b = a[:, -last:], b[:, -last:]
    cosine = _cosines(a.astype(np.float64), b.astype(np.float64))
    return Fidelity(engine.precision, len(sample), float(cosine.mean()), float(cosine.min()))


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row; 1 where both are nothing but zeros, 0 where one is, or where a value is not finite."""
    finite = np.asarray(np.isfinite(np.concatenate([a, b], 1)).all(axis=1, keepdims=True))
    a, b = np.where(finite, a, 0), np.where(finite, b, 0)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = lengths[0] * lengths[1]
    cosine = np.divide((a * b).sum(1), product, out=np.zeros(len(a)), where=product > 0)
    return np.where(finite[:, 0] & (lengths[0] == 0) & (lengths[1] == 0), 1.0, cosine)


def _filled(engine: TorchEngine, images: np.ndarray) -> np.ndarray:
    parts = []
    for start in range(0, len(images), engine.batch):
        part = images[start : start + engine.batch]
        fill = np.zeros((engine.batch - len(part), *part.shape[1:]), np.uint8)
        parts.append(engine.run(np.concatenate([part, fill]))[: len(part)])
    return np.concatenate(parts)


def _as_float(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)
