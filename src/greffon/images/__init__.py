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
from greffon.images.transforms import Choice, Transform, randaugment
from greffon.images.views import PLAIN, POLICIES, View, test_time_views, views

__all__ = [
    "FORMATS",
    "PLAIN",
    "POLICIES",
    "Choice",
    "Limits",
    "Preprocess",
    "Signature",
    "Transform",
    "View",
    "decode",
    "encode_png",
    "enlarge",
    "randaugment",
    "read_bytes",
    "signature",
    "test_time_views",
    "thumbnail",
    "views",
]
