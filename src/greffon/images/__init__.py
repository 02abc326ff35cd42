"""Untrusted bytes become RGB pixels, and pixels what a network wants to see.

The only package that knows Pillow. Training, prediction and serving all come through ``decode``
and ``Preprocess.fit``, so an image looks the same to each of them.
"""

from greffon.images.decoding import (
    FORMATS,
    Limits,
    Signature,
    decode,
    encode_png,
    enlarge,
    read_bytes,
    signature,
    thumbnail,
)
from greffon.images.preprocess import Preprocess

__all__ = [
    "FORMATS",
    "Limits",
    "Preprocess",
    "Signature",
    "decode",
    "encode_png",
    "enlarge",
    "read_bytes",
    "signature",
    "thumbnail",
]
