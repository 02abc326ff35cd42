"""How the frozen part runs: precision, memory layout, device; and what its records are kept in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import torch

from greffon.activations.fusing import fuse
from greffon.activations.kernels import steady_kernels
from greffon.backbones import Backbone, Span
from greffon.errors import BackboneError, GreffonError, OptionError

__all__ = [
    "KEEPS",
    "PRECISIONS",
    "Engine",
    "PixelEngine",
    "Tap",
    "TorchEngine",
    "best_precision",
    "cannot_run",
    "computes_bfloat16",
    "kept_as",
    "make_engine",
    "run_filled",
    "what_is_kept",
]

#: What ``precision`` may be.
PRECISIONS = ("auto", "int8", "bfloat16", "float32")
#: What the records of a map may be kept in; bfloat16 has no type in NumPy, and stands as ``uint16``.
KEEPS = ("bfloat16", "float16", "float32")


@final
@dataclass(frozen=True, slots=True)
class Tap:
    """What is taken out of the frozen part.

    ``Tap("pooled")``: mean and maximum of every stage's output, float32 (n, sum of 2 c); one pass serves every
    representation. ``Tap("map", cut)``: the activations at a cut, (n, c, h, w). ``Tap("map", "all")``: the cut stands
    below the first stage, so no network runs, and the record is the fitted picture itself, uint8 (n, h, w, 3).
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
    def precision(self) -> str:
        """One of ``PRECISIONS``, but not ``"auto"``."""
        ...

    @property
    def tap(self) -> Tap:
        """What it takes out."""
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
        """uint8 (n, h, w, 3), fitted but not normalised, to (n, *shape). Raises OptionError where float16 overflows."""
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
    keep
        One of ``KEEPS``: what the records of a map are kept in, whatever they are computed in. ``""``: in that which
        they are computed in. Pooled records are float32 always.
    """

    def __init__(
        self, backbone: Backbone, tap: Tap, precision: str, device: str = "cpu", batch: int = 0, keep: str = ""
    ) -> None:
        if precision not in ("float32", "bfloat16"):
            raise OptionError(f"TorchEngine: precision must be 'float32' or 'bfloat16', got {precision!r}")
        self.backbone = backbone
        self.tap = tap
        self.precision = precision
        self.device = device
        self.keep = what_is_kept(tap, keep or precision)
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
        with torch.inference_mode(), steady_kernels(self.precision):
            # Read-only arrays are copied: torch would warn of them.
            x = self._normalised(torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self._device))
            if self.tap.kind == "pooled":
                return self._span.pooled(x).cpu().numpy()
            return kept_as(self._span(x), self.keep, self.tap)

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        # (n, h, w, 3) seen as (n, 3, h, w) is channels last already: nothing is copied for the layout.
        x = pixels.permute(0, 3, 1, 2)
        if self._preprocess.channels == "bgr":
            x = x.flip(1)
        # The same operations as Preprocess.normalise, in the same order: the same bits.
        x = x.float().mul_(self._preprocess.scale).sub_(self._mean).div_(self._std)
        return x.to(self._dtype).contiguous(memory_format=torch.channels_last)


@final
class PixelEngine:
    """No network at all: the fitted picture itself, uint8 (h, w, 3), for a cut below the first stage.

    Its records do not depend on any weights, library or processor, and are exact.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.tap = Tap("map", "all")
        self.precision = "float32"
        self.fingerprint = "pixels"
        self.batch = 32
        self.record = ((backbone.preprocess.height, backbone.preprocess.width, 3), "uint8")

    def run(self, images: np.ndarray) -> np.ndarray:
        return images


def run_filled(engine: Engine, images: np.ndarray) -> np.ndarray:
    """Run any number of images, uint8 (n, h, w, 3), in batches of the size that the engine likes, the last one filled up.

    One size for all, since some networks give other last bits for other batch sizes.
    """
    size, parts = engine.batch, []
    for start in range(0, len(images), size):
        some = images[start : start + size]
        fill = np.zeros((size - len(some), *some.shape[1:]), np.uint8)
        parts.append(engine.run(np.concatenate([some, fill]))[: len(some)])
    return np.concatenate(parts)


def kept_as(values: torch.Tensor, keep: str, tap: Tap) -> np.ndarray:
    """A map, (n, c, h, w), in what it is kept in: bfloat16 as its bits, ``uint16``.

    Raises OptionError where float16 is too small for the values.
    """
    kept = values.to(getattr(torch, keep)).cpu().contiguous()
    if keep == "bfloat16":
        return kept.view(torch.int16).numpy().view(np.uint16)
    if keep == "float16" and bool((kept.isinf() & values.cpu().isfinite()).any()):
        largest = float(values.abs().max())
        raise OptionError(f"keep: the activations at the cut {tap.cut!r} reach {largest:,.0f}, and float16 holds 65,504 at most",
                          hint="Keep them in bfloat16, which is as small and holds as much as float32.")  # fmt: skip
    return kept.numpy()


def what_is_kept(tap: Tap, keep: str) -> str:
    """One of ``KEEPS``: of a map what is asked for, of pooled records float32. Raises OptionError."""
    if keep not in KEEPS:
        raise OptionError(f"keep must be one of {', '.join(KEEPS)}, got {keep!r}")
    return keep if tap.kind == "map" else "float32"


def _copied(span: Span, device: torch.device, dtype: torch.dtype) -> Span:
    """The same stages with weights of their own in another precision and layout; the backbone stays as it is."""
    import copy

    return copy.deepcopy(span).to(device=device, dtype=dtype).to(memory_format=torch.channels_last).eval()


def computes_bfloat16(device: str) -> bool:
    """Whether the processor has instructions for it. That does not make it faster than float32: see ``best_precision``."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    with_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return bool(with_bf16) and any(_has(unit) for unit in ("avx512_bf16", "amx_tile"))


def best_precision(device: str) -> str:
    """Which of bfloat16 and float32 to take where nothing can be measured; ``chosen_engine`` measures.

    Measured on VGG16: where the processor has AMX, bfloat16 is several times faster; with AVX-512's instructions for it
    alone, it has half the speed of float32.
    """
    fast = computes_bfloat16(device) and (device == "cuda" or _has("amx_tile"))
    return "bfloat16" if fast else "float32"


def _has(unit: str) -> bool:
    ask = getattr(torch.cpu, f"_is_{unit}_supported", None)
    return ask is not None and bool(ask())


def make_engine(backbone: Backbone, tap: Tap, precision: str, device: str = "auto", *, keep: str = "") -> Engine:
    """The engine for a precision that needs no calibration; ``"auto"`` is ``best_precision``.

    Raises OptionError, for ``"int8"`` too: that is made on images, by ``chosen_engine``, or comes with a model.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if tap == Tap("map", "all"):
        return PixelEngine(backbone)
    if precision == "int8":
        raise OptionError("precision int8 needs a network that was quantised on images, and there is none here",
                          hint="Train with --precision int8, or choose bfloat16 or float32.")  # fmt: skip
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = best_precision(device) if precision == "auto" else precision
    try:
        return TorchEngine(backbone, tap, chosen, device, keep=keep)
    except GreffonError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise cannot_run(backbone, error) from error


def cannot_run(backbone: Backbone, error: Exception) -> BackboneError:
    """What a library says of images that are too small for the network, as one clear error."""
    size = f"{backbone.preprocess.height} × {backbone.preprocess.width}"
    reason = (str(error) or type(error).__name__).splitlines()[0][:160]
    return BackboneError(f"{backbone.name} cannot run on images of {size} pixels ({reason})", hint="Give a larger --size.")
