"""Paddle's binary tensor, read by contracts.tensors. tests/jobs/test_foreign_files.py compares with Paddle's writer."""

import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from streamtrain.contracts.tensors import MAX_DIMENSIONS, TYPES, read_tensor, read_tensors

NUMBERS = {dtype: number for number, dtype in TYPES.items()}


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def binary(array: np.ndarray, *, packed: bool = False, levels: int = 0) -> bytes:
    """docs/models.md, once more."""
    dims = [varint(size) for size in array.shape]
    shape = b"".join(b"\x10" + d for d in dims)
    if packed and dims:
        shape = b"\x12" + varint(sum(map(len, dims))) + b"".join(dims)
    description = b"\x08" + varint(NUMBERS[array.dtype]) + shape
    return struct.pack("<IQIi", 0, levels, 0, len(description)) + description + array.tobytes()


ARRAYS = hn.arrays(
    st.sampled_from(list(NUMBERS)), hn.array_shapes(min_dims=0, max_dims=MAX_DIMENSIONS, min_side=0, max_side=3)
)


@given(ARRAYS, st.booleans())
def test_what_is_written_is_read(array: np.ndarray, packed: bool) -> None:
    found = read_tensor(binary(array, packed=packed))
    assert found.dtype == array.dtype and found.shape == array.shape and found.tobytes() == array.tobytes()


@given(st.lists(ARRAYS, max_size=4))
def test_a_combined_file(arrays: list[np.ndarray]) -> None:
    found = list(read_tensors(b"".join(map(binary, arrays))))
    assert [(f.shape, f.tobytes()) for f in found] == [(a.shape, a.tobytes()) for a in arrays]


def test_the_documents_example() -> None:
    head = bytes.fromhex("00000000 0000000000000000 00000000 06000000 0805 1024 1008".replace(" ", ""))
    array = read_tensor(head + np.arange(36 * 8, dtype="<f4").tobytes())
    assert array.shape == (36, 8) and array[35, 7] == 287


@given(st.binary(max_size=200) | ARRAYS.map(binary).flatmap(lambda d: st.binary(max_size=8).map(lambda x: x + d)))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    for read in (read_tensor, lambda d: list(read_tensors(d))):
        try:
            read(data)
        except ValueError as error:
            assert str(error)


@given(ARRAYS.map(binary), st.data())
def test_a_changed_byte_is_a_value_error_or_another_tensor(data: bytes, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(0, len(data) - 1))
    changed = data[:place] + bytes([draw.draw(st.integers(0, 255))]) + data[place + 1 :]
    for cut in (changed, changed[: draw.draw(st.integers(0, len(changed)))]):
        try:
            read_tensor(cut)
        except ValueError as error:
            assert str(error)


class Marked:
    """Executed by whoever unpickles it."""

    seen: list[str] = []  # noqa: RUF012

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Marked.seen.append, ("executed",)


def test_a_pickle_is_refused_and_not_executed() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(ValueError, match="not a tensor in Paddle's binary form"):
            read_tensor(pickle.dumps(Marked(), protocol) + bytes(40))
    assert Marked.seen == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is cut"),
        (binary(np.zeros(3, "<f4"))[:-1], r"its shape \[3\] needs 12 bytes of values, it has 11"),
        (binary(np.zeros(3, "<f4")) + b"x", "1 bytes after its tensor"),
        (binary(np.zeros(3, "<f4"), levels=1), "levels of LoD must be 0"),
        (struct.pack("<IQIi", 0, 0, 0, 4) + b"\x08\x05\x10\x7f", r"its shape \[127\] needs 508 bytes"),
        (struct.pack("<IQIi", 0, 0, 0, 2) + b"\x08\x11", "its type is 17"),
        (struct.pack("<IQIi", 0, 0, 0, 2) + b"\x10\x01", "its type is -1"),
        (struct.pack("<IQIi", 0, 0, 0, -1), "its description has -1 bytes"),
        (struct.pack("<IQIi", 0, 0, 0, 13) + b"\x08\x05\x10" + b"\xff" * 9 + b"\x01", "is negative"),
        (struct.pack("<IQIi", 0, 0, 0, 22) + b"\x08\x05" + b"\x10\x01" * 10, "10 dimensions"),
        (struct.pack("<IQIi", 0, 0, 0, 3) + b"\x08\x00\x1a", "field 3 of wire type 2"),
        (struct.pack("<IQIi", 0, 0, 0, 4) + b"\x08\x00\x10\x01" + b"\x02", "not booleans"),
    ],
)
def test_refusals(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tensor(data)


def test_a_shape_takes_no_memory() -> None:
    data = struct.pack("<IQIi", 0, 0, 0, 26) + b"\x08\x05" + (b"\x10" + varint(2**34)) * 3 + b"\x10" + varint(2**28)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"description|needs"):
            read_tensor(data.ljust(60, b"\0"))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
