"""The part of Caffe's public schema (caffe.proto, BSD-2-Clause) that a trained network needs, with its own types."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELDS = {
    "BlobShape": ["repeated int64 dim = 1 packed"],
    "BlobProto": [
        "optional int32 num = 1", "optional int32 channels = 2", "optional int32 height = 3", "optional int32 width = 4",
        "repeated float data = 5 packed", "repeated float diff = 6 packed", "optional BlobShape shape = 7",
        "repeated double double_data = 8 packed", "repeated double double_diff = 9 packed",
    ],
    "V1LayerParameter": [
        "repeated string bottom = 2", "repeated string top = 3", "optional string name = 4", "optional int32 type = 5",
        "repeated BlobProto blobs = 6",
    ],
    "LayerParameter": [
        "optional string name = 1", "optional string type = 2", "repeated string bottom = 3", "repeated string top = 4",
        "repeated BlobProto blobs = 7",
    ],
    "NetParameter": [
        "optional string name = 1", "repeated V1LayerParameter layers = 2", "repeated string input = 3",
        "repeated int32 input_dim = 4", "repeated LayerParameter layer = 100",
    ],
}  # fmt: skip


def net_parameter() -> Any:
    """The message class of a .caffemodel."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, lines in _FIELDS.items():
        message = file.message_type.add(name=name)
        for line in lines:
            label, kind, field, _, number, *packed = line.split()
            made = message.field.add(
                name=field,
                number=int(number),
                label=kinds.LABEL_REPEATED if label == "repeated" else kinds.LABEL_OPTIONAL,
                type=getattr(kinds, f"TYPE_{kind.upper()}", kinds.TYPE_MESSAGE),
            )
            if made.type == kinds.TYPE_MESSAGE:
                made.type_name = f".caffe.{kind}"
            if packed:
                made.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))
