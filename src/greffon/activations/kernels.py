"""Which kernels graphics processors may take: the same ones in every run, and float32 that is float32."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

__all__ = ["steady_kernels"]


def steady_kernels(precision: str) -> AbstractContextManager[None]:
    """cuDNN without its trials by the clock, and without kernels that add up in another order each time.

    PyTorch lets cuDNN compute float32 convolutions in TF32, with 10 bits of mantissa for 23: here ``"float32"`` is
    IEEE's, as on a processor. It means nothing on machines without CUDA.

    Parameters
    ----------
    precision
        ``"float32"`` or ``"bfloat16"``: what is computed in.
    """
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=precision != "float32")
