"""Paddle's binary tensor, read without Paddle: nothing in a file is executed. docs/models.md has the format. Pure.

paddle.load() executes what a pickled file says, and takes any file. These readers take the one form that
paddle.save(.., use_binary_format=True) and Paddle's save_combine write, and refuse everything else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Tensor: TypeAlias = npt.NDArray[Any]

#: numpy's type by the number of Paddle's (VarType.Type of framework.proto). bfloat16 (22) as its 16 bits: so numpy
#: arrays of it are given to Paddle.
TYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(name)
    for number, name in {
        0: "bool", 1: "<i2", 2: "<i4", 3: "<i8", 4: "<f2", 5: "<f4", 6: "<f8", 20: "u1", 21: "i1", 22: "<u2",
    }.items()
}  # fmt: skip
#: Dimensions that Paddle's tensors have at most.
MAX_DIMENSIONS = 9
#: version, levels of LoD, version of the tensor, length of the description.
_HEAD = struct.Struct("<IQIi")
#: Bytes that a description may have: a type, and a number of up to 10 bytes a dimension, with their tags.
_MAX_DESCRIPTION = 2 + 11 * MAX_DIMENSIONS + 2
_VARINT, _BYTES = 0, 2


def read_tensor(data: bytes) -> Tensor:
    """The one tensor that the bytes are, read-only. Raises ValueError when they are anything else."""
    tensor, end = _read(data, 0)
    if end != len(data):
        raise ValueError(f"it has {len(data) - end} bytes after its tensor")
    return tensor


def read_tensors(data: bytes) -> Iterator[Tensor]:
    """The tensors of a combined file, in its order. Raises ValueError at the first that is not one."""
    end = number = 0
    while end < len(data):
        number += 1
        try:
            tensor, end = _read(data, end)
        except ValueError as error:
            raise ValueError(f"tensor {number}: {error}") from error
        yield tensor


def _read(data: bytes, begin: int) -> tuple[Tensor, int]:
    """The tensor that begins there, and where it ends."""
    body = begin + _HEAD.size
    if len(data) < body:
        raise ValueError("it is not a tensor in Paddle's binary form: it is cut")
    version, levels, inner, length = _HEAD.unpack_from(data, begin)
    if version or levels or inner:
        raise ValueError(
            "it is not a tensor in Paddle's binary form: its versions and its levels of LoD must be 0, they are "
            f"{version}, {inner} and {levels}"
        )
    if not 0 <= length <= min(_MAX_DESCRIPTION, len(data) - body):
        raise ValueError(f"its description has {length} bytes")
    kind, shape = _description(data[body : body + length])
    if kind not in TYPES:
        raise ValueError(f"its type is {kind}, which is none of numbers")
    count = 1
    for size in shape:
        count *= size  # Python's integers do not overflow
    values, dtype = body + length, TYPES[kind]
    end = values + count * dtype.itemsize
    if end > len(data):
        raise ValueError(f"its shape {list(shape)} needs {end - values} bytes of values, it has {len(data) - values}")
    if dtype == np.bool_ and count and max(data[values:end]) > 1:
        raise ValueError("its values are not booleans")
    return np.frombuffer(data, dtype, count, values).reshape(shape), end


def _description(data: bytes) -> tuple[int, tuple[int, ...]]:
    """Type and shape of the protobuf message TensorDesc {required Type data_type = 1; repeated int64 dims = 2;}."""
    kind, shape, at = -1, [], 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, wire = tag >> 3, tag & 7
        if (field, wire) == (1, _VARINT):
            kind, at = _varint(data, at)
        elif (field, wire) == (2, _VARINT):
            size, at = _varint(data, at)
            shape.append(size)
        elif (field, wire) == (2, _BYTES):  # packed
            length, at = _varint(data, at)
            end = at + length
            if end > len(data):
                raise ValueError("its description is cut")
            while at < end:
                size, at = _varint(data, at)
                shape.append(size)
        else:
            raise ValueError(f"its description has field {field} of wire type {wire}")
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"it has {len(shape)} dimensions")
    if any(size >= 1 << 63 for size in shape):
        raise ValueError("a dimension of it is negative")
    return kind, tuple(shape)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at >= len(data):
            raise ValueError("its description is cut")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at
    raise ValueError("its description has a number of more than 10 bytes")
